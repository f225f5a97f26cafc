"""The rows of a fold for the tables of the study folder."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


@dataclass
class Record:
    """A fold's rows, as far as it has come: the columns of each table but those of its key."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)

    def add_score(
        self, epoch: int, image_id: str, patient_id: str, split: str, tp_fp_fn_tn: npt.NDArray[np.int64]
    ) -> None:
        """Add an image's pixel counts `(4,)`."""
        row = {"epoch": epoch, "image_id": image_id, "patient_id": patient_id, "split": split}
        self.scores.append(row | dict(zip(("tp", "fp", "fn", "tn"), tp_fp_fn_tn.tolist(), strict=True)))

    def add_prediction(self, image_id: str, quantised: npt.NDArray[np.uint16]) -> None:
        """Add an image's probability map `(H, W)`, as `metrics.quantise` has it."""
        height, width = quantised.shape
        self.predictions.append(
            {"image_id": image_id, "height": height, "width": width, "probability": quantised.ravel()}
        )

    def packed(self) -> torch.Tensor:
        """Return all rows but predictions as compressed JSON: `(B,)` uint8."""
        rows = json.dumps([self.epochs, self.scores]).encode()
        return torch.frombuffer(bytearray(zlib.compress(rows, 1)), dtype=torch.uint8)

    @classmethod
    def unpacked(cls, rows: torch.Tensor) -> Record:
        """Return the record that `packed` gave these bytes of."""
        return cls(*json.loads(zlib.decompress(rows.numpy().tobytes())))
