"""What a trial costs beside its training: cross-validations that do nothing, ours beside Ray's defaults.

Then many trials that are stopped early: what they leave behind, and what the driver's memory grows by.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import ray.cloudpickle
import ray.train.torch
from ray import tune
from ray.train import RunConfig, ScalingConfig
from ray.util.state import list_actors

from eus_ray.config import Study
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.session import Session, session
from eus_ray.distributed.trainable import Workers
from eus_ray.distributed.tune_driver import TrialSpec, run_trials
from eus_ray.store import Store, TrialKey
from eus_ray.store.event_log import FoldReport


class Nothing(CrossValidation):
    """A cross-validation whose folds report a few epochs and train none."""

    def as_trial(self, trial: int, settings: Mapping[str, Any]) -> CrossValidation:
        """In a worker's process this is called first: there, nothing takes the place of training."""
        from eus_ray.distributed import worker

        def steps(_run: CrossValidation, rank: int, *_: Any) -> Iterator[list[FoldReport]]:
            scores = np.full(150, 0.5)
            for epoch in range(3):
                yield [FoldReport(rank, epoch, 0.5, 0.5, "test", 0.5, finished=False, patient_scores=scores)]

        worker.steps = steps
        return super().as_trial(trial, settings)


class OneAfterAnother:
    """A controller of trials that do nothing, and are stopped at their first reports if that is wanted."""

    def __init__(self, number: int, stop_early: bool) -> None:
        self._left, self._stop = number, stop_early
        self.mib: list[float] = []
        self.ended_s: list[float] = []

    def next(self) -> TrialSpec | None:
        self._left -= 1
        return TrialSpec(TrialKey("unet", self._left)) if self._left >= 0 else None

    def on_reports(self, _key: TrialKey, _reports: Sequence[FoldReport], _note: str) -> bool:
        return self._stop

    def on_process_end(self, _key: TrialKey, error: str) -> None:
        assert not error, error
        self.ended_s.append(time.perf_counter())
        self.mib.append(psutil.Process().memory_info().rss / 2**20)


def run(trials: int = 20, many: int = 200) -> None:
    """Print the table. `trials` one after another, `many` stopped early."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the benchmarks
    with session() as cluster, tempfile.TemporaryDirectory() as folder:
        print("\nA trial that trains nothing, one after another: seconds each")
        print(f"  one worker:   {seconds_each(cluster, Path(folder), trials, 1):5.2f}  ({trials} trials)")
        few = max(2, trials // 4)
        print(f"  five workers: {seconds_each(cluster, Path(folder), few, 5):5.2f}  ({few} trials)")
        print(
            f"  Ray's defaults, a trainer with five workers in a function: {defaults_each(cluster, 3):5.2f}  (3 trials)"
        )
        controller = go(cluster, Path(folder), many, 1, stop_early=True)
        grown = controller.mib[-1] - controller.mib[many // 10]
        print(f"{many} trials stopped early: {left_behind()} left behind; the driver grew by {grown:.0f} MiB")


def go(cluster: Session, folder: Path, trials: int, workers: int, stop_early: bool = False) -> OneAfterAnother:
    controller = OneAfterAnother(trials, stop_early)
    nothing = Nothing(
        study=Study().for_model("unet"),
        model="unet",
        trial=0,
        store=Store(folder / "study"),
        token="",
        folds=np.arange(5),
        image_ids=[],
        patient_ids=[],
        arrays=lambda: (np.empty(0), np.empty(0)),
    )
    nothing.store.write_json("run.json", {"token": ""})
    cpus = min(1.0, cluster.machines.cpus / workers)
    run_trials(controller, {"unet": nothing}, Workers(workers, workers, cpus, 0), 1, trials, cluster)
    return controller


def seconds_each(cluster: Session, folder: Path, trials: int, workers: int) -> float:
    """From the start of the controller to its last trial's end, shared among the trials."""
    started = time.perf_counter()
    controller = go(cluster, folder, trials, workers)
    assert len(controller.ended_s) == trials
    return (controller.ended_s[-1] - started) / trials


def defaults_each(cluster: Session, trials: int) -> float:
    """The same with what Ray's documentation shows: a trainer inside a function trainable."""
    scaling = ScalingConfig(num_workers=5, resources_per_worker={"CPU": min(1.0, cluster.machines.cpus / 5)})
    storage = str(cluster.scratch / "defaults")

    def fit(_: dict[str, Any]) -> None:
        def nothing() -> None:
            for epoch in range(3):
                ray.train.report({"epoch": epoch})

        ray.train.torch.TorchTrainer(nothing, scaling_config=scaling, run_config=RunConfig(storage_path=storage)).fit()

    started = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_resources(fit, {"memory": 1}),
        param_space={"trial": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=storage, verbose=0),
    )
    tuner.fit()
    return (time.perf_counter() - started) / trials


def left_behind() -> str:
    """Placement groups and actors that still live."""
    until = time.monotonic() + 30
    while True:
        groups = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
        actors = list_actors(ray.get_runtime_context().gcs_address, filters=[("state", "=", "ALIVE")])
        if (not groups and not actors) or time.monotonic() > until:
            return f"{len(groups)} placement groups and the actors {sorted(actor.class_name for actor in actors)}"
        time.sleep(0.5)


if __name__ == "__main__":
    run()
