"""The data of the benchmarks: real images if they are there, else a phantom of the same size."""

from __future__ import annotations

import os
from pathlib import Path

from eus_ray.data.phantom.dataset import make_phantom

ROOT = Path(__file__).resolve().parents[2]


def busbra() -> Path | None:
    """Return the manifest of BUS-BRA's 320 images of 182 patients, or None if it is not there."""
    path = Path(os.environ.get("EUS_RAY_BUSBRA", ROOT.parent / "shared/data/busbra")) / "manifest.csv"
    return path if path.exists() else None


def phantom(folder: Path) -> Path:
    """Make 330 synthetic images of 150 patients, the paper's numbers, and return their manifest."""
    return make_phantom(folder / "phantom", patients=150, images=330, seed=0, size=256)
