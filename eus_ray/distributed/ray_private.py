"""Ray's private names, all in this file: after an upgrade of Ray this is the file to look at.

`PRIVATE_NAMES` lists what is overridden or filtered, and a test looks each of them up in the installed Ray.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray.train import Result
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
from ray.train.v2._internal.execution.worker_group.worker_group import WorkerGroup
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util import placement_group

UNWANTED_CALLBACKS = ("DatasetsCallback", "PlacementGroupCleanerCallback")
"""The first is Ray Data's. The second frees the workers' placement group after the controller was killed, in a process
of its own. It misses a controller that is killed while its workers start, and never ends if another Ray cluster runs on
the machine. The placement group has a name instead, by which the driver finds it."""

PRIVATE_NAMES = {
    "ray.train.v2.api.data_parallel_trainer.DataParallelTrainer": (
        "_create_default_callbacks",
        "_initialize_and_run_controller",
    ),
    "ray.train.v2._internal.execution.controller.TrainController": (
        "get_result",
        "get_state",
        "get_worker_group",
        "run",
        "worker_group_cls",
    ),
    "ray.train.v2._internal.execution.worker_group.worker_group.WorkerGroup": ("_create_placement_group", "abort"),
    "ray.train.v2.api.data_parallel_trainer": UNWANTED_CALLBACKS,
}
"""The names that this file overrides, calls or filters, by the module or class in which Ray has them."""


class FoldsTrainer(DataParallelTrainer):
    """Ray's trainer with fewer processes for a worker group to wait for.

    It does without what only Ray Data needs, and its controller lives in the trial's process: in a process of its own
    the controller would send the reports back through a third one.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [callback for callback in callbacks if type(callback).__name__ not in UNWANTED_CALLBACKS]

    def _initialize_and_run_controller(self, **parts: Any) -> Result:
        controller = _FoldsController(**parts)
        try:
            asyncio.run(controller.run())
        finally:  # if Tune stops the trial, its report raises SystemExit, and the next trial gets this process
            if not controller.get_state().is_terminal() and (group := controller.get_worker_group()) is not None:
                group.abort()
        return controller.get_result()


class _NamedWorkerGroup(WorkerGroup):
    """Ray's worker group, whose placement group has the run's name."""

    def _create_placement_group(self, _scaling_config: Any, worker_group_context: Any) -> DefaultPlacementGroupHandle:
        group = placement_group(
            bundles=[worker_group_context.resources_per_worker] * worker_group_context.num_workers,
            strategy=worker_group_context.placement_strategy,
            bundle_label_selector=worker_group_context.label_selector,
            name=self._train_run_context.run_config.name,
        )
        return DefaultPlacementGroupHandle(group)


class _FoldsController(TrainController):
    worker_group_cls = _NamedWorkerGroup


def is_preemption_announced() -> bool:
    """Tell whether the cluster has announced the preemption of a machine of this worker group, such as a spot machine.

    Then Ray starts the whole group anew. Its public question, `ray.train.get_preemption_info`, waits until all workers
    ask it equally often, and folds end at different times.
    """
    try:
        return get_train_context().preemption_context.preemption_info is not None
    except RuntimeError:  # in the trial's own process there is no group, and nobody watches
        return False
