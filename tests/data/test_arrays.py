"""Decoding, the training grid and back: values worked by hand, geometry against the definition."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from eus_ray.config import DataSettings, EvaluateSettings
from eus_ray.data.arrays import (
    arrays_name,
    cases_table,
    decode,
    decode_mask,
    grid_spacing,
    load_arrays,
    num_bytes,
    placement,
    read_image,
    resize_image,
    resize_mask,
    to_original_grid,
    to_uint8,
)
from eus_ray.errors import UserError
from eus_ray.store import CASES


def encoded(pixels: npt.NDArray[np.generic], suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def pillow(picture: Image.Image, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format)
    return buffer.getvalue()


GRAY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
DEEP = GRAY.astype(np.uint16) * 200 + 7


# ---- decoding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_formats_keep_gray_and_gray_as_colour(suffix: str) -> None:
    for pixels in (GRAY, np.dstack([GRAY] * 3)):
        assert (decode(encoded(pixels, suffix)) == GRAY).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept_in_gray_and_colour(suffix: str) -> None:
    for pixels in (DEEP, np.dstack([DEEP] * 3), np.dstack([DEEP] * 3 + [np.full_like(DEEP, 65535)])):
        decoded = decode(encoded(pixels, suffix))
        assert decoded.dtype == np.uint16 and (decoded == DEEP).all()


def test_other_kinds_of_picture() -> None:
    assert np.abs(decode(encoded(np.full((16, 16), 77, np.uint8), ".jpg")).astype(int) - 77).max() <= 1
    assert (decode(pillow(Image.fromarray(DEEP), "TIFF")) == DEEP).all()
    assert (decode(pillow(Image.fromarray(GRAY > 99))) == 255 * (GRAY > 99)).all()
    floats = (GRAY / 7).astype(np.float32)
    assert (decode(encoded(floats, ".tiff")) == floats).all()
    palette = Image.fromarray(GRAY % 2, mode="P")
    palette.putpalette([10, 10, 10, 200, 200, 200])
    assert (decode(pillow(palette)) == np.where(GRAY % 2, 200, 10)).all()
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert (decode(pillow(Image.fromarray(red))) == 76).all()  # 0.299 · 255


LESION = np.zeros((12, 20), np.uint8)
LESION[3:7, 5:9] = 1


@pytest.mark.parametrize(
    "content",
    [
        encoded(LESION),
        encoded(LESION * np.uint8(255)),
        encoded(LESION * np.uint16(65535)),
        encoded(np.dstack([0 * LESION, 0 * LESION, 255 * LESION]), ".bmp"),
        pillow(Image.fromarray(LESION > 0), "TIFF"),
    ],
    ids=["0-1", "0-255", "16-bit", "red", "1-bit"],
)
def test_masks_have_zero_and_one_other_value(content: bytes) -> None:
    mask = decode_mask(content)
    assert mask.dtype == np.uint8 and (mask == LESION).all()


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(LESION, "P")
    image.putpalette(colours)
    return image


@pytest.mark.parametrize(
    "content",
    [
        encoded(np.dstack([0 * LESION, 0 * LESION, LESION])),
        encoded(np.dstack([LESION, 0 * LESION, 0 * LESION]) + np.uint8(0)),
        encoded(np.dstack([0 * LESION, 0 * LESION, 0 * LESION + np.uint8(1)])),
        pillow(palette([0, 0, 0, 0, 0, 1])),
        pillow(palette([0, 0, 0, 0, 0, 0])),
    ],
    ids=["dark red", "dark blue", "dark everywhere", "dark in a palette", "black twice in a palette"],
)
def test_a_colour_that_is_black_in_gray_is_not_taken_for_background(content: bytes) -> None:
    with pytest.raises(ValueError, match="colours that are equal in gray"):
        decode_mask(content)


def test_empty_and_full_masks_are_legal() -> None:
    assert not decode_mask(encoded(0 * LESION)).any()
    assert decode_mask(encoded(0 * LESION + np.uint8(255))).all()


def test_gray_values() -> None:
    assert to_uint8(GRAY, "auto") is GRAY
    deep = np.array([[1000, 2000], [3000, 1500]], np.uint16)
    assert to_uint8(deep, "auto").tolist() == [[0, 128], [255, 64]]
    assert to_uint8(deep, (1500, 2500)).tolist() == [[0, 128], [255, 0]]
    assert to_uint8(np.array([[10, 20]], np.uint8), (10, 20)).tolist() == [[0, 255]]
    assert to_uint8(np.full((2, 2), 900, np.uint16), "auto").tolist() == [[0, 0], [0, 0]]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(GRAY)[:60])
    with pytest.raises(UserError, match=r"a\.png: is damaged or cut short"):
        read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"b\.png: cannot be read \(No such file"):
        read_image(tmp_path / "b.png")


# ---- the training grid ------------------------------------------------------------------------------


def test_placement_and_spacing() -> None:
    assert placement(100, 200, 64, "stretch") == (0, 0, 64, 64)
    assert placement(100, 200, 64, "pad") == (16, 0, 32, 64)
    assert placement(30, 20, 60, "pad") == (0, 10, 60, 40)
    assert placement(1, 4000, 32, "pad") == (15, 0, 1, 32)
    assert grid_spacing(100, 200, (0.2, 0.1), 50, "stretch") == pytest.approx((0.4, 0.4))
    assert grid_spacing(100, 200, (0.2, 0.1), 50, "pad") == pytest.approx((0.8, 0.4))
    assert np.isnan(grid_spacing(100, 200, (np.nan, np.nan), 50, "pad")).all()


def test_shrinking_averages_and_growing_interpolates() -> None:
    image = np.array([[0, 100, 40, 60], [100, 200, 40, 60]] * 2, np.uint8)
    assert resize_image(image, 2, "stretch").tolist() == [[100, 50], [100, 50]]
    tall = np.repeat(np.array([[0, 80]], np.uint8), 8, axis=0)  # rows shrink by 2, columns grow by 2
    assert resize_image(tall, 4, "stretch").tolist() == [[0, 20, 60, 80]] * 4


def test_padding_is_black_and_centred() -> None:
    grid = resize_image(np.full((10, 20), 90, np.uint8), 20, "pad")
    assert (grid[5:15] == 90).all() and not grid[:5].any() and not grid[15:].any()


def test_masks_stay_masks_where_half_a_pixel_is_covered() -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[0, :2] = 1  # half of the first pixel
    mask[2, 0] = 1  # a quarter of the third
    mask[2:, 2:] = 1
    assert resize_mask(mask, 2, "stretch").tolist() == [[1, 0], [0, 1]]


def test_a_lesion_never_vanishes() -> None:
    mask = np.zeros((640, 640), np.uint8)
    mask[101, 205] = 1
    small = resize_mask(mask, 64, "stretch")
    assert np.argwhere(small).tolist() == [[10, 20]]
    assert not resize_mask(0 * mask, 64, "stretch").any()


# ---- and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(90, 150), (33, 47), (64, 64), (200, 40), (97, 31)])
def test_a_plane_comes_back_where_it_was(shape: tuple[int, int], resize: str) -> None:
    """On the grid, a plane is a plane through the same points: centres (i + .5) · S / H - .5. Borders replicate."""
    size = 64
    top, left, height, width = placement(*shape, size, resize)  # type: ignore[arg-type]
    rows, columns = np.mgrid[0.5 : shape[0], 0.5 : shape[1]]
    plane = 0.2 + 0.3 * rows / shape[0] + 0.4 * columns / shape[1]
    grid_rows, grid_columns = np.mgrid[0.5:height, 0.5:width]
    grid = np.full((size, size), 0.9, np.float32)  # what lies in the padding must not come back
    grid[top : top + height, left : left + width] = 0.2 + 0.3 * grid_rows / height + 0.4 * grid_columns / width
    back = to_original_grid(grid, *shape, resize)  # type: ignore[arg-type]
    inner = tuple(slice(n // 16 + 1, -(n // 16) - 1) for n in shape)
    assert back.shape == shape and back.dtype == np.float32
    assert back[inner] == pytest.approx(plane[inner], abs=2e-3)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(90, 150), (40, 33), (97, 31)])
def test_a_point_lesion_stays_put(shape: tuple[int, int], resize: str) -> None:
    """There and back, the centre of a small lesion moves by a fraction of a grid pixel, without drift."""
    drift = []
    for row, column in np.random.default_rng(0).integers(8, np.array(shape) - 8, size=(40, 2)):
        mask = np.zeros(shape, np.float32)
        mask[row - 2 : row + 3, column - 2 : column + 3] = 1
        grid = resize_image((mask * 255).astype(np.uint8), 64, resize)  # type: ignore[arg-type]
        back = to_original_grid(grid.astype(np.float32) / 255, *shape, resize)  # type: ignore[arg-type]
        centre = np.array([(axis * back).sum() for axis in np.indices(shape)]) / back.sum()
        drift.append(centre - (row, column))
    assert np.abs(drift).max() < 0.3
    assert np.abs(np.mean(drift, axis=0)) == pytest.approx([0, 0], abs=0.05)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_the_same_size_is_left_alone(resize: str) -> None:
    probability = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    assert (to_original_grid(probability, 64, 64, resize) == probability).all()  # type: ignore[arg-type]


# ---- whole data sets --------------------------------------------------------------------------------


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    rows = []
    for i, (height, width) in enumerate([(40, 80), (64, 64), (90, 30)]):
        image = np.random.default_rng(i).integers(0, 256, (height, width)).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[10:25, 8:20] = 255
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        cv2.imwrite(str(tmp_path / f"{i}_mask.png"), mask)
        files = {"image": str(tmp_path / f"{i}.png"), "mask": str(tmp_path / f"{i}_mask.png")}
        rows.append({"image_id": f"i{i}", **files, "height": height, "width": width})
    return pd.DataFrame(rows).assign(spacing_row=0.1, spacing_col=0.2)


SMALL = DataSettings(image_size=32, resize="pad")


def test_arrays_in_the_order_of_the_manifest(frame: pd.DataFrame) -> None:
    arrays = load_arrays(frame, SMALL, threads=2)
    assert arrays.images.shape == arrays.masks.shape == (3, 32, 32)
    assert arrays.images.nbytes + arrays.masks.nbytes == num_bytes(frame, SMALL)
    for i, row in enumerate(frame.itertuples()):
        assert (arrays.images[i] == resize_image(read_image(row.image), 32, "pad")).all()
    assert set(np.unique(arrays.masks)) == {0, 1}
    assert not arrays.images[0, :8].any() and not arrays.images[2, :, :10].any()


def test_mapped_arrays_are_equal_read_only_and_opened_again(frame: pd.DataFrame, tmp_path: Path) -> None:
    into = tmp_path / "cache" / arrays_name("fingerprint", SMALL)
    first = load_arrays(frame, SMALL, into=into)
    assert sorted(path.name for path in into.parent.iterdir()) == [into.name]
    assert (first.images == load_arrays(frame, SMALL).images).all() and not first.images.flags.writeable
    Path(frame["image"][0]).unlink()  # opened, not decoded again
    assert (load_arrays(frame, SMALL, into=into).masks == first.masks).all()
    with pytest.raises(UserError, match="another shape"):
        load_arrays(frame.head(2), SMALL, into=into)
    (into / "masks.npy").unlink()
    with pytest.raises(UserError, match="delete it, and it is made again"):
        load_arrays(frame, SMALL, into=into)


def test_names_tell_data_and_settings_apart() -> None:
    settings = [SMALL, DataSettings(image_size=48), DataSettings(image_size=32, intensity=(0, 9)), DataSettings()]
    names = {arrays_name(print_, data) for print_ in ("a", "b") for data in settings}
    assert len(names) == 8


def test_unreadable_files_are_all_named_and_nothing_is_left(frame: pd.DataFrame, tmp_path: Path) -> None:
    Path(frame["image"][0]).unlink()
    Path(frame["mask"][2]).write_bytes(b"")
    for into in (None, tmp_path / "cache" / "arrays"):
        with pytest.raises(UserError) as refused:
            load_arrays(frame, SMALL, into=into)
        assert [line.split(":")[0] for line in refused.value.lines] == [frame["image"][0], frame["mask"][2]]
    assert not list((tmp_path / "cache").iterdir())


def test_cases_on_the_resized_grid(frame: pd.DataFrame) -> None:
    arrays = load_arrays(frame, SMALL)
    table = cases_table(frame, arrays, SMALL, EvaluateSettings(grid="resized"))
    assert table.schema.equals(CASES)
    rows = table.to_pylist()
    for i, row in enumerate(rows):
        assert (decode(row["image"]) == arrays.images[i]).all()
        assert (decode_mask(row["truth"]) == arrays.masks[i]).all()
    assert [(row["height"], row["width"]) for row in rows] == [(32, 32)] * 3
    assert (rows[0]["spacing_row"], rows[0]["spacing_col"]) == pytest.approx((0.25, 0.5))


def test_cases_on_the_original_grid(frame: pd.DataFrame) -> None:
    data = DataSettings(image_size=32, intensity=(0, 128))
    rows = cases_table(frame, load_arrays(frame, data), data, EvaluateSettings(grid="original")).to_pylist()
    assert [(row["image_id"], row["height"], row["width"]) for row in rows] == [
        ("i0", 40, 80),
        ("i1", 64, 64),
        ("i2", 90, 30),
    ]
    assert (decode(rows[2]["image"]) == read_image(frame["image"][2], (0, 128))).all()
    assert decode_mask(rows[2]["truth"]).sum() == 15 * 12
    assert (rows[2]["spacing_row"], rows[2]["spacing_col"]) == (0.1, 0.2)
