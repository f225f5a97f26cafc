"""report.html: one file that opens anywhere, put together from the modules in `sections/`.

A section is a module with `build(results) -> Section | None`; a new file there is a new part of the report.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.labels import DASH, KIND_LABELS, METRIC_LABELS, model_label
from eus_ray.analysis.report import sections as package
from eus_ray.analysis.report.page import render, script_source, verbatim
from eus_ray.analysis.report.results import Results, Section

_PROTOCOLS = {"nested": "nested search", "paper": "search on the test folds"}


def build_sections(results: Results) -> list[Section]:
    """The sections that have something to say, in their order."""
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    built = (module.build(results) for module in modules)
    return sorted((section for section in built if section is not None), key=lambda section: section.order)


def report_html(results: Results, sections: list[Section]) -> str:
    """The whole report as one self-contained page, whose policy forbids it to load anything or to run other scripts."""
    script = verbatim("report.js")
    return str(
        render(
            "report.html",
            style=verbatim("report.css"),
            script=script,
            script_source=script_source(script),
            sections=sections,
            headline=_headline(results),
            facts=_facts(results),
            unfinished=results.unfinished,
            nothing=results.images.empty,
            synthetic=results.synthetic,
            source=results.source,
        )
    )


def _headline(results: Results) -> dict[str, Any] | None:
    """Each model's mean of the first metric that there is, with its interval: DSC, unless a table has none.

    A winner's own scores chose it, so that BBC-CV's estimate stands in their place where there is one.
    """
    metrics = [] if results.headline.empty else paper_tables.shown_metrics(results.table2)
    if not metrics:
        return None
    metric = metrics[0]
    rows = []
    for row in results.table2.to_dict("records"):
        kind = results.kind(row["model"])
        value, low, high = (row[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
        note = KIND_LABELS.get(kind, "")
        search = results.searches.get(row["model"])
        corrected = search.estimate("bbc") if kind == "winner" and search and search.metric == metric else None
        if corrected is not None:
            value, low, high = (corrected[name] for name in ("value", "low", "high"))
            note = "corrected for the search, BBC-CV"
        limits = [paper_tables.printed(metric, limit) for limit in (low, high)]
        rows.append(
            {
                "model": model_label(row["model"]),
                "note": note,
                "text": paper_tables.printed(metric, value),
                "interval": "" if DASH in limits else DASH.join(limits),
            }
        )
    unit = results.unit if paper_tables.is_distance(metric) else ""
    over = "mean of the fold means" if results.headline["fold"].nunique() > 1 else "mean over images"
    return {"what": f"{METRIC_LABELS[metric]}{f' ({unit})' if unit else ''}, {over}", "rows": rows}


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
    if results.store is not None:
        protocols = dict.fromkeys(_PROTOCOLS[search.protocol] for search in results.searches.values())
        facts.append(("Protocol", " and ".join(protocols) or "cross-validation"))
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
    if results.provenance.get("eus_ray"):
        facts.append(("eus-ray", results.provenance["eus_ray"]))
    return facts
