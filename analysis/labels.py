"""Names of models, metrics, kinds and columns in print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from eus_ray.analysis.measures.image_metrics import METRICS
from eus_ray.architectures import printed_name
from eus_ray.store import TrialKind


class ReportKind(StrEnum):
    """What the predictions behind a reported number come from: column `kind` of every table of a report."""

    NESTED = "nested"
    """In each fold, from the trial that the fold's own validation patients chose."""
    FIXED = TrialKind.FIXED.value
    """From one cross-validation with the study's own settings."""
    WINNER = TrialKind.WINNER.value
    """From the best settings of a search, trained again on the same folds."""
    BASELINE = "baseline"
    """From no network: one mask for all images. Its model has this name, too."""


DASH = "\N{EN DASH}"
KIND_LABELS = {
    ReportKind.NESTED.value: "nested estimate",
    ReportKind.WINNER.value: "tuned on these folds",
    ReportKind.BASELINE.value: "looks at no image",
}
"""Remarks beside a model's name; fixed settings need none."""
METRIC_LABELS = {name: name.upper().replace("_", " ") for name in METRICS} | {
    "iou": "IoU",
    "hd_largest": "HD, largest piece alone",
    "brier": "Brier score",
    "brier_box": "Brier score, box",
    "ece_box": "ECE, box",
}
UNITS = {"mm": "mm", "cm": "cm", "years": "years", "kg": "kg", "ml": "ml"}
"""Units by the last word of a column's name."""

_COLUMNS = {"t_stage": "T-stage", "n_stage": "N-stage", "birads": "BI-RADS"}


def model_label(model: str, label: str = "") -> str:
    """Return a model's name for print.

    Args:
        model: Its name.
        label: Its `model.label`; if that is empty, an architecture has its own, and any other model keeps its name.
    """
    return "Fixed mask (baseline)" if model == ReportKind.BASELINE else printed_name(model, label)


class Labels(dict[str, str]):
    """Models' names for print, by model; a model that is not among them is printed as one without a label.

    >>> labels = Labels({"daf_r18": "DAF-Net, ResNet-18"})
    >>> labels["daf_r18"], labels["daf_net"], labels["somebody's"]
    ('DAF-Net, ResNet-18', 'DAF-Net', "somebody's")
    """

    def __missing__(self, model: str) -> str:
        return model_label(model)

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Labels:
        """Return the names of models with these `model.label`; those that are equal in print get their names beside."""
        printed = {model: model_label(model, label) for model, label in given.items()}
        shared = {label for label, number in Counter(printed.values()).items() if number > 1}
        return cls({model: f"{label} ({model})" if label in shared else label for model, label in printed.items()})


UNLABELLED = Labels()
"""Of models without labels of their own, such as those of a table of scores."""


def column_label(column: str) -> str:
    """Return a column's name for print, with its unit after a comma.

    >>> [column_label(name) for name in ("size_mm", "age", "t_stage")]
    ['Size, mm', 'Age, years', 'T-stage']
    """
    if column.lower() in _COLUMNS:
        return _COLUMNS[column.lower()]
    *words, last = column.split("_")
    unit = UNITS.get(last.lower()) if words else ("years" if last.lower() == "age" else None)
    text = " ".join(words if words and unit else [*words, last])
    return f"{text[:1].upper()}{text[1:]}" + (f", {unit}" if unit else "")


def in_sentence(label: str) -> str:
    """Return a column's label as it is written within a sentence, without its unit.

    >>> [in_sentence(label) for label in ("Size, mm", "T-stage", "BI-RADS")]
    ['size', 'T-stage', 'BI-RADS']
    """
    name = label.split(",")[0]
    return name[:1].lower() + name[1:] if name[1:2].islower() else name
