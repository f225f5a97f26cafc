"""Section on patients and images (the paper's Table 1)."""

from __future__ import annotations

from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.report.page import render
from eus_ray.analysis.report.results import Results, Section


def build(results: Results) -> Section | None:
    """Build the section; None without data."""
    if results.patients.empty:
        return None
    table = paper_tables.table1(results.patients)
    near = results.provenance.get("data", {}).get("near_duplicates_within")
    body = render("patients.html", rows=table.to_dict("records"), near_duplicates=near)
    files = {"table1.csv": paper_tables.as_csv(table).encode(), "table1.tex": paper_tables.table1_latex(table).encode()}
    return Section(20, "patients", "Patients and images", body, files)
