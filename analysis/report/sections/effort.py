"""Section on effort: what went into each model beside its architecture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from eus_ray.analysis.comparison.paper_tables import as_csv
from eus_ray.analysis.inputs.effort import Effort, has_variants, span
from eus_ray.analysis.labels import DASH, KIND_LABELS
from eus_ray.analysis.report.page import render, sort_key
from eus_ray.analysis.report.recipe import hours_text, listed, statements
from eus_ray.analysis.report.results import Results, Section


def build(results: Results) -> Section | None:
    """Build the section; None for a table of scores, and before any image is predicted."""
    efforts = list(results.efforts.values())
    if not efforts:
        return None
    body = render(
        "effort.html",
        rows=list(map(_row, efforts)),
        columns=[name for name, known in _measures(efforts).items() if known],
        different=listed(_different(efforts)),
        has_variants=has_variants(efforts),
        has_kept=any("kept" in _epochs(effort) for effort in efforts),
        known=all(effort.epochs for effort in efforts),
        devices=[f"{said.who}: {said.text}" for said in statements(efforts, lambda effort: listed(effort.devices))],
        is_added_up=any(effort.gpu_hours is None for effort in efforts),
    )
    return Section(12, "effort", "Effort", body, {"effort.csv": as_csv(effort_table(efforts)).encode()})


def effort_table(efforts: Sequence[Effort]) -> pd.DataFrame:
    """Return `effort.csv`: one row a model; what is not known is empty. `_min` and `_max` are over folds."""
    return pd.DataFrame(
        {
            "model": effort.model,
            "kind": effort.kind,
            "settings_tried": effort.settings_tried,
            "epochs_min": min(effort.epochs, default=None),
            "epochs_max": max(effort.epochs, default=None),
            "parameters_min": min(effort.parameters, default=None),
            "parameters_max": max(effort.parameters, default=None),
            "pretrained": effort.pretrained,
            "fold_epochs": effort.fold_epochs,
            "hours": effort.hours,
            "gpu_hours": effort.gpu_hours,
            "cpu_hours": effort.cpu_hours,
            "devices": "; ".join(effort.devices),
        }
        for effort in efforts
    ).astype(dict.fromkeys(("epochs_min", "epochs_max", "parameters_min", "parameters_max"), "Int64"))


def _measures(efforts: Sequence[Effort]) -> dict[str, bool]:
    """Return the table's heads of hours, and whether a model has a number below each."""
    return {
        "GPU hours": any(effort.gpu_hours for effort in efforts),
        "CPU hours": any(effort.cpu_hours for effort in efforts),
        "Hours": any(effort.gpu_hours is None for effort in efforts),
    }


def _row(effort: Effort) -> dict[str, Any]:
    hours = {"GPU hours": effort.gpu_hours, "CPU hours": effort.cpu_hours, "Hours": effort.hours}
    if effort.gpu_hours is not None:
        hours["Hours"] = None
    return {
        "model": effort.label,
        "note": KIND_LABELS.get(effort.kind, ""),
        "settings_tried": effort.settings_tried,
        "epochs": {"text": _epochs(effort), "sort": max(effort.epochs, default="")},
        "parameters": {"text": span(effort.parameters) or DASH, "sort": max(effort.parameters, default="")},
        "pretrained": "yes" if effort.pretrained else "no",
        "fold_epochs": effort.fold_epochs,
        "hours": {
            name: {"text": DASH, "sort": ""}
            if not value or math.isnan(value)
            else {"text": hours_text(value), "sort": sort_key(value)}
            for name, value in hours.items()
        },
    }


def _epochs(effort: Effort) -> str:
    """Return the epochs trained, and those after which the weights were taken if these are others."""
    trained, kept = span(effort.epochs), span(effort.chosen_epochs)
    return f"{trained}, kept {kept}" if trained and kept not in ("", trained) else trained or DASH


def _different(efforts: Sequence[Effort]) -> list[str]:
    """Return in what models differ of that which a claim about two of them must say."""
    found: dict[str, set[Any]] = {
        "settings tried": {effort.settings_tried for effort in efforts},
        "epochs": {frozenset(effort.epochs) for effort in efforts if effort.epochs},
        "pretraining": {effort.pretrained for effort in efforts},
    }
    return [name for name, values in found.items() if len(values) > 1]
