"""Replay a search's stored scores under other pruners: what each would have chosen and spent, without training.

The pruners are the objects of `pruners` that a search itself asks. A replayed search starts its trials in their order,
some at once; each epoch of a fold takes one unit of time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray import store as names
from eus_ray.config import Order
from eus_ray.data.io.tables import SUFFIXES, names_alike, read_table
from eus_ray.data.names import alike, near, shown
from eus_ray.errors import UserError, collapsed
from eus_ray.metrics import criterion, patient_scores
from eus_ray.search.pruners import Pruner, parse_rule
from eus_ray.search.standings import Standing
from eus_ray.store import REPEAT, Store, TrialKind, TrialState

_KEYS = ["model", "trial", "repeat", "fold", "epoch", "image_id", "patient_id", "split"]
_COUNTS = ["tp", "fp", "fn", "tn"]
_NAMES = ["model", "image_id", "patient_id", "split"]
_NUMBERS = ["trial", "repeat", "fold", "epoch", *_COUNTS]
_MAX_TRIALS_NAMED = 10
_MAX_NUMBER = 2**53
"""Of pixels, and of what numbers trials, folds and epochs."""
_MAX_SCORES = 2**28
"""Of a model: 2 GiB."""


@dataclass(frozen=True)
class Curves:
    """One model's stored learning curves: T trials, K folds, S steps of a fold, P patients."""

    model: str
    trials: tuple[int, ...]
    """The trials' numbers, `(T,)`, in the order in which they start."""
    scores: npt.NDArray[np.floating]
    """Each patient's score after each step, `(T, K, S, P)`; NaN if the patient is not judged there."""
    epochs: int
    """Epochs that a fold trains. S of them are known: all, or the last one."""
    counts: Literal["best", "last"]
    """Which epoch gives a fold's scores: the last, or the best by its mean over patients (the first of equals)."""
    note: str = ""
    """The trials that are left out, and why."""

    @property
    def has_last_epoch_only(self) -> bool:
        """Whether only the last epoch is known, as in a search without validation patients."""
        return self.scores.shape[2] < self.epochs

    def chosen_steps(self) -> npt.NDArray[np.int64]:
        """Return the step whose scores count after each step, `(T, K, S)`."""
        steps = np.broadcast_to(np.arange(self.scores.shape[2]), self.scores.shape[:3])
        if self.counts == "last":
            return steps.astype(np.int64)
        judged = ~np.isnan(self.scores)
        means = np.where(judged, self.scores, 0.0).sum(axis=3, dtype=np.float64) / judged.sum(axis=3)
        before = np.maximum.accumulate(means, axis=2)[:, :, :-1]
        better = np.concatenate([np.ones_like(means[:, :, :1], dtype=bool), means[:, :, 1:] > before], axis=2)
        return np.maximum.accumulate(np.where(better, steps, 0), axis=2)


@dataclass(frozen=True)
class Replayed:
    """The course of a search of T trials under a pruner."""

    states: tuple[TrialState, ...]
    """Complete or pruned, `(T,)`."""
    fold_epochs: npt.NDArray[np.int64]
    """Epochs trained, summed over folds, `(T,)`."""
    folds_done: npt.NDArray[np.int64]
    """Finished folds, `(T,)`."""
    chosen: int | None
    """Index in `Curves.trials` of the complete trial with the best criterion, the first of equals; None without any."""
    value: float
    """The criterion of the chosen trial; NaN without one."""


class _Run:
    """One trial while it is replayed."""

    def __init__(self, curves: Curves, index: int, chosen_steps: npt.NDArray[np.int64]) -> None:
        _, folds, steps, patients = curves.scores.shape
        self._known, self._chosen_steps = curves.scores[index], chosen_steps
        self._steps, self._epochs_per_step = steps, curves.epochs // steps
        self._done = np.zeros(folds, dtype=np.int64)
        self._scores = np.full((folds, patients), np.nan)

    def advance(self, order: Order) -> Standing:
        """Take the next step: of the first unfinished fold, or of all folds if they train abreast."""
        unfinished = np.flatnonzero(self._done < self._steps)
        for fold in unfinished if order is Order.ABREAST else unfinished[:1]:
            self._scores[fold] = self._known[fold, self._chosen_steps[fold, self._done[fold]]]
            self._done[fold] += 1
        return self.standing()

    def standing(self) -> Standing:
        return Standing(self._done * self._epochs_per_step, self._done == self._steps, self._scores.copy())


def replay(curves: Curves, rule: Pruner, slots: int = 1, protected: Collection[int] = ()) -> Replayed:
    """Run a pruner over stored scores.

    Args:
        curves: The scores of one model's trials.
        rule: A new pruner.
        slots: How many trials run at once.
        protected: The numbers of trials that are never stopped.
    """
    num_trials, folds, _, _ = curves.scores.shape
    runs = [_Run(curves, index, chosen_steps) for index, chosen_steps in enumerate(curves.chosen_steps())]
    states = [TrialState.RUNNING] * num_trials
    step_length = folds if rule.order is Order.ABREAST else 1
    waiting = list(range(num_trials))[::-1]
    # (time of the next step, index): if two steps fall on the same time, the earlier trial's comes first
    due = [(step_length, waiting.pop()) for _ in range(min(slots, num_trials))]
    while due:
        time, index = heapq.heappop(due)
        number, standing = curves.trials[index], runs[index].advance(rule.order)
        rule.hear(number, standing)
        if standing.finished.all():
            states[index] = TrialState.COMPLETE
        elif number not in protected and rule.stops(number) is not None:
            states[index] = TrialState.PRUNED
        else:
            heapq.heappush(due, (time + step_length, index))
            continue
        rule.end(number, states[index])
        if waiting:
            heapq.heappush(due, (time + step_length, waiting.pop()))
    ends = [run.standing() for run in runs]
    values = np.array(
        [
            criterion(end.scores) if state is TrialState.COMPLETE else -np.inf
            for end, state in zip(ends, states, strict=True)
        ]
    )
    chosen = int(values.argmax()) if TrialState.COMPLETE in states else None
    return Replayed(
        states=tuple(states),
        fold_epochs=np.array([end.epochs.sum() for end in ends]),
        folds_done=np.array([end.finished.sum() for end in ends]),
        chosen=chosen,
        value=float("nan") if chosen is None else float(values[chosen]),
    )


# ---- stored scores ------------------------------------------------------------------------------


def read_curves(rows: pd.DataFrame, metric: str = "dsc") -> list[Curves]:
    """Return each model's learning curves, models in sorted order.

    If a model has validation rows, they judge its trials, at the best epoch; else its test rows do, at the last epoch.
    A trial that lacks a score which others have is left out, and the model's `note` says so.

    Args:
        rows: A table with the columns of `scores`; the index numbers rows from 0, as a spreadsheet's below its header.
        metric: The metric that judges.

    Raises:
        UserError: If a column is missing or wrong, or a model has nothing to replay.
    """
    _check_rows(rows)
    rows = rows.assign(**{column: pd.to_numeric(rows[column]).astype(np.int64) for column in _NUMBERS})
    found = []
    for model, mine in rows[rows["repeat"] == REPEAT].groupby("model", sort=True):
        nested = (mine["split"] == "validation").any()
        judged = mine[mine["split"] == ("validation" if nested else "test")]
        found.append(_curves(str(model), mine["trial"].unique(), judged, metric, bool(nested)))
    if not found:
        raise UserError("there are no scores to replay: the table has no rows of repeat 0")
    return found


def _curves(model: str, all_trials: npt.NDArray[np.int64], rows: pd.DataFrame, metric: str, nested: bool) -> Curves:
    patient, patients = pd.factorize(rows["patient_id"], sort=True)
    trial, trials = pd.factorize(rows["trial"], sort=True)
    fold, epochs = rows["fold"].to_numpy(), int(rows["epoch"].max()) + 1
    last = rows["epoch"] == rows.groupby(["trial", "fold"])["epoch"].transform("max")
    step = rows["epoch"].to_numpy() if nested else np.where(last, 0, -1)
    shape = (len(trials), int(fold.max()) + 1, epochs if nested else 1, len(patients))
    if math.prod(shape) > _MAX_SCORES:
        raise UserError(
            f"{model}: {len(trials)} trials of {shape[1]} folds, {epochs} epochs and {len(patients)} patients are too "
            "many to replay; number folds and epochs from 0"
        )
    counted = step >= 0
    cell = np.ravel_multi_index(tuple(key[counted] for key in (trial, fold, step, patient)), shape)
    # a cell is a patient in one step of one fold of one trial
    scores = patient_scores(metric, rows[_COUNTS].to_numpy()[counted], cell, math.prod(shape)).reshape(shape)
    judged = ~np.isnan(scores)
    has_all_patients = np.all(judged == np.any(judged, axis=(0, 2), keepdims=True), axis=(1, 2, 3))
    is_whole = has_all_patients & np.all(np.any(judged, axis=3), axis=(1, 2))
    if not is_whole.any():
        raise UserError(f"{model}: no trial has its scores in every fold and epoch; there is nothing to replay")
    kept = tuple(np.asarray(trials)[is_whole].astype(np.int64).tolist())
    left_out, note = sorted(set(all_trials.astype(np.int64).tolist()) - set(kept)), ""
    if left_out:
        named = ", ".join([*map(str, left_out[:_MAX_TRIALS_NAMED]), *["..."] * (len(left_out) > _MAX_TRIALS_NAMED)])
        note = f"{model}: left out {len(left_out)} of {len(all_trials)} trials, which are incomplete: {named}"
    return Curves(model, kept, scores[is_whole], epochs, "best" if nested else "last", note)


def _check_rows(rows: pd.DataFrame) -> None:
    needed = [*_KEYS, *_COUNTS]
    if missing := [column for column in needed if column not in rows]:
        renamed = [shown(other) for column in missing if (other := near(column, rows.columns))]
        cure = f"; rename {', '.join(renamed)}?" if renamed else ""
        raise UserError(
            f"the table lacks {', '.join(missing)}{cure}; it needs the columns of a study's scores: {', '.join(needed)}"
        )
    lines = []
    for column in [*_NAMES, *_NUMBERS]:
        if column in _NAMES:
            is_wrong, fault = rows[column].isna() | (rows[column] == ""), "is empty"
        else:
            values = pd.to_numeric(rows[column], errors="coerce")
            is_wrong, fault = (
                ~((values >= 0) & (values % 1 == 0) & (values < _MAX_NUMBER)),
                "is not a whole number from 0",
            )
        wrong = rows.loc[is_wrong, column]
        if len(wrong):
            first = wrong.iloc[0]
            value = "" if column in _NAMES else f"{first!r} " if isinstance(first, str) else f"{first} "
            more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
            lines.append(f"{column}, row {wrong.index[0] + 2}: {value}{fault}{more}")
    if unknown := sorted(set(rows["split"].astype(str)) - {"train", "validation", "test"}):
        lines.append(f"split: {', '.join(map(repr, unknown))} is neither train, validation nor test")
    if not lines and (twice := int(rows.duplicated(_KEYS).sum())):
        lines.append(f"{twice} rows repeat the {', '.join(_KEYS)} of another; each image counts once")
    if lines:
        raise UserError(*lines)


# ---- the command --------------------------------------------------------------------------------


def run_replay(source: str | Path, rules: Sequence[str], slots: int = 1) -> pd.DataFrame:
    """Replay each model of a study under each rule.

    Args:
        source: A study folder, or a table with the columns of `scores`.
        rules: Pruners as `parse_rule` reads them.
        slots: How many trials run at once.

    Returns:
        One row a model and rule: `model`, `rule`, `fold_epochs` (the share of the epochs that all trials would train
        to their end), `complete` (how many trials), `chosen` (the best trial's number), `value` (its criterion), `lost`
        (the criterion lost against stopping nothing). `attrs["notes"]` holds a line for each model with trials that
        were left out.

    Raises:
        UserError: With one line for each mistake.
    """
    if slots < 1:
        raise UserError(f"{slots} trials at once: one is the least")
    if not rules:
        raise UserError("no rule is given; name one at least, such as racing:0.05")
    try:
        found, notes = _read_source(source)
    except UserError as error:
        raise UserError(*(f"{source}: {line}" for line in error.lines)) from None
    lines: list[str] = []
    for text in rules:
        try:
            order = parse_rule(text, 1).order
        except UserError as error:
            lines += error.lines
            continue
        last_only = [curves.model for curves, _ in found if curves.has_last_epoch_only]
        if order is Order.ABREAST and last_only:
            lines.append(
                f"rule {text}: judges by epoch, and {source} has only the last epoch's scores of "
                f"{', '.join(last_only)}; take racing or none"
            )
    if lines:
        raise UserError(*lines)
    rows = []
    for curves, protected in found:
        num_trials, folds, _, _ = curves.scores.shape
        best = replay(curves, parse_rule("none", curves.epochs)).value
        for text in rules:
            outcome = replay(curves, parse_rule(text, curves.epochs), slots, protected)
            rows.append(
                {
                    "model": curves.model,
                    "rule": text,
                    "fold_epochs": float(outcome.fold_epochs.sum() / (num_trials * folds * curves.epochs)),
                    "complete": outcome.states.count(TrialState.COMPLETE),
                    "chosen": None if outcome.chosen is None else curves.trials[outcome.chosen],
                    "value": outcome.value,
                    "lost": best - outcome.value,
                }
            )
    table = pd.DataFrame(rows).astype({"chosen": "Int64"})
    table.attrs["notes"] = [*notes, *(curves.note for curves, _ in found if curves.note)]
    return table


def _read_source(source: str | Path) -> tuple[list[tuple[Curves, tuple[int, ...]]], list[str]]:
    """Return each model's curves with the numbers of its trials that a search does not stop, and notes."""
    if str(source).lower().endswith(SUFFIXES):
        rows, notes = _read_table(Path(source))
        return [(curves, ()) for curves in read_curves(rows)], notes
    return list(_read_study(Store(source))), []


def _read_study(store: Store) -> Iterator[tuple[Curves, tuple[int, ...]]]:
    if not store.exists(names.TRIALS_FILE):
        raise UserError(f"is neither a study folder nor a table ({', '.join(SUFFIXES)})")
    kinds = names.read_trials(store)[["model", "trial", "kind"]]
    for model in sorted(kinds["model"].unique()):
        of_model = kinds[kinds["model"] == model]
        # a search's winner is trained again as one more trial: it was not among those to choose from
        kind = TrialKind.TRIAL if (of_model["kind"] == TrialKind.TRIAL).any() else TrialKind.FIXED
        about = store.read_json(names.search_name(model)) if store.exists(names.search_name(model)) else {}
        rows = store.read_parts("scores", model=model).to_pandas()
        rows = rows[rows["trial"].isin(of_model.loc[of_model["kind"] == kind, "trial"])]
        if rows.empty:
            raise UserError(f"{model} has no scores yet; there is nothing to replay")
        default = about.get("default_trial")
        for curves in read_curves(rows, about.get("metric", "dsc")):
            yield curves, () if default is None else (int(default),)


def _read_table(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return a table's rows, and notes on what may have been meant otherwise."""
    try:
        table = read_table(path)
    except UserError as error:
        raise UserError(*(line.removeprefix(f"{path}: ") for line in error.lines)) from None
    if table.defects:
        raise UserError(*table.defects)
    rows = table.frame(texts=_NAMES)
    notes = [*table.warnings, *alike("column", table.columns), *names_alike(rows, ())]
    return rows, [f"{path}: {note}" for note in collapsed(notes)]
