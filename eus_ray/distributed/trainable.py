"""A Tune trial: one cross-validation, with a group of workers or in the trial's own process.

With several workers, Ray Train starts a worker group and controls it from the trial's process; `FoldsToTune`
sees all workers' reports and hands their sum to Tune. With one, Ray Train's local mode runs the folds in the
trial's own process, a step at a time: no second placement group. The folds do not know which it is.
The next trial reuses the trial's process. A process that only waits for workers loads no PyTorch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray import tune
from ray.train import FailureConfig, Result, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util import get_placement_group, placement_group, remove_placement_group

from eus_ray.distributed.cross_validation import CrossValidation, folds_done
from eus_ray.distributed.resources import kind_resource
from eus_ray.distributed.torch_process_group import ProcessGroup
from eus_ray.store import PARTS, TrialKey


@dataclass(frozen=True)
class Workers:
    """How a cross-validation lies on the machines: workers, how few it may go on with, and what each one gets."""

    count: int
    least: int
    cpus: float
    gpus: float
    team_size: int = 1
    """Workers that train a fold together."""
    gpu_kind: str = ""
    """The kind of GPU to wait for; empty where any will do."""

    @property
    def places(self) -> int:
        """Folds that train at the same time."""
        return self.count // self.team_size

    @property
    def resources(self) -> dict[str, float]:
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {}), **kind_resource(self.gpu_kind)}


def trainable(runs: dict[str, CrossValidation], workers: Workers, scratch: Path) -> Any:
    """What Tune runs: a trial's `config` names its model, its number and the settings it changes (as JSON)."""
    if workers.count == 1:
        one = tune.with_parameters(OneProcess, runs=runs, gpus=workers.gpus)
        return tune.with_resources(one, tune.PlacementGroupFactory([workers.resources]))
    group = tune.with_parameters(worker_group, runs=runs, workers=workers, scratch=scratch)
    # a bundle must hold something, and the trial itself only waits for its workers
    return tune.with_resources(group, {"memory": 1})


class OneProcess(tune.Trainable):
    """A cross-validation in the trial's own process; one step is an epoch of the folds that go together."""

    def setup(self, config: dict[str, Any], runs: dict[str, CrossValidation], gpus: float) -> None:  # type: ignore[override]
        self._runs, self._gpus = runs, gpus
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._run = chosen(self._runs, new_config)
        self._steps: Iterator[list[dict[str, Any]]] | None = None
        return True

    def step(self) -> dict[str, Any]:
        cells: list[dict[str, Any]] | None = []

        def train() -> None:
            from eus_ray.distributed.worker import steps  # loads PyTorch

            nonlocal cells
            if self._steps is None:
                self._steps = steps(self._run, 0, 1, self._gpus)
            cells = next(self._steps, None)

        if not (self._steps is None and self._run.store.stop_is_wanted(self._run.token)):
            FoldsTrainer(train, scaling_config=ScalingConfig(num_workers=0)).fit()
        if cells:
            return {"cells": cells, "note": "", "done": False}
        finish(self._run)
        return {"cells": [], "note": "", "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {}  # the folds save themselves

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        return None


def worker_group(config: dict[str, Any], runs: dict[str, CrossValidation], workers: Workers, scratch: Path) -> None:
    """A cross-validation by several workers, from wherever its fold files are to its end.

    Where a worker dies Ray Train starts the group anew; where this process dies, as with its node, Tune does.
    """
    run = chosen(runs, config)
    name = group_name(run.model, run.trial, run.token)
    elastic = workers.least < workers.count
    trainer = FoldsTrainer(
        train_folds,
        train_loop_config={"run": run, "gpus": workers.gpus, "team_size": workers.team_size},
        scaling_config=ScalingConfig(
            num_workers=(workers.least, workers.count) if elastic else workers.count,  # type: ignore[arg-type]
            use_gpu=workers.gpus > 0,
            resources_per_worker=workers.resources,
        ),
        backend_config=ProcessGroup(_backend(workers)),
        run_config=RunConfig(
            name=name,
            storage_path=str(scratch / "train"),
            callbacks=[FoldsToTune()],  # type: ignore[list-item]
            failure_config=FailureConfig(max_failures=run.study.run.max_failures),
        ),
    )
    try:
        if not run.store.stop_is_wanted(run.token):
            trainer.fit()
    except TrainingFailedError as error:  # again and again: Tune need not try too
        tune.report({"cells": [], "note": "", "broke": str(error)})
        return
    finish(run)


def train_folds(config: dict[str, Any]) -> None:
    """What each worker of a group does."""
    from eus_ray.distributed.worker import steps  # loads PyTorch

    context = ray.train.get_context()
    ranks = context.get_world_rank(), context.get_world_size()
    for cells in steps(config["run"], *ranks, config["gpus"], config["team_size"]):
        ray.train.report({"cells": cells})


def _backend(workers: Workers) -> str:
    """gloo, because folds exchange nothing and NCCL refuses two workers on one GPU; NCCL beside it where the GPUs of
    a team exchange gradients."""
    return "cpu:gloo,cuda:nccl" if workers.team_size > 1 and workers.gpus else "gloo"


def group_name(model: str, trial: int, token: str) -> str:
    """The name of the machines' shares that a trial's workers hold: `token` tells the runs of a cluster apart."""
    return f"{model}-{trial}-{token[:8]}"


def free(name: str) -> None:
    """Give back what the workers of a trial still hold, and end them; nothing where they hold nothing."""
    try:
        remove_placement_group(get_placement_group(name))
    except ValueError:  # Ray knows none of that name
        return


def chosen(runs: dict[str, CrossValidation], config: dict[str, Any]) -> CrossValidation:
    """The cross-validation that a trial's config asks for."""
    return runs[config["model"]].as_trial(config["trial"], json.loads(config["settings"]))


def finish(run: CrossValidation) -> None:
    """Turn the parts of a trial whose folds are all done into one file a table.

    Of a search, predictions stay a file a fold: they are kept fold by fold.
    """
    if folds_done(run.store, run.model, run.trial) == run.num_folds:
        tables = ("epochs", "scores") if run.kind == "trial" else tuple(PARTS)
        run.store.finish_trial(TrialKey(run.model, run.trial), run.num_folds, tables)


class FoldsTrainer(DataParallelTrainer):
    """Ray's trainer with fewer processes for a group of workers to wait for.

    Without what only Ray Data needs, with the controller in the trial's process, not in one of its own that would
    send the reports back through a third, and without the process that frees the workers' shares after a killed
    controller: it misses a controller that is killed while its workers start, and never ends where another Ray cluster
    runs on the machine. The shares have a name instead (`group_name`), by which `free` finds them.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        unwanted = ("DatasetsCallback", "PlacementGroupCleanerCallback")
        return [callback for callback in callbacks if type(callback).__name__ not in unwanted]

    def _initialize_and_run_controller(self, **parts: Any) -> Result:
        controller = FoldsController(**parts)
        try:
            asyncio.run(controller.run())
        finally:  # where Tune stops the trial, its report raises SystemExit, and the next trial gets this process
            if not controller.get_state().is_terminal() and (group := controller.get_worker_group()) is not None:
                group.abort()
        return controller.get_result()


class NamedWorkerGroup(WorkerGroup):
    """Ray's group of workers, whose placement group has the run's name."""

    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> DefaultPlacementGroupHandle:
        group = placement_group(
            bundles=[worker_group_context.resources_per_worker] * worker_group_context.num_workers,
            strategy=worker_group_context.placement_strategy,
            bundle_label_selector=worker_group_context.label_selector,
            name=self._train_run_context.run_config.name,
        )
        return DefaultPlacementGroupHandle(group)


class FoldsController(TrainController):
    """Ray's controller, of such a group."""

    worker_group_cls = NamedWorkerGroup


class FoldsToTune(UserCallback):
    """Adds up what all workers report, and tells Tune about the cross-validation as a whole."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        tune.report({"cells": [cell for worker in metrics for cell in worker["cells"]], "note": ""})

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        lost = "; ".join(f"worker {rank}: {_last_line(error)}" for rank, error in worker_exceptions.items())
        tune.report({"cells": [], "note": f"lost {lost}"})


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
