"""`predict` and `Predictor` of a study in colour: pictures, videos, gray sources, transparency."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import eus_ray
from eus_ray.analysis.figures import image_panels
from eus_ray.data.io.video import open_video, read_frames
from eus_ray.errors import UserError
from eus_ray.inference.predict import predict
from tests.data.io.test_video import write_video
from tests.helpers import light_study
from tests.trained import pixels, train_study, two_alike, write_images

HEIGHT, WIDTH = 48, 64
TISSUE, LESION = (52, 124, 100), (148, 76, 100)
"""Red first; the luma of both is 100."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    settings = ("folds.count=2", "train.epochs=1", "data.channels=rgb")
    return Path(train_study(folder / "study", light_study(write_images(folder / "images"), *settings)).root)


@pytest.fixture
def red_is_lesion(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """In place of the networks; the batches that they are given."""
    batches: list[np.ndarray] = []

    def answer(images: np.ndarray) -> np.ndarray:
        batches.append(images)
        return two_alike((images[..., 0] > images[..., 1] + 20.0).astype(np.float32))

    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    return batches


def disc(column: float) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - 24) ** 2 + (columns - column) ** 2 < 144


def picture(column: float = 30) -> np.ndarray:
    """A warm disc in cool tissue, red first."""
    return np.where(disc(column)[..., None], LESION, TISSUE).astype(np.uint8)


def save(path: Path, colour: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), colour[..., ::-1] if colour.ndim == 3 else colour)
    return path


def test_a_colour_picture(study: Path, tmp_path: Path, red_is_lesion: list[np.ndarray]) -> None:
    predict(study, [save(tmp_path / "in/a.png", picture())], tmp_path / "out")
    (batch,) = red_is_lesion
    assert (batch.shape, batch.dtype) == ((1, 32, 32, 3), np.uint8)
    assert batch[0, 0, 0].tolist() == list(TISSUE)
    found = pixels(tmp_path / "out/masks/a.png") > 0
    assert (found & disc(30)).sum() > 0.9 * (found | disc(30)).sum()
    overlay = pixels(tmp_path / "out/overlays/a.png")[..., ::-1]
    assert overlay[24, 30].tolist() == list(LESION)
    assert overlay[2, 2].tolist() == list(TISSUE)
    assert (overlay != picture()).any(axis=2).sum() > 50, "the outline"


def test_a_gray_picture_is_repeated(study: Path, tmp_path: Path, red_is_lesion: list[np.ndarray]) -> None:
    gray = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
    predict(study, [save(tmp_path / "in/a.png", gray)], tmp_path / "out")
    (batch,) = red_is_lesion
    assert batch.shape == (1, 32, 32, 3)
    assert (batch == batch[..., :1]).all()
    assert (pixels(tmp_path / "out/overlays/a.png") == gray[..., None]).all()


def test_a_colour_video(
    study: Path, tmp_path: Path, red_is_lesion: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    panels: list[image_panels.Panel] = []
    draw = image_panels.picture_grid

    def drawn(rows: list[image_panels.Row], legend: dict[str, str]) -> Figure:
        panels.extend(panel for row in rows for panel in row.panels)
        return draw(rows, legend)

    monkeypatch.setattr(image_panels, "picture_grid", drawn)
    cool = np.broadcast_to(np.array(TISSUE, np.uint8), (HEIGHT, WIDTH, 3))
    frames = [cool] * 8 + [picture(20 + number) for number in range(12)]
    video = write_video(tmp_path / "in.avi", "MJPG", [np.ascontiguousarray(frame[..., ::-1]) for frame in frames])
    predicted = predict(study, [video], tmp_path / "out")
    assert (predicted.frames, predicted.with_lesion) == (20, 12)
    assert all(batch.shape[1:] == (32, 32, 3) for batch in red_is_lesion)
    assert (pd.read_csv(tmp_path / "out/areas.csv")["area_px"] > 0).tolist() == [False] * 8 + [True] * 12
    assert {panel.image.shape for panel in panels} == {(HEIGHT, WIDTH, 3)}
    strip = pixels(tmp_path / "out/strips/in.png")[..., 2::-1].astype(int)
    assert (np.abs(strip - LESION).max(axis=2) < 25).sum() > 1000
    assert (np.abs(strip - TISSUE).max(axis=2) < 25).sum() > 1000
    clip = list(read_frames(open_video(tmp_path / "out/clips/in.mp4"), channels="rgb"))
    assert np.abs(clip[2].pixels[24, 30].astype(int) - TISSUE).max() < 25
    assert np.abs(clip[18].pixels[24, 30].astype(int) - LESION).max() < 25


def test_transparency_is_refused_before_anything_is_written(study: Path, tmp_path: Path) -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    opaque = np.concatenate([picture(), alpha], axis=2)
    alpha[5, 5] = 0
    clear = np.concatenate([picture(), alpha], axis=2)
    for name, layers in (("opaque", opaque), ("clear", clear)):
        (tmp_path / "in").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), layers[..., [2, 1, 0, 3]])
    with pytest.raises(UserError) as refused:
        predict(study, [tmp_path / "in"], tmp_path / "out")
    (line,) = refused.value.lines
    assert line == (
        f"{tmp_path}/in/clear.png: is transparent, and its colours depend on what lies behind it; save it without "
        "transparency (alpha)"
    )
    assert not (tmp_path / "out").exists()


def test_a_predictor_takes_colour_and_gray(study: Path) -> None:
    predictor = eus_ray.Predictor(study)
    gray = picture()[..., 0]
    of_gray = predictor.predict(gray)
    of_repeated = predictor.predict(np.dstack([gray] * 3))
    assert of_gray.probability.shape == (HEIGHT, WIDTH)
    assert (of_gray.probability == of_repeated.probability).all()
    assert (predictor.predict(picture()).probability != of_gray.probability).any()
    for shape in ((4, 4, 4), (4, 4, 1), (4,), (0, 4, 3)):
        with pytest.raises(UserError, match=r"give numbers \(H, W\) or \(H, W, 3\)"):
            predictor.predict(np.zeros(shape, np.uint8))
