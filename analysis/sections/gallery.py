"""Every image with the outlines of truth and of each model, small enough to send by mail."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.analysis import style
from eus_ray.analysis.labels import model_label
from eus_ray.analysis.outlines import MOST_POLYGONS, outline, svg_path
from eus_ray.analysis.page import data_uri, render
from eus_ray.analysis.results import Results, Section

_BUDGET_BYTES = 6_500_000
"""Of all images together, as JPEG; base64 adds a third."""
_SIZES = ((512, 85), (384, 82), (320, 80), (256, 78), (192, 70), (128, 60))
"""Longest side in pixels and JPEG quality, from the best to the smallest."""
_SAMPLE = 12


def build(results: Results) -> Section | None:
    if not results.cases:
        return None
    order = [image_id for image_id in results.patients["image_id"] if image_id in results.cases]
    size, affordable = _choose_size(results, order)
    shown = set(_worst(results, order, affordable))
    pictures = {name: data_uri(_jpeg(pixels, *size), "image/jpeg") for name, pixels in results.gray_images(shown)}
    described = results.patients.set_index("image_id").to_dict("index")
    scores = results.headline.set_index(["model", "image_id"]).to_dict("index")
    cards = [
        _card(results, image_id, pictures[image_id], described[image_id], scores)
        for image_id in order
        if image_id in pictures
    ]
    body = render(
        "gallery.html",
        cards=cards,
        models=[_model(results, place) for place in range(len(results.models))],
        truth_colour=style.TRUTH_COLOUR,
        folds=sorted({card["fold"] for card in cards}),
        left_out=len(order) - len(cards),
        most_polygons=MOST_POLYGONS,
        unit=results.unit,
    )
    return Section(50, "gallery", "Every image", body)


def _model(results: Results, place: int) -> dict[str, Any]:
    return {"place": place, "label": model_label(results.models[place]), "colour": style.outline_colour(place)}


def _card(
    results: Results,
    image_id: str,
    picture: str,
    described: Mapping[Hashable, Any],
    scores: Mapping[Hashable, Mapping[Hashable, Any]],
) -> dict[str, Any]:
    case = results.cases[image_id]
    # A grid finer than the picture needs no finer outline.
    scale = min(1.0, _SIZES[0][0] / max(case.height, case.width))
    found = []
    for place, model in enumerate(results.models):
        score = scores.get((model, image_id))
        if score is None:
            continue
        finding = ", missed" if score["missed"] else ", false alarm" if score["false_alarm"] else ""
        found.append(
            _model(results, place)
            | {
                "path": svg_path(results.outlines[model, score["kind"], image_id], scale),
                "dsc": score["dsc"],
                "text": f"{score['dsc']:.3f}{finding}",
                "hd": "∞" if np.isinf(score["hd"]) else f"{score['hd']:.1f}",
            }
        )
    return {
        "image_id": image_id,
        "patient_id": str(described["patient_id"]),
        "fold": int(described["fold"]),
        "picture": picture,
        "width": round(case.width * scale, 2),
        "height": round(case.height * scale, 2),
        "truth": svg_path(outline(case.truth()), scale),
        "found": found,
        "mean": float(np.mean([model["dsc"] for model in found])) if found else None,
    }


def _choose_size(results: Results, order: list[str]) -> tuple[tuple[int, int], int]:
    """The best size at which all images fit the budget, and how many fit."""
    sampled = order[:: -(-len(order) // _SAMPLE) or 1]
    sample = [pixels for _, pixels in results.gray_images(set(sampled))]
    for size in _SIZES:
        each = max(1.0, float(np.mean([len(_jpeg(pixels, *size)) for pixels in sample]))) if sample else 1.0
        if each * len(order) <= _BUDGET_BYTES:
            break
    return size, int(_BUDGET_BYTES / each)


def _worst(results: Results, order: list[str], number: int) -> list[str]:
    """The `number` images of lowest mean DSC, in their order, where not all can be shown."""
    if len(order) <= number:
        return order
    means = results.headline.groupby("image_id")["dsc"].mean().reindex(order)
    return list(means.sort_values(kind="stable").index[:number])


def _jpeg(pixels: npt.NDArray[np.uint8], side: int, quality: int) -> bytes:
    scale = side / max(pixels.shape)
    if scale < 1:
        smaller = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pixels = np.asarray(smaller, np.uint8)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
