"""`trials.parquet`: kinds, states and settings of trials, read and written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import pandas as pd
import pyarrow as pa

from eus_ray.store.layout import MANIFEST, STUDY, TRIALS, TRIALS_FILE, TrialKey
from eus_ray.store.study_folder import Store


class TrialKind(StrEnum):
    """Why a trial was trained."""

    FIXED = "fixed"
    """A cross-validation with the study's own settings."""
    TRIAL = "trial"
    """A trial of a search: the sampler proposed the settings."""
    WINNER = "winner"
    """The best settings of a search, trained again on all training patients of each fold."""


class TrialState(StrEnum):
    """How far a trial has come."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    """Stopped by the search's pruner."""
    FAILED = "failed"
    """Ended by a fault of its own, such as a loss that is not a number."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing of the trial is still to be trained."""
        return self is not TrialState.RUNNING


@dataclass(frozen=True)
class Hardware:
    """The hardware on which the folds of a trial were trained; empty before the first epoch, and in older studies."""

    device: str = ""
    """Names of GPUs, or of processors; several are separated by semicolons."""
    gpus: float | None = None
    """GPUs that a fold had: a fraction shares one; 0 on processors. None if folds had different numbers."""
    threads: int | None = None
    """CPU threads of a fold's arithmetic; None likewise."""
    precision: str = ""
    """The arithmetic's, such as `float32`; several like devices."""

    def joined(self, other: Hardware) -> Hardware:
        """Return the hardware of a trial that was trained on both.

        >>> cpu, gpu = Hardware("EPYC", 0.0, 1, "float32"), Hardware("H200", 0.5, 1, "bfloat16")
        >>> Hardware().joined(cpu) == cpu.joined(cpu) == cpu
        True
        >>> cpu.joined(gpu).joined(gpu)
        Hardware(device='EPYC; H200', gpus=None, threads=1, precision='float32; bfloat16')
        """
        if Hardware() in (self, other):
            return other if self == Hardware() else self
        return Hardware(
            _joined(self.device, other.device),
            self.gpus if self.gpus == other.gpus else None,
            self.threads if self.threads == other.threads else None,
            _joined(self.precision, other.precision),
        )


def _joined(one: str, other: str) -> str:
    return "; ".join(dict.fromkeys([*one.split("; "), *other.split("; ")]))


@dataclass(frozen=True)
class TrialRecord:
    """One trial: a row of `trials.parquet`."""

    model: str
    trial: int
    kind: TrialKind
    state: TrialState = TrialState.RUNNING
    reason: str = ""
    """Why it failed or was stopped; empty otherwise."""
    folds_done: int = 0
    value: float | None = None
    """Its score: of a search by the search's metric, else the mean test DSC; None before there is one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By dotted name; lists as JSON."""
    parameters: int | None = None
    """Trainable weights of a fold's network; None in older studies."""
    hardware: Hardware = Hardware()

    @property
    def key(self) -> TrialKey:
        """Which trial it is."""
        return TrialKey(self.model, self.trial)

    def row(self) -> dict[str, Any]:
        """Return the row of the table."""
        return {
            **self.key._asdict(),
            "kind": self.kind.value,
            "state": self.state.value,
            "reason": self.reason,
            "folds_done": self.folds_done,
            "value": self.value,
            "parameters": self.parameters,
            **asdict(self.hardware),
            **self.settings,
        }


def read_records(store: Store) -> list[TrialRecord]:
    """Read all trials; none before the first."""
    return [
        TrialRecord(
            model=row["model"],
            trial=int(row["trial"]),
            kind=TrialKind(row["kind"]),
            state=TrialState(row["state"]),
            reason=row["reason"] or "",
            folds_done=int(row["folds_done"]),
            value=None if pd.isna(row["value"]) else float(row["value"]),
            settings={str(name): value for name, value in row.items() if name not in TRIALS.names},
            parameters=_whole(row["parameters"]),
            hardware=Hardware(
                device=_text(row["device"]),
                gpus=None if pd.isna(row["gpus"]) else float(row["gpus"]),
                threads=_whole(row["threads"]),
                precision=_text(row["precision"]),
            ),
        )
        for row in read_trials(store).to_dict("records")
    ]


def _whole(value: float | None) -> int | None:
    return None if pd.isna(value) else int(value)


def _text(value: str | None) -> str:
    return "" if pd.isna(value) else str(value)


def write_trials(store: Store, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `trials.parquet`; settings become columns by their dotted names."""
    frame = _with_all_columns(pd.DataFrame(list(rows)))
    columns = {field.name: pa.array(frame[field.name], field.type, from_pandas=True) for field in TRIALS}
    for column in frame.columns.difference(TRIALS.names, sort=False):
        values = frame[column].tolist()
        kinds = {type(value) for value in values if value is not None and value == value}
        if not kinds <= {bool} and not kinds <= {int} and not kinds <= {int, float}:
            values = [None if value is None or value != value else str(value) for value in values]
        columns[column] = pa.array(values, from_pandas=True)
    store.write_table(TRIALS_FILE, pa.table(columns))


def read_trials(store: Store) -> pd.DataFrame:
    """Read `trials.parquet` as a frame; no rows before the first trial.

    Models come in the order in which `study.toml` names them, then those that it does not name. Columns that an older
    study lacks are empty.
    """
    if not store.exists(TRIALS_FILE):
        return TRIALS.empty_table().to_pandas()
    frame = _with_all_columns(store.read_table(TRIALS_FILE).to_pandas())
    order = list(dict.fromkeys([*_named_models(store), *frame["model"]]))
    return frame.sort_values("model", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def _named_models(store: Store) -> list[str]:
    try:
        models = tomllib.loads(store.read_text(STUDY)).get("models", []) if store.exists(STUDY) else []
    except tomllib.TOMLDecodeError:  # whoever needs more of it than an order tells
        return []
    return [str(model) for model in models] if isinstance(models, list) else []


def _with_all_columns(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: None for name in TRIALS.names if name not in frame})


def read_manifest(store: Store) -> pd.DataFrame:
    """Read `manifest.parquet`: image_id, patient_id, fold, clinical columns."""
    return store.read_table(MANIFEST).to_pandas()
