"""How a study is getting on, read from its folder while it runs or afterwards; Ray is not asked.

Epochs come from the event logs, which are written as they end; the tables follow at each checkpoint. A study that was
made before there were event logs tells only what its tables hold.
"""

from __future__ import annotations

import itertools
import statistics
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from eus_ray import store as names
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKind, TrialRecord, TrialState, read_records
from eus_ray.store.event_log import FoldReport, read_reports
from eus_ray.store.lock import is_alive, owner_of

STOPPED = "stopped"
"""The state of a trial that is not done while no run is alive."""
_NUM_RECENT = 20
"""Epochs from whose length the time left is told."""


@dataclass(frozen=True)
class TrialStatus:
    """One cross-validation, as far as it is known to be."""

    model: str
    trial: int
    kind: TrialKind
    state: TrialState | str
    """`STOPPED` if it is not done and no run is alive."""
    folds_done: int
    num_fold_epochs: int
    """Epochs done, over all folds."""
    max_fold_epochs: int
    """Those of a whole trial."""
    train_dsc: float | None
    """Mean over folds at their latest epochs."""
    monitor_split: str
    monitor_dsc: float | None
    """Mean over folds of the latest DSC of that split, validation or test."""
    left_s: float | None
    """Seconds that it will still take, about; only of a running trial that has ended an epoch."""
    reason: str


@dataclass(frozen=True)
class Status:
    """A study folder, as far as its trials are known to be."""

    location: str
    owner: str
    """Who runs it now; empty if nobody does."""
    trials: tuple[TrialStatus, ...]
    waiting: tuple[str, ...]
    """The models that the study asks for and has not begun."""

    def worth_showing(self, most: int) -> list[TrialStatus]:
        """Return `most` trials: those that run, then those that failed, then the rest by number from the last."""
        rank = {TrialState.RUNNING: 0, STOPPED: 0, TrialState.FAILED: 1}
        return sorted(self.trials, key=lambda trial: (rank.get(trial.state, 2), -trial.trial))[:most]


def read_status(store: Store) -> Status:
    """Read the state of a study folder.

    Raises:
        UserError: If it is none.
    """
    if not store.exists(names.STUDY):
        found = "is not a study folder" if store.exists() else "no such folder"
        raise UserError(f"{store.location}: {found} (no {names.STUDY}); give the folder that `eus-ray cv` wrote")
    try:
        settings = tomllib.loads(store.read_text(names.STUDY))
        folds, models = int(settings["folds"]["count"]), list(settings["models"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{store.location}: {names.STUDY} is damaged ({type(error).__name__}: {error}); bring it back from a backup"
        ) from None
    owner = owner_of(store)
    has_owner = bool(owner) and is_alive(owner)
    trials = tuple(_trial(store, record, folds, has_owner) for record in read_records(store))
    host = f"process {owner['pid']} on {owner['host']}" if has_owner else ""
    begun = {trial.model for trial in trials}
    return Status(store.location, host, trials, waiting=tuple(model for model in models if model not in begun))


def in_words(status: Status) -> list[str]:
    """Return a line a model with the numbers of its trials by state, and a line of what waits."""
    lines = []
    for model in dict.fromkeys(trial.model for trial in status.trials):
        mine = [trial for trial in status.trials if trial.model == model]
        done, of = (sum(getattr(trial, name) for trial in mine) for name in ("num_fold_epochs", "max_fold_epochs"))
        counted = ", ".join(f"{number} {state}" for state, number in Counter(trial.state for trial in mine).items())
        lines.append(f"{model}: {counted}; {done} of {of} fold-epochs of these trained")
    if status.waiting:
        lines.append(f"waiting: {', '.join(status.waiting)}")
    return lines


def _trial(store: Store, record: TrialRecord, num_folds: int, has_owner: bool) -> TrialStatus:
    reports = read_reports(store, record.key) or _reports_of_tables(store, record)
    epochs = int(record.settings.get("train.stop_after") or 0) or int(record.settings["train.epochs"])
    latest = {report.fold: report for report in reports}
    monitored = {report.fold: report for report in reports if report.monitor_dsc is not None}
    done = len({(report.fold, report.epoch) for report in reports if not report.error})
    is_running = has_owner and not record.state.is_finished
    return TrialStatus(
        model=record.model,
        trial=record.trial,
        kind=record.kind,
        state=record.state if has_owner or record.state.is_finished else STOPPED,
        folds_done=record.folds_done,
        num_fold_epochs=done,
        max_fold_epochs=num_folds * epochs,
        train_dsc=_mean([report.train_dsc for report in latest.values()]),
        monitor_split=next(iter(monitored.values())).monitor_split if monitored else "",
        monitor_dsc=_mean([report.monitor_dsc for report in monitored.values() if report.monitor_dsc is not None]),
        left_s=_left_s(reports[-_NUM_RECENT:], num_folds * epochs - done) if is_running else None,
        reason=record.reason,
    )


def _reports_of_tables(store: Store, record: TrialRecord) -> list[FoldReport]:
    """Epochs as the tables have them, without the times at which they began and ended."""
    columns = ["fold", "epoch", "split", "loss", "dsc"]
    rows = store.read_trial("epochs", record.key, columns).to_pandas().sort_values(["epoch", "fold"])
    dsc = rows.pivot(index=["epoch", "fold"], columns="split", values="dsc")
    split = "validation" if "validation" in dsc else "test"
    monitored = dsc[split].dropna().to_dict() if split in dsc else {}
    return [
        FoldReport(row.fold, row.epoch, row.loss, row.dsc, split, monitored.get((row.epoch, row.fold)), finished=False)
        for row in rows[rows["split"] == "train"].itertuples(index=False)
    ]


def _left_s(recent: Sequence[FoldReport], num_fold_epochs: int) -> float | None:
    """Seconds for so many more fold-epochs, as fast as the recent ones and as many side by side."""
    spans = [(report.started, report.ended) for report in recent if report.ended > report.started]
    if not spans:
        return None
    together = sum(end - start for start, end in spans) / _covered(spans)
    return num_fold_epochs * statistics.mean(end - start for start, end in spans) / together


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in which at least one of the spans lay.

    >>> _covered([(0, 2), (1, 3), (10, 11)])
    4.0
    """
    ordered = sorted(spans)
    reached = itertools.accumulate((end for _, end in ordered), max)
    before = itertools.chain([ordered[0][0]], reached)
    return float(sum(max(0.0, end - max(start, past)) for (start, end), past in zip(ordered, before, strict=False)))


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
