"""The report as one HTML file, built from the modules in `sections/`.

A section is a module with `build(results) -> Section | None`. A new module there is a new section.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from eus_ray.analysis.figures import style
from eus_ray.analysis.report import sections as package
from eus_ray.analysis.report.headline import headline, what_to_believe
from eus_ray.analysis.report.page import render, script_source, verbatim
from eus_ray.analysis.report.remarks import names_in_figures
from eus_ray.analysis.report.results import Results, Section

_PROTOCOLS = {"nested": "nested search", "paper": "search on the test folds"}


def build_sections(results: Results) -> list[Section]:
    """Build the sections that apply to these results, in their order."""
    modules = [
        importlib.import_module(f"{package.__name__}.{each.name}") for each in pkgutil.iter_modules(package.__path__)
    ]
    with style.fonts_for(names_in_figures(results)):
        built: list[Section | None] = [module.build(results) for module in modules]
    return sorted(filter(None, built), key=lambda section: section.order)


def report_html(results: Results, sections: list[Section]) -> str:
    """Return the report as one page.

    Its security policy forbids it to load anything or to run other scripts.
    """
    script = verbatim("report.js")
    return str(
        render(
            "report.html",
            style=verbatim("report.css"),
            script=script,
            script_source=script_source(script),
            sections=sections,
            headline=headline(results),
            believed=what_to_believe(results),
            facts=_facts(results),
            unfinished=results.unfinished,
            nothing=results.images.empty,
            synthetic=results.synthetic,
            source=results.source,
        )
    )


def _facts(results: Results) -> list[tuple[str, Any]]:
    """Return names and values of the facts in the page's head."""
    data = results.provenance.get("data", {})
    num_folds = results.patients["fold"].nunique() if "fold" in results.patients else 0
    protocols = dict.fromkeys(_PROTOCOLS[search.protocol] for search in results.searches.values())
    sizes = {f"{case.height} \N{MULTIPLICATION SIGN} {case.width}" for case in results.cases.values()}
    facts = [
        ("Models", len(results.models) or None),
        ("Folds", num_folds if num_folds > 1 else None),
        ("Patients", results.patients["patient_id"].nunique()),
        ("Images", results.patients["image_id"].nunique()),
        ("Protocol", None if results.store is None else " and ".join(protocols) or "cross-validation"),
        ("Grid", "original pixels" if len(sizes) > 1 else "".join(sizes)),
        ("Distances in", results.unit),
        ("Data", str(data.get("manifest") or "").rsplit("/", 1)[-1]),
        ("Started", str(results.provenance.get("started") or "")[:10]),
        ("eus-ray", results.provenance.get("eus_ray")),
    ]
    return [(name, value) for name, value in facts if value not in (None, "")]
