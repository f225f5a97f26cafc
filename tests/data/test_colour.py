"""A data set in colour: arrays, cases, and the memory that they take."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from eus_ray.config import DataSettings, EvaluateSettings, Study
from eus_ray.data.arrays import arrays_name, case_batches, load_arrays, num_bytes
from eus_ray.data.dataset import check_data
from eus_ray.data.io.images import decode
from eus_ray.data.manifest import read_manifest
from eus_ray.data.resizing import resize_image
from eus_ray.errors import UserError

COLOUR = DataSettings(image_size=32, resize="pad", channels="rgb")
GRAY = COLOUR.model_copy(update={"channels": "gray"})


@pytest.fixture
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = [(40, 80, 3), (64, 64, 3), (90, 30)]
    return [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]


@pytest.fixture
def frame(pictures: list[np.ndarray], tmp_path: Path) -> pd.DataFrame:
    rows = []
    for i, picture in enumerate(pictures):
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[10:25, 8:20] = 255
        files = {"image": str(tmp_path / f"{i}.png"), "mask": str(tmp_path / f"{i}_mask.png")}
        cv2.imwrite(files["image"], picture[..., ::-1] if picture.ndim == 3 else picture)
        cv2.imwrite(files["mask"], mask)
        rows.append({"image_id": f"i{i}", **files, "height": picture.shape[0], "width": picture.shape[1]})
    return pd.DataFrame(rows).assign(spacing_row=0.1, spacing_col=0.2)


def channel_by_channel(picture: np.ndarray, size: int, resize: str) -> np.ndarray:
    layers = [picture[..., k] for k in range(3)] if picture.ndim == 3 else [picture] * 3
    return np.stack([resize_image(layer, size, resize) for layer in layers], axis=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_each_colour_is_resized_as_a_gray_image_is(
    frame: pd.DataFrame, pictures: list[np.ndarray], resize: str
) -> None:
    arrays = load_arrays(frame, COLOUR.model_copy(update={"resize": resize}))
    assert arrays.images.shape == (3, 32, 32, 3)
    for row, picture in zip(arrays.images, pictures, strict=True):
        assert (row == channel_by_channel(picture, 32, resize)).all()
    gray = load_arrays(frame, GRAY.model_copy(update={"resize": resize}))
    assert (arrays.masks == gray.masks).all()
    assert (gray.images[2] == arrays.images[2, ..., 0]).all(), "a gray file is the same, three times"


def test_mapped_files_in_colour(frame: pd.DataFrame, tmp_path: Path) -> None:
    plain, into = load_arrays(frame, COLOUR), tmp_path / arrays_name("fingerprint", COLOUR)
    mapped = load_arrays(frame, COLOUR, into=into)
    assert isinstance(mapped.images, np.memmap)
    assert (mapped.images == plain.images).all()
    assert (mapped.masks == plain.masks).all()
    assert not mapped.images.flags.writeable


def test_names_of_gray_arrays_stay_and_those_of_colour_differ() -> None:
    assert arrays_name("f", DataSettings()) == "arrays-1a7d804a4b4de659"
    assert arrays_name("f", DataSettings(channels="rgb")) != arrays_name("f", DataSettings())


def test_a_pixel_takes_four_bytes_in_colour_and_two_in_gray(frame: pd.DataFrame) -> None:
    for data, bytes_of_a_pixel in ((COLOUR, 4), (GRAY, 2)):
        arrays = load_arrays(frame, data)
        assert num_bytes(frame, data) == arrays.images.nbytes + arrays.masks.nbytes == bytes_of_a_pixel * 3 * 32 * 32


def test_cases_in_colour(frame: pd.DataFrame, pictures: list[np.ndarray]) -> None:
    arrays = load_arrays(frame, COLOUR)
    grids = [EvaluateSettings(grid=grid) for grid in ("resized", "original")]
    (resized,), (own,) = (case_batches(frame, arrays, COLOUR, evaluate) for evaluate in grids)
    for i, (small, large) in enumerate(zip(resized.to_pylist(), own.to_pylist(), strict=True)):
        assert (decode(small["image"]).content == arrays.images[i]).all()
        picture = pictures[i] if pictures[i].ndim == 3 else np.repeat(pictures[i][..., None], 3, axis=2)
        assert (decode(large["image"]).content == picture).all()
        assert (decode(small["truth"]).mask() == arrays.masks[i]).all()
        assert decode(large["truth"]).gray.shape == (large["height"], large["width"]) == picture.shape[:2]


def test_mapped_files_are_filled_without_holding_the_images(frame: pd.DataFrame, tmp_path: Path) -> None:
    many = pd.concat([frame] * 150, ignore_index=True)
    data = COLOUR.model_copy(update={"image_size": 128})
    assert num_bytes(many, data) == 450 * 128 * 128 * 4  # 29 MB
    tracemalloc.start()
    try:
        load_arrays(many, data, into=tmp_path / "arrays")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6e6


def manifest_of(folder: Path, pictures: list[np.ndarray]) -> Path:
    mask = np.zeros(pictures[0].shape[:2], np.uint8)
    mask[4:9, 4:9] = 255
    cv2.imwrite(str(folder / "mask.png"), mask)
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    rows = "".join(f"{index}.png,mask.png,p{index}\n" for index in range(len(pictures)))
    (folder / "manifest.csv").write_text("image,mask,patient_id\n" + rows)
    return folder / "manifest.csv"


def test_a_transparent_image_is_a_defect_of_a_data_set_in_colour_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    opaque, clear = (random.integers(0, 256, (16, 24, 4), dtype=np.uint8) for _ in range(2))
    opaque[..., 3] = 255
    manifest = manifest_of(tmp_path, [opaque, clear])
    assert "1.png: is a file with transparency, which was ignored" in "\n".join(read_manifest(manifest).warnings)
    with pytest.raises(UserError) as refused:
        read_manifest(manifest, channels="rgb")
    assert refused.value.lines == (
        f"{manifest}: row 3: image 1.png is transparent, and its colours depend on what lies behind it; save it "
        "without transparency (alpha)",
    )
    study = Study.model_validate({"data": {"manifest": str(manifest), "channels": "rgb"}, "folds": {"count": 2}})
    with pytest.raises(UserError, match=r"row 3: image 1\.png is transparent"):
        check_data(study)


def test_one_gray_value_in_several_colours_is_no_empty_picture(tmp_path: Path) -> None:
    picture = np.full((16, 24, 3), (100, 124, 52), np.uint8)  # blue first; both have the luma 100
    picture[4:9, 4:9] = (100, 76, 148)
    plain = np.full((16, 24, 3), (100, 124, 52), np.uint8)
    manifest = manifest_of(tmp_path, [picture, plain])
    told = "\n".join(read_manifest(manifest).warnings)
    assert "image 0.png has one gray value only" in told
    assert "image 1.png has one gray value only" in told
    told = "\n".join(read_manifest(manifest, channels="rgb").warnings)
    assert "image 0.png" not in told
    assert "image 1.png has one colour only" in told


def test_the_fingerprint_and_copies_are_those_of_gray(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    coarse = [random.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(2)]
    pictures = [cv2.resize(one, (80, 60), interpolation=cv2.INTER_CUBIC) for one in coarse]
    manifest = manifest_of(tmp_path, [*pictures, cv2.cvtColor(pictures[0], cv2.COLOR_BGR2GRAY)])
    for channels in ("gray", "rgb"):
        with pytest.raises(UserError, match=r"image 2\.png of patient p2 is .* 0\.png of patient p0"):
            read_manifest(manifest, channels=channels)  # type: ignore[arg-type]
    gray, rgb = (read_manifest(manifest, "warn", channels=channels) for channels in ("gray", "rgb"))  # type: ignore[arg-type]
    assert gray.fingerprint == rgb.fingerprint
