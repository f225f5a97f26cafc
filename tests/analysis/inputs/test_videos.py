"""Consecutive frames: how they are recognised, which are shown, and what is drawn on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.figures import image_panels
from eus_ray.analysis.inputs.videos import Video, find_videos, telling_window
from eus_ray.analysis.report.results import Results, read_study
from eus_ray.analysis.report.sections import frames as section
from eus_ray.store import Store

pytestmark = pytest.mark.usefixtures("undrawn")

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]
Rows = list[list[image_panels.Row]]


def manifest(**columns: list[object]) -> pd.DataFrame:
    length = len(next(iter(columns.values())))
    return pd.DataFrame({"image_id": [f"i{place}" for place in range(length)], **columns})


def test_frames_are_put_in_the_order_of_their_numbers() -> None:
    table = manifest(video=["a", "a", "a", "b", "b"], frame=[10, 9, 8, 0, 1], time_s=[1.5, 1.0, 0.5, 0.0, 0.25])
    assert find_videos(table) == [
        Video("a", ("i2", "i1", "i0"), ("0.5 s", "1 s", "1.5 s")),
        Video("b", ("i3", "i4"), ("0 s", "0.25 s")),
    ]
    assert find_videos(table.drop(columns="time_s"))[0].captions == ("frame 8", "frame 9", "frame 10")
    assert find_videos(table.drop(columns="frame"))[0] == Video("a", ("i2", "i1", "i0"), ("0.5 s", "1 s", "1.5 s"))


def test_stills_between_the_frames_are_no_frames() -> None:
    table = manifest(video=[None, "a", "", "a", "b"], frame=[None, 1, None, 2, 1])
    assert find_videos(table) == [Video("a", ("i1", "i3"), ("frame 1", "frame 2"))]  # b has one frame


def test_frames_without_an_order_are_no_sequence() -> None:
    assert find_videos(manifest(video=["a", "a", "a"], frame=[1, 1, 2])) == []
    assert find_videos(manifest(video=["a", "a", "a"], frame=[1, None, 2])) == []
    assert find_videos(manifest(video=["a", "a"], frame=["first", "second"])) == []
    assert find_videos(manifest(video=["a", "a"])) == []
    assert find_videos(manifest(frame=[1, 2])) == []
    # The other column may do.
    (video,) = find_videos(manifest(video=["a", "a"], frame=[1, 1], time_s=[2.0, 1.0]))
    assert video.images == ("i1", "i0")


def test_the_phantoms_videos_are_recognised(tmp_path: Path) -> None:
    from eus_ray.data.phantom.dataset import FRAMES_PER_VIDEO, make_phantom

    folder = make_phantom(tmp_path / "set", patients=1, images=1, seed=0, videos=1, size=32).parent
    (video,) = find_videos(pd.read_csv(folder / "videos/manifest.csv"))
    assert video.name == "video_000"
    assert len(video.images) == FRAMES_PER_VIDEO
    assert video.captions[:3] == ("0 s", "0.5 s", "1 s")
    assert video.images[2] == "video_000_frame_002"


@pytest.mark.parametrize(
    ("lesions", "window"),
    [
        ("......######", (4, 9)),  # two without, three with, as in the paper's figure
        ("#######.....", (5, 10)),
        (".###########", (0, 5)),
        ("...........#", (7, 12)),
        ("............", (3, 8)),
        ("##.", (0, 3)),
        ("..####....##", (0, 5)),
    ],
)
def test_the_window_shows_the_lesion_come(lesions: str, window: tuple[int, int]) -> None:
    found = telling_window([letter == "#" for letter in lesions], 5)
    assert (found.start, found.stop) == window


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The rows of each grid of pictures that is drawn."""
    seen: Rows = []
    draw = image_panels.picture_grid

    def remember(rows: list[image_panels.Row], *rest: object) -> object:
        seen.append(list(rows))
        return draw(rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(image_panels, "picture_grid", remember)
    return seen


def with_video(example: Example) -> pd.DataFrame:
    """Images i04 to i07 are four frames; i06 has no lesion."""
    frames = [None] * 4 + [3, 2, 1, 0] + [None] * 4
    return example[0].assign(
        video=["v" if frame is not None else None for frame in frames],
        frame=pd.array(frames, "Int64"),
        patient_id=["A", "A", "B", "B", "V", "V", "V", "V", "F", "F", "G", "H"],
        fold=[0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2],
    )


def text(results: Results) -> str:
    built = section.build(results)
    assert built is not None
    assert built.anchor == "frames"
    return " ".join(str(built.body).split())


def test_a_strip_a_model_with_no_outline_where_nothing_is(make_study: MakeStudy, example: Example, drawn: Rows) -> None:
    said = text(read_study(make_study(manifest=with_video(example))))
    ((unet, daf_net),) = drawn
    assert unet.label == "U-Net\nv"
    assert daf_net.label == "DAF-Net\nv"
    # By frame number: i07, i06, i05, i04.
    assert [panel.title for panel in unet.panels][1] == "frame 1: false alarm"
    assert [panel.title for panel in daf_net.panels][1] == "frame 1: no lesion"
    assert [sum(len(one.outline) for one in panel.drawn) for panel in daf_net.panels] == [2, 0, 2, 2]
    assert [sum(len(one.outline) for one in panel.drawn) for panel in unet.panels][1] == 1
    assert '<th scope="row">Without lesion</th><td>1</td><td>1</td>' in said
    assert '<th scope="row">Something outlined there (false alarms)</th><td>1</td><td>0</td>' in said
    assert '<th scope="row">No pixel of it found (missed)</th><td>0</td><td>0</td>' in said


def test_a_model_that_has_not_come_so_far(make_study: MakeStudy, example: Example, drawn: Rows) -> None:
    study = make_study(manifest=with_video(example), state="running", whole=[], without=[("daf_net", 1)])
    said = text(read_study(study))
    ((_, daf_net),) = drawn
    assert {panel.title.split(": ")[1] for panel in daf_net.panels} == {"not predicted yet"}
    assert '<th scope="row">Without lesion</th><td>1</td><td>0</td>' in said
    both = make_study("both", manifest=with_video(example), state="running", whole=[])
    for model in ("unet", "daf_net"):
        for table in ("predictions", "scores"):
            both.delete(f"{table}/model={model}/trial-0_repeat-0_fold-1.parquet")
    assert section.build(read_study(both)) is None


def test_without_videos_there_is_no_section(make_study: MakeStudy) -> None:
    assert section.build(read_study(make_study())) is None
    assert section.build(Results("scores.csv", pd.DataFrame(), pd.DataFrame())) is None


def test_what_orders_frames_says_nothing_of_the_patient(make_study: MakeStudy, example: Example) -> None:
    results = read_study(make_study(manifest=with_video(example)))
    assert {"video", "frame"} <= set(results.patients)
    assert not {"video", "frame"} & set(results.images)
