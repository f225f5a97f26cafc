"""What the workers of one cross-validation do: one Ray Train run is one whole cross-validation.

Worker `rank` trains the folds f with f % world_size == rank. A fold is a file and not a rank: each keeps
its own checkpoint and its own rows in the study folder, so a run goes on with any number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed

from eus_ray import store as names
from eus_ray.config import Study
from eus_ray.data.arrays import decode_mask
from eus_ray.fold import Fold, FoldData, Record, TrainingFailed, prepare_process
from eus_ray.scores import patient_scores
from eus_ray.store import PARTS, Store
from eus_ray.study_file import with_settings
from eus_ray.team import Team

REPEAT = 0


class Superseded(Exception):
    """Another run holds the study folder now; this one must not write any more."""


def _machine_will_leave() -> bool:
    """Whether the cluster has announced that a machine of this group will be taken away, as a spot machine is.

    Then Ray starts the whole group anew. Its own question, `ray.train.get_preemption_info`, waits until all workers ask
    it equally often, and folds end at different times.
    """
    from ray.train.v2._internal.execution.context import get_train_context

    try:
        return get_train_context().preemption_context.preemption_info is not None
    except RuntimeError:  # in the trial's own process: no group, nobody who watches
        return False


@dataclass(frozen=True)
class CrossValidation:
    """One cross-validation, as it travels to its workers: settings, folds and where things are.

    `study` is one architecture's (`Study.for_model`). `folds` `(N,)` is each image's; `validation`
    `(K, N)` bool says which images fold k sets aside of those that it would train on. `arrays` is a
    reference to `(images, masks)` in Ray's object store, or a folder with memory-mapped files of them
    and how to make them.
    """

    study: Study
    model: str
    trial: int
    store: Store
    token: str
    folds: npt.NDArray[np.int64]
    image_ids: list[str]
    patient_ids: list[str]
    arrays: Any
    order: Literal["abreast", "by_fold"] = "abreast"
    kind: str = "fixed"
    validation: npt.NDArray[np.bool_] | None = None

    def as_trial(self, trial: int, settings: Mapping[str, Any]) -> CrossValidation:
        """The same cross-validation under another number, with other settings."""
        study = with_settings(self.study, settings, f"{self.model}, trial {trial}")
        return replace(self, trial=trial, study=study)

    @cached_property
    def patient_number(self) -> dict[str, int]:
        """Each patient's place in arrays of patients' scores: sorted by patient_id."""
        return {patient: number for number, patient in enumerate(sorted(set(self.patient_ids)))}

    @property
    def num_folds(self) -> int:
        return int(self.folds.max()) + 1

    def data(self, fold: int, images: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8]) -> FoldData:
        """What fold `fold` sees: it is tested on its own images and trained on all others but its validation's."""
        test = self.folds == fold
        validation = np.zeros_like(test) if self.validation is None else self.validation[fold]
        truth_of = None
        if self.study.evaluate.grid == "original":
            truth_of = CaseTruths(self.store, self.image_ids, np.flatnonzero(test | validation))
        return FoldData(
            fold=fold,
            images=images,
            masks=masks,
            train=np.flatnonzero(~(test | validation)),
            validation=np.flatnonzero(validation),
            test=np.flatnonzero(test),
            image_ids=self.image_ids,
            patient_ids=self.patient_ids,
            truth_of=truth_of,
        )

    def steps(self, rank: int, world_size: int, gpus: float, team_size: int = 1) -> Iterator[list[dict[str, Any]]]:
        """Train the folds of worker `rank`, an epoch of those that go together a step; their cells.

        A worker that was given no GPU leaves those of its machine alone. With `team_size` above 1 so many workers of
        consecutive ranks train a fold together, and the first of them reports it.

        All workers take equally many steps, with no cells where a worker has no fold left, and leave
        together when a fold fails or the run is asked to stop.
        """
        device = ray.train.torch.get_device() if gpus else torch.device("cpu")
        prepare_process(self.study, device)
        images, masks = ray.get(self.arrays) if isinstance(self.arrays, ray.ObjectRef) else self.arrays()
        team, place, places = _team(rank, world_size, team_size)
        mine = [fold for fold in range(self.num_folds) if fold % places == place]
        if self.order == "abreast":
            together = [mine]
        else:
            together = [mine[number : number + 1] for number in range(-(-self.num_folds // places))]
        for numbers in together:
            data = [self.data(number, images, masks) for number in numbers]
            if not (yield from _advance(self, data, device, team)):
                return


class CaseTruths:
    """The truths of a fold's judged images on the evaluation grid, from the study folder's `cases`."""

    def __init__(self, store: Store, image_ids: list[str], rows: npt.NDArray[np.int64]) -> None:
        self._store, self._image_ids, self._rows = store, image_ids, rows
        self._png: dict[str, bytes] = {}

    def __call__(self, row: int) -> npt.NDArray[np.uint8]:
        if not self._png:
            wanted = pa.array([self._image_ids[row] for row in self._rows])
            table = self._store.read_table(names.CASES_FILE, ["image_id", "truth"])
            table = table.filter(pa.compute.is_in(table["image_id"], wanted))
            self._png = dict(zip(table["image_id"].to_pylist(), table["truth"].to_pylist(), strict=True))
        return decode_mask(self._png[self._image_ids[row]])


class FoldOnDisk:
    """A fold with its files: loaded where it was left, saved when it is time."""

    def __init__(self, run: CrossValidation, data: FoldData, device: torch.device, team: Team | None = None) -> None:
        self._run, self._record, self._team = run, Record(), team
        self._saved = time.monotonic()
        self.number = data.fold
        self.note = ""
        self._fold = self._load(data, device)
        if self.leads:
            self._restore_rows()

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._fold.epoch

    @property
    def leads(self) -> bool:
        """Whether this process scores and saves the fold."""
        return self._team is None or self._team.leads

    def advance(self, epoch: int) -> dict[str, Any]:
        """Train epoch `epoch` unless it is done already; what the folds' report says of this fold.

        The last epoch also evaluates and saves. A fold that fails says so and stays where it is.
        """
        began, wall = time.perf_counter(), time.time()
        if epoch >= self._fold.epoch:
            try:
                self._record.epochs.append(self._fold.train_epoch())
                if self.leads and len(self._fold.data.validation):
                    self._record.epochs.append(self._fold.validate(self._record))
                if self.leads and self._fold.finished:
                    self._record.epochs.append(self._fold.evaluate(self._record))
            except TrainingFailed as error:
                return {**self._cell(epoch, wall, began), "failed": str(error)}
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if self._team is not None:
                    raise  # the others of the team wait for this process: the group must start again
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                    raise
                where = f"fold {self.number}, epoch {epoch}"
                failed = f"out of memory in {where}; a smaller train.batch_size or network may help"
                return {**self._cell(epoch, wall, began), "failed": failed}
            interval_s = self._run.study.run.checkpoint_interval_s
            due = time.monotonic() - self._saved >= interval_s
            if self.leads and (self._fold.finished or due or _machine_will_leave()):
                self.save()
        return self._cell(epoch, wall, began)

    def _cell(self, epoch: int, wall: float, began: float) -> dict[str, Any]:
        """What the driver hears of this fold. Where there are validation patients it hears nothing of the test's."""
        rows = {row["split"]: row for row in self._record.epochs if row["epoch"] <= epoch or row["split"] == "test"}
        judged = "validation" if len(self._fold.data.validation) else "test"
        train = rows.get("train", {"loss": float("nan"), "dsc": float("nan")})
        cell = {
            "fold": self.number,
            "epoch": epoch,
            "started": wall,
            "ended": wall + time.perf_counter() - began,
            "loss": train["loss"],
            "dsc": train["dsc"],
            "judged": judged,
            "judged_dsc": rows[judged]["dsc"] if judged in rows else None,
            "finished": self._fold.finished,
            "scores": self._scores(judged),
            "failed": "",
            "note": self.note,
        }
        self.note = ""
        return cell

    def _scores(self, split: str) -> npt.NDArray[np.float64] | None:
        """Each patient's score `(P,)` at the best epoch so far, NaN for those not judged here; None before any."""
        epoch = self._fold.best_epoch if split == "validation" else self._fold.epoch - 1
        rows = [row for row in self._record.scores if row["split"] == split and row["epoch"] == epoch]
        if not rows:
            return None
        patients = np.array([self._run.patient_number[row["patient_id"]] for row in rows])
        tp_fp_fn_tn = np.array([[row[name] for name in ("tp", "fp", "fn", "tn")] for row in rows])
        metric = self._run.study.search.metric
        return patient_scores(metric, tp_fp_fn_tn, patients, len(self._run.patient_number))

    def _key(self) -> tuple[str, int, int, int]:
        return self._run.model, self._run.trial, REPEAT, self.number

    def save(self) -> None:
        """Rows first, then the checkpoint, which has them too; the checkpoint before stays until the fold is done."""
        if not self._run.store.is_held_by(self._run.token):
            raise Superseded(f"another run holds {self._run.store.location}")
        key = dict(zip(("model", "trial", "repeat", "fold"), self._key(), strict=True))
        for table in PARTS:
            rows = getattr(self._record, table)
            if rows:
                schema = PARTS[table]
                columns = {name: [key[name] if name in key else row[name] for row in rows] for name in schema.names}
                self._run.store.write_part(table, *self._key(), pa.table(columns, schema=schema))
        current, before = self._checkpoints()
        if self._run.store.exists(current):
            self._run.store.move(current, before)
        self._run.store.write_bytes(current, self._fold.state(self._record))
        if self._fold.finished:
            self._run.store.delete(before)
        self._saved = time.monotonic()

    def _checkpoints(self) -> tuple[str, str]:
        key = self._run.model, self._run.trial, self.number
        return names.checkpoint_name(*key), names.checkpoint_before_name(*key)

    def _load(self, data: FoldData, device: torch.device) -> Fold:
        """The fold as its newest sound checkpoint has it, with that checkpoint's rows as its record."""
        store, notes = self._run.store, []
        for name in self._checkpoints():
            if not store.exists(name):
                continue
            try:
                fold = Fold(self._run.study, data, device, store.read_bytes(name), self._team)
            except ValueError as error:
                notes.append(f"{name} is {error}")
                continue
            self._record = fold.restored
            self.note = "; ".join([*notes, f"fold {self.number} goes on after epoch {fold.epoch - 1}"] if notes else [])
            return fold
        self.note = "; ".join([*notes, f"fold {self.number} starts again from its first epoch"] if notes else [])
        return Fold(self._run.study, data, device, team=self._team)

    def _restore_rows(self) -> None:
        """Where a finished fold's rows were lost, its weights give them again."""
        if self._fold.finished and not all(self._run.store.read_part(table, *self._key()).num_rows for table in PARTS):
            for rows in (self._record.epochs, self._record.scores):
                rows[:] = [row for row in rows if row["split"] != "test"]
            self._record.epochs.append(self._fold.evaluate(self._record))
            self.save()


def train_folds(config: dict[str, Any]) -> None:
    """What each worker of a group does."""
    run: CrossValidation = config["run"]
    context = ray.train.get_context()
    ranks = context.get_world_rank(), context.get_world_size()
    for cells in run.steps(*ranks, config["gpus"], config["team_size"]):
        ray.train.report({"cells": cells})


def _team(rank: int, world_size: int, team_size: int) -> tuple[Team | None, int, int]:
    """This worker's team, which of the places for folds it has, and how many places there are."""
    if team_size == 1:
        return None, rank, world_size
    places, place = world_size // team_size, rank // team_size
    members = [list(range(place * team_size, (place + 1) * team_size)) for place in range(places)]
    groups: list[Any] = [torch.distributed.new_group(ranks) for ranks in members]  # all workers make all groups
    return Team(rank % team_size, team_size, groups[place]), place, places


def _advance(
    run: CrossValidation, data: list[FoldData], device: torch.device, team: Team | None = None
) -> Generator[list[dict[str, Any]], None, bool]:
    """Train some folds abreast to their end; False where all workers are to leave before it."""
    folds = [FoldOnDisk(run, each, device, team) for each in data]
    epochs = run.study.train.stop_after or run.study.train.epochs
    begin = _least(min((fold.epoch for fold in folds), default=epochs))
    for epoch in range(min(begin, epochs - 1), epochs):
        cells = [fold.advance(epoch) for fold in folds]
        yield [cell for fold, cell in zip(folds, cells, strict=True) if fold.leads]
        failed = any(cell["failed"] for cell in cells)
        if _least(-int(failed or run.store.stop_is_wanted(run.token))) < 0:
            for fold, cell in zip(folds, cells, strict=True):
                if fold.leads and not cell["failed"] and run.store.is_held_by(run.token):
                    fold.save()
            return False
    return True


def _least(value: int) -> int:
    """The least of all workers' values."""
    if not torch.distributed.is_initialized():
        return value
    shared = torch.tensor(value)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MIN)
    return int(shared)


def folds_done(store: Store, model: str, trial: int) -> int:
    """How many folds of a trial have their test rows in the study folder."""
    rows = store.read_trial("epochs", model, trial, REPEAT, ["fold", "split"]).to_pandas()
    return int(rows.loc[rows["split"] == "test", "fold"].nunique())
