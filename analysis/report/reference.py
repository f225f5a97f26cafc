"""One reference, in print and as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One reference."""

    authors: str
    """In BibTeX's form: `Family, I. and Family, I.`; a long list ends with `others`."""
    year: int
    title: str
    venue: str
    """Journal or proceedings."""
    volume: str = ""
    number: str = ""
    pages: str = ""
    """Pages, or the article's number."""
    doi: str = ""
    arxiv: str = ""
    entry: str = "article"
    """BibTeX's entry type."""

    @property
    def short(self) -> str:
        """Return the short form for a citation in a text.

        >>> from eus_ray.analysis.report.references import REFERENCES
        >>> [REFERENCES[key].short for key in ("holm", "nadeau", "tsamardinos")]
        ['Holm, 1979', 'Nadeau and Bengio, 2003', 'Tsamardinos et al., 2018']
        """
        families = [author.split(",")[0] for author in self.authors.split(" and ")]
        names = f"{families[0]} et al." if len(families) > 2 else " and ".join(families)
        return f"{names}, {self.year}"

    @property
    def text(self) -> str:
        """Return the full form for a list of references.

        >>> from eus_ray.analysis.report.references import REFERENCES
        >>> print(REFERENCES["demsar"].text[:75])
        Demšar J. Statistical Comparisons of Classifiers over Multiple Data Sets. J
        """
        names = ", ".join(map(_printed, self.authors.split(" and ")))
        title = self.title if self.title.endswith("?") else f"{self.title}."
        number = f"({self.number})" if self.number else ""
        place = ":".join(filter(None, [self.volume + number, self.pages]))
        found = f" doi:{self.doi}." if self.doi else f" arXiv:{self.arxiv}." if self.arxiv else ""
        return f"{names}. {title} {self.venue} {self.year}{f'; {place}' if place else ''}.{found}"

    def bibtex(self, key: str) -> str:
        """Return the entry for BibTeX or biber; inner braces keep the title's capitals."""
        venue = {"article": "journal", "inproceedings": "booktitle"}.get(self.entry, "howpublished")
        fields = {
            "author": self.authors,
            "title": f"{{{self.title}}}",
            venue: self.venue,
            "year": str(self.year),
            "volume": self.volume,
            "number": self.number.replace("–", "--"),
            "pages": self.pages.replace("–", "--"),
            "doi": self.doi,
            "eprint": self.arxiv,
            "archiveprefix": "arXiv" if self.arxiv else "",
        }
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@{self.entry}{{{key}{self.year},\n{lines}\n}}"


def _printed(author: str) -> str:
    """Return `Nguon LS` for `Nguon, L. S.`."""
    if author == "others":
        return "et al"
    family, initials = author.split(", ")
    return f"{family} {initials.replace('. ', '').replace('.', '')}"
