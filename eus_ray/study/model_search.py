"""The search of one architecture: which trial is next, which is stopped, what is kept, and the winner.

Everything that it knows is in the study folder: `trials.parquet` has each trial's settings and state,
`scores` its patients' scores, `search/<model>.json` what the search is. So a search that was killed is
read back from there, and proposes what it would have proposed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eus_ray import store as names
from eus_ray.config import to_dotted
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.tune_driver import Task
from eus_ray.errors import UserError
from eus_ray.metrics import criterion, patient_scores
from eus_ray.search.pruners import Standing, fair_value, make_rule
from eus_ray.search.samplers import Mirror, Tried, propose
from eus_ray.search.space import Space
from eus_ray.store import TrialKey, TrialState
from eus_ray.study.trials import Trials, settings_row, study_of

ENDED = ("complete", "pruned", "failed")


class ModelSearch:
    """The search of one architecture in a study folder that this run holds."""

    def __init__(
        self, run: CrossValidation, trials: Trials, space: Space, first: Sequence[Mapping[str, Any]], scratch: Path
    ) -> None:
        """Begin, or go on with, a search. `run` is the base of its trials; `first` are the settings tried first.

        Optuna's journal is a file on a disk: of a study on an object store it lies in `scratch`, and is uploaded.
        Raises `UserError` where the folder has a search of this model that is another one.
        """
        self.model, self.base, self._trials, self.space = run.model, run, trials, space
        self.settings = run.study.search
        self.first, self.default_trial = self._begin(first)
        self.number_of_patients = len(run.patient_number)
        self._rule = make_rule(self.settings, run.num_folds, run.study.train.epochs_to_train)
        self._standings: dict[int, Standing] = {}
        self._failed: dict[int, str] = {}
        self._points: dict[int, dict[str, Any]] = {}
        self._tidied: set[int] = set()
        self._kept: set[tuple[int, int]] = set()
        """Trials and folds whose weights and predictions are still there."""
        self.exhausted = False
        self._journal = Path(run.store.path(names.optuna_name(self.model)))
        if not run.store.is_local:
            self._journal = scratch / f"{self.model}.log"
        self._mirror = Mirror(self._journal, self.model, space)
        for row in self._rows():
            self._recall(row)
        self._tidy()
        self._reflect()
        self._to_resume = [row["trial"] for row in self._rows() if row["state"] == "running"]
        self.begun = 0
        """Trials that this run has begun or taken up."""

    # ---- what a campaign asks -------------------------------------------------------------------

    def next(self) -> Task | None:
        """The next trial; None where all that were asked for have begun, or nothing new is left."""
        while self._to_resume:
            trial = self._to_resume.pop(0)
            if self._stops(trial):  # it was killed before it heard so
                self._end(trial)
                continue
            self.begun += 1
            return Task(self.model, trial, self._points[trial])
        number = len(self._rows())
        if number >= self.settings.trials or self.exhausted:
            return None
        params = propose(self.space, self.settings, self.first, number, self._history())
        if params is None:
            self.exhausted = True
            return None
        trial = self._trials.next_number(self.model)  # a winner, or another run, may have taken the one after the last
        self._points[trial] = params
        self.begun += 1
        self._trials.begin(self.model, "trial", trial, self.base.as_trial(trial, params).study)
        self._reflect()
        return Task(self.model, trial, params)

    def heard(self, trial: int, cells: Sequence[Mapping[str, Any]]) -> bool:
        """Take in what the folds of a trial report; whether the trial is to be stopped."""
        for cell in cells:
            if cell["failed"]:
                self._failed.setdefault(trial, cell["failed"])
        before = self._standings.get(trial) or self._nothing()
        after = _with_cells(before, cells)
        self._standings[trial] = after
        self._rule.hear(trial, after)
        if trial in self._failed:
            return False  # its folds save what they have and leave by themselves
        return self._stops(trial)

    def _stops(self, trial: int) -> bool:
        """Write down how far a running trial is, and whether its rule stops it."""
        key, standing = (self.model, trial), self._standings.get(trial) or self._nothing()
        if (done := int(standing.finished.sum())) > self._trials[key]["folds_done"]:
            self._trials.update(key, folds_done=done, value=self._value(standing))
        if standing.finished.all() or trial == self.default_trial:
            return False
        reason = self._rule.stops(trial)
        if reason is not None:
            self._trials.update(key, state="pruned", reason=reason, value=self._value(standing))
        return reason is not None

    def ended(self, trial: int, broke: str) -> str:
        """Say how a trial ended whose process is done with it; its state, `running` where it was interrupted."""
        key = self.model, trial
        if broke:
            self._trials.log(key, broke)
            self._failed[trial] = broke.splitlines()[-1].strip()
        standing = self._standings.get(trial) or self._nothing()
        if self._trials[key]["state"] == "running":
            if standing.finished.all():
                self._trials.update(key, state="complete", value=criterion(standing.scores))
            elif trial in self._failed:
                self._trials.update(key, state="failed", reason=self._failed[trial], value=None)
        return self._end(trial)

    def _end(self, trial: int) -> str:
        state = str(self._trials[self.model, trial]["state"])
        if state in ENDED:
            self._rule.ended(trial, state)
            self._tidy()
            self._reflect()
        return state

    # ---- what came out --------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether every trial that was asked for, or that is there to try, has ended."""
        enough = self.exhausted or len(self._rows()) >= self.settings.trials
        return enough and not self.states()["running"]

    def left(self) -> int:
        """How many trials are still to be begun or taken up, at most."""
        return len(self._to_resume) + max(0, self.settings.trials - len(self._rows()))

    def states(self) -> dict[str, int]:
        """How many trials are in each state."""
        states = [row["state"] for row in self._rows()]
        return {state: states.count(state) for state in TrialState}

    def best(self) -> dict[str, Any] | None:
        """The row of the complete trial that scored best, the first of equals."""
        complete = [row for row in self._rows() if row["state"] == "complete"]
        return max(complete, key=lambda row: row["value"], default=None)

    def value(self, trial: int) -> float | None:
        """What a trial scored, as far as it went; None before it finished a fold, or where it failed."""
        value = self._trials[self.model, trial]["value"]
        return None if value is None or value != value else float(value)

    def winner(self) -> Task | None:
        """The best setting as a cross-validation on all training patients, under the next free number.

        It trains for the median over folds of the epochs that its validation patients chose, with the
        schedule unscaled. None while the search goes on, or where no trial is complete.
        """
        best = self.best()
        if best is None or not self.over:
            return None
        settings = dict(self._points[best["trial"]])
        if self.base.validation is not None:
            rows = self.base.store.read_trial("epochs", TrialKey(self.model, best["trial"]), ["fold", "epoch", "split"])
            epochs = rows.to_pandas().query("split == 'test'")["epoch"] + 1
            settings["train.stop_after"] = int(np.floor(np.median(epochs) + 0.5))
        wanted = settings_row(self.base.as_trial(0, settings).study)
        same = [
            row for row in self._trials.of(self.model, "winner") if all(row[name] == wanted[name] for name in wanted)
        ]
        return Task(self.model, same[-1]["trial"] if same else self._trials.next_number(self.model), settings)

    # ---- what lies in the study folder ----------------------------------------------------------

    def _begin(self, first: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int | None]:
        """Write what this search is, or compare it with what the folder says. First settings, and default's trial."""
        study, store, search = self.base.study, self.base.store, self.settings
        here = {
            "protocol": search.protocol,
            "metric": search.metric,
            "scheduler": search.scheduler,
            "racing_alpha": search.racing_alpha,
            "asha_reduction": search.asha_reduction,
            "asha_grace": search.asha_grace,
            "sampler": search.sampler,
            "seed": search.seed,
            "inner_folds": search.inner_folds,
            "validation": _digest(self.base.validation),
            "space": self.space.as_json(),
            "base": to_dotted(study),
        }
        name = names.search_name(self.model)
        if store.exists(name):
            there = store.read_json(name)
            different = [field for field in here if there.get(field) != json.loads(json.dumps(here[field]))]
            if different:
                raise UserError(
                    *(f"{store.location}: {line}" for line in _differences(self.model, there, here, different))
                )
            begun = there
        else:
            begun = here | {
                "first_trial": self._trials.next_number(self.model),
                "first": [dict(point) for point in first],
            }
        points = list(begun["first"])
        default_trial = self._trial_of(self.space.default_of(study), points)
        special = {"default_trial": default_trial, "paper_trial": self._trial_of(self.space.paper_point(study), points)}
        store.write_json(name, begun | special | {"trials": search.trials})
        return points, default_trial

    def _trial_of(self, point: Mapping[str, Any] | None, first: Sequence[Mapping[str, Any]]) -> int | None:
        """The trial that has one of the first settings, or will have it; None where it is none of them."""
        if point not in first:
            return None
        place, rows = first.index(point), self._rows()
        if place < len(rows):
            return int(rows[place]["trial"])
        return self._trials.next_number(self.model) + place - len(rows)

    def _rows(self) -> list[dict[str, Any]]:
        return self._trials.of(self.model, "trial")

    def _history(self) -> list[Tried]:
        """All trials as the table has them, so that a search that is taken up again proposes the same."""
        history = []
        for number, row in enumerate(self._rows()):
            value = self.value(row["trial"]) if row["state"] != "failed" else None
            steps = ((self._step(row), value),) if value is not None else ()
            final = value if row["state"] in ("complete", "pruned") else None
            history.append(Tried(number, self._points[row["trial"]], row["state"], final, steps))
        return history

    def _reflect(self) -> None:
        """Bring Optuna's journal up to what the tables say."""
        self._mirror.update(self._history())
        if not self.base.store.is_local:
            self.base.store.write_bytes(names.optuna_name(self.model), self._journal.read_bytes())

    def _step(self, row: Mapping[str, Any]) -> int:
        """How far a trial is: folds done, or epochs where all folds advance together."""
        if self._rule.order == "by_fold":
            return int(row["folds_done"])
        standing = self._standings.get(row["trial"]) or self._nothing()
        return int(standing.epochs.min())

    def _value(self, standing: Standing) -> float | None:
        """What a trial is worth by what it has done so far."""
        if standing.finished.any():
            best = self.best()
            return fair_value(standing, self._standings[best["trial"]] if best is not None else None)
        judged = not np.isnan(standing.scores).all(axis=1).any()
        return criterion(standing.scores) if judged else None

    def _nothing(self) -> Standing:
        folds = self.base.num_folds
        scores = np.full((folds, self.number_of_patients), np.nan)
        return Standing(np.zeros(folds, dtype=np.int64), np.zeros(folds, dtype=bool), scores)

    def _recall(self, row: Mapping[str, Any]) -> None:
        """Take in what the tables say of a trial from before this run."""
        trial = int(row["trial"])
        point = self.space.default_of(study_of(row, self.base.study))
        if point is None:
            raise UserError(
                f"{self.base.store.location}: {self.model}'s trial {trial} has settings outside of its space"
            )
        self._points[trial] = point
        history = standings_of(self.base, trial)
        if history:
            self._standings[trial] = history[-1]
            for standing in history:
                self._rule.hear(trial, standing)
        if row["state"] in ENDED:
            self._rule.ended(trial, row["state"])

    def _tidy(self) -> None:
        """Keep weights and predictions only of the folds that they may be the best of; join ended trials' parts.

        Of a nested search those are each fold's best complete trial by its own validation patients, and
        whatever still runs. A search on the test folds keeps none: its winner is trained again.
        """
        store, folds = self.base.store, self.base.num_folds
        complete = [row["trial"] for row in self._rows() if row["state"] == "complete"]
        keep: set[tuple[int, int]] = set()
        if complete and self.base.validation is not None:
            values = np.array([np.nanmean(self._standings[trial].scores, axis=1) for trial in complete])
            keep = {(complete[winner], fold) for fold, winner in enumerate(values.argmax(axis=0))}
        ended = {row["trial"] for row in self._rows() if row["state"] in ENDED}
        for trial in ended - self._tidied:
            store.finish_trial(TrialKey(self.model, trial), folds, ("epochs", "scores"))
            self._kept |= {(trial, fold) for fold in range(folds)}
        for trial, fold in self._kept - keep:
            store.delete(names.checkpoint_name(self.model, trial, fold))
            store.delete(names.checkpoint_before_name(self.model, trial, fold))
            store.delete(names.part_name("predictions", TrialKey(self.model, trial).part(fold)))
        self._tidied, self._kept = ended, keep


def standings_of(run: CrossValidation, trial: int) -> list[Standing]:
    """A trial's standings from the tables, one for each epoch of its furthest fold; none before the first score."""
    split = "test" if run.validation is None else "validation"
    columns = ["fold", "epoch", "patient_id", "split", "tp", "fp", "fn", "tn"]
    rows = run.store.read_trial("scores", TrialKey(run.model, trial), columns).to_pandas()
    tested = set(rows.loc[rows["split"] == "test", "fold"])
    rows = rows[rows["split"] == split]
    if rows.empty:
        return []
    patients = rows["patient_id"].map(run.patient_number).to_numpy(np.int64)
    metric, total = run.study.search.metric, len(run.patient_number)
    scores: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
    for (fold, epoch), places in rows.reset_index(drop=True).groupby(["fold", "epoch"]).indices.items():
        counts = rows[["tp", "fp", "fn", "tn"]].to_numpy()[places]
        scores[fold, epoch] = patient_scores(metric, counts, patients[places], total)
    last = {fold: max(epoch for other, epoch in scores if other == fold) for fold, _ in scores}
    standing = Standing(
        np.zeros(run.num_folds, np.int64), np.zeros(run.num_folds, bool), np.full((run.num_folds, total), np.nan)
    )
    history = []
    for epoch in range(max(last.values()) + 1):
        cells = [
            {
                "fold": fold,
                "epoch": epoch,
                "finished": fold in tested and epoch == last[fold],
                "scores": scores[fold, epoch] if _better(scores.get((fold, epoch)), standing.scores[fold]) else None,
            }
            for fold in last
            if epoch <= last[fold]
        ]
        standing = _with_cells(standing, cells)
        history.append(standing)
    return history


def _better(now: npt.NDArray[np.float64] | None, before: npt.NDArray[np.float64]) -> bool:
    """Whether an epoch's scores beat the best ones so far, as the fold itself judges."""
    return now is not None and bool(np.isnan(before).all() or np.nanmean(now) > np.nanmean(before))


def _with_cells(standing: Standing, cells: Sequence[Mapping[str, Any]]) -> Standing:
    """A trial's standing after some folds have reported."""
    epochs, finished, scores = standing.epochs.copy(), standing.finished.copy(), standing.scores.copy()
    for cell in cells:
        fold = cell["fold"]
        epochs[fold] = max(epochs[fold], cell["epoch"] + 1)
        finished[fold] |= cell["finished"]
        if cell["scores"] is not None:
            scores[fold] = cell["scores"]
    return Standing(epochs, finished, scores)


def _digest(validation: npt.NDArray[np.bool_] | None) -> str:
    """Tells who validates in which fold apart; empty where the test folds judge."""
    return "" if validation is None else hashlib.sha256(np.packbits(validation).tobytes()).hexdigest()[:16]


def _differences(model: str, there: Mapping[str, Any], here: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    lines = []
    for field in fields:
        if field == "base":
            before, now = there.get("base", {}), here["base"]
            lines += [
                f"{model} was begun with other settings: {name} was {before.get(name)} and is {now[name]}"
                for name in now
                if before.get(name) != now[name]
            ]
        elif field == "validation":
            lines.append(
                f"{model}'s search was begun with other validation patients; set folds.seed, folds.stratify and the "
                "columns that it names back, or choose another --out"
            )
        elif field == "space":
            lines.append(f"{model}'s search was begun with another space; take that file again, or another --out")
        else:
            changed = f"search.{field} was {there.get(field)} and is {here[field]}"
            lines.append(f"{model}'s {changed}; set it back, or choose another --out")
    return lines
