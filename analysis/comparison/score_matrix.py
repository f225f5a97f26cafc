"""Score matrix: the scores of all models as arrays by image and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.statistics import bootstrap

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Aligned:
    """Scores of K models on N images in M metrics."""

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    images: npt.NDArray[np.str_]
    """`(N,)`: image_id, in the order of the rows."""
    patients: npt.NDArray[np.str_]
    """`(N,)`: patient_id."""
    folds: npt.NDArray[np.int64]
    """`(N,)`."""
    predicted: npt.NDArray[np.bool_]
    """`(N, K)`: whether the model has predicted the image."""
    values: Floats
    """`(N, K, M)`; NaN if a model lacks the image or AUC is undefined. Infinite distances stay infinite: these values
    are for rank tests between independent groups."""
    bounded: Floats
    """The same with the image's diagonal for an infinite distance: for everything else."""

    def patient_names(self) -> npt.NDArray[np.str_]:
        """Return the patients `(P,)`, sorted: the order of `patient_means`."""
        return np.unique(self.patients)

    def patient_means(self, values: Floats) -> Floats:
        """Return each patient's mean `(P, ...)` of values `(N, ...)`, without NaN."""
        flat = values.reshape(len(values), -1)
        return bootstrap.fold_means(flat, self.patients).reshape(-1, *values.shape[1:])

    def patient_folds(self) -> npt.NDArray[np.int64]:
        """Return the fold `(P,)` that tests each patient."""
        return self.folds[np.unique(self.patients, return_index=True)[1]]


def align(images: pd.DataFrame, metrics: Sequence[str]) -> Aligned:
    """Arrange scores as arrays by image and model, in the order of the rows.

    Args:
        images: One row per model and image (one kind per model) with `model, image_id, patient_id, fold, diagonal` and
            the metrics.
        metrics: Which metrics.

    Raises:
        ValueError: If a model has several rows for one image, or an infinite distance has no diagonal.
    """
    if images.duplicated(["model", "image_id"]).any():
        raise ValueError("a model has several rows for one image: choose one kind of trial a model first")
    column, models = pd.factorize(images["model"])
    row, names = pd.factorize(images["image_id"])
    first = images.drop_duplicates("image_id")
    predicted = np.zeros((len(names), len(models)), np.bool_)
    predicted[row, column] = True
    values = np.full((len(names), len(models), len(metrics)), np.nan)
    bounded = values.copy()
    values[row, column] = images[list(metrics)].to_numpy(np.float64)
    bounded[row, column] = bootstrap.at_diagonal(images)[list(metrics)].to_numpy(np.float64)
    return Aligned(
        tuple(map(str, models)),
        tuple(metrics),
        first["image_id"].to_numpy(str),
        first["patient_id"].to_numpy(str),
        first["fold"].to_numpy(np.int64),
        predicted,
        values,
        bounded,
    )
