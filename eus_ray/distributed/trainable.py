"""A Tune trial: one cross-validation, with a worker group or in the trial's own process.

With several workers, Ray Train starts a worker group and controls it from the trial's process; `FoldsToTune` sees all
workers' reports and hands them to Tune together. With one, Ray Train's local mode runs the folds in the trial's own
process, a step at a time, without a second placement group. The folds do not know which it is. The next trial reuses
the trial's process. A process that only waits for workers does not load PyTorch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray import tune
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.util import get_placement_group, remove_placement_group

from eus_ray.distributed.cross_validation import CrossValidation, num_folds_done
from eus_ray.distributed.ray_private import FoldsTrainer
from eus_ray.distributed.resources import kind_resource
from eus_ray.distributed.torch_process_group import ProcessGroup
from eus_ray.store import PARTS, TrialKey, TrialKind
from eus_ray.store.event_log import FoldReport
from eus_ray.store.lock import is_stop_wanted


@dataclass(frozen=True)
class Workers:
    """How a cross-validation lies on the machines."""

    count: int
    least: int
    """With how few of them it may go on."""
    cpus: float
    """For each worker."""
    gpus: float
    team_size: int = 1
    """Workers that train a fold together."""
    gpu_kind: str = ""
    """The kind of GPU to wait for; empty if any will do."""

    @property
    def num_concurrent_folds(self) -> int:
        """Folds that train at the same time."""
        return self.count // self.team_size

    @property
    def resources(self) -> dict[str, float]:
        """The resources that Ray reserves for each worker."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {}), **kind_resource(self.gpu_kind)}


def trainable(cross_validations: Mapping[str, CrossValidation], workers: Workers, scratch: Path) -> Any:
    """Return what Tune runs: a trial's `config` names its model, its number and its settings (as JSON)."""
    runs = dict(cross_validations)
    if workers.count == 1:
        one = tune.with_parameters(OneProcess, runs=runs, gpus=workers.gpus)
        return tune.with_resources(one, tune.PlacementGroupFactory([workers.resources]))
    group = tune.with_parameters(train_with_group, runs=runs, workers=workers, scratch=scratch)
    # a bundle must hold something, and the trial itself only waits for its workers
    return tune.with_resources(group, {"memory": 1})


class OneProcess(tune.Trainable):
    """A cross-validation in the trial's own process; one step is an epoch of the folds that go together."""

    def setup(self, config: dict[str, Any], runs: dict[str, CrossValidation], gpus: float) -> None:  # type: ignore[override]
        """Take up the first trial."""
        self._runs, self._gpus = runs, gpus
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in this process."""
        self._run = _chosen(self._runs, new_config)
        self._steps: Iterator[list[FoldReport]] | None = None
        return True

    def step(self) -> dict[str, Any]:
        """Train one step."""
        reports: list[FoldReport] = []

        def train() -> None:
            from eus_ray.distributed.worker import steps  # loads PyTorch

            if self._steps is None:
                self._steps = steps(self._run, 0, 1, self._gpus)
            reports.extend(next(self._steps, []))

        if not (self._steps is None and is_stop_wanted(self._run.store, self._run.token)):
            FoldsTrainer(train, scaling_config=ScalingConfig(num_workers=0)).fit()
        if not reports:
            finish(self._run)
        return {"reports": reports, "note": "", "done": not reports}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Save nothing: the folds save themselves."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing."""


def train_with_group(config: dict[str, Any], runs: dict[str, CrossValidation], workers: Workers, scratch: Path) -> None:
    """Train a cross-validation with several workers, from wherever its fold files are to its end.

    If a worker dies, Ray Train starts the group anew; if this process dies, as with its node, Tune does.
    """
    run = _chosen(runs, config)
    is_elastic = workers.least < workers.count
    trainer = FoldsTrainer(
        train_folds,
        train_loop_config={"run": run, "gpus": workers.gpus, "team_size": workers.team_size},
        scaling_config=ScalingConfig(
            num_workers=(workers.least, workers.count) if is_elastic else workers.count,  # type: ignore[arg-type]
            use_gpu=workers.gpus > 0,
            resources_per_worker=workers.resources,
        ),
        # gloo: folds exchange nothing, and NCCL refuses two workers on one GPU; a team exchanges gradients by NCCL
        backend_config=ProcessGroup("cpu:gloo,cuda:nccl" if workers.team_size > 1 and workers.gpus else "gloo"),
        run_config=RunConfig(
            name=group_name(run.key, run.token),
            storage_path=str(scratch / "train"),
            callbacks=[FoldsToTune()],  # type: ignore[list-item]
            failure_config=FailureConfig(max_failures=run.study.run.max_failures),
        ),
    )
    try:
        if not is_stop_wanted(run.store, run.token):
            trainer.fit()
    except TrainingFailedError as error:  # again and again: Tune need not try too
        tune.report({"reports": [], "note": "", "failure": str(error)})
    else:
        finish(run)


def train_folds(config: dict[str, Any]) -> None:
    """Train one worker's folds; runs in each worker of a group."""
    from eus_ray.distributed.worker import steps  # loads PyTorch

    config["run"].code.install()
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    for reports in steps(config["run"], rank, world_size, config["gpus"], config["team_size"]):
        ray.train.report({"reports": reports})


def group_name(key: TrialKey, token: str) -> str:
    """Return the name of the placement group of a trial's workers; `token` tells the runs of a cluster apart."""
    return f"{key.model}-{key.trial}-{token[:8]}"


def remove_group(name: str) -> None:
    """Remove a placement group and end the workers in it; do nothing if there is none of that name."""
    try:
        remove_placement_group(get_placement_group(name))
    except ValueError:
        return


def _chosen(runs: Mapping[str, CrossValidation], config: Mapping[str, Any]) -> CrossValidation:
    run = runs[config["model"]]
    run.code.install()
    return run.as_trial(config["trial"], json.loads(config["settings"]))


def finish(run: CrossValidation) -> None:
    """Join the parts of a trial whose folds are all done into one file a table.

    A search's predictions stay a file a fold: they are kept fold by fold.
    """
    if num_folds_done(run.store, run.key) == run.num_folds:
        tables = ("epochs", "scores") if run.kind is TrialKind.TRIAL else tuple(PARTS)
        run.store.finish_trial(run.key, run.num_folds, tables)


class FoldsToTune(UserCallback):
    """Hand what all workers report to Tune, as one report of the cross-validation."""

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Hand over a step of all workers."""
        tune.report({"reports": [report for worker in metrics for report in worker["reports"]], "note": ""})

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Say which workers were lost."""
        lost = "; ".join(f"worker {rank}: {_last_line(error)}" for rank, error in worker_exceptions.items())
        tune.report({"reports": [], "note": f"lost {lost}"})


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
