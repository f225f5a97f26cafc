"""The settings of a study that say how its predictions are measured, and how its models are called."""

from __future__ import annotations

import tomllib

import pandas as pd

from eus_ray import store as layout
from eus_ray.analysis.labels import Labels
from eus_ray.config import Study
from eus_ray.config_file import build_study
from eus_ray.store import Store

_SECTIONS = ("data", "evaluate", "analysis")


def measuring_settings(store: Store) -> Study:
    """Read `data`, `evaluate` and `analysis` of a study folder; all other known sections have their defaults.

    What an older study's file lacks has its default, too.

    Raises:
        UserError: If one of them is none that it may be, or there is a section of another name.
    """
    written = tomllib.loads(store.read_text(layout.STUDY))
    read = {name: value for name, value in written.items() if name in _SECTIONS or name not in Study.model_fields}
    return build_study(read, store.path(layout.STUDY))


def read_labels(store: Store, trials: pd.DataFrame) -> Labels:
    """Read the names of a study's models for print.

    A model's last trial says its label; before it has any, the study file does.

    Args:
        store: The study folder.
        trials: `trials.parquet`; an older one has no labels.
    """
    written = tomllib.loads(store.read_text(layout.STUDY)) if store.exists(layout.STUDY) else {}
    shared, own = written.get("model", {}).get("label", ""), written.get("only", {})
    labels = {model: own.get(model, {}).get("model.label", shared) for model in written.get("models", ())}
    labels |= dict.fromkeys(trials["model"], "")
    if "model.label" in trials:
        labels |= dict(zip(trials["model"], trials["model.label"].fillna(""), strict=True))
    return Labels.of(labels)
