"""The events of a trial as they happen: a readable log, and the same as JSON lines for programs.

The driver is the one writer of both. `logs/<model>_trial-N.log` is for people, and no program reads it.
`logs/<model>_trial-N.jsonl` holds one object a line: `{"event": "epoch", …}` is a `FoldReport` without the patients'
scores, `{"event": "note", "time": …, "text": …}` is everything else.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from eus_ray.store.layout import TrialKey, events_name, log_name
from eus_ray.store.study_folder import Store
from eus_ray.store.trials import Hardware

_NOT_LOGGED = ("patient_scores", "note", "hardware")
"""A log tells nothing of single patients; notes have lines of their own; `trials.parquet` has the hardware."""


@dataclass(frozen=True)
class FoldReport:
    """The report of a fold after an epoch."""

    fold: int
    epoch: int
    """Counts from 0."""
    loss: float
    """Mean training loss of the epoch."""
    train_dsc: float
    monitor_split: str
    """`validation` if the fold has validation patients, else `test`: whose scores the driver may see."""
    monitor_dsc: float | None
    """Mean DSC over the images of that split; None if it was not scored after this epoch."""
    finished: bool
    """Whether the fold has trained its last epoch."""
    patient_scores: npt.NDArray[np.float64] | None = None
    """The search's metric of each patient `(P,)` at the epoch that counts so far; NaN for patients not judged here."""
    started: float = 0.0
    """Seconds since 1970."""
    ended: float = 0.0
    error: str = ""
    """Why the fold cannot go on; empty if it can."""
    note: str = ""
    """For a person, such as a damaged checkpoint that was not used."""
    hardware: Hardware = field(default_factory=Hardware)
    """What the fold was trained on."""


def log_reports(store: Store, key: TrialKey, reports: Sequence[FoldReport]) -> None:
    """Write what folds report into both logs of a trial."""
    _append(store, log_name(*key), [_as_text(report) for report in reports])
    _append(store, events_name(*key), [json.dumps(_as_event(report)) for report in reports])


def log_notes(store: Store, key: TrialKey, texts: Sequence[str]) -> None:
    """Write texts, each of one or more lines, into both logs of a trial."""
    now = time.time()
    _append(store, log_name(*key), [f"{_clock(now)} {text}" for text in texts])
    _append(store, events_name(*key), [json.dumps({"event": "note", "time": now, "text": text}) for text in texts])


def read_reports(store: Store, key: TrialKey) -> list[FoldReport]:
    """Read the epochs in a trial's log, in the order in which they were heard of.

    Returns:
        One report a fold and epoch: if an epoch was trained again after an interruption, its latest. None before the
        first, and none of a study that was made before there were JSON lines. A line that a killed writer tore is
        passed over.
    """
    name = events_name(*key)
    known = {field.name for field in fields(FoldReport)}
    found: dict[tuple[int, int], FoldReport] = {}
    for line in store.read_text(name).splitlines() if store.exists(name) else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("event") != "epoch":
            continue
        values = {name: value for name, value in event.items() if name in known}
        absent = {name: math.nan for name in ("loss", "train_dsc") if event[name] is None}
        report = FoldReport(**values | absent)
        found.pop((report.fold, report.epoch), None)
        found[report.fold, report.epoch] = report
    return list(found.values())


def _append(store: Store, name: str, lines: Sequence[str]) -> None:
    if lines:
        store.append_text(name, "".join(f"{line}\n" for line in lines))


def _as_event(report: FoldReport) -> dict[str, Any]:
    """JSON has no NaN: null stands for it."""
    values = {name: value for name, value in vars(report).items() if name not in _NOT_LOGGED}
    absent = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
    return {"event": "epoch", **values, **dict.fromkeys(absent)}


def _as_text(report: FoldReport) -> str:
    monitored = "" if report.monitor_dsc is None else f", {report.monitor_split} DSC {report.monitor_dsc:.4f}"
    failed = f"; FAILED: {report.error}" if report.error else ""
    return (
        f"{_clock(report.started)} {_clock(report.ended)} fold {report.fold} epoch {report.epoch}: "
        f"loss {report.loss:.4f}, training DSC {report.train_dsc:.4f}{monitored}{failed}"
    )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(timespec="milliseconds")
