"""Learning curves: the paper's figure 4."""

from __future__ import annotations

from eus_ray.analysis.figures import curves as figures
from eus_ray.analysis.figures import style
from eus_ray.analysis.labels import model_label
from eus_ray.analysis.report.page import data_uri, render
from eus_ray.analysis.report.results import Results, Section


def build(results: Results) -> Section | None:
    epochs = results.epochs
    if epochs.empty:
        return None
    if results.models:  # of a model with two kinds, the one that the tables show
        kinds = {model: results.kind(model) for model in results.models}
        epochs = epochs[epochs["kind"] == epochs["model"].map(kinds).fillna(epochs["kind"])]
    curves = epochs[epochs["split"] == "train"]
    if curves.empty:
        return None
    nested, splits = "nested" in set(curves["kind"]), set(epochs["split"])
    drawn = style.files("learning_curves", figures.learning_curves(epochs))
    last = curves.sort_values("epoch").groupby(["model", "fold"], sort=False)["loss"].last()
    words = [
        f"{model_label(str(model))}: from {first:.2f} to {end:.2f}"
        for model, first, end in (
            (model, mine.loc[mine["epoch"] == mine["epoch"].min(), "loss"].mean(), last[model].mean())
            for model, mine in curves.groupby("model", sort=False)
        )
    ]
    picture = {
        "src": data_uri(drawn["figures/learning_curves.svg"], "image/svg+xml"),
        "alt": "Loss by epoch, one line a fold. Mean training loss over folds, first to last epoch. "
        + "; ".join(words)
        + ".",
        "caption": "Loss of each fold by epoch, in training"
        + (" and on the validation images" if "validation" in splits else "")
        + (
            "; diamonds: loss on the fold’s test images, with the weights that were tested. Training losses are of "
            "augmented images and of weights still moving: compare with care."
            if "test" in splits
            else "."
        )
        + " A loss that adds up more outputs is larger: compare shapes, not heights, between models."
        + (" Of a nested estimate, each fold’s line is of the setting that it chose." if nested else ""),
    }
    return Section(30, "learning", "Learning curves", render("picture.html", picture=picture), drawn)
