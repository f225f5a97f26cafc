"""Section with consecutive video frames (the paper's figure 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from eus_ray.analysis.figures import image_panels, style
from eus_ray.analysis.inputs.videos import Video, find_videos, telling_window
from eus_ray.analysis.labels import DASH
from eus_ray.analysis.measures.outlines import outline
from eus_ray.analysis.report.page import picture, render
from eus_ray.analysis.report.results import Results, Section

_FRAMES_PER_STRIP = 5
"""The paper's figure has as many."""
_MAX_ROWS = 6
_MAX_VIDEOS = 2

Scores = Mapping[tuple[str, str], Mapping[Any, Any]]
"""Rows of the headline by model and image_id."""


class Strip(NamedTuple):
    """Some consecutive frames of a video."""

    video: str
    images: tuple[str, ...]
    captions: tuple[str, ...]
    has_change: bool
    """Whether some frames show a lesion and some do not."""


def build(results: Results) -> Section | None:
    """Build the section; None without a video of which a frame is predicted."""
    if results.headline.empty or not results.cases:
        return None
    scores: Scores = {(row["model"], row["image_id"]): row for row in results.headline.to_dict("records")}
    predicted = set(results.headline["image_id"])
    videos = [
        video
        for video in find_videos(results.patients)
        if set(video.images) <= set(results.cases) and predicted & set(video.images)
    ]
    if not videos:
        return None
    num_shown = max(1, min(_MAX_VIDEOS, _MAX_ROWS // len(results.models)))
    strips = sorted((_strip(results, video) for video in videos), key=lambda strip: not strip.has_change)[:num_shown]
    legend = image_panels.legend_of({results.labels[model]: place for place, model in enumerate(results.models)})
    files: dict[str, bytes] = {}
    has_change = all(strip.has_change for strip in strips)
    change = f" in which the {results.target} comes into or goes out of view" if has_change else ""
    body = render(
        "frames.html",
        target=results.target,
        num_videos=len(videos),
        models=[results.labels[model] for model in results.models],
        lines=_lines(results, {image for video in videos for image in video.images}),
        picture=picture(
            files,
            "frames",
            image_panels.picture_grid(_rows(results, strips, scores), legend),
            _in_words(results, strips, scores),
            f"Consecutive frames{change}. White: truth; a frame without a white line shows no {results.target}.",
            has_photos=True,
        ),
    )
    return Section(44, "frames", "Video frames", body, files)


def _strip(results: Results, video: Video) -> Strip:
    lesions = [bool(results.cases[image_id].truth().any()) for image_id in video.images]
    window = telling_window(lesions, _FRAMES_PER_STRIP)
    return Strip(video.name, video.images[window], video.captions[window], len(set(lesions[window])) > 1)


def _rows(results: Results, strips: Sequence[Strip], scores: Scores) -> list[image_panels.Row]:
    pixels = dict(results.case_images({image_id for strip in strips for image_id in strip.images}))
    rows = []
    for strip in strips:
        truths = {image_id: outline(results.cases[image_id].truth()) for image_id in strip.images}
        for place, model in enumerate(results.models):
            panels = []
            for image_id, caption in zip(strip.images, strip.captions, strict=True):
                score = scores.get((model, image_id))
                drawn = [image_panels.truth_beneath(truths[image_id])]
                if score is not None:
                    drawn.append(image_panels.prediction(results.outlines[model, score["kind"], image_id], place))
                finding = _finding(score, results.target)
                panels.append(image_panels.Panel(f"{caption}: {finding}", pixels[image_id], tuple(drawn)))
            label = f"{style.fitted(results.labels[model])}\n{style.shortened(strip.video, 20)}"
            rows.append(image_panels.Row(label, tuple(panels)))
    return rows


def _finding(score: Mapping[Any, Any] | None, target: str) -> str:
    if score is None:
        return "not predicted yet"
    if score["missed"]:
        return "missed"
    if score["false_alarm"]:
        return "false alarm"
    return f"DSC {score['dsc']:.2f}" if score["tp"] + score["fn"] else f"no {target}"


def _in_words(results: Results, strips: Sequence[Strip], scores: Scores) -> str:
    parts = []
    for strip in strips:
        for model in results.models:
            frames = zip(strip.images, strip.captions, strict=True)
            found = ", ".join(
                f"{caption}: {_finding(scores.get((model, image_id)), results.target)}" for image_id, caption in frames
            )
            parts.append(f"{strip.video}, {results.labels[model]}: {found}")
    return f"Consecutive video frames with the outlines of truth and prediction. {'; '.join(parts)}."


def _lines(results: Results, frames: set[str]) -> list[dict[str, Any]]:
    images = results.headline[results.headline["image_id"].isin(frames)]
    columns = [_counts(images[images["model"] == model], results.target) for model in results.models]
    return [{"name": name, "values": [column[name] for column in columns]} for name in columns[0]]


def _counts(mine: pd.DataFrame, target: str) -> dict[str, str]:
    lesion = mine["tp"] + mine["fn"] > 0
    dsc = mine.loc[lesion, "dsc"].to_numpy(np.float64)
    return {
        f"Without {target}": str(int((~lesion).sum())),
        "Something outlined there (false alarms)": DASH if lesion.all() else str(int(mine["false_alarm"].sum())),
        f"With the {target}": str(int(lesion.sum())),
        "No pixel of it found (missed)": str(int(mine["missed"].sum())) if lesion.any() else DASH,
        f"Mean DSC of the frames with the {target}": f"{dsc.mean():.3f}" if len(dsc) else DASH,
    }
