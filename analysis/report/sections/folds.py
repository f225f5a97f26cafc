"""Section with the means of each fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.comparison.fold_table import FOLD_COLUMNS, fold_table
from eus_ray.analysis.labels import METRIC_LABELS
from eus_ray.analysis.measures.image_metrics import DISTANCES
from eus_ray.analysis.report.page import render
from eus_ray.analysis.report.results import Results, Section

_PRINTED = ("dsc", "hd", "hd95")
"""The metrics of the page's table if there are any of them; folds.csv has all."""


def build(results: Results) -> Section | None:
    """Build the section; None with a single fold, or without metrics."""
    images = results.headline
    metrics = [] if images.empty else paper_tables.shown_metrics(results.table2)
    if not metrics or images["fold"].nunique() < 2:
        return None
    table = fold_table(images, metrics, results.analysis.average)
    printed = [name for name in _PRINTED if name in metrics] or metrics[: len(_PRINTED)]
    body = render(
        "folds.html",
        heads=[{"label": METRIC_LABELS[name], "unit": results.unit if name in DISTANCES else ""} for name in printed],
        models=[
            {"label": results.labels[str(model)], "rows": _rows(mine, printed), "spread": _spread(mine, printed)}
            for model, mine in table.groupby("model", sort=False)
        ],
        average=results.analysis.average,
        is_infinite=any(np.isinf(images[name]).any() for name in printed if name in DISTANCES),
        unit=results.unit_long if set(printed) & set(DISTANCES) else "",
    )
    return Section(14, "folds", "Each fold", body, {"folds.csv": paper_tables.as_csv(table).encode()})


def _rows(mine: pd.DataFrame, metrics: list[str]) -> list[dict[str, Any]]:
    """Return a model's folds as table rows."""
    return [
        {"name": row["fold"], "patients": row["patients"], "images": row["images"]}
        | {"cells": [paper_tables.printed(name, row[name]) for name in metrics]}
        for row in mine[[*FOLD_COLUMNS, *metrics]].to_dict("records")
    ]


def _spread(mine: pd.DataFrame, metrics: list[str]) -> list[dict[str, Any]]:
    """Return mean and sample SD of a model's folds, as the last rows of its table; the SD needs two folds."""
    lines = {"Mean": mine[metrics].mean(), "SD": mine[metrics].std(ddof=1)}
    return [
        {"name": name, "cells": [paper_tables.printed(metric, values[metric]) for metric in metrics]}
        for name, values in lines.items()
        if len(mine) > 1
    ]
