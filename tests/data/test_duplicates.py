"""The same picture twice: planted copies are found, other pictures and constant ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from eus_ray.data.duplicates import MAX_HASH_BITS, find_copies, look
from eus_ray.data.io.images import read_image
from eus_ray.data.manifest import read_manifest
from eus_ray.errors import UserError

Picture = npt.NDArray[np.uint8]


def picture(seed: int) -> Picture:
    noise = np.random.default_rng(seed).random((120, 150)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 6)
    return np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def scaled(image: Picture, factor: float) -> Picture:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def jpeg(image: Picture, quality: int) -> Picture:
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "same": np.copy,
    "90 %": lambda image: scaled(image, 0.9),
    "50 %": lambda image: scaled(image, 0.5),
    "JPEG 70": lambda image: jpeg(image, 70),
    "90 % and JPEG 70": lambda image: jpeg(scaled(image, 0.9), 70),
    "brighter": lambda image: cv2.add(image, 20),
}


@pytest.mark.parametrize("how", COPIES)
def test_planted_copies_are_found(how: str) -> None:
    originals = [picture(seed) for seed in range(20)]
    copies = find_copies([look(image) for image in [*originals, *map(COPIES[how], originals)]])
    assert [(copy.first, copy.second) for copy in copies] == [(i, i + 20) for i in range(20)]
    assert all(copy.is_exact == (how == "same") and copy.correlation >= 0.98 for copy in copies)


@pytest.mark.parametrize("how", COPIES)
def test_planted_copies_of_real_images_are_found(busbra: Path, how: str) -> None:
    names = pd.read_csv(busbra / "manifest.csv")["image"][::8]
    originals = [read_image(busbra / name) for name in names]
    copies = find_copies([look(image) for image in [*originals, *map(COPIES[how], originals)]])
    assert [(copy.first, copy.second) for copy in copies] == [(i, i + 40) for i in range(40)]


def test_a_hash_alone_is_no_copy() -> None:
    """A fine chequerboard is above the hash's frequencies, so the hashes agree; the correlation does not."""
    image = cv2.resize(picture(0), (64, 64))
    board = np.indices(image.shape).sum(axis=0) % 2 * 80 - 40
    looks = [look(image), look(np.clip(image + board, 0, 255).astype(np.uint8))]
    assert (looks[0].phash ^ looks[1].phash).bit_count() <= MAX_HASH_BITS
    assert find_copies(looks) == []


def test_constant_pictures_are_copies_of_none() -> None:
    black, gray = np.zeros((60, 80), np.uint8), np.full((60, 80), 90, np.uint8)
    with np.errstate(all="raise"):  # they have no correlation, not one of 0/0
        assert find_copies([look(black), look(black), look(gray), look(picture(0))]) == []
    assert find_copies([]) == []


def test_pairs_beyond_one_block_equal_a_double_loop() -> None:
    """More pictures than are compared at once, with copies across and within the blocks."""
    originals = [look(cv2.resize(picture(seed), (64, 64))) for seed in range(12)]
    order = np.random.default_rng(0).integers(12, size=1500)
    found = {(copy.first, copy.second) for copy in find_copies([originals[i] for i in order])}
    first, second = np.triu_indices(1500, 1)
    same = order[first] == order[second]
    assert found == set(zip(first[same].tolist(), second[same].tolist(), strict=True))


# ---- as the manifest tells it -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a.png and b.png, other pictures, and an empty mask for all."""
    for seed, name in enumerate("ab"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(seed))
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros(picture(0).shape, np.uint8))
    return tmp_path


def manifest_of(folder: Path, patients: dict[str, str]) -> Path:
    path = folder / "manifest.csv"
    rows = [f"{image},mask.png,{patient}" for image, patient in patients.items()]
    path.write_text("\n".join(["image,mask,patient_id", *rows]))
    return path


def test_the_same_picture_under_two_patients(folder: Path) -> None:
    cv2.imwrite(str(folder / "c.bmp"), picture(0))
    path = manifest_of(folder, {"a.png": "P", "b.png": "P", "c.bmp": "Q"})
    copy = f"{path}: row 4: image c.bmp of patient Q is the same picture as a.png of patient P (row 2)"
    with pytest.raises(UserError) as refused:
        read_manifest(path)
    (line,) = refused.value.lines
    assert line == f'{copy}; keep one, give both one patient_id, or set data.duplicates = "warn"'
    assert read_manifest(path, duplicates="warn").warnings[0] == copy


def test_a_recompressed_copy_under_two_patients_and_within_one(folder: Path) -> None:
    cv2.imwrite(str(folder / "c.jpg"), picture(0), [cv2.IMWRITE_JPEG_QUALITY, 70])
    with pytest.raises(UserError, match=r"row 4: image c\.jpg of patient Q is nearly \(correlation (1\.0|0\.99)"):
        read_manifest(manifest_of(folder, {"a.png": "P", "b.png": "P", "c.jpg": "Q"}))
    manifest = read_manifest(manifest_of(folder, {"a.png": "P", "b.png": "Q", "c.jpg": "P"}))
    assert manifest.near_duplicates_within == 1
    assert not any("row" in warning for warning in manifest.warnings)
