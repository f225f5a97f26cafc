"""What models, metrics and columns are called in print."""

from __future__ import annotations

from eus_ray.analysis.measures.image_metrics import METRICS

DASH = "\N{EN DASH}"
MODEL_LABELS = {"unet": "U-Net", "attention_unet": "Att-U-Net", "daf_net": "DAF-Net"}
"""The paper's names."""
KIND_LABELS = {"nested": "nested estimate", "winner": "tuned on these folds: optimistic"}
"""What is said of a model's numbers besides its name; nothing of a fixed setting's."""
METRIC_LABELS = {name: name.upper().replace("_", " ") for name in METRICS} | {"iou": "IoU"}
UNITS = {"mm": "mm", "cm": "cm", "years": "years", "kg": "kg", "ml": "ml"}
"""Endings of columns that name a unit."""

_COLUMNS = {"t_stage": "T-stage", "n_stage": "N-stage", "birads": "BI-RADS"}


def model_label(model: str) -> str:
    return MODEL_LABELS.get(model, model)


def column_label(column: str) -> str:
    """A column's name for print.

    >>> [column_label(name) for name in ("size_mm", "age", "t_stage")]
    ['Size, mm', 'Age, years', 'T-stage']
    """
    if column.lower() in _COLUMNS:
        return _COLUMNS[column.lower()]
    *words, last = column.split("_")
    unit = UNITS.get(last.lower()) if words else ("years" if last.lower() == "age" else None)
    text = " ".join(words if words and unit else [*words, last])
    return f"{text[:1].upper()}{text[1:]}" + (f", {unit}" if unit else "")
