"""What must be said of a model that was trained again with the best setting of a search."""

from __future__ import annotations

import pandas as pd

from eus_ray.analysis.comparison.fold_table import fold_table
from eus_ray.analysis.comparison.pairwise import margin_of
from eus_ray.analysis.comparison.paper_tables import printed, shown_metrics
from eus_ray.analysis.labels import METRIC_LABELS, ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report.results import Results


def doubts(results: Results) -> dict[str, str]:
    """Return a sentence about each winner that is not to be used as it is, by model.

    It does no better on its test patients than the fixed mask, or is worse by more than the margin than the nested
    estimate, on the same images and in the first metric. Luck makes a winner's numbers too high, not too low.
    """
    metrics = [] if results.headline.empty else shown_metrics(results.table2)
    if not metrics:
        return {}
    metric = metrics[0]
    sign = -1 if metric in DISTANCES else 1
    found = {}
    for model in dict.fromkeys(results.images.loc[results.images["kind"] == ReportKind.WINNER, "model"]):
        mine = results.images[results.images["model"] == model]
        winner = mine[mine["kind"] == ReportKind.WINNER]
        value = _mean(results, winner, metric)
        others = [
            (results.images[results.images["kind"] == ReportKind.BASELINE], 0.0, "no better than the fixed mask’s"),
            (
                mine[mine["kind"] == ReportKind.NESTED],
                margin_of(metric, results.analysis),
                f"worse by more than {margin_of(metric, results.analysis):g} than its nested estimate",
            ),
        ]
        reasons = []
        for other, margin, words in others:
            if set(other["image_id"]) == set(winner["image_id"]):
                beside = _mean(results, other, metric)
                if sign * (beside - value) >= margin:
                    reasons.append(f"{words} ({printed(metric, beside)})")
        if reasons:
            found[model] = (
                f"{results.labels[model]}, tuned on these folds, has a {METRIC_LABELS[metric]} of "
                f"{printed(metric, value)}, {' and '.join(reasons)}: "
                "do not use it before its training has been looked at."
            )
    return found


def _mean(results: Results, images: pd.DataFrame, metric: str) -> float:
    """Return what Table 2 would have for the rows of one model."""
    return float(fold_table(images, [metric], results.analysis.average)[metric].mean())
