"""The head of the report: what may be believed, before any table."""

from __future__ import annotations

from typing import Any

from eus_ray.analysis.comparison import claims, paper_tables, verdicts
from eus_ray.analysis.labels import KIND_LABELS, METRIC_LABELS, ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report.results import Results

_MAX_CLAIMS = 10
"""More are left to their section."""


def headline(results: Results) -> dict[str, Any] | None:
    """Return each model's average of the first known metric with its interval, the baseline last.

    A winner's own scores chose it, so BBC-CV's estimate replaces them if there is one. If models were tested on
    different images, the averages are over the images that all of them have; if there are none, a warning stands with
    them.
    """
    metrics = [] if results.headline.empty else paper_tables.shown_metrics(results.table2)
    if not metrics:
        return None
    metric = metrics[0]
    table, where = results.table2, ""
    is_uneven, common = metric in results.uneven, paper_tables.common_images(results.compared, metric)
    if is_uneven and not common.empty:
        table = paper_tables.table2(common, [metric], results.analysis.average)
        where = f", over the {common['image_id'].nunique()} images that all models have"
    elif is_uneven:
        where = ", over different images: do not compare them"
    rows = []
    for row in table.to_dict("records"):
        kind = results.kind(row["model"])
        value, low, high = (row[name] for name in (metric, f"{metric}_low", f"{metric}_high"))
        note = KIND_LABELS.get(kind, "")
        search = results.searches.get(row["model"]) if kind == ReportKind.WINNER else None
        corrected = search.estimate("bbc") if search and search.metric == metric and not is_uneven else None
        if corrected is not None:
            value, low, high = (corrected[name] for name in ("value", "low", "high"))
            note = "corrected for the search, BBC-CV"
        rows.append(
            {
                "model": results.labels[row["model"]],
                "note": note,
                "text": paper_tables.printed(metric, value),
                "interval": paper_tables.printed_interval(metric, low, high),
            }
        )
    unit = results.unit_long if metric in DISTANCES else ""
    return {
        "what": f"{METRIC_LABELS[metric]}{f' ({unit})' if unit else ''}, {results.average_words}{where}",
        "rows": rows,
    }


def what_to_believe(results: Results) -> list[dict[str, Any]]:
    """Return the verdicts on the first metric in short: each model against the baseline, then the other pairs.

    Of many other pairs none is listed: their section has them.
    """
    pairs = [pair for pair in results.pairs if pair.metric == results.pairs[0].metric]
    with_baseline = [pair for pair in pairs if results.background.has_baseline(pair)]
    others = [pair for pair in pairs if pair not in with_baseline]
    listed = with_baseline + (others if len(others) <= _MAX_CLAIMS else [])
    return [
        {
            "verdict": verdicts.verdict(pair),
            "is_doubt": pair in with_baseline
            and (verdicts.verdict(pair) != verdicts.SUPPORTED or verdicts.better(pair) != pair.first),
            "text": claims.short_claim(pair, results.background),
        }
        for pair in listed
    ]
