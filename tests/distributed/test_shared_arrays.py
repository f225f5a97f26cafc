"""Where decoded images go: into Ray's object store, or into mapped files if they would fill it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eus_ray.config import DataSettings
from eus_ray.data.arrays import Arrays
from eus_ray.data.arrays import num_bytes as bytes_of
from eus_ray.distributed import shared_arrays

GB = 10**9


class Images:
    """A data set of so many images; it notes into which folder it is decoded."""

    def __init__(self, count: int, **settings: Any) -> None:
        self.num_bytes = bytes_of(pd.DataFrame(index=range(count)), DataSettings(**settings))
        self.into: list[Path | None] = []

    def arrays(self, into: Path | None = None) -> Arrays:
        self.into.append(into)
        return Arrays(np.zeros((1, 32, 32), np.uint8), np.zeros((1, 32, 32), np.uint8))


@pytest.mark.parametrize(
    ("channels", "num_bytes", "store_bytes", "is_mapped"),
    [
        ("gray", 1_310_720_000, 4 * GB, False),  # two bytes a pixel: 1.3 of 2.4 GB that arrays may take
        ("rgb", 2_621_440_000, 4 * GB, True),  # four bytes a pixel
        ("rgb", 2_621_440_000, 4_369_066_667, False),  # 0.6 of it is just enough
        ("rgb", 2_621_440_000, 4_369_066_665, True),
        ("gray", 1_310_720_000, 2 * GB, True),
    ],
)
def test_ten_thousand_images_of_256_pixels(
    channels: str, num_bytes: int, store_bytes: int, is_mapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Images(10_000, image_size=256, channels=channels)
    session = SimpleNamespace(object_store_bytes=store_bytes, scratch=tmp_path)
    put: list[Any] = []
    monkeypatch.setattr(shared_arrays.ray, "put", lambda pair: put.append(pair) or "reference")
    _, shared = shared_arrays.share_arrays(images, session)  # type: ignore[arg-type]
    assert images.num_bytes == num_bytes
    assert images.into == [tmp_path / "arrays" if is_mapped else None]
    assert len(put) == (not is_mapped)
    assert callable(shared) == is_mapped
