"""From a study folder or a score table to tables, figures and report.html."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eus_ray import store as layout
from eus_ray.analysis.report.checklist import read_report_file
from eus_ray.analysis.report.results import Results, read_study, read_table
from eus_ray.data.io.tables import SUFFIXES
from eus_ray.store import Store

REPORT = "report.html"
IMAGES = "images.parquet"


def analyze(
    source: str | Path, out: str | Path | None = None, *, warn: Callable[[str], None] = lambda _line: None
) -> str:
    """Write the report: images.parquet, tables (csv, tex), figures/ and report.html.

    Nothing is written before all of it is ready.

    Args:
        source: A study folder in any state, or a CSV or Parquet table with `model, image_id, patient_id` and one metric
            at least; any location that the store opens.
        out: The report's folder. By default STUDY/report, which is replaced, or NAME_report beside the table.
        warn: Hears what is odd about the data, line by line, as the report has it.

    Returns:
        The location of report.html.

    Raises:
        UserError: For a source that is neither, for defects in it, and for an `out` that has files already.
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
        read_report_file(folder)  # its defects are told before the long work
        results = read_study(folder)
    files = report_files(results, warn)
    target.write_frame(prefix + IMAGES, results.images)
    for name, data in files.items():
        target.write_bytes(prefix + name, data)
    if prefix:  # files that only an earlier report had
        for name in target.names("report"):
            if name.removeprefix(prefix) not in {*files, IMAGES}:
                target.delete(name)
    return f"{target.location}/{prefix}{REPORT}"


def report_files(results: Results, warn: Callable[[str], None]) -> dict[str, bytes]:
    """Return all files of a report but images.parquet, by name in its folder.

    report.html comes last. `warn` hears what is odd about the data.
    """
    from eus_ray.analysis.report.remarks import remarks
    from eus_ray.analysis.report.report import build_sections, report_html  # draws: matplotlib is slow to load

    for line in remarks(results):
        warn(line)
    sections = build_sections(results)
    files = {name: data for section in sections for name, data in section.files.items()}
    return files | {REPORT: report_html(results, sections).encode()}
