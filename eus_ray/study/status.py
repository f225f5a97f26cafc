"""How a study is getting on, read from its folder while it runs or afterwards; nothing is asked of Ray.

Epochs come from the logs, which are written as they end; the tables follow at each checkpoint.
"""

from __future__ import annotations

import itertools
import statistics
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eus_ray import store as names
from eus_ray.errors import UserError
from eus_ray.store import Store, read_trials
from eus_ray.store.lock import is_alive
from eus_ray.study.trials import LoggedEpoch, read_log

_RECENT = 20
"""Epochs from whose length the time left is told."""


@dataclass(frozen=True)
class TrialStatus:
    """One cross-validation, as far as it is known to be."""

    model: str
    trial: int
    kind: str
    state: str
    """running, complete, pruned or failed; `stopped` where it is not done and no run is alive."""
    folds_done: int
    fold_epochs: int
    """Epochs done, over all folds."""
    of: int
    """Fold-epochs in all."""
    training_dsc: float | None
    """Mean over folds at their latest epochs."""
    judged: str
    judged_dsc: float | None
    """Mean over folds of the latest validation or test DSC, as `judged` says."""
    left_s: float | None
    """About how long it will still take; only of a running trial that has ended an epoch."""
    reason: str


@dataclass(frozen=True)
class Status:
    location: str
    owner: str
    """Who runs it now; empty where nobody does."""
    trials: tuple[TrialStatus, ...]
    waiting: tuple[str, ...]
    """What the study asks for and has not begun."""

    def worth_showing(self, most: int) -> list[TrialStatus]:
        """Trials that run first, then what failed, then the rest by number from the last; `most` of them."""
        rank = {"running": 0, "stopped": 0, "failed": 1}
        ordered = sorted(self.trials, key=lambda trial: (rank.get(trial.state, 2), -trial.trial))
        return ordered[:most]


def read_status(store: Store) -> Status:
    """The state of a study folder. Raises `UserError` where it is none."""
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
    owner = store.owner()
    alive = bool(owner) and is_alive(owner)
    rows = read_trials(store).to_dict("records")
    trials = tuple(_trial(store, {str(name): row[name] for name in row}, folds, alive) for row in rows)
    host = f"process {owner['pid']} on {owner['host']}" if alive else ""
    begun = {trial.model for trial in trials}
    waiting = tuple(model for model in models if model not in begun)
    return Status(store.location, host, trials, waiting)


def in_words(status: Status) -> list[str]:
    """A line a model with the numbers of its trials by state, and what waits."""
    lines = []
    for model in dict.fromkeys(trial.model for trial in status.trials):
        mine = [trial for trial in status.trials if trial.model == model]
        states = Counter(trial.state for trial in mine)
        done, of = (sum(getattr(trial, name) for trial in mine) for name in ("fold_epochs", "of"))
        counted = ", ".join(f"{number} {state}" for state, number in states.items())
        lines.append(f"{model}: {counted}; {done} of {of} fold-epochs of these trained")
    if status.waiting:
        lines.append(f"waiting: {', '.join(status.waiting)}")
    return lines


def _trial(store: Store, row: dict[str, Any], folds: int, alive: bool) -> TrialStatus:
    epochs = read_log(store, row["model"], row["trial"])
    each = int(row.get("train.stop_after") or 0) or int(row["train.epochs"])
    latest = {epoch.fold: epoch for epoch in epochs}
    judged = {epoch.fold: epoch for epoch in epochs if epoch.judged_dsc is not None}
    done = len({(epoch.fold, epoch.epoch) for epoch in epochs if not epoch.failed})
    state = row["state"] if alive or row["state"] != "running" else "stopped"
    return TrialStatus(
        model=row["model"],
        trial=int(row["trial"]),
        kind=row["kind"],
        state=state,
        folds_done=int(row["folds_done"]),
        fold_epochs=done,
        of=folds * each,
        training_dsc=_mean([epoch.training_dsc for epoch in latest.values()]),
        judged=next(iter(judged.values())).judged if judged else "",
        judged_dsc=_mean([epoch.judged_dsc for epoch in judged.values() if epoch.judged_dsc is not None]),
        left_s=_left_s(epochs[-_RECENT:], folds * each - done) if state == "running" else None,
        reason=row["reason"] or "",
    )


def _left_s(recent: Sequence[LoggedEpoch], fold_epochs: int) -> float | None:
    """Seconds for so many more fold-epochs, as fast as the recent ones and as many side by side."""
    spans = [(epoch.started, epoch.ended) for epoch in recent if epoch.ended > epoch.started]
    if not spans:
        return None
    together = sum(end - start for start, end in spans) / _covered(spans)
    return fold_epochs * statistics.mean(end - start for start, end in spans) / together


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
