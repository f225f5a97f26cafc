"""Section on failures of each model (the paper's figure 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from eus_ray.analysis.comparison.failures import FALSE_ALARM, MISSED, POOR, failures, worst
from eus_ray.analysis.comparison.paper_tables import percent
from eus_ray.analysis.figures import image_panels, style
from eus_ray.analysis.labels import DASH
from eus_ray.analysis.measures.outlines import outline
from eus_ray.analysis.report.page import picture, render
from eus_ray.analysis.report.results import Results, Section

_MAX_IMAGES = 6
"""The paper's figure has as many images per model."""
_WORDS = {
    POOR: "Poor: part of the {target} is found, with too much missing or too much besides",
    MISSED: "Missed: no pixel of the {target} is found",
    FALSE_ALARM: "False alarm: something is predicted, and there is no {target}",
}


def build(results: Results) -> Section | None:
    """Build the section; None without IoU, misses and false alarms."""
    images = results.headline
    if images.empty or not {"iou", "missed", "false_alarm"} <= set(images.columns):
        return None
    failed = failures(images)
    files: dict[str, bytes] = {}
    drawn = None
    chosen = {
        str(model): worst(mine, _MAX_IMAGES)
        for model, mine in failed.groupby("model", sort=False)
        if results.cases  # a table of scores has none
    }
    if chosen:
        legend = image_panels.legend_of({results.labels[model]: results.models.index(model) for model in chosen})
        figure = image_panels.picture_grid(_rows(results, chosen), legend, _MAX_IMAGES)
        drawn = picture(files, "failures", figure, _in_words(results, chosen), _CAPTION, has_photos=True)
    body = render(
        "failures.html",
        total=len(failed),
        models=[results.labels[model] for model in results.models],
        lines=_lines(images, failed, results.models, results.target),
        picture=drawn,
        more=drawn is not None and len(failed) > sum(map(len, chosen.values())),
    )
    return Section(42, "failures", "Failures", body, files)


_CAPTION = (
    f"Images with an IoU of 0.5 or less, at most {_MAX_IMAGES} per model. The worst poor outlines, misses and false "
    "alarms are taken in turn, and each patient gets one image before any patient gets two. White: truth."
)


def _rows(results: Results, chosen: Mapping[str, pd.DataFrame]) -> list[image_panels.Row]:
    wanted = {image_id for mine in chosen.values() for image_id in mine["image_id"]}
    pixels = dict(results.case_images(wanted))
    truths = {image_id: outline(results.cases[image_id].truth()) for image_id in wanted}
    rows = []
    for model, mine in chosen.items():
        place = results.models.index(model)
        panels = [
            image_panels.Panel(
                f"{style.shortened(row['image_id'], 20)}\n{_finding(row)}",
                pixels[row["image_id"]],
                (
                    image_panels.truth_beneath(truths[row["image_id"]]),
                    image_panels.prediction(results.outlines[model, row["kind"], row["image_id"]], place),
                ),
            )
            for row in mine.to_dict("records")
        ]
        rows.append(image_panels.Row(style.fitted(results.labels[model]), tuple(panels)))
    return rows


def _finding(row: Mapping[Any, Any]) -> str:
    return f"IoU {row['iou']:.2f}" if row["wrong"] == POOR else str(row["wrong"])


def _in_words(results: Results, chosen: Mapping[str, pd.DataFrame]) -> str:
    parts = [
        f"{results.labels[model]}: "
        + ", ".join(f"{row['image_id']} ({_finding(row)})" for row in mine.to_dict("records"))
        for model, mine in chosen.items()
    ]
    return f"Ultrasound images with the outlines of truth and prediction. {'; '.join(parts)}."


def _lines(images: pd.DataFrame, failed: pd.DataFrame, models: list[str], target: str) -> list[dict[str, Any]]:
    """Return the counts by model; a dash for a failure that none of the model's images could have."""
    sizes = images["model"].value_counts()
    wrong = failed.groupby(["model", "wrong"]).size()
    numbers = [int((failed["model"] == model).sum()) for model in models]
    shares = [
        f"{number} ({percent(number, int(sizes[model]))} %)" for number, model in zip(numbers, models, strict=True)
    ]
    possible = {model: _possible(images[images["model"] == model]) for model in models}
    return [
        {"name": "Tested", "values": [str(sizes[model]) for model in models]},
        {"name": "IoU of 0.5 or less", "values": shares},
        *(
            {
                "name": name.format(target=target),
                "values": [str(wrong.get((model, kind), 0)) if kind in possible[model] else DASH for model in models],
            }
            for kind, name in _WORDS.items()
        ),
    ]


def _possible(mine: pd.DataFrame) -> set[str]:
    """Return what may go wrong in a model's images; all of it if no counts tell which of them have a lesion."""
    if not {"tp", "fn"} <= set(mine.columns):
        return set(_WORDS)
    has_lesion = mine["tp"] + mine["fn"] > 0
    return ({POOR, MISSED} if has_lesion.any() else set()) | (set() if has_lesion.all() else {FALSE_ALARM})
