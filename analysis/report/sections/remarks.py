"""Section on what is odd about the data, first of all."""

from __future__ import annotations

from eus_ray.analysis.report.page import render
from eus_ray.analysis.report.remarks import remarks
from eus_ray.analysis.report.results import Results, Section


def build(results: Results) -> Section | None:
    """Build the section; None if nothing is odd."""
    lines = remarks(results)
    return Section(5, "remarks", "Remarks on the data", render("remarks.html", lines=lines)) if lines else None
