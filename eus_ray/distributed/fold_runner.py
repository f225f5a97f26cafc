"""A fold and its files: its checkpoints and its rows in the study folder."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from eus_ray import store as names
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.metrics import patient_scores
from eus_ray.store import PARTS, PartKey, TrialKey
from eus_ray.training.ddp import Team
from eus_ray.training.fold import Fold, FoldData, Record, TrainingFailed


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


class FoldOnDisk:
    """A fold with its files: loaded where it was left, saved when it is time."""

    def __init__(self, run: CrossValidation, data: FoldData, device: torch.device, team: Team | None = None) -> None:
        self._run, self._record, self._team = run, Record(), team
        self._unsaved_s = 0.0
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
            self._unsaved_s += time.perf_counter() - began
            due = self._unsaved_s >= self._run.study.run.checkpoint_interval_s
            if self.leads and (self._fold.finished or due or _machine_will_leave()):
                self.save()
            elif self.leads and self._run.kind == "trial" and self._run.order == "abreast":
                self._write_rows()  # its rule may end the trial here, and must know of it when the search is resumed
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

    def _key(self) -> PartKey:
        return TrialKey(self._run.model, self._run.trial).part(self.number)

    def save(self) -> None:
        """Write rows, then the checkpoint; the checkpoint before stays until the fold is finished."""
        self._write_rows()
        current, before = self._checkpoints()
        if self._run.store.exists(current):
            self._run.store.move(current, before)
        # a power cut that takes an unfinished fold's newest checkpoint leaves the one before
        self._run.store.write_bytes(current, self._fold.state(self._record), durable=self._fold.finished)
        if self._fold.finished:
            self._run.store.delete(before)
        self._unsaved_s = 0.0

    def _write_rows(self) -> None:
        if not self._run.store.is_held_by(self._run.token):
            raise Superseded(f"another run holds {self._run.store.location}")
        key = self._key()._asdict()
        for table in PARTS:
            rows = getattr(self._record, table)
            if rows:
                schema = PARTS[table]
                columns = {name: [key[name] if name in key else row[name] for row in rows] for name in schema.names}
                self._run.store.write_part(table, self._key(), pa.table(columns, schema=schema))

    def _checkpoints(self) -> tuple[str, str]:
        key = self._run.model, self._run.trial, self.number
        return names.checkpoint_name(*key), names.checkpoint_before_name(*key)

    def _load(self, data: FoldData, device: torch.device) -> Fold:
        """Return the fold as its newest sound checkpoint has it, and set its record."""
        store, notes = self._run.store, []
        for name in self._checkpoints():
            if not store.exists(name):
                continue
            try:
                fold = Fold(self._run.study, data, device, store.read_bytes(name), self._team)
            except ValueError as error:
                notes.append(f"{name} is {error}")
                continue
            record = fold.restored if fold.restored.epochs or not fold.finished else self._stored_record()
            if fold.finished and not _has_training_rows(record, fold):
                notes.append(f"{name} is finished, and rows of its epochs are lost")
                continue
            self._record = record
            self.note = "; ".join([*notes, f"fold {self.number} goes on after epoch {fold.epoch - 1}"] if notes else [])
            return fold
        self.note = "; ".join([*notes, f"fold {self.number} starts again from its first epoch"] if notes else [])
        return Fold(self._run.study, data, device, team=self._team)

    def _stored_record(self) -> Record:
        """Return the fold's rows in the study folder: a finished checkpoint holds none."""
        epochs, scores = (
            self._run.store.read_part(table, self._key()).drop_columns(list(PartKey._fields)).to_pylist()
            for table in ("epochs", "scores")
        )
        return Record(epochs, scores)

    def _restore_rows(self) -> None:
        """Evaluate a finished fold again if rows of its test images are lost."""
        if self._fold.finished and not all(self._run.store.read_part(table, self._key()).num_rows for table in PARTS):
            for rows in (self._record.epochs, self._record.scores):
                rows[:] = [row for row in rows if row["split"] != "test"]
            self._record.epochs.append(self._fold.evaluate(self._record))
            self.save()


def _has_training_rows(record: Record, fold: Fold) -> bool:
    """Whether a finished fold's record has all rows that its weights cannot give again."""
    num_validation = len(fold.data.validation)
    num_epochs = sum(row["split"] != "test" for row in record.epochs)
    num_scores = sum(row["split"] != "test" for row in record.scores)
    return num_epochs == fold.epochs * (2 if num_validation else 1) and num_scores == fold.epochs * num_validation
