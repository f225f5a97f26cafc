"""Section on calibration: whether a probability means what it says."""

from __future__ import annotations

from typing import Any

from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.comparison.reliability import reliability
from eus_ray.analysis.figures import style
from eus_ray.analysis.figures.reliability_curves import reliability_curves
from eus_ray.analysis.report.page import picture, render, sort_key
from eus_ray.analysis.report.results import Results, Section
from eus_ray.analysis.statistics import bootstrap

_SCORES = ("brier_box", "ece_box", "brier", "ece")


def build(results: Results) -> Section | None:
    """Build the section; None without stored probabilities."""
    images = results.headline
    scores = [name for name in _SCORES if name in images and images[name].notna().any()]
    if not scores:
        return None
    table = paper_tables.table2(images, scores, results.analysis.average)
    curves = reliability(images, results.bins, results.analysis.average)
    in_box = curves[curves["region"] == "box"]
    files = {} if curves.empty else {"calibration.csv": paper_tables.as_csv(curves).encode()}
    drawn = None
    if (in_box["share"] > 0).any():
        labels = {model: style.fitted(results.labels[model]) for model in results.models}
        alt = f"Share of pixels that lie in the truth by their probability, of {', '.join(labels.values())}."
        drawn = picture(files, "reliability", reliability_curves(in_box, labels), alt, _CAPTION)
    body = render(
        "calibration.html",
        scores=scores,
        rows=[_row(row, scores, results.labels[row["model"]]) for row in table.to_dict("records")],
        has_interval=bool(table[[f"{name}_low" for name in scores]].notna().any(axis=None)),
        num_boxless=int(images["brier_box"].isna().sum()) if "brier_box" in scores else 0,
        picture=drawn,
        has_curves=not curves.empty,
        average=results.average_words,
        draws=bootstrap.DRAWS,
        target=results.target,
        is_uneven=bool(results.uneven),
    )
    return Section(28, "calibration", "Calibration", body, files)


_CAPTION = (
    "Reliability within the boxes: of the pixels with a probability, the share that lies in the truth. On the diagonal "
    "probabilities are right, below it they are too high. Lower panel: the share of the pixels that each point stands "
    "for, on a logarithmic scale. Errors of opposite sign in different images cancel in a curve, but not in the ECE."
)


def _row(row: dict[Any, Any], scores: list[str], label: str) -> dict[str, Any]:
    cells = [
        {
            "text": paper_tables.printed(name, row[name]),
            "interval": paper_tables.printed_interval(name, row[f"{name}_low"], row[f"{name}_high"]),
            "sort": sort_key(row[name]),
        }
        for name in scores
    ]
    return {"model": label, "cells": cells}
