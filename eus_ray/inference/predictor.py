"""A trained model for one image at a time, as a program uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eus_ray.data.io.images import to_uint8
from eus_ray.data.resizing import resize_image, to_original_grid
from eus_ray.errors import UserError
from eus_ray.inference.ensemble import load_ensemble, trained_model
from eus_ray.metrics import THRESHOLD, quantise
from eus_ray.store import Store


@dataclass(frozen=True)
class Prediction:
    """The answer of an ensemble, each array `(H, W)` on the image's own pixels."""

    probability: npt.NDArray[np.float32]
    """The mean over the networks, in [0, 1], in steps of 1 / 65535 as a study stores it."""
    mask: npt.NDArray[np.bool_]
    """The lesion: where the probability is 0.5 or more."""
    agreement: npt.NDArray[np.float32]
    """The share of the networks whose own mask says the same as `mask`, in [0, 1]."""


class Predictor:
    """The ensemble of a study's fold models, loaded once.

    Args:
        study: The study folder, a path or a URI.
        model: One of the study's; by default the one with the best headline DSC.

    Raises:
        UserError: If nothing is trained there, or weights are missing or damaged.
    """

    def __init__(self, study: str | Path, model: str | None = None) -> None:
        self._trained = trained_model(Store(study), model)
        self.model = self._trained.model
        self._ensemble, self.device = load_ensemble(self._trained)

    def predict(self, image: npt.NDArray[Any]) -> Prediction:
        """Predict one image.

        Args:
            image: Gray values `(H, W)` of any depth; they pass through what training images pass through.

        Raises:
            UserError: If it is no such array.
        """
        image = np.asarray(image)
        if image.ndim != 2 or not image.size or image.dtype.kind not in "uif":
            raise UserError(f"the image has the shape {image.shape} and the type {image.dtype}; give numbers (H, W)")
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise UserError("the image has values that are not finite")
        data, (height, width) = self._trained.study.data, image.shape
        grid = resize_image(to_uint8(image, data.intensity), data.image_size, data.resize)[None]
        maps = [one[0] for one in self._ensemble.maps(grid)]
        mean = (sum(map_.astype(np.float64) for map_ in maps) / len(maps)).astype(np.float32)
        levels = [quantise(to_original_grid(map_, height, width, data.resize)) for map_ in (mean, *maps)]
        mask, *others = [level >= THRESHOLD for level in levels]
        agreement = np.asarray(np.mean([other == mask for other in others], axis=0), np.float32)
        return Prediction((levels[0] / 65535).astype(np.float32), mask, agreement)
