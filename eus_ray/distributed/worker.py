"""The workers of one cross-validation: one Ray Train run is one whole cross-validation.

Worker `rank` trains the folds f with f % world_size == rank. A fold is a file and not a rank: each keeps its own
checkpoint and its own rows in the study folder, so a run goes on with any number of workers.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import ray.train.torch
import torch
import torch.distributed

from eus_ray.config import Order
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.fold_runner import FoldOnDisk
from eus_ray.distributed.shared_arrays import open_arrays
from eus_ray.store import Hardware
from eus_ray.store.event_log import FoldReport
from eus_ray.store.lock import is_held_by, is_stop_wanted
from eus_ray.training.ddp import Team
from eus_ray.training.determinism import device_name, prepare_process
from eus_ray.training.fold import FoldData
from eus_ray.training.optim import precision_for


def steps(
    run: CrossValidation, rank: int, world_size: int, gpus: float, team_size: int = 1
) -> Iterator[list[FoldReport]]:
    """Train the folds of one worker; a step is an epoch of those that go together.

    All workers take equally many steps, with no reports if a worker has no fold left, and leave together when a fold
    fails or the run is asked to stop.

    Args:
        run: The cross-validation.
        rank: The worker's, from 0.
        world_size: How many workers there are.
        gpus: How many each was given; without any, a worker leaves those of its machine alone.
        team_size: How many workers of consecutive ranks train a fold together; the first of them reports it.

    Yields:
        The folds' reports after each step.
    """
    device = ray.train.torch.get_device() if gpus else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    prepare_process(run.study, device)
    images, masks = open_arrays(run.arrays)
    hardware = Hardware(
        device_name(device),
        float(gpus * team_size),
        run.study.run.threads_per_fold,
        str(precision_for(run.study.train.precision, device)).removeprefix("torch."),
    )
    team, place, places = _team(rank, world_size, team_size)
    mine = [fold for fold in range(run.num_folds) if fold % places == place]
    turns = range(-(-run.num_folds // places))
    for numbers in [mine] if run.order is Order.ABREAST else [mine[turn : turn + 1] for turn in turns]:
        data = [run.data(number, images, masks) for number in numbers]
        if not (yield from _advance(run, data, device, hardware, team)):
            return


def _team(rank: int, world_size: int, team_size: int) -> tuple[Team | None, int, int]:
    """This worker's team, which of the places for folds it has, and how many places there are."""
    if team_size == 1:
        return None, rank, world_size
    places, place = world_size // team_size, rank // team_size
    members = [list(range(place * team_size, (place + 1) * team_size)) for place in range(places)]
    groups: list[Any] = [torch.distributed.new_group(ranks) for ranks in members]  # all workers make all groups
    if place >= places:  # a worker too many for another team waits for the others' ends
        return None, place, places
    return Team(rank % team_size, team_size, groups[place]), place, places


def _advance(
    run: CrossValidation, data: list[FoldData], device: torch.device, hardware: Hardware, team: Team | None = None
) -> Generator[list[FoldReport], None, bool]:
    """Train some folds abreast to their end; False if all workers are to leave before it."""
    folds = [FoldOnDisk(run, each, device, team) for each in data]
    epochs = run.study.train.epochs_to_train
    begin = _least(min((fold.epoch for fold in folds), default=epochs))
    for epoch in range(min(begin, epochs - 1), epochs):
        reports = [fold.advance(epoch) for fold in folds]
        leads = [fold.leads for fold in folds]
        yield [replace(report, hardware=hardware) for report in itertools.compress(reports, leads)]
        failed = any(report.error for report in reports)
        if _least(-int(failed or is_stop_wanted(run.store, run.token))) < 0:
            for fold, report in zip(folds, reports, strict=True):
                if fold.leads and not report.error and is_held_by(run.store, run.token):
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
