"""Mask files as tools store them, read to the last pixel or refused with a reason."""

from __future__ import annotations

import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from eus_ray.analysis.inputs.mask_files import Masks, read_pair, without_suffix
from eus_ray.errors import UserError

LESION = np.zeros((6, 8), np.uint8)
LESION[1:5, 1:5] = 1
OTHER = np.zeros((6, 8), np.uint8)
OTHER[2:4, 5:8] = 1


def stored(values: np.ndarray, suffix: str) -> bytes:
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, values)
        return buffer.getvalue()
    return cv2.imencode(suffix, values)[1].tobytes()


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def palette(indices: np.ndarray) -> bytes:
    """Colours as segmentation tools give them: black, dark red, dark green."""
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return png(picture)


def read(folder: Path, prediction: np.ndarray | bytes, suffix: str = ".png", **options: object) -> Masks:
    """Read a prediction beside the truth LESION, in which the lesion is 255 or, with a label, that label."""
    path, truth = folder / f"prediction{suffix}", folder / "truth.png"
    path.write_bytes(prediction if isinstance(prediction, bytes) else stored(prediction, suffix))
    truth.write_bytes(stored(LESION * np.uint8(options.get("label") or 255), ".png"))
    return read_pair(path, truth, **options)


@pytest.mark.parametrize(
    ("suffix", "content", "value"),
    [
        (".png", OTHER, 1),
        (".png", OTHER * np.uint16(65535), 65535),
        (".tiff", OTHER * np.uint16(300), 300),
        (".tif", OTHER.astype(np.float32) / 2, 0.5),
        (".bmp", np.dstack([0 * OTHER, OTHER * 200, 0 * OTHER]), 117),  # 0.587 · 200
        (".png", png(Image.fromarray(OTHER > 0)), 1),  # of one bit
        (".png", palette(OTHER), 1),  # the index
        (".npy", OTHER > 0, 1),
        (".npy", OTHER * 7.0, 7),
        (".npy", np.asfortranarray(OTHER.astype(np.int64)), 1),
        (".png", 0 * OTHER, 0),
        (".png", 0 * OTHER + np.uint8(9), 9),
    ],
)
def test_zero_and_one_other_value(tmp_path: Path, suffix: str, content: np.ndarray | bytes, value: float) -> None:
    masks = read(tmp_path, content, suffix)
    expected = OTHER > 0 if value not in (0, 9) else np.full(OTHER.shape, value == 9)
    assert masks.pred.dtype == bool
    assert (masks.pred == expected).all()
    assert (masks.truth == (LESION > 0)).all()
    assert [file.lesion_value for file in masks.files] == [value, 255]
    assert masks.scores is None


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((suffix, "gray") for suffix in (".png", ".tif", ".bmp", ".npy")),
        *((suffix, "colour") for suffix in (".png", ".tif", ".bmp")),
        (".png", "palette"),
    ],
)
def test_a_label_among_others(tmp_path: Path, suffix: str, kind: str) -> None:
    labels = np.maximum(2 * LESION, OTHER)  # 0, 1 and 2
    content = {"gray": labels, "colour": np.dstack([labels] * 3), "palette": palette(labels)}[kind]
    if (suffix == ".npy" and kind != "gray") or (suffix != ".png" and kind == "palette"):
        pytest.skip("no such file")
    for label, expected in ((1, OTHER), (2, LESION)):
        masks = read(tmp_path, content, suffix, label=label)
        assert (masks.pred == (expected > 0)).all()
        assert [file.lesion_value for file in masks.files] == [label, label]
    assert read(tmp_path, content, suffix, label=3).files[0].lesion_value == 0


@pytest.mark.parametrize(
    ("suffix", "levels"),
    [
        (".png", np.array([[0, 127, 128, 255]], np.uint8)),
        (".png", np.array([[0, 32767, 32768, 65535]], np.uint16)),
        (".tif", np.array([[0, 0.49999997, 0.5, 1]], np.float32)),
        (".npy", np.array([[0, np.nextafter(0.5, 0), 0.5, 1]])),
        (".npy", np.array([[0, 0.4998, 0.5, 1]], np.float16)),
    ],
)
def test_probabilities_are_lesion_from_a_half_on(tmp_path: Path, suffix: str, levels: np.ndarray) -> None:
    path, truth = tmp_path / f"map{suffix}", tmp_path / "truth.png"
    path.write_bytes(stored(levels, suffix))
    truth.write_bytes(stored(np.array([[0, 9, 0, 9]], np.uint8), ".png"))
    masks = read_pair(path, truth, probability=True)
    assert masks.pred.tolist() == [[False, False, True, True]]
    assert masks.truth.tolist() == [[False, True, False, True]]
    assert masks.scores is not None
    assert masks.scores.dtype == levels.dtype
    assert (masks.scores == levels).all()


def objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[None]]), allow_pickle=True)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, LESION)
    return buffer.getvalue()


CURE = "; name the lesion's value, or read these as probability maps"


@pytest.mark.parametrize(
    ("suffix", "content", "options", "reason"),
    [
        (".png", LESION + np.arange(8, dtype=np.uint8), {}, f"is not a mask: it has 8 gray values; .* value{CURE}$"),
        (".png", LESION + 1, {}, f"it has the values 1 and 2; the background must be 0{CURE}$"),
        (".npy", LESION + 0.5, {}, "it has the values 0.5 and 1.5; the background must be 0"),
        (".png", LESION.T.copy(), {}, r"is 8 × 6 pixels \(rows × columns\), its truth 6 × 8; one of them is turned$"),
        (".png", LESION[:3], {}, r"is 3 × 8 pixels \(rows × columns\), its truth 6 × 8$"),
        (".jpg", LESION * 255, {}, "is a JPEG, which blurs a mask's values; save masks as PNG$"),
        (".jpg", LESION * 255, {"probability": True}, "is a JPEG"),
        (".png", stored(LESION, ".png")[:50], {}, "is damaged or cut short"),
        (".png", stored(LESION, ".png")[:-8], {"label": 1}, "is damaged or cut short"),
        (".png", b"", {}, r"is empty \(0 bytes\)$"),
        (".png", b"<html>", {}, "is not a PNG, JPEG, TIFF or BMP image"),
        (".npy", b"no array", {}, "is not an array that NumPy can read without pickle"),
        (".npy", objects(), {}, "is not an array that NumPy can read without pickle"),
        (".npy", zipped(), {}, "is not an array that NumPy can read without pickle"),
        (".npy", stored(LESION, ".npy")[:-9], {}, "is not an array that NumPy can read without pickle"),
        (".npy", LESION[None], {}, r"holds uint8 of shape \(1, 6, 8\); a mask has numbers and is \(rows, columns\)$"),
        (".npy", LESION.astype(str), {}, "holds <U3 of shape"),
        (".npy", np.where(LESION, np.nan, 0), {}, "has values that are not finite$"),
        (".npy", LESION * 1.5, {"probability": True}, "has values from 0 to 1.5; probabilities lie in 0 to 1$"),
        (".npy", LESION - 0.5, {"probability": True}, "has values from -0.5 to 0.5; probabilities lie in 0 to 1$"),
        (".npy", LESION.astype(np.int32), {"probability": True}, "holds int32; a probability map has 8 or 16 bits"),
        (".png", np.dstack([LESION, 0 * LESION, LESION]), {"probability": True}, "is a colour image"),
        (".png", palette(OTHER), {"probability": True}, "is a colour image"),
        (".png", np.dstack([LESION, 0 * LESION, LESION]), {"label": 1}, "is a colour image"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused(
    tmp_path: Path, suffix: str, content: np.ndarray | bytes, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, content, suffix, **options)
    (line,) = caught.value.lines
    assert line.startswith(f"{tmp_path}/prediction{suffix}: ")
    assert re.search(reason, line)


def test_both_files_of_a_pair_are_told(tmp_path: Path) -> None:
    (tmp_path / "truth.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        read_pair(tmp_path / "none.png", tmp_path / "truth.png")
    assert [line.replace(f"{tmp_path}/", "") for line in caught.value.lines] == [
        "none.png: cannot be read (No such file or directory)",
        "truth.png: is empty (0 bytes)",
    ]


def test_names_lose_only_what_is_a_suffix() -> None:
    assert [without_suffix(name) for name in ("m/a.PNG", "a.b.tif", "v1.2", "a")] == ["m/a", "a.b", "v1.2", "a"]
