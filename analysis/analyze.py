"""`analyze`: from a study folder, or a table of per-image scores, to tables, figures and report.html."""

from __future__ import annotations

from pathlib import Path

from eus_ray import store as layout
from eus_ray.analysis.inputs.score_table import SUFFIXES
from eus_ray.analysis.report.results import Results, read_study, read_table
from eus_ray.store import Store

REPORT = "report.html"
IMAGES = "images.parquet"


def analyze(source: str | Path, out: str | Path | None = None) -> str:
    """Write images.parquet, table1 and table2 (csv, tex), figures/ and report.html; return where the report is.

    source: a study folder in any state (STUDY/report is replaced unless `out` is given), or a CSV or Parquet table with
    `model, image_id, patient_id` and one metric at least (the default is NAME_report beside it). Both, and `out`,
    may be any location that the store opens. Nothing is written before all of it is ready. Raises `UserError` for a
    source that is neither, for defects in it, and for an `out` that has files already.
    """
    text = str(source)
    folder = Store(text)
    if text.lower().endswith(SUFFIXES) and not folder.exists(layout.STUDY):
        parent, _, name = folder.location.rpartition("/")
        target = Store(out if out is not None else f"{parent}/{name.rsplit('.', 1)[0]}_report")
        target.check_unused()
        prefix, results = "", read_table(Store(parent), name)
    else:
        if out is None or Store(out).root == folder.path("report"):
            target, prefix = folder, "report/"
        else:
            target, prefix = Store(out), ""
            target.check_unused()
        results = read_study(folder)
    files = report_files(results)
    target.write_frame(prefix + IMAGES, results.images)
    for name, data in files.items():
        target.write_bytes(prefix + name, data)
    if prefix:  # what an earlier report had and this one has not
        for name in target.names("report"):
            if name.removeprefix(prefix) not in {*files, IMAGES}:
                target.delete(name)
    return f"{target.location}/{prefix}{REPORT}"


def report_files(results: Results) -> dict[str, bytes]:
    """All files of a report but images.parquet, by name relative to its folder; report.html comes last."""
    from eus_ray.analysis.report.report import build_sections, report_html  # draws: matplotlib is slow to load

    sections = build_sections(results)
    files: dict[str, bytes] = {}
    for section in sections:
        files |= section.files
    return files | {REPORT: report_html(results, sections).encode()}
