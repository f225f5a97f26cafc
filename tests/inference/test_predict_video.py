"""`predict` on videos and on images that are consecutive frames: every frame, the clip, the strip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eus_ray.analysis.figures import image_panels
from eus_ray.data.io.video import open_video, read_frames
from eus_ray.inference import overlays
from eus_ray.inference.ensemble import trained_model
from eus_ray.inference.predict import Predicted, predict
from eus_ray.store import Store
from tests.data.io.test_video import write_video
from tests.trained import DarkIsLesion, pixels, trained_unet, written

FRAMES, ENTERS = 40, 16


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_unet(tmp_path_factory.mktemp("trained"))


@pytest.fixture(autouse=True)
def dark_is_lesion(monkeypatch: pytest.MonkeyPatch) -> DarkIsLesion:
    """In place of the networks."""
    answer = DarkIsLesion()
    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    return answer


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[image_panels.Panel]:
    """The panels of the strips that are drawn."""
    panels: list[image_panels.Panel] = []
    draw = image_panels.picture_grid

    def drawn(rows: list[image_panels.Row], legend: dict[str, str]) -> Figure:
        panels.extend(panel for row in rows for panel in row.panels)
        assert list(legend) == ["U-Net, mean of 2 folds"]
        return draw(rows, legend)

    monkeypatch.setattr(image_panels, "picture_grid", drawn)
    return panels


def sweep(height: int = 48, width: int = 64) -> list[np.ndarray]:
    """40 frames of light tissue, into which a dark disc of radius 12 comes at frame 16."""
    rows, columns = np.mgrid[:height, :width]
    frames = [np.full((height, width, 3), 220, np.uint8) for _ in range(FRAMES)]
    for number in range(ENTERS, FRAMES):
        frames[number][(rows - 24) ** 2 + (columns - 20 - number / 2) ** 2 < 144] = 20
    return frames


@pytest.fixture(params=[("sweep.avi", "MJPG"), ("sweep.mp4", "mp4v")], ids=["avi", "mp4"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, codec = request.param
    (tmp_path / "given").mkdir()
    return write_video(tmp_path / "given" / name, codec, sweep())


def test_every_frame_of_a_video(study: Path, video: Path, tmp_path: Path) -> None:
    out, counted = tmp_path / "out", []
    predicted = predict(study, [video.parent], out, progress=lambda *numbers: counted.append(numbers))
    assert predicted == Predicted(predicted.trained, images=0, frames=FRAMES, with_lesion=FRAMES - ENTERS)
    assert counted == [(done, FRAMES) for done in range(0, FRAMES + 1, 4)]
    table = pd.read_csv(out / "areas.csv")
    assert table["image"].unique().tolist() == [video.name]
    assert table["frame"].tolist() == list(range(FRAMES))
    assert table["time_s"].tolist() == pytest.approx([number / 20 for number in range(FRAMES)], abs=2e-3)
    assert (table["area_px"][:ENTERS] == 0).all()
    assert table["area_px"][ENTERS:].tolist() == pytest.approx([144 * np.pi] * (FRAMES - ENTERS), rel=0.1)
    frames = {f"{kind}/sweep/frame_{number:06d}.png" for kind in ("masks", "probabilities") for number in range(FRAMES)}
    assert written(out) == frames | {"areas.csv", "strips/sweep.svg", "strips/sweep.png", "clips/sweep.mp4"}
    assert not pixels(out / "masks/sweep/frame_000003.png").any()
    assert pixels(out / "masks/sweep/frame_000030.png").shape == (48, 64)


def test_the_clip_has_outlines_where_there_is_a_lesion(study: Path, video: Path, tmp_path: Path) -> None:
    predict(study, [video], tmp_path / "out")
    clip = open_video(tmp_path / "out/clips/sweep.mp4")
    assert (clip.fps, clip.height, clip.width) == (20.0, 48, 64)
    capture, coloured = cv2.VideoCapture(str(clip.path)), []
    while (frame := capture.read())[0]:
        coloured.append(int((np.ptp(frame[1].astype(int), axis=2) > 40).sum()))
    assert len(coloured) == FRAMES
    assert max(coloured[:ENTERS]) == 0
    assert min(coloured[ENTERS:]) > 50


def test_a_long_video_gives_a_clip_from_shortly_before_the_lesion(
    study: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlays, "CLIP_S", 0.5)
    monkeypatch.setattr(overlays, "CLIP_BEFORE_S", 0.2)
    predict(study, [video], tmp_path / "out")
    frames = list(read_frames(open_video(tmp_path / "out/clips/sweep.mp4")))
    assert len(frames) == 10
    dark = [(frame.pixels < 90).sum() > 200 for frame in frames]
    assert dark == [False] * 4 + [True] * 6, "0.2 s before"


def test_the_strip_shows_the_lesion_coming_into_view(
    study: Path, video: Path, tmp_path: Path, shown: list[image_panels.Panel]
) -> None:
    predict(study, [video], tmp_path / "out")
    assert [panel.title for panel in shown] == ["(a) 0 s", "(b) 0.45 s", "(c) 0.9 s", "(d) 1.35 s", "(e) 1.8 s"]
    assert [bool(panel.drawn[0].outline) for panel in shown] == [False, False, True, True, True]
    assert shown[0].image.mean() > 200
    assert shown[2].image.shape == (48, 64)
    assert pixels(tmp_path / "out/strips/sweep.png").shape[1] > 1000


def test_a_video_is_never_held_whole(
    study: Path, video: Path, tmp_path: Path, dark_is_lesion: DarkIsLesion, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def counted(video: object, wanted: object, channels: object) -> Iterator[object]:
        for number, frame in enumerate(read_frames(video, wanted, channels)):  # type: ignore[arg-type]
            if wanted is None:
                held.append(number + 1 - sum(dark_is_lesion.batches))
            yield frame

    monkeypatch.setattr("eus_ray.inference.predict.read_frames", counted)
    predict(study, [video], tmp_path / "out")
    assert len(held) == FRAMES
    assert max(held) <= 4, "frames that are read and not predicted: a batch at most"


def test_what_is_written_keeps_up_with_what_is_predicted(
    study: Path, video: Path, tmp_path: Path, dark_is_lesion: DarkIsLesion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames wait in memory until they are written: while a batch is computed, the one before is."""
    finished: list[str] = []
    ahead: list[int] = []
    write_bytes = Store.write_bytes

    def slowly(store: Store, name: str, data: bytes) -> None:
        time.sleep(0.01)
        write_bytes(store, name, data)
        finished.extend([name] if name.startswith("probabilities/") else [])

    def answer(images: np.ndarray) -> np.ndarray:
        ahead.append(sum(dark_is_lesion.batches) - len(finished))
        return dark_is_lesion(images)

    monkeypatch.setattr(Store, "write_bytes", slowly)
    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", lambda _trained: (answer, "paper"))
    predict(study, [video], tmp_path / "out")
    assert len(finished) == FRAMES
    assert 0 < max(ahead) <= 4


def test_a_video_that_ends_early_is_predicted_as_far_as_it_goes(study: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "sweep.avi", "MJPG", sweep())
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    said: list[str] = []
    predicted = predict(study, [path], tmp_path / "out", say=said.append)
    assert 10 < predicted.frames < FRAMES
    assert f"{predicted.frames} could be decoded" in said[-1]
    assert (tmp_path / "out/clips/sweep.mp4").exists()


def test_a_video_without_lesion(study: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clear.avi", "MJPG", sweep()[:ENTERS])
    predicted = predict(study, [path], tmp_path / "out")
    assert predicted.with_lesion == 0
    assert not any(pixels(path).any() for path in (tmp_path / "out/masks/clear").glob("*.png"))
    assert (tmp_path / "out/strips/clear.png").exists()


def test_images_that_are_consecutive_frames_get_a_strip(
    study: Path, tmp_path: Path, shown: list[image_panels.Panel]
) -> None:
    (tmp_path / "given/video_000").mkdir(parents=True)
    for number, frame in enumerate(sweep()[ENTERS - 4 : ENTERS + 6]):
        cv2.imwrite(str(tmp_path / f"given/video_000/frame_{number}.png"), frame)
    out = tmp_path / "out"
    predict(study, [tmp_path / "given"], out)
    assert [panel.title for panel in shown] == [
        f"({letter}) frame {number}" for letter, number in zip("abcde", range(2, 7), strict=True)
    ]
    assert [bool(panel.drawn[0].outline) for panel in shown] == [False, False, True, True, True]
    assert {name for name in written(out) if not name.endswith(".csv") and "frame_" not in name} == {
        "strips/video_000/frame.svg",
        "strips/video_000/frame.png",
    }
    assert len([name for name in written(out) if name.startswith("overlays/")]) == 10


def test_frames_pass_through_the_studys_intensity(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With gray 0 to 30 on 0 to 255, tissue of 20 is as light as 170, and no lesion any more."""
    trained = trained_model(Store(study))
    data = trained.study.data.model_copy(update={"intensity": (0.0, 30.0)})
    other = replace(trained, study=trained.study.model_copy(update={"data": data}))
    monkeypatch.setattr("eus_ray.inference.predict.trained_model", lambda *_: other)
    path = write_video(tmp_path / "sweep.avi", "MJPG", sweep())
    assert predict(study, [path], tmp_path / "out").with_lesion == 0
