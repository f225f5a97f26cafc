"""The data that benchmarks run on: real images where they are, else a phantom of the same size."""

from __future__ import annotations

import os
from pathlib import Path

from eus_ray.data.phantom.dataset import make_phantom

ROOT = Path(__file__).resolve().parents[2]


def busbra() -> Path | None:
    """The manifest of BUS-BRA's 320 images of 182 patients; None where it is not."""
    path = Path(os.environ.get("EUS_RAY_BUSBRA", ROOT.parent / "shared/data/busbra")) / "manifest.csv"
    return path if path.exists() else None


def phantom(folder: Path) -> Path:
    """The manifest of 330 synthetic images of 150 patients, the paper's numbers."""
    return make_phantom(folder / "phantom", patients=150, images=330, seed=0, size=256)
