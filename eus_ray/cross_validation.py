"""The Ray Train run: one run is one whole cross-validation.

Worker `rank` trains the folds f with f % world_size == rank. Each step every worker reports the folds
it advanced; `FoldsToTune` sees all workers' reports and hands their sum to Tune. A fold is a file and
not a rank: each keeps its own checkpoint and its own rows in the study folder, so a run goes on with
any number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.tune.integration.ray_train import TuneReportCallback

from eus_ray import store as names
from eus_ray.config import Study
from eus_ray.data.arrays import decode_mask
from eus_ray.fold import Fold, FoldData, Record, TrainingFailed, prepare_process
from eus_ray.store import Store

REPEAT = 0
_A_WEEK_S = 7 * 24 * 3600


class Superseded(Exception):
    """Another run holds the study folder now; this one must not write any more."""


@dataclass(frozen=True)
class CrossValidation:
    """One cross-validation, as it travels to its workers: settings, folds and where things are.

    `study` is one architecture's (`Study.for_model`). `arrays` is a reference to `(images, masks)` in
    Ray's object store, or a folder with memory-mapped files of them and how to make them.
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

    @property
    def num_folds(self) -> int:
        return int(self.folds.max()) + 1

    def data(self, fold: int, images: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8]) -> FoldData:
        """What fold `fold` sees: it is tested on its own images and trained on all others."""
        truth_of = None
        if self.study.evaluate.grid == "original":
            truth_of = CaseTruths(self.store, self.image_ids, np.flatnonzero(self.folds == fold))
        return FoldData(
            fold=fold,
            images=images,
            masks=masks,
            train=np.flatnonzero(self.folds != fold),
            test=np.flatnonzero(self.folds == fold),
            image_ids=self.image_ids,
            patient_ids=self.patient_ids,
            truth_of=truth_of,
        )


class CaseTruths:
    """The truths of a fold's test images on the evaluation grid, from the study folder's `cases`."""

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

    def __init__(self, run: CrossValidation, data: FoldData, device: torch.device) -> None:
        self._run, self._record = run, Record()
        self._saved = time.monotonic()
        self.number = data.fold
        self.note = ""
        self._fold = self._load(data, device)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._fold.epoch

    def advance(self, epoch: int) -> dict[str, Any]:
        """Train epoch `epoch` unless it is done already; what the folds' report says of this fold.

        The last epoch also evaluates and saves. A fold that fails says so and stays where it is.
        """
        began, wall = time.perf_counter(), time.time()
        if epoch >= self._fold.epoch:
            try:
                self._record.epochs.append(self._fold.train_epoch())
                if self._fold.finished:
                    self._record.epochs.append(self._fold.evaluate(self._record))
            except TrainingFailed as error:
                return {**self._cell(epoch, wall, began), "failed": str(error)}
            interval_s = self._run.study.run.checkpoint_interval_s
            if self._fold.finished or time.monotonic() - self._saved >= interval_s:
                self.save()
        return self._cell(epoch, wall, began)

    def _cell(self, epoch: int, wall: float, began: float) -> dict[str, Any]:
        train = [row for row in self._record.epochs if row["split"] == "train" and row["epoch"] <= epoch]
        test = [row["dsc"] for row in self._record.epochs if row["split"] == "test"]
        cell = {
            "fold": self.number,
            "epoch": epoch,
            "started": wall,
            "ended": wall + time.perf_counter() - began,
            "loss": train[-1]["loss"] if train else float("nan"),
            "dsc": train[-1]["dsc"] if train else float("nan"),
            "test_dsc": test[-1] if test else None,
            "failed": "",
            "note": self.note,
        }
        self.note = ""
        return cell

    def _key(self) -> tuple[str, int, int, int]:
        return self._run.model, self._run.trial, REPEAT, self.number

    def save(self) -> None:
        """Rows first, then the checkpoint that says how many of them count."""
        if not self._run.store.is_held_by(self._run.token):
            raise Superseded(f"another run holds {self._run.store.location}")
        key = dict(zip(("model", "trial", "repeat", "fold"), self._key(), strict=True))
        for table in ("epochs", "scores", "predictions"):
            rows = getattr(self._record, table)
            if rows:
                schema = names.PARTS[table]
                columns = {name: [key[name] if name in key else row[name] for row in rows] for name in schema.names}
                self._run.store.write_part(table, *self._key(), pa.table(columns, schema=schema))
        name = names.checkpoint_name(self._run.model, self._run.trial, self.number)
        self._run.store.write_bytes(name, self._fold.state())
        self._saved = time.monotonic()

    def _load(self, data: FoldData, device: torch.device) -> Fold:
        store = self._run.store
        name = names.checkpoint_name(self._run.model, self._run.trial, self.number)
        if not store.exists(name):
            return Fold(self._run.study, data, device)
        try:
            fold = Fold(self._run.study, data, device, store.read_bytes(name))
        except ValueError as error:
            self.note = f"{name} is {error}; fold {self.number} starts again from its first epoch"
            return Fold(self._run.study, data, device)
        for table in ("epochs", "scores"):
            rows = store.read_part(table, *self._key()).to_pylist()
            # rows that are newer than the checkpoint are trained, and written, again
            getattr(self._record, table).extend(row for row in rows if row["epoch"] < fold.epoch)
        return fold


def train_folds(config: dict[str, Any]) -> None:
    """What each worker of the Ray Train run does."""
    run: CrossValidation = config["run"]
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    prepare_process(run.study, device)
    images, masks = ray.get(run.arrays) if isinstance(run.arrays, ray.ObjectRef) else run.arrays()
    mine = [fold for fold in range(run.num_folds) if fold % world_size == rank]
    for together in _rounds(run, mine, world_size):
        folds = [FoldOnDisk(run, run.data(fold, images, masks), device) for fold in together]
        epochs = run.study.train.epochs
        begin = _least(min((fold.epoch for fold in folds), default=epochs))
        for epoch in range(min(begin, epochs - 1), epochs):
            cells = [fold.advance(epoch) for fold in folds]
            ray.train.report({"cells": cells})
            failed = any(cell["failed"] for cell in cells)
            if _least(-int(failed or run.store.stop_is_wanted(run.token))) < 0:  # all workers leave together
                for fold in folds:
                    fold.save()
                return


def _rounds(run: CrossValidation, mine: list[int], world_size: int) -> Iterator[list[int]]:
    """The folds that a worker trains together. `by_fold`, a worker that has run out goes along with none,
    because all workers must report equally often."""
    if run.study.run.order == "abreast":
        yield mine
        return
    for number in range(-(-run.num_folds // world_size)):
        yield mine[number : number + 1]


def _least(value: int) -> int:
    """The least of all workers' values."""
    if not torch.distributed.is_initialized():
        return value
    shared = torch.tensor(value)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MIN)
    return int(shared)


class FoldsToTune(TuneReportCallback):
    """Adds up what all workers report, and tells Tune about the cross-validation as a whole.

    Ray's own callback forwards rank 0 alone.
    """

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        cells = [cell for worker in metrics for cell in worker["cells"]]
        super().after_report(run_context, [{"cells": cells, "note": ""}], None)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        lost = "; ".join(f"worker {rank}: {_last_line(error)}" for rank, error in worker_exceptions.items())
        super().after_report(run_context, [{"cells": [], "note": f"lost {lost}"}], None)


@dataclass(frozen=True)
class Workers:
    """How a cross-validation lies on the machines."""

    count: int
    least: int
    cpus: float
    gpus: float


def run_cross_validation(run: CrossValidation, workers: Workers, scratch: Path) -> None:
    """One cross-validation, from wherever its fold files are to its end; inside a Tune trial."""
    trainer = ray.train.torch.TorchTrainer(
        train_folds,
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(
            num_workers=workers.count if workers.least == workers.count else (workers.least, workers.count),  # type: ignore[arg-type]
            use_gpu=workers.gpus > 0,
            resources_per_worker={"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})},
        ),
        # gloo: folds do not exchange tensors, and NCCL refuses two workers on one GPU
        torch_config=ray.train.torch.TorchConfig(backend="gloo", timeout_s=_A_WEEK_S),
        run_config=RunConfig(
            name=f"{run.model}-{run.trial}-{run.token[:8]}",
            storage_path=str(scratch / "train"),
            callbacks=[FoldsToTune()],  # type: ignore[list-item]
            failure_config=FailureConfig(max_failures=run.study.run.max_failures),
        ),
    )
    if not run.store.stop_is_wanted(run.token):
        trainer.fit()
    if folds_done(run.store, run.model, run.trial, run.study.folds.count) == run.num_folds:
        run.store.finish_trial(run.model, run.trial, REPEAT, run.num_folds)


def folds_done(store: Store, model: str, trial: int, count: int) -> int:
    """How many folds of a trial have their test rows in the study folder."""
    rows = store.read_parts("epochs", ["trial", "fold", "split"], model).to_pandas()
    done = rows[(rows["trial"] == trial) & (rows["split"] == "test") & (rows["fold"] < count)]
    return int(done["fold"].nunique())


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
