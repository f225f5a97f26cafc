"""A trained model for one image at a time, as a program uses it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eus_ray.data.io.images import to_uint8
from eus_ray.data.resizing import resize_image
from eus_ray.errors import UserError
from eus_ray.inference.ensemble import load_ensemble, segmented, trained_model
from eus_ray.store import Store


@dataclass(frozen=True)
class Prediction:
    """The answer of an ensemble, each array `(H, W)` on the image's own pixels."""

    probability: npt.NDArray[np.float32]
    """The mean over the networks, in [0, 1], in steps of 1 / 65535 as a study stores it."""
    mask: npt.NDArray[np.bool_]
    """The lesion, made of the probability as the study makes masks: by default, where it is 0.5 or more."""
    agreement: npt.NDArray[np.float32]
    """Of each pixel: the share of the networks whose own mask says the same as `mask`, in [0, 1]."""


class Predictor:
    """The ensemble of a study's fold models, loaded once.

    Args:
        study: The study folder, a path or a URI.
        model: One of the study's; by default the one with the best headline DSC.
        allow_modules: Others' modules, such as `ourlab.nets`, that may be imported to build its networks: a study
            folder names them and does not hold them. Importing one runs its code.

    Raises:
        UserError: If nothing is trained there, weights are missing or damaged, or a module is not allowed, is not here,
            or has changed.
    """

    def __init__(self, study: str | Path, model: str | None = None, *, allow_modules: Collection[str] = ()) -> None:
        self._trained = trained_model(Store(study), model, allow_modules)
        self.model = self._trained.model
        self._ensemble, self.device = load_ensemble(self._trained)

    def predict(self, image: npt.NDArray[Any]) -> Prediction:
        """Predict one image.

        Args:
            image: Gray values `(H, W)` of any depth; they pass through what training images pass through. A study in
                colour also takes `(H, W, 3)`, red first, and repeats gray values.

        Raises:
            UserError: If it is no such array.
        """
        image, data = np.asarray(image), self._trained.study.data
        in_colour = data.channels == "rgb"
        if in_colour and image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.shape[2:] != (3,) * in_colour or image.ndim < 2 or not image.size or image.dtype.kind not in "uif":
            wanted = "(H, W) or (H, W, 3)" if in_colour else "(H, W)"
            raise UserError(f"the image has the shape {image.shape} and the type {image.dtype}; give numbers {wanted}")
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise UserError("the image has values that are not finite")
        height, width = image.shape[:2]
        grid = resize_image(to_uint8(image, data.intensity), data.image_size, data.resize)[None]
        levels, mask, members = segmented(self._ensemble(grid)[:, 0], height, width, self._trained.study)
        agreement = (members == mask).mean(axis=0).astype(np.float32)
        return Prediction((levels / 65535).astype(np.float32), mask, agreement)
