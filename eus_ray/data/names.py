"""Names that look alike: one rule for patients, images, files, categories, models and columns.

Two names are the same to a reader if they differ only in encoding (composed or decomposed letters, full width), in
invisible characters, case, blanks, hyphens and underscores within them, leading zeros, or letters that look like Latin
ones. They stay two names (in an audit they are one), and `alike` tells of them with the same words everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import PurePath

from eus_ray import errors

_NUM_TOLD = 5
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+?\d+|\d{15}0+")
"""A spreadsheet shows a long number so, or keeps 15 digits of it."""
_SEPARATORS = re.compile(r"[-_]+")
_CYRILLIC = ("авеѕіјкмнорстухһԁԛԝ", "abesijkmhopctyxhdqw")
_GREEK = ("αβεζηικμνορτυχ", "abezhikmnoptyx")
_LOOKALIKES = str.maketrans(
    _CYRILLIC[0] + _GREEK[0] + _CYRILLIC[0].upper() + _GREEK[0].upper(),
    _CYRILLIC[1] + _GREEK[1] + _CYRILLIC[1].upper() + _GREEK[1].upper(),
)
"""Letters of Cyrillic and Greek that look like Latin ones, they or their capitals."""


def composed(text: str) -> str:
    r"""Return a name in the encoding in which names are compared: composed (UAX 15), without invisible characters.

    >>> composed("Mu\u0308ller\u200b") == "M\u00fcller"
    True
    """
    return unicodedata.normalize("NFC", _without_invisible(text))


@lru_cache(maxsize=2**16)  # a message about a missing name asks for those of all that are there
def alike_key(name: str) -> str:
    r"""Return what is left of a name without the differences that a reader does not see or mean.

    >>> alike_key("P-01") == alike_key("p_1 ") == alike_key("P\u200b01")
    True
    """
    return _without(name, [simplify for _, simplify in _DIFFERENCES])


def alike(kind: str, names: Iterable[str], *, are_one: bool = False) -> list[str]:
    """Return warnings of names that look alike, one line for each group of them.

    Many groups are one line with their number.

    Args:
        kind: What they name, in the singular: `patient`.
        names: The names, each any number of times.
        are_one: Whether those of a group are taken as one, since nothing is lost by it.

    >>> alike("patient", ["P01", "p1", "P02"])
    ['patients P01 and p1 differ in case and leading zeros only; they are taken as 2 patients']
    """
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for name in dict.fromkeys(names):
        groups[alike_key(name)][name] = None
    found = [list(group) for group in groups.values() if len(group) > 1]
    kinds = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    told = [
        f"{kinds} {_listed(map(shown, group[:_NUM_TOLD]))}{' ...' if len(group) > _NUM_TOLD else ''} differ in "
        f"{_listed(_differences(group))} only; "
        f"they are taken as {f'one {kind}' if are_one else f'{len(group)} {kinds}'}"
        for group in found
    ]
    if len(told) > _NUM_TOLD:
        return [f"{told[0]} ({len(told) - 1} more such groups of {kinds})"]
    return told


def rounded(kind: str, names: Iterable[str]) -> list[str]:
    """Return a warning if names look like numbers that a spreadsheet rounded, so that several became one.

    >>> rounded("patient", ["1.23457E+11", "7"])[0][:60]
    'patient 1.23457E+11 looks like a number that a spreadsheet r'
    """
    found = [name for name in dict.fromkeys(names) if _ROUNDED.fullmatch(name)]
    more = f" ({len(found) - 1} more such names)" if len(found) > 1 else ""
    return [
        f"{kind} {name} looks like a number that a spreadsheet rounded{more}: several names may have become one; "
        "store these as text"
        for name in found[:1]
    ]


def is_writable(name: str) -> bool:
    """Return whether a file's name is text that every table and page can hold: one that is UTF-8 on the disk."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def counted_by_kind(names: Iterable[str]) -> str:
    """Return how many files there are of each suffix, and the first one's name; empty if there are none.

    >>> counted_by_kind(["b.dcm", "a.webp", "c.DCM", "LICENSE"])
    '2 .dcm, 1 .webp and 1 without suffix, such as b.dcm'
    """
    names = list(names)
    kinds = Counter(PurePath(name).suffix.lower() or "without suffix" for name in names)
    return (
        f"{_listed(f'{number} {kind}' for kind, number in kinds.items())}, such as {shown(names[0])}" if names else ""
    )


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the one of the known names that looks like `name` and is another; None if there is none."""
    key = alike_key(name)
    return next((other for other in known if other != name and alike_key(other) == key), None)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return the end of a message about an unknown name, as `errors.did_you_mean`, but one that looks alike first.

    >>> did_you_mean("B-01", ["B01", "B-02"])
    '; did you mean B01?'
    """
    known = list(known)
    other = near(name, known)
    return f"; did you mean {shown(other)}?" if other else errors.did_you_mean(name, known, otherwise)


def near_hint(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not there: the one that looks like it; empty if there is none.

    >>> near_hint("a.png", ["b.png", "A.png"])
    '; there is A.png, which looks alike'
    """
    other = near(name, known)
    return f"; there is {shown(other)}, which looks alike" if other else ""


def shown(name: str) -> str:
    r"""Return a name for print, with its invisible characters as escapes.

    >>> shown("P00\u200b")
    'P00\\u200b'
    """
    is_composed = unicodedata.normalize("NFC", name) == name  # else its marks are escaped, too
    return "".join(
        letter
        if letter.isprintable() and (is_composed or not unicodedata.combining(letter))
        else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in name.encode("utf-8", "backslashreplace").decode()
    )


def _differences(group: Iterable[str]) -> list[str]:
    """Return the kinds of difference between names that look alike: no more of them than make the names one."""
    names, needed = list(group), list(_DIFFERENCES)
    for difference in reversed(_DIFFERENCES):
        fewer = [one for one in needed if one is not difference]
        if len({_without(name, [simplify for _, simplify in fewer]) for name in names}) == 1:
            needed = fewer
    return [difference for difference, _ in needed]


def _without(name: str, simplifications: Sequence[Callable[[str], str]]) -> str:
    """Simplify a name until nothing changes: without its blanks, for example, letters may compose anew."""
    while True:
        before = name
        for simplify in simplifications:
            name = simplify(name)
        if name == before:
            return name


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _without_invisible(name: str) -> str:
    return "".join(letter for letter in name if unicodedata.category(letter) not in ("Cf", "Cc") or letter in "\t\n\r")


def _without_separators(name: str) -> str:
    """Drop hyphens and underscores between letters, or a letter and a digit; `1-2` is not `12`, `ER-` not `ER`."""
    name = "".join("-" if unicodedata.category(letter) == "Pd" or letter == "\u2212" else letter for letter in name)
    name = _SEPARATORS.sub("-", name)
    return re.sub(r"(?<=[^\W\d])-(?=\w)|(?<=\w)-(?=[^\W\d])", "", name)


def _without_leading_zeros(name: str) -> str:
    """Drop zeros before a number, but not in decimals."""
    return re.sub(r"(?<![\d.])0+(?=\d)", "", name)


_DIFFERENCES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("encoding", lambda name: unicodedata.normalize("NFKC", name)),
    ("invisible characters", _without_invisible),
    ("case", str.casefold),
    ("blanks", lambda name: "".join(name.split())),
    ("look-alike letters", lambda name: name.translate(_LOOKALIKES)),
    ("hyphens", _without_separators),
    ("leading zeros", _without_leading_zeros),
    ("decimals", lambda name: re.sub(r"^(\d+)\.0+$", r"\1", name)),
)
