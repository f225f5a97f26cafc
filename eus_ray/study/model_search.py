"""The search of one architecture: which trial is next, which is stopped, what is kept, and the winner.

Everything that it knows is in the study folder: `trials.parquet` has each trial's settings and state, `scores` its
patients' scores, `search/<model>.json` what the search is. A search that was killed is read back from there, and
proposes what it would have proposed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eus_ray import store as names
from eus_ray.config import Order, to_dotted
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.tune_driver import TrialSpec
from eus_ray.errors import UserError
from eus_ray.metrics import criterion, patient_scores
from eus_ray.search.optuna_journal import OptunaJournal
from eus_ray.search.pruners import make_pruner
from eus_ray.search.samplers import Tried, propose
from eus_ray.search.space import Space
from eus_ray.search.standings import Standing, fair_value, standing_after
from eus_ray.store import TrialKey, TrialKind, TrialRecord, TrialState
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import SearchUpdate
from eus_ray.study.trials import Trials, different_settings, settings_row, study_of


class ModelSearch:
    """Begin, or go on with, the search of one architecture in a study folder that this run holds.

    Args:
        run: The base of its trials.
        trials: The study's.
        space: What is searched.
        first: Settings that are tried first.
        scratch: A folder of this machine. Optuna's journal is a file on a disk: that of a study on an object store
            lies there, and is uploaded.

    Raises:
        UserError: If the folder has another search of this model.
    """

    def __init__(
        self, run: CrossValidation, trials: Trials, space: Space, first: Sequence[Mapping[str, Any]], scratch: Path
    ) -> None:
        self.model, self.base, self._trials, self.space = run.model, run, trials, space
        self.settings = run.study.search
        self.first, self.default_trial = self._begin(first)
        self._pruner = make_pruner(self.settings, run.study.train.epochs_to_train)
        self._standings: dict[int, Standing] = {}
        self._points: dict[int, dict[str, Any]] = {}
        self._tidied: set[int] = set()
        self._kept: set[tuple[int, int]] = set()
        """Trials and folds whose weights and predictions are still there."""
        self._is_exhausted = False
        on_disk = Path(run.store.path(names.optuna_name(self.model)))
        self._journal = on_disk if run.store.is_local else scratch / f"{self.model}.log"
        self._optuna = OptunaJournal(self._journal, self.model, space)
        for record in self._records():
            self._recall(record)
        self._tidy()
        self._reflect()
        self._to_resume = [record.trial for record in self._records() if not record.state.is_finished]

    # ---- what the driver asks -------------------------------------------------------------------

    def next(self) -> TrialSpec | None:
        """Return the next trial; None if all that were asked for have begun, or nothing new is left."""
        while self._to_resume:
            trial = self._to_resume.pop(0)
            if not self._stops(trial):
                return TrialSpec(self._key(trial), self._points[trial])
            self._end(trial)  # it was killed before it heard so
        number = len(self._records())
        if number >= self.settings.trials or self._is_exhausted:
            return None
        params = propose(self.space, self.settings, self.first, number, self._history())
        if params is None:
            self._is_exhausted = True
            return None
        trial = self._trials.next_number(self.model)  # a winner, or another run, may have taken the one after the last
        self._points[trial] = params
        self._trials.begin(self._key(trial), TrialKind.TRIAL, self.base.as_trial(trial, params).study)
        self._reflect()
        return TrialSpec(self._key(trial), params)

    def on_reports(self, trial: int, reports: Sequence[FoldReport], note: str = "") -> bool:
        """Log and take in what the folds of a trial report; return whether to stop the trial.

        The folds of a trial with an error are not stopped: they save what they have and leave by themselves.
        """
        self._trials.report(self._key(trial), reports, note)
        self._standings[trial] = standing_after(self._standing(trial), reports)
        self._pruner.hear(trial, self._standings[trial])
        return self._key(trial) not in self._trials.errors and self._stops(trial)

    def _stops(self, trial: int) -> bool:
        """Write down how far a running trial is, and whether the pruner stops it."""
        key, standing = self._key(trial), self._standing(trial)
        if (done := int(standing.finished.sum())) > self._trials[key].folds_done:
            self._trials.update(key, folds_done=done, value=self._value(standing))
        if standing.finished.all() or trial == self.default_trial:
            return False
        if (reason := self._pruner.stops(trial)) is not None:
            self._trials.update(key, state=TrialState.PRUNED, reason=reason, value=self._value(standing))
        return reason is not None

    def on_process_end(self, trial: int) -> None:
        """Write how a trial ended whose process is done with it; it stays `running` if it was interrupted."""
        key, standing = self._key(trial), self._standing(trial)
        if not self._trials[key].state.is_finished:
            if standing.finished.all():
                self._trials.update(key, state=TrialState.COMPLETE, value=criterion(standing.scores))
            elif key in self._trials.errors:
                self._trials.update(key, state=TrialState.FAILED, reason=self._trials.errors[key], value=None)
        self._end(trial)

    def _end(self, trial: int) -> None:
        state = self._trials[self._key(trial)].state
        if state.is_finished:
            self._pruner.end(trial, state)
            self._tidy()
            self._reflect()

    # ---- what came out --------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether every trial that was asked for, or that is there to try, has ended."""
        records = self._records()
        enough = self._is_exhausted or len(records) >= self.settings.trials
        return enough and all(record.state.is_finished for record in records)

    def num_left(self) -> int:
        """Return how many trials are still to be begun or taken up, at most."""
        return len(self._to_resume) + max(0, self.settings.trials - len(self._records()))

    def update(self) -> SearchUpdate:
        """Return how far the search is."""
        states = {**dict.fromkeys(TrialState, 0), **Counter(record.state for record in self._records())}
        return SearchUpdate(self.model, self.settings.metric, self.settings.trials, states, self.best())

    def best(self) -> TrialRecord | None:
        """Return the complete trial that scored best, the first of equals; None before one is complete."""
        return max(self._complete(), key=lambda record: record.value, default=None)  # type: ignore[arg-type, return-value]

    def winner(self) -> TrialSpec | None:
        """Return the best setting as a cross-validation on all training patients, under the next free number.

        It trains for the median over folds of the epochs that its validation patients chose, with the schedule
        unscaled. None while the search goes on, or if no trial is complete.
        """
        best = self.best()
        if best is None or not self.is_over:
            return None
        settings = dict(self._points[best.trial])
        if self.base.validation is not None:
            rows = self.base.store.read_trial("epochs", best.key, ["fold", "epoch", "split"])
            epochs = rows.to_pandas().query("split == 'test'")["epoch"] + 1
            settings["train.stop_after"] = int(np.floor(np.median(epochs) + 0.5))
        wanted = settings_row(self.base.as_trial(0, settings).study)
        same = [
            record
            for record in self._trials.of(self.model, TrialKind.WINNER)
            if not different_settings(record.settings, wanted)
        ]
        return TrialSpec(same[-1].key if same else self._key(self._trials.next_number(self.model)), settings)

    # ---- what lies in the study folder ----------------------------------------------------------

    def _begin(self, first: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int | None]:
        """Write what this search is, or compare it with what is there; the first settings, and the default's trial."""
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
            begun = store.read_json(name)
            different = [field for field in here if begun.get(field) != json.loads(json.dumps(here[field]))]
            if different:
                raise UserError(
                    *(f"{store.location}: {line}" for line in _differences(self.model, begun, here, different))
                )
        else:
            begun = here | {
                "first_trial": self._trials.next_number(self.model),
                "first": [dict(point) for point in first],
            }
        points = list(begun["first"])
        special = {
            "default_trial": self._trial_of(self.space.default_of(study), points),
            "paper_trial": self._trial_of(self.space.paper_point(study), points),
        }
        store.write_json(name, begun | special | {"trials": search.trials})
        return points, special["default_trial"]

    def _trial_of(self, point: Mapping[str, Any] | None, first: Sequence[Mapping[str, Any]]) -> int | None:
        """The trial that has one of the first settings, or will have it; None if it is none of them."""
        if point not in first:
            return None
        place, records = first.index(point), self._records()
        if place < len(records):
            return records[place].trial
        return self._trials.next_number(self.model) + place - len(records)

    def _key(self, trial: int) -> TrialKey:
        return TrialKey(self.model, trial)

    def _records(self) -> list[TrialRecord]:
        return self._trials.of(self.model, TrialKind.TRIAL)

    def _complete(self) -> list[TrialRecord]:
        return [record for record in self._records() if record.state is TrialState.COMPLETE]

    def _history(self) -> list[Tried]:
        """All trials as the table has them, so that a search that is taken up again proposes the same."""
        history = []
        for number, record in enumerate(self._records()):
            value = record.value if record.state is not TrialState.FAILED else None
            steps = ((self._step(record), value),) if value is not None else ()
            final = value if record.state.is_finished else None
            history.append(Tried(number, self._points[record.trial], record.state, final, steps))
        return history

    def _reflect(self) -> None:
        """Bring Optuna's journal up to what the tables say."""
        self._optuna.update(self._history())
        if not self.base.store.is_local:
            self.base.store.write_bytes(names.optuna_name(self.model), self._journal.read_bytes())

    def _step(self, record: TrialRecord) -> int:
        """How far a trial is: folds done, or epochs if all folds advance together."""
        if self._pruner.order is Order.BY_FOLD:
            return record.folds_done
        return int(self._standing(record.trial).epochs.min())

    def _value(self, standing: Standing) -> float | None:
        """The worth of a trial by what it has done so far."""
        if standing.finished.any():
            best = self.best()
            return fair_value(standing, self._standings[best.trial] if best is not None else None)
        is_judged = not np.isnan(standing.scores).all(axis=1).any()
        return criterion(standing.scores) if is_judged else None

    def _standing(self, trial: int) -> Standing:
        return self._standings.get(trial) or Standing.before(self.base.num_folds, len(self.base.patient_number))

    def _recall(self, record: TrialRecord) -> None:
        """Take in what the tables say of a trial from before this run."""
        trial = record.trial
        where = f"{self.base.store.location}, {self.model}'s trial {trial}"
        point = self.space.default_of(study_of(record.settings, self.base.study, where))
        if point is None:
            raise UserError(f"{where}: has settings outside of its space")
        self._points[trial] = point
        for standing in standings_of(self.base, trial):
            self._standings[trial] = standing
            self._pruner.hear(trial, standing)
        if record.state.is_finished:
            self._pruner.end(trial, record.state)

    def _tidy(self) -> None:
        """Keep weights and predictions only of folds that they may be the best of; join the parts of ended trials.

        In a nested search those are each fold's best complete trial by its own validation patients, and whatever still
        runs. A search on the test folds keeps none: its winner is trained again.
        """
        store, folds = self.base.store, self.base.num_folds
        complete = [record.trial for record in self._complete()]
        keep: set[tuple[int, int]] = set()
        if complete and self.base.validation is not None:
            values = np.array([np.nanmean(self._standings[trial].scores, axis=1) for trial in complete])
            keep = {(complete[winner], fold) for fold, winner in enumerate(values.argmax(axis=0))}
        ended = {record.trial for record in self._records() if record.state.is_finished}
        for trial in ended - self._tidied:
            store.finish_trial(self._key(trial), folds, ("epochs", "scores"))
            self._kept |= {(trial, fold) for fold in range(folds)}
        for trial, fold in self._kept - keep:
            store.delete(names.checkpoint_name(self.model, trial, fold))
            store.delete(names.checkpoint_before_name(self.model, trial, fold))
            store.delete(names.part_name("predictions", self._key(trial).part(fold)))
        self._tidied, self._kept = ended, keep


def standings_of(run: CrossValidation, trial: int) -> list[Standing]:
    """Read a trial's standings from the tables: one for each epoch of its furthest fold, none before a score."""
    split = "test" if run.validation is None else "validation"
    columns = ["fold", "epoch", "patient_id", "split", "tp", "fp", "fn", "tn"]
    rows = run.store.read_trial("scores", TrialKey(run.model, trial), columns).to_pandas()
    tested = set(rows.loc[rows["split"] == "test", "fold"])
    rows = rows[rows["split"] == split].reset_index(drop=True)
    if rows.empty:
        return []
    patients = rows["patient_id"].map(run.patient_number).to_numpy(np.int64)
    metric, total = run.study.search.metric, len(run.patient_number)
    counts = rows[["tp", "fp", "fn", "tn"]].to_numpy()
    scores: dict[tuple[int, int], npt.NDArray[np.float64]] = {
        fold_and_epoch: patient_scores(metric, counts[places], patients[places], total)
        for fold_and_epoch, places in rows.groupby(["fold", "epoch"]).indices.items()
    }
    last = {fold: max(epoch for other, epoch in scores if other == fold) for fold, _ in scores}
    standing = Standing.before(run.num_folds, total)
    history = []
    for epoch in range(max(last.values()) + 1):
        reports = [
            FoldReport(
                fold=fold,
                epoch=epoch,
                loss=np.nan,
                train_dsc=np.nan,
                monitor_split=split,
                monitor_dsc=None,
                finished=fold in tested and epoch == last[fold],
                patient_scores=_if_better(scores.get((fold, epoch)), standing.scores[fold]),
            )
            for fold in last
            if epoch <= last[fold]
        ]
        standing = standing_after(standing, reports)
        history.append(standing)
    return history


def _if_better(now: npt.NDArray[np.float64] | None, before: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """An epoch's scores if they beat the best ones so far, as the fold itself judges; else None."""
    is_better = now is not None and (np.isnan(before).all() or np.nanmean(now) > np.nanmean(before))
    return now if is_better else None


def _digest(validation: npt.NDArray[np.bool_] | None) -> str:
    """A checksum of who validates in which fold; empty if the test folds judge."""
    return "" if validation is None else hashlib.sha256(np.packbits(validation).tobytes()).hexdigest()[:16]


def _differences(model: str, there: Mapping[str, Any], here: Mapping[str, Any], fields: Sequence[str]) -> Iterator[str]:
    """Say of each field of a search that differs what it was and is."""
    for field in fields:
        if field == "base":
            before, now = there.get("base", {}), here["base"]
            yield from (
                f"{model} was begun with other settings: {name} was {before.get(name)} and is {now[name]}"
                for name in now
                if before.get(name) != now[name]
            )
        elif field == "validation":
            yield (
                f"{model}'s search was begun with other validation patients; set folds.seed, folds.stratify and the "
                "columns that it names back, or choose another output folder"
            )
        elif field == "space":
            yield (
                f"{model}'s search was begun with another space; take that file again, or choose another output folder"
            )
        else:
            yield (
                f"{model}'s search.{field} was {there.get(field)} and is {here[field]}; "
                "set it back, or choose another output folder"
            )
