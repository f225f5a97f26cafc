"""Videos in and out, through OpenCV itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from eus_ray.data.io.images import read_image
from eus_ray.data.io.video import encode_clip, open_video, read_frames
from eus_ray.errors import UserError

FPS = 20.0


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Colour pictures; the mean gray of the k-th is 20 k or so."""
    return [np.full((height, width, 3), (20 * k + 6, 20 * k, 20 * k - 6 if k else 0), np.uint8) for k in range(count)]


def write_video(path: Path, codec: str, frames: list[np.ndarray], fps: float = FPS) -> Path:
    height, width = frames[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "MJPG"), ("v.mp4", "mp4v"), ("v.webm", "VP80")])
def test_frames_come_in_order_with_their_times(tmp_path: Path, name: str, codec: str) -> None:
    video = open_video(write_video(tmp_path / name, codec, pictures(12)))
    assert (video.height, video.width) == (48, 64)
    assert video.fps == pytest.approx(FPS, rel=1e-3)
    frames = list(read_frames(video))
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([k / FPS for k in range(12)], abs=2e-3)
    assert [frame.pixels.mean() for frame in frames] == pytest.approx([20 * k for k in range(12)], abs=6)
    assert frames[0].pixels.shape == (48, 64)
    assert frames[0].pixels.dtype == np.uint8


def test_a_frame_is_gray_as_its_picture_in_a_file_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    video = open_video(write_video(tmp_path / "v.avi", "MJPG", [noise]))
    (frame,) = read_frames(video)
    decoded = cv2.VideoCapture(str(video.path)).read()[1]
    cv2.imwrite(str(tmp_path / "frame.png"), decoded)
    np.testing.assert_array_equal(frame.pixels, read_image(tmp_path / "frame.png"))


def test_single_frames_are_those_of_the_whole(tmp_path: Path) -> None:
    video = open_video(write_video(tmp_path / "v.mp4", "mp4v", pictures(12)))
    whole = list(read_frames(video))
    some = list(read_frames(video, [2, 7]))
    assert [(frame.number, frame.time_s) for frame in some] == [(k, whole[k].time_s) for k in (2, 7)]
    for frame in some:
        np.testing.assert_array_equal(frame.pixels, whole[frame.number].pixels)
    assert list(read_frames(video, [])) == []


@pytest.mark.parametrize("damage", ["text", "empty", "head"])
def test_what_is_no_video_is_one_line(tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.mp4"
    if damage == "head":
        whole = write_video(tmp_path / "whole.mp4", "mp4v", pictures(3)).read_bytes()
        path.write_bytes(whole[: len(whole) // 3])
    else:
        path.write_bytes(b"this is no video" * 50 if damage == "text" else b"")
    with pytest.raises(UserError) as refused:
        open_video(path)
    (line,) = refused.value.lines
    assert line.startswith(f"{path}: cannot be read as a video")
    assert capfd.readouterr() == ("", ""), "OpenCV and FFmpeg say nothing themselves"


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (33, 64)])
def test_a_clip_can_be_read_again(tmp_path: Path, height: int, width: int) -> None:
    given = pictures(10, height, width)
    suffix, content = encode_clip(iter(given), height, width, 12.5)
    (tmp_path / f"clip{suffix}").write_bytes(content)
    video = open_video(tmp_path / f"clip{suffix}")
    assert (video.height, video.width) == (height + height % 2, width + width % 2)
    assert video.fps == pytest.approx(12.5)
    frames = list(read_frames(video))
    assert len(frames) == 10
    for number, frame in enumerate(frames):
        assert frame.pixels[: height - 2, : width - 2].mean() == pytest.approx(20 * number, abs=8)
    capture = cv2.VideoCapture(str(video.path))
    last = [capture.read()[1] for _ in frames][-1].reshape(-1, 3).mean(axis=0)
    assert last[0] > last[2], "blue stays blue"


def test_a_build_without_one_encoder_takes_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eus_ray.data.io.video._CODECS", ((".mp4", "none"), (".avi", "MJPG")))
    suffix, content = encode_clip(pictures(3), 48, 64, FPS)
    assert suffix == ".avi"
    (tmp_path / "clip.avi").write_bytes(content)
    assert len(list(read_frames(open_video(tmp_path / "clip.avi")))) == 3
    monkeypatch.setattr("eus_ray.data.io.video._CODECS", ((".mp4", "none"),))
    with pytest.raises(RuntimeError, match="neither"):
        encode_clip(pictures(1), 48, 64, FPS)
