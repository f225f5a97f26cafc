"""What is found to predict, what it is called, and what is refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from eus_ray.data.phantom.dataset import FRAMES_PER_VIDEO, make_phantom
from eus_ray.errors import UserError
from eus_ray.inference.sources import Sources, find_sources
from tests.data.io.test_video import pictures, write_video


def image(path: Path, height: int = 20, width: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width), 100, np.uint8))
    return path


def names(sources: Sources) -> list[str]:
    return [picture.name for picture in sources.pictures]


def refused(*places: Path) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        find_sources(places)
    return error.value.lines


def test_a_folder_gives_its_images_and_videos_and_those_below(tmp_path: Path) -> None:
    for name in ("b.png", "a/frame_10.png", "a/frame_9.png", "a/x.TIF", ".hidden/c.png", ".d.png"):
        image(tmp_path / name)
    write_video(tmp_path / "a/sweep.avi", "MJPG", pictures(3))
    (tmp_path / "notes.txt").write_text("no image")
    found = find_sources([tmp_path])
    assert names(found) == ["a/frame_9.png", "a/frame_10.png", "a/x.TIF", "b.png"]
    assert [picture.stem for picture in found.pictures] == ["a/frame_9", "a/frame_10", "a/x", "b"]
    assert [(clip.name, clip.stem, clip.video.num_frames) for clip in found.clips] == [("a/sweep.avi", "a/sweep", 3)]


def test_files_keep_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    given = [image(tmp_path / name, 20, 30 + place) for place, name in enumerate(("z.png", "a.jpg", "deep/m.bmp"))]
    found = find_sources(given)
    assert names(found) == ["z.png", "a.jpg", "m.bmp"]
    assert [(picture.height, picture.width) for picture in found.pictures] == [(20, 30), (20, 31), (20, 32)]
    assert all(math.isnan(step) for step in found.pictures[0].spacing_mm)


def strips(sources: Sources) -> dict[str, list[str]]:
    return {one.name: [picture.name for picture in one.pictures] for one in sources.sequences}


def test_a_data_set_gives_its_images_with_their_spacing_and_no_masks(tmp_path: Path) -> None:
    manifest = make_phantom(tmp_path / "set", patients=1, images=1, seed=1, videos=1, size=32)
    for place in (manifest.parent, manifest):
        found = find_sources([place])
        table = pd.read_csv(manifest)
        assert names(found) == table["image"].tolist()
        assert [picture.spacing_mm for picture in found.pictures] == [(step, step) for step in table["spacing_mm"]]
        assert found.sequences == []
    found = find_sources([manifest.parent / "videos"])
    assert len(found.pictures) == FRAMES_PER_VIDEO
    (video,) = found.sequences
    assert video.name == "video_000"
    assert video.captions[:3] == ("0 s", "0.5 s", "1 s")
    assert video.interval_s == 0.5
    assert [picture.name for picture in video.pictures] == [
        f"video_000/frame_{number:03d}.png" for number in range(FRAMES_PER_VIDEO)
    ]


def test_frames_are_sequences_by_what_stands_before_their_number(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        image(tmp_path / f"one/frame_{number}.png")
        image(tmp_path / f"Frame{number}.png")
        image(tmp_path / f"sweep_frame-{number}.png")
        image(tmp_path / f"patient_{number}.png")
    image(tmp_path / "two/frame_1.png")
    found = find_sources([tmp_path])
    assert strips(found) == {
        "Frame": ["Frame8.png", "Frame9.png", "Frame10.png"],
        "one/frame": ["one/frame_8.png", "one/frame_9.png", "one/frame_10.png"],
        "sweep_frame": ["sweep_frame-8.png", "sweep_frame-9.png", "sweep_frame-10.png"],
    }
    assert found.sequences[0].captions == ("frame 8", "frame 9", "frame 10")
    assert math.isnan(found.sequences[0].interval_s)
    one_by_one = find_sources([tmp_path / f"one/frame_{number}.png" for number in (10, 8, 9)])
    assert strips(one_by_one) == {"frame": ["frame_8.png", "frame_9.png", "frame_10.png"]}


def test_a_videos_name_in_a_manifest_is_a_name(tmp_path: Path) -> None:
    for number in range(4):
        image(tmp_path / f"{number}.png", 20, 30 + number)
        cv2.imwrite(str(tmp_path / f"mask_{number}.png"), np.zeros((20, 30 + number), np.uint8))
    rows = [f"{number}.png,mask_{number}.png,p1,../v,{number}" for number in range(4)]
    (tmp_path / "manifest.csv").write_text("\n".join(["image,mask,patient_id,video,frame", *rows]))
    (line,) = refused(tmp_path)
    assert line == f"{tmp_path}/manifest.csv: column video: ../v cannot be a file's name; rename it"
    table = (tmp_path / "manifest.csv").read_text().replace("../v", "sweep")
    (tmp_path / "manifest.csv").write_text(table)
    assert strips(find_sources([tmp_path])) == {"sweep": ["0.png", "1.png", "2.png", "3.png"]}
    write_video(tmp_path / "elsewhere/sweep.avi", "MJPG", pictures(2))
    (line,) = refused(tmp_path, tmp_path / "elsewhere/sweep.avi")
    assert line.startswith("two videos are called sweep;")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    cut = image(tmp_path / "cut.png", 60, 60)
    cut.write_bytes(cut.read_bytes()[:-20])
    text = tmp_path / "text.png"
    text.write_text("no image")
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/readme.md").write_text("nothing to see")
    lines = refused(tmp_path / "gone.png", cut, text, broken, tmp_path / "empty", image(tmp_path / "good.png"))
    expected = ["gone.png: no such file", "cut.png: is damaged", "text.png: is not a PNG", "broken.mp4: cannot be read"]
    expected.append("empty: holds no image (.png")
    assert len(lines) == len(expected)
    for line, said in zip(lines, expected, strict=True):
        assert line.startswith(f"{tmp_path}/{said}")


def test_results_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a/i.png", "b/i.png", "b/i.jpg", "sweep/frame_1.png"):
        image(tmp_path / name)
    write_video(tmp_path / "sweep.avi", "MJPG", pictures(2))
    lines = refused(tmp_path / "a", tmp_path / "b")
    assert [line.split(": ")[1].split(";")[0] for line in lines] == [
        f"{tmp_path}/a/i.png has that name too, i",
        f"{tmp_path}/a/i.png has that name too, i",
    ]
    (line,) = refused(tmp_path / "a", tmp_path / "a/i.png")
    assert line == f"{tmp_path}/a/i.png: is given twice"
    (line,) = refused(tmp_path / "sweep.avi", tmp_path / "sweep.avi")
    assert line.endswith("sweep.avi: is given twice")
    (line,) = [line for line in refused(tmp_path) if "frame_1" in line]
    assert "lies in a folder with the name of the video" in line
    image(tmp_path / "c/thumbnail.png")
    write_video(tmp_path / "c/thumbnail.avi", "MJPG", pictures(2))
    assert names(find_sources([tmp_path / "c"])) == ["thumbnail.png"], "a video's results lie in a folder of their own"


def test_what_is_passed_over_is_counted_by_kind(tmp_path: Path) -> None:
    for name in ("b.dcm", "c.webp", "deep/d.webp", "deep/LICENSE", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not read")
    (line,) = refused(tmp_path)
    assert line.endswith(", nor do the folders in it, but 1 .dcm, 2 .webp and 1 without suffix, such as b.dcm")
    image(tmp_path / "a.png")
    write_video(tmp_path / "sweep.avi", "MJPG", pictures(2))
    assert find_sources([tmp_path]).warnings == [
        f"{tmp_path}: 1 image and 1 video of 6 files; passed over: 1 .dcm, 2 .webp and 1 without suffix, such as b.dcm"
    ]
    assert find_sources([tmp_path / "a.png"]).warnings == []


def test_linked_folders_and_hidden_files_are_counted(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/.b.png", "in/.h/c.png", "else/d.png"):
        image(tmp_path / name)
    (tmp_path / "in/more").symlink_to(tmp_path / "else")
    (tmp_path / "in/round").symlink_to(tmp_path / "in")
    told = "2 linked folders (links are not followed), such as more; 2 hidden files or folders, such as .b.png"
    found = find_sources([tmp_path / "in"])
    assert names(found) == ["a.png"]
    assert found.warnings == [f"{tmp_path}/in: 1 image of 1 files; passed over: {told}"]
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert names(find_sources([tmp_path / "link"])) == ["a.png"], "what is given may be a link itself"
    (tmp_path / "in/a.png").unlink()
    assert refused(tmp_path / "in")[0].endswith(f"nor do the folders in it, but {told}")


def test_pictures_that_a_folders_manifest_does_not_name_are_counted(tmp_path: Path) -> None:
    manifest = make_phantom(tmp_path / "set", patients=2, images=2, seed=1, size=64)
    before = find_sources([manifest.parent]).warnings
    image(manifest.parent / "new/1.png")
    image(manifest.parent / "new/2.png")
    told = [line for line in find_sources([manifest.parent]).warnings if line not in before]
    assert told == [
        f"{manifest}: names 2 images; it does not name, and passed over are 2 .png, such as new/1.png",
    ]
    assert find_sources([manifest]).warnings == before


def test_a_manifests_warnings_are_told(tmp_path: Path) -> None:
    manifest = make_phantom(tmp_path / "set", patients=2, images=2, seed=1, size=64)
    table = pd.read_csv(manifest)
    table["patient_id"] = ["P01", "p1"]
    table.to_csv(manifest, index=False)
    told = find_sources([manifest]).warnings
    assert (
        f"{manifest}: patients P01 and p1 differ in case and leading zeros only; they are taken as 2 patients" in told
    )


def test_a_turned_picture_has_the_size_that_viewers_show(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in (1, 2):
        Image.new("L", (30, 20), 100).save(tmp_path / f"photo{number}.jpg", exif=exif)
    found = find_sources([tmp_path])
    assert [(one.height, one.width) for one in found.pictures] == [(30, 20)] * 2
    (line,) = found.warnings
    assert line.startswith("2 files with a flag of orientation")


def test_names_that_look_alike_are_told(tmp_path: Path) -> None:
    for name in ("Scan.png", "scan.jpg", "other.png"):
        image(tmp_path / name)
    (line,) = find_sources([tmp_path]).warnings
    assert line == "images Scan and scan differ in case only; they are taken as 2 images"


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"\xe9cho.png"))
    image(tmp_path / "b.png")
    (line,) = refused(tmp_path)
    assert line.endswith("cho.png: its name is not UTF-8; rename it")
    assert line.isprintable()


def test_a_manifest_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    image(tmp_path / "secret.png")
    image(tmp_path / "set/mask.png")
    (tmp_path / "set/manifest.csv").write_text("image,mask,patient_id\n../secret.png,mask.png,p1\n")
    (line,) = refused(tmp_path / "set")
    assert "image ../secret.png leaves the manifest's folder" in line


def test_another_table_called_manifest_is_no_manifest(tmp_path: Path) -> None:
    image(tmp_path / "i.png")
    (tmp_path / "manifest.csv").write_text("file,operator\ni.png,A\n")
    assert names(find_sources([tmp_path])) == ["i.png"]
