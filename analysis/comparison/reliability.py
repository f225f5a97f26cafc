"""How often pixels of a probability show the target: the points of a reliability curve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.statistics import bootstrap
from eus_ray.analysis.statistics.bootstrap import Average

REGIONS = ("image", "box")
"""The whole image, and the box around truth and prediction: the first axis of an image's bins."""
RELIABILITY_COLUMNS = ("model", "region", "bin", "low", "high", "share", "probability", "observed")

Bins = Mapping[tuple[str, str, str], npt.NDArray[np.float64]]
"""Bins of an image `(2, B, 3)` by model, kind and image_id: regions by bins of equal width by number of pixels, sum of
their probabilities, and number of pixels in the truth."""


def reliability(images: pd.DataFrame, bins: Bins, average: Average) -> pd.DataFrame:
    """Compute each model's reliability curve, averaged like a metric.

    The pixels of an image weigh equally, images as in a model's mean: the shares of an image's pixels are averaged over
    images and folds, and divided last.

    Args:
        images: The rows of the models, with `model, kind, fold, patient_id, image_id`; rows without bins are left out.
        bins: The bins of images.
        average: What a fold's mean is taken over.

    Returns:
        `RELIABILITY_COLUMNS`: the `share` of the region's pixels that lie in the bin, their mean `probability`, and how
        many of them are `observed` in the truth, as a share. The last two are NaN for a bin without pixels. An image
        without a box (both masks empty) counts for the whole image alone. No rows without bins.
    """
    tables = []
    for model, mine in images.groupby("model", sort=False):
        keys = mine[["model", "kind", "image_id"]].apply(tuple, axis=1)
        known = keys.isin(bins.keys())
        if not known.any():
            continue
        found = np.stack([bins[key] for key in keys[known]]).astype(np.float64)
        tables += [
            _curve(mine[known], found[:, place], average).assign(model=model, region=region)
            for place, region in enumerate(REGIONS)
        ]
    columns = list(RELIABILITY_COLUMNS)
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def _curve(images: pd.DataFrame, bins: npt.NDArray[np.float64], average: Average) -> pd.DataFrame:
    """Compute the points of one model in one region from bins `(N, B, 3)` of its images."""
    pixels = bins[:, :, 0].sum(axis=1)
    shares = np.divide(bins, pixels[:, None, None], out=np.full_like(bins, np.nan), where=pixels[:, None, None] > 0)
    number = bins.shape[1]
    columns = [f"{place}" for place in range(3 * number)]
    flat = pd.DataFrame(shares.reshape(len(shares), -1), columns=columns, index=images.index)
    rows = bootstrap.rows_to_average(images[["patient_id", "fold"]].join(flat), columns, average)
    means = bootstrap.mean_of_fold_means(bootstrap.fold_means(rows[columns].to_numpy(np.float64), rows["fold"]))
    share, probability, observed = means.reshape(number, 3).T
    has_pixels = share > 0
    return pd.DataFrame(
        {
            "bin": range(number),
            "low": np.arange(number) / number,
            "high": np.arange(1, number + 1) / number,
            "share": share,
            "probability": np.divide(probability, share, out=np.full(number, np.nan), where=has_pixels),
            "observed": np.divide(observed, share, out=np.full(number, np.nan), where=has_pixels),
        }
    )
