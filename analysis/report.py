"""report.html: one file that opens anywhere, put together from the modules in `sections/`.

A section is a module with `build(results) -> Section | None`; a new file there is a new part of the report.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from eus_ray.analysis import sections as package
from eus_ray.analysis.page import render, verbatim
from eus_ray.analysis.results import Results, Section


def build_sections(results: Results) -> list[Section]:
    """The sections that have something to say, in their order."""
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    built = (module.build(results) for module in modules)
    return sorted((section for section in built if section is not None), key=lambda section: section.order)


def report_html(results: Results, sections: list[Section]) -> str:
    """The whole report as one self-contained page."""
    return str(
        render(
            "report.html",
            style=verbatim("report.css"),
            script=verbatim("report.js"),
            sections=sections,
            facts=_facts(results),
            unfinished=results.unfinished,
            nothing=results.images.empty,
            synthetic=results.synthetic,
            source=results.source,
        )
    )


def _facts(results: Results) -> list[tuple[str, Any]]:
    """Name and value of what a reader wants to know first."""
    data = results.provenance.get("data", {})
    facts: list[tuple[str, Any]] = []
    if results.models:
        facts.append(("Models", len(results.models)))
    folds = "fold" in results.patients and results.patients["fold"].nunique()
    if folds and folds > 1:
        facts.append(("Folds", folds))
    facts += [
        ("Patients", results.patients["patient_id"].nunique()),
        ("Images", results.patients["image_id"].nunique()),
    ]
    sizes = {(case.height, case.width) for case in results.cases.values()}
    if len(sizes) == 1:
        height, width = sizes.pop()
        facts.append(("Grid", f"{height} \N{MULTIPLICATION SIGN} {width}"))
    elif sizes:
        facts.append(("Grid", "original pixels"))
    if results.unit:
        facts.append(("Distances in", results.unit))
    if data.get("manifest"):
        facts.append(("Data", str(data["manifest"]).rsplit("/", 1)[-1]))
    if results.provenance.get("started"):
        facts.append(("Started", str(results.provenance["started"])[:10]))
    return facts
