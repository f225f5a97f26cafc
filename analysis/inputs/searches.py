"""The searches of a study folder: rules, space, trials and estimates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from eus_ray import store as layout
from eus_ray.analysis.inputs.settings import read_labels
from eus_ray.store import Store, TrialKind, TrialState


@dataclass(frozen=True)
class Dimension:
    """One searched field. Its choices, and those on which it depends, are as `setting_text` has them."""

    name: str
    kind: str
    """`float`, `log_float`, `int` or `choice`."""
    low: float
    high: float
    choices: tuple[str, ...]
    """Only a field of this kind has them; it has no range."""
    when: Mapping[str, frozenset[str]]
    """It plays a part only if each of these searched fields does and has one of these values."""


@dataclass(frozen=True)
class Search:
    """One model's search."""

    model: str
    label: str
    """The model's name for print."""
    protocol: str
    metric: str
    scheduler: str
    racing_alpha: float
    sampler: str
    num_trials: int
    """Trials that were asked for."""
    default_trial: int | None
    """The trial of the study's own settings; None if they lie outside the space."""
    paper_trial: int | None
    paper: Mapping[str, Any]
    """The paper's values of searched fields."""
    dimensions: tuple[Dimension, ...]
    trials: pd.DataFrame
    """Its rows of `trials.parquet` (kind `trial`), by number."""
    selection: pd.DataFrame
    """Its rows of `selection.parquet`; none before the search has ended, nor while it goes on after that."""

    @property
    def ended(self) -> bool:
        """Whether as many trials as were asked for have ended."""
        return len(self.trials) >= self.num_trials and not (self.trials["state"] == TrialState.RUNNING).any()

    def fold_winners(self) -> pd.DataFrame:
        """Return `fold` and the `trial` that its own validation patients chose.

        No rows if none is chosen.
        """
        won = self.selection[self.selection["estimate"] == "fold_winner"]
        return won[["fold", "trial"]].astype("int64")

    def estimate(self, name: str) -> dict[str, Any] | None:
        """Return the one row of an estimate; None if it has none."""
        rows = self.selection[self.selection["estimate"] == name].to_dict("records")
        whole = ("trials", "fold", "trial")  # floats, if other estimates have none
        return (
            {str(key): int(value) if key in whole and pd.notna(value) else value for key, value in rows[0].items()}
            if rows
            else None
        )

    def importances(self) -> pd.Series:
        """Return the share of each field; nothing if there were too few trials."""
        rows = self.selection[self.selection["estimate"] == "importance"]
        return rows.set_index("name")["value"]

    def settings(self, dimension: Dimension) -> pd.Series:
        """Return each trial's value of a field.

        Numbers, or texts of a choice; missing if the field plays no part in the trial.
        """
        if dimension.name not in self.trials:
            return pd.Series(np.nan, self.trials.index)
        values = self.trials[dimension.name]
        values = values.map(setting_text) if dimension.kind == "choice" else pd.to_numeric(values, errors="coerce")
        return values.where(self._plays_a_part(dimension))

    def _plays_a_part(self, dimension: Dimension) -> pd.Series:
        searched = {each.name: each for each in self.dimensions}
        active = pd.Series(True, self.trials.index)
        for name, wanted in dimension.when.items():
            active &= self.settings(searched[name]).map(setting_text).isin(wanted)
        return active


def read_searches(store: Store, trials: pd.DataFrame) -> dict[str, Search]:
    """Read every search of a study by model, in the order of its trials.

    A search that has only just begun has no trials.
    """
    prefix, suffix = layout.search_name("*").split("*")
    models = [name.removeprefix(prefix).removesuffix(suffix) for name in store.names("search") if name.endswith(suffix)]
    rank = {model: place for place, model in enumerate(dict.fromkeys(trials["model"]))}
    selection, labels = read_selection(store), read_labels(store, trials)
    searches = {}
    for model in sorted(models, key=lambda model: rank.get(model, len(rank))):
        said = store.read_json(layout.search_name(model))
        mine = trials[
            (trials["model"] == model) & (trials["kind"] == TrialKind.TRIAL) & (trials["trial"] >= said["first_trial"])
        ]
        going_on = (mine["state"] == TrialState.RUNNING).any()
        searches[model] = Search(
            model=model,
            label=labels[model],
            protocol=said["protocol"],
            metric=said["metric"],
            scheduler=said["scheduler"],
            racing_alpha=said["racing_alpha"],
            sampler=said["sampler"],
            num_trials=said["trials"],
            default_trial=said["default_trial"],
            paper_trial=said["paper_trial"],
            paper=said["space"]["paper"],
            dimensions=tuple(map(_dimension, said["space"]["dimensions"])),
            trials=mine.sort_values("trial").reset_index(drop=True),
            selection=selection[(selection["model"] == model) & ~going_on].reset_index(drop=True),
        )
    return searches


def read_selection(store: Store) -> pd.DataFrame:
    """Read `selection.parquet`; no rows before the first search has ended."""
    if not store.exists(layout.SELECTION_FILE):
        return layout.SELECTION.empty_table().to_pandas()
    return store.read_table(layout.SELECTION_FILE).to_pandas()


def setting_text(value: object) -> str:
    """Return a setting's value for print.

    Equal settings have equal texts, whether they come from JSON or from a table.

    >>> [setting_text(value) for value in (1e-4, 16, 16.0, True, "adamw", [5, 20], None)]
    ['0.0001', '16', '16', 'True', 'adamw', '[5, 20]', '']
    """
    if isinstance(value, list | tuple):
        return json.dumps(list(value))
    if value is None or value != value:
        return ""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return f"{value:.10g}"
    return str(value)


def _dimension(row: Mapping[str, Any]) -> Dimension:
    return Dimension(
        name=row["name"],
        kind=row["kind"],
        low=row["low"],
        high=row["high"],
        choices=tuple(map(setting_text, row["choices"])),
        when={name: frozenset(map(setting_text, choices)) for name, choices in row["when"].items()},
    )
