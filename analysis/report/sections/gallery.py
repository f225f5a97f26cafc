"""Gallery of all images with outlines and maps, small enough for an e-mail."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray.analysis.comparison.subgroup_columns import level_text
from eus_ray.analysis.comparison.subgroups import Division, divide
from eus_ray.analysis.figures import style
from eus_ray.analysis.inputs.study_images import clinical_columns
from eus_ray.analysis.labels import column_label
from eus_ray.analysis.measures.image_metrics import COUNTS
from eus_ray.analysis.measures.outlines import MOST_POLYGONS, outline, svg_path
from eus_ray.analysis.measures.thumbnails import jpeg
from eus_ray.analysis.report.page import data_uri, render
from eus_ray.analysis.report.results import Results, Section

_BUDGET_BYTES = 9_500_000
"""All images, with maps and outlines, share it."""
_SIZES = ((512, 85), (384, 82), (320, 80), (256, 78), (256, 65), (192, 70), (128, 60))
"""Longest side in pixels and JPEG quality, from the best to the smallest."""
_BASE64_FACTOR = 4 / 3
_CARD_MARKUP_BYTES = 1200
"""A card without pictures and outlines takes about so many."""
_SAMPLE_SIZE = 12
_IMAGES_PER_PAGE = 24
"""The style sheet prints as many."""
_UNKNOWN_LEVEL = "none"


def build(results: Results) -> Section | None:
    """Build the section; None without prepared images."""
    order = [image_id for image_id in results.patients["image_id"] if image_id in results.cases]
    if not order:
        return None
    outlines = {image_id: _paths(results, image_id) for image_id in order}
    side, quality, has_maps, num_images = _plan(results, order, outlines)
    shown = set(_worst(results, order, num_images))
    pictures = {image_id: jpeg(pixels, side, quality) for image_id, pixels in results.case_images(shown)}
    truths = {image_id: case.truth() for image_id, case in results.cases.items() if image_id in shown}
    strata = _strata(results, truths)
    described = results.patients.set_index("image_id").to_dict("index")
    scores = results.headline.set_index(["model", "image_id"]).to_dict("index")
    cards = [
        _card(results, image_id, pictures[image_id], outlines[image_id], has_maps, described[image_id], scores)
        | {"levels": [level[image_id] for _, level in strata]}
        for image_id in order
        if image_id in pictures
    ]
    body = render(
        "gallery.html",
        cards=cards,
        models=[_model(results, place) for place in range(len(results.models))],
        truth_colour=style.TRUTH_COLOUR,
        folds=sorted({card["fold"] for card in cards}),
        strata=[division for division, _ in strata],
        not_known=_UNKNOWN_LEVEL,
        page=_IMAGES_PER_PAGE,
        maps=has_maps and any(model["map"] for card in cards for model in card["found"]),
        findings=any(model["findings"] for card in cards for model in card["found"]),
        left_out=len(order) - len(cards),
        most_polygons=MOST_POLYGONS,
        unit=results.unit,
        target=results.target,
    )
    return Section(50, "gallery", "Every image", body)


# ---- cards --------------------------------------------------------------------------------------


def _model(results: Results, place: int) -> dict[str, Any]:
    return {"place": place, "label": results.labels[results.models[place]], "colour": style.outline_colour(place)}


def _card(
    results: Results,
    image_id: str,
    picture: bytes,
    outlines: Mapping[str, str],
    has_maps: bool,
    described: Mapping[Hashable, Any],
    scores: Mapping[Hashable, Mapping[Hashable, Any]],
) -> dict[str, Any]:
    case = results.cases[image_id]
    found = []
    for place, model in enumerate(results.models):
        score = scores.get((model, image_id))
        if score is None:
            continue
        findings = _findings(score)
        probability = results.pictures.get((model, str(score["kind"]), image_id)) if has_maps else None
        found.append(
            _model(results, place)
            | {
                "path": outlines[model],
                "map": data_uri(probability, "image/jpeg") if probability else "",
                "dsc": score["dsc"],
                "text": ", ".join([f"{score['dsc']:.3f}", *findings.values()]),
                "findings": " ".join(findings),
                "hd": "∞" if np.isinf(score["hd"]) else f"{score['hd']:.1f}",
            }
        )
    scale = _scale(case.height, case.width)
    return {
        "image_id": image_id,
        "patient_id": str(described["patient_id"]),
        "fold": int(described["fold"]),
        "known": [
            f"{column_label(column)} {level_text(described[column])}"
            for column in clinical_columns(results.patients)
            if not pd.isna(described[column]) and str(described[column]).strip()
        ],
        "picture": data_uri(picture, "image/jpeg"),
        "width": round(case.width * scale, 2),
        "height": round(case.height * scale, 2),
        "truth": outlines[""],
        "found": found,
    }


def _findings(score: Mapping[Hashable, Any]) -> dict[str, str]:
    """Return findings in words, by their names in the filter."""
    findings = {
        "missed": "missed" if score["missed"] else "",
        "alarm": "false alarm" if score["false_alarm"] else "",
        "several": f"{score['components']} components" if score["components"] > 1 else "",
    }
    return {name: text for name, text in findings.items() if text}


def _strata(results: Results, truths: Mapping[str, npt.NDArray[np.bool_]]) -> list[tuple[Division, Mapping[str, str]]]:
    """Return the divisions of the images in `truths`, with levels for the filter."""
    images = results.patients[results.patients["image_id"].isin(truths.keys())].reset_index(drop=True)
    # counts of a perfect prediction: a lesion has an area before anything is predicted
    counts = [(int(truth.sum()), 0, 0, int((~truth).sum())) for truth in map(truths.__getitem__, images["image_id"])]
    counted = images.assign(**dict(zip(COUNTS, zip(*counts, strict=True), strict=True)))
    divisions, _ = divide(counted, results.analysis.clinical, results.target)
    return [
        (
            division,
            {
                image_id: _UNKNOWN_LEVEL if place < 0 else str(place)
                for image_id, place in zip(images["image_id"], division.level, strict=True)
            },
        )
        for division in divisions
    ]


def _scale(height: int, width: int) -> float:
    """Return the scale of outlines: they need no finer grid than the largest picture."""
    return min(1.0, _SIZES[0][0] / max(height, width))


def _paths(results: Results, image_id: str) -> dict[str, str]:
    """Return the outlines of an image as SVG paths by model; the truth's key is empty."""
    case = results.cases[image_id]
    scale = _scale(case.height, case.width)
    found = {model: results.outlines.get((model, results.kind(model), image_id)) for model in results.models}
    predicted = {model: svg_path(each, scale) for model, each in found.items() if each is not None}
    return {"": svg_path(outline(case.truth()), scale)} | predicted


# ---- budget -------------------------------------------------------------------------------------


def _plan(
    results: Results, order: Sequence[str], outlines: Mapping[str, Mapping[str, str]]
) -> tuple[int, int, bool, int]:
    """Choose the size of pictures, whether to show maps, and how many images.

    Pictures become smaller until all images fit. Then maps are left out, then images with high scores.

    The mean size of an image is estimated from a sample that is spread over the order.

    Returns:
        Longest side in pixels, JPEG quality, whether maps are shown, and the number of images.
    """
    sampled = order[:: -(-len(order) // _SAMPLE_SIZE)]
    sample = [pixels for _, pixels in results.case_images(set(sampled))]
    lines = _CARD_MARKUP_BYTES + np.mean([sum(map(len, outlines[image_id].values())) for image_id in sampled])
    wanted = {(model, results.kind(model), image_id) for model in results.models for image_id in sampled}
    maps = sum(len(results.pictures[key]) for key in wanted & results.pictures.keys()) / len(sampled)
    for (side, quality), with_maps in [*((size, True) for size in _SIZES), (_SIZES[-1], False)]:
        picture = np.mean([len(jpeg(pixels, side, quality)) for pixels in sample])
        each = float(lines + _BASE64_FACTOR * (picture + with_maps * maps))
        if each * len(order) <= _BUDGET_BYTES:
            break
    return side, quality, with_maps, int(_BUDGET_BYTES / each)


def _worst(results: Results, order: list[str], number: int) -> list[str]:
    """Return the `number` images with the lowest mean DSC.

    All images, in their order, if there are no more.
    """
    if len(order) <= number:
        return order
    means = results.headline.groupby("image_id")["dsc"].mean().reindex(order)
    return list(means.sort_values(kind="stable").index[:number])
