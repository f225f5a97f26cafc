"""Means of each model in each fold: what stands behind a mean over folds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from eus_ray.analysis.statistics import bootstrap
from eus_ray.analysis.statistics.bootstrap import Average

FOLD_COLUMNS = ("model", "fold", "patients", "images")


def fold_table(images: pd.DataFrame, metrics: Sequence[str], average: Average) -> pd.DataFrame:
    """Compute each model's means in each fold.

    An infinite distance enters as the image's diagonal. An undefined value is left out.

    Args:
        images: One row per model and image with `model`, `fold`, `patient_id`, metrics, and `diagonal` if a distance is
            infinite; one kind per model.
        metrics: Which metrics; one that `images` lacks is left out.
        average: What a fold's mean is taken over.

    Returns:
        `FOLD_COLUMNS`, then the metrics; models in the order of `images`, folds ascending. No rows for no images.
    """
    shown = [name for name in metrics if name in images]
    tables = []
    for model, mine in images.groupby("model", sort=False):
        by_fold = mine.groupby("fold")
        sizes = pd.DataFrame({"patients": by_fold["patient_id"].nunique(), "images": by_fold.size()})
        means = bootstrap.rows_to_average(mine, shown, average).groupby("fold")[shown].mean()
        tables.append(sizes.join(means).reset_index().assign(model=model))
    columns = [*FOLD_COLUMNS, *shown]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
