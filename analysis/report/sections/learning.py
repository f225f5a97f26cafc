"""Section with learning curves (the paper's figure 4)."""

from __future__ import annotations

from eus_ray.analysis.figures import curves as figures
from eus_ray.analysis.labels import ReportKind, model_label
from eus_ray.analysis.report.page import picture, render
from eus_ray.analysis.report.results import Results, Section


def build(results: Results) -> Section | None:
    """Build the section; None before the first epoch."""
    epochs = results.epochs
    if epochs.empty:
        return None
    if results.models:  # a model with two kinds is shown with the kind of the tables
        kinds = {model: results.kind(model) for model in results.models}
        epochs = epochs[epochs["kind"] == epochs["model"].map(kinds).fillna(epochs["kind"])]
    curves = epochs[epochs["split"] == "train"]
    if curves.empty:
        return None
    splits = set(epochs["split"])
    last = curves.sort_values("epoch").groupby(["model", "fold"], sort=False)["loss"].last()
    words = [
        f"{model_label(str(model))}: from {first:.2f} to {end:.2f}"
        for model, first, end in (
            (model, mine.loc[mine["epoch"] == mine["epoch"].min(), "loss"].mean(), last[model].mean())
            for model, mine in curves.groupby("model", sort=False)
        )
    ]
    files: dict[str, bytes] = {}
    shown = picture(
        files,
        "learning_curves",
        figures.learning_curves(epochs),
        f"Loss by epoch, one line per fold. Mean training loss over folds, first to last epoch. {'; '.join(words)}.",
        f"Loss of each fold by epoch, in training{' and on validation images' if 'validation' in splits else ''}."
        + (
            " Diamonds: loss of the tested weights on the fold’s test images. Training loss is measured on training "
            "images, which may be augmented, while the weights still change: compare the two with care."
            if "test" in splits
            else ""
        )
        + " A loss that adds up more outputs is larger: compare shapes, not heights, between models."
        + (
            " For a nested estimate, each fold’s line is that of its chosen setting."
            if ReportKind.NESTED in set(curves["kind"])
            else ""
        ),
    )
    return Section(30, "learning", "Learning curves", render("picture.html", picture=shown), files)
