"""A fold and its files: its checkpoints and its rows in the study folder."""

from __future__ import annotations

import logging
import time

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from eus_ray import store as names
from eus_ray.config import Order
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.ray_private import is_preemption_announced
from eus_ray.metrics import patient_scores
from eus_ray.store import PARTS, PartKey, TrialKind
from eus_ray.store.event_log import FoldReport
from eus_ray.store.lock import is_held_by
from eus_ray.training.ddp import Team
from eus_ray.training.fold import DivergedError, Fold, FoldData
from eus_ray.training.records import Record

_log = logging.getLogger(__name__)


class LockLostError(Exception):
    """Another run holds the study folder now; this one must not write any more."""


class FoldOnDisk:
    """A fold with its files: loaded as it was left, saved when it is time.

    Args:
        run: The cross-validation that it belongs to.
        data: What the fold sees.
        device: What it computes on.
        team: The processes that train it together; None if this one does alone.
    """

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
        return self._team is None or self._team.is_leader

    def advance(self, epoch: int) -> FoldReport:
        """Train an epoch unless it is done already, and return the fold's report.

        The last epoch also evaluates the fold and saves it. A fold that fails says so and stays where it is.

        Args:
            epoch: Counts from 0.
        """
        start, started = time.perf_counter(), time.time()
        if epoch < self._fold.epoch:
            return self._report(epoch, started, start)
        try:
            self._record.epochs.append(self._fold.train_epoch())
            if self.leads and len(self._fold.data.validation):
                self._record.epochs.append(self._fold.validate(self._record))
            if self.leads and self._fold.is_finished:
                self._record.epochs.append(self._fold.evaluate(self._record))
        except DivergedError as error:
            return self._report(epoch, started, start, str(error))
        except RuntimeError as error:
            is_out_of_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if self._team is not None or not is_out_of_memory:
                raise  # the others of a team wait for this process: the group must start again
            text = f"out of memory in fold {self.number}, epoch {epoch}; a smaller train.batch_size or network may help"
            return self._report(epoch, started, start, text)
        self._unsaved_s += time.perf_counter() - start
        is_due = self._unsaved_s >= self._run.study.run.checkpoint_interval_s
        if self.leads and (self._fold.is_finished or is_due or is_preemption_announced()):
            self.save()
        elif self.leads and self._run.kind is TrialKind.TRIAL and self._run.order is Order.ABREAST:
            self._write_rows()  # the pruner may end the trial here, and must know of it if the search is resumed
        return self._report(epoch, started, start)

    def _report(self, epoch: int, started: float, start: float, error: str = "") -> FoldReport:
        """The driver hears nothing of the test patients if there are validation patients."""
        rows = {row["split"]: row for row in self._record.epochs if row["epoch"] <= epoch or row["split"] == "test"}
        split = "validation" if len(self._fold.data.validation) else "test"
        train = rows.get("train", {"loss": float("nan"), "dsc": float("nan")})
        note, self.note = self.note, ""
        return FoldReport(
            fold=self.number,
            epoch=epoch,
            loss=train["loss"],
            train_dsc=train["dsc"],
            monitor_split=split,
            monitor_dsc=rows[split]["dsc"] if split in rows else None,
            finished=self._fold.is_finished,
            patient_scores=self._scores(split),
            started=started,
            ended=started + time.perf_counter() - start,
            error=error,
            note=note,
        )

    def _scores(self, split: str) -> npt.NDArray[np.float64] | None:
        """Each patient's score `(P,)` at the best epoch so far, NaN for those not scored here; None before any."""
        epoch = self._fold.best_epoch if split == "validation" else self._fold.epoch - 1
        rows = [row for row in self._record.scores if row["split"] == split and row["epoch"] == epoch]
        if not rows:
            return None
        patients = np.array([self._run.patient_number[row["patient_id"]] for row in rows])
        tp_fp_fn_tn = np.array([[row[name] for name in ("tp", "fp", "fn", "tn")] for row in rows])
        return patient_scores(self._run.study.search.metric, tp_fp_fn_tn, patients, len(self._run.patient_number))

    def _key(self) -> PartKey:
        return self._run.key.part(self.number)

    def save(self) -> None:
        """Write rows, then the checkpoint; the checkpoint before stays until the fold is finished."""
        self._write_rows()
        current, before = self._checkpoints()
        if self._run.store.exists(current):
            self._run.store.move(current, before)
        # a power cut that takes an unfinished fold's newest checkpoint leaves the one before
        self._run.store.write_bytes(current, self._fold.state(self._record), durable=self._fold.is_finished)
        if self._fold.is_finished:
            self._run.store.delete(before)
        self._unsaved_s = 0.0
        _log.debug("%s saved after epoch %d", current, self._fold.epoch - 1)

    def _write_rows(self) -> None:
        if not is_held_by(self._run.store, self._run.token):
            raise LockLostError(f"another run holds {self._run.store.location}")
        key = self._key()._asdict()
        for table, schema in PARTS.items():
            if rows := getattr(self._record, table):
                columns = {name: [key[name] if name in key else row[name] for row in rows] for name in schema.names}
                self._run.store.write_part(table, self._key(), pa.table(columns, schema=schema))

    def _checkpoints(self) -> tuple[str, str]:
        key = *self._run.key, self.number
        return names.checkpoint_name(*key), names.checkpoint_before_name(*key)

    def _load(self, data: FoldData, device: torch.device) -> Fold:
        """Return the fold as its newest sound checkpoint has it, and set its record."""
        store, notes = self._run.store, []
        for name in filter(store.exists, self._checkpoints()):
            try:
                fold = Fold(self._run.study, data, device, store.read_bytes(name), self._team)
            except ValueError as error:
                notes.append(f"{name} is {error}")
                continue
            record = fold.restored if fold.restored.epochs or not fold.is_finished else self._stored_record()
            if fold.is_finished and not _has_training_rows(record, fold):
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
        rows_of = (self._run.store.read_part(table, self._key()) for table in PARTS)
        if self._fold.is_finished and not all(table.num_rows for table in rows_of):
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
