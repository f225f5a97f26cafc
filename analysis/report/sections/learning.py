"""Section with learning curves (the paper's figure 4)."""

from __future__ import annotations

import pandas as pd

from eus_ray.analysis.figures import curves as figures
from eus_ray.analysis.labels import Labels, ReportKind
from eus_ray.analysis.report.page import picture, render
from eus_ray.analysis.report.results import Results, Section


def build(results: Results) -> Section | None:
    """Build the section; None before the first epoch."""
    if results.epochs.empty:
        return None
    epochs = _shown(results)
    curves = epochs[epochs["split"] == "train"]
    if curves.empty:
        return None
    files: dict[str, bytes] = {}
    figure = figures.learning_curves(epochs, results.labels)
    drawn = picture(files, "learning_curves", figure, _in_words(curves, results.labels), _caption(epochs))
    return Section(30, "learning", "Learning curves", render("picture.html", picture=drawn), files)


def _shown(results: Results) -> pd.DataFrame:
    """Return the epochs of each model's kind in the tables, models in their order there, then those without results."""
    epochs = results.epochs
    if results.models:
        kinds = {model: results.kind(model) for model in results.models}
        epochs = epochs[epochs["kind"] == epochs["model"].map(kinds).fillna(epochs["kind"])]
    named = [*results.models, *results.settings.get("models", ()), *epochs["model"]]
    order = {model: place for place, model in enumerate(dict.fromkeys(named))}
    return epochs.sort_values("model", key=lambda models: models.map(order), kind="stable")


def _in_words(curves: pd.DataFrame, labels: Labels) -> str:
    """Return the alternative text: where each model's training loss begins and ends, or the one epoch's."""
    parts = []
    for model, mine in curves.groupby("model", sort=False):
        by_epoch = mine.sort_values("epoch").groupby("fold", sort=False)["loss"]
        first, last = by_epoch.first().mean(), by_epoch.last().mean()
        has_one = mine["epoch"].nunique() == 1
        parts.append(f"{labels[str(model)]}: {f'{last:.2f}' if has_one else f'from {first:.2f} to {last:.2f}'}")
    return f"Loss by epoch, one line per fold. Mean training loss over folds, first to last epoch. {'; '.join(parts)}."


def _caption(epochs: pd.DataFrame) -> str:
    splits = set(epochs["split"])
    is_far = any((mine["loss"] > figures.axis_top(mine)).any() for _, mine in epochs.groupby("model"))
    sentences = [
        f"Loss of each fold by epoch, in training{' and on validation images' if 'validation' in splits else ''}.",
        "Diamonds: loss of the tested weights on the fold’s test images. Training loss is measured on training images, "
        "which may be augmented, while the weights still change: compare the two with care."
        if "test" in splits
        else "",
        "Triangles: losses far above all others, which lie beyond the axis." if is_far else "",
        "A loss that adds up more outputs is larger: compare shapes, not heights, between models."
        if epochs["model"].nunique() > 1
        else "",
        "For a nested estimate, each fold’s line is that of its chosen setting."
        if ReportKind.NESTED in set(epochs["kind"])
        else "",
    ]
    return " ".join(filter(None, sentences))
