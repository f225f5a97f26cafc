"""Plan how a study's cross-validations use a cluster: pure functions of its nodes and of a probe's figures.

A cross-validation is one Ray Tune trial. Its placement group has a bundle for each worker, and each worker trains folds
one after another; a fold with several GPUs has a team of workers. In the terms of scheduling, folds are equal jobs on
parallel machines, and the plan is the number of concurrent folds with the shortest makespan. Folds that share cores or
a GPU slow each other down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from eus_ray.config import Order, Study
from eus_ray.data.dataset import Dataset
from eus_ray.distributed.resources import Machines, Probe
from eus_ray.distributed.trainable import Workers
from eus_ray.errors import UserError

_MAX_GPU_MEMORY_SHARE = 0.9
"""A fold may need somewhat more than the few steps of a probe."""
_CUDA_CONTEXT_BYTES = 1 << 30
"""Each process takes so much of a GPU before it computes anything."""
_MAX_LOADER_THREADS = 8
_MIN_SPEEDUP_TO_SHARE = 1.15
"""Each further fold that shares a GPU or the cores is one more process to start."""
_NEARLY_SHORTEST = 1.05
"""Fewer concurrent folds are worth so much of the makespan: they take less memory."""
_ANY_CPUS = 1e-6
"""So few that the GPUs alone decide how many workers fit."""


@dataclass(frozen=True)
class Load:
    """How much a fold trains: the mean numbers over the folds."""

    training_images: int
    scored_images: int
    """Images that each epoch scores: the validation images of a nested search; else 0."""


def load_of(dataset: Dataset, *, searching: bool = False) -> Load:
    """Return how much a cross-validation of a data set trains.

    Args:
        dataset: The study's data.
        searching: Whether it is a trial of a search; a nested one judges a fold's epochs by a share of its training
            images.
    """
    num_images, num_folds, search = len(dataset.frame), dataset.study.folds.count, dataset.study.search
    validated = 1 / search.inner_folds if searching and search.protocol == "nested" else 0.0
    training = num_images * (num_folds - 1) / num_folds
    return Load(round(training * (1 - validated)), round(training * validated))


@dataclass(frozen=True)
class Plan:
    """The workers of each cross-validation, and how many cross-validations run at once."""

    workers: Workers
    max_concurrent_trials: int
    text: str
    """The plan in words."""
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    """An upper estimate of the time that all cross-validations take; None without a probe."""


def plan_fixed(
    study: Study, machines: Machines, num_trials: int, probe: Probe | None = None, load: Load | None = None
) -> Plan:
    """Plan cross-validations so that each ends as soon as possible: if the cluster has room, a worker for each fold.

    Args:
        study: The study's settings.
        machines: The cluster.
        num_trials: How many cross-validations there are.
        probe: What a fold takes of a device; without it, folds do not share GPUs unless the study says so.
        load: How much a fold trains; needed with a probe for `Plan.seconds`.

    Raises:
        UserError: If the study asks for more than the cluster has.
    """
    workers, max_trials, warnings = _workers(study, machines, study.folds.count, 1, probe)
    concurrent = max(1, min(max_trials, num_trials))
    side = "" if num_trials == 1 else f", {concurrent} of {num_trials} models at a time"
    text = f"{_describe(study, workers)}, {study.run.order_of(Order.ABREAST)}{side}"
    return Plan(
        workers,
        concurrent,
        text,
        tuple(warnings),
        seconds=_seconds(study, machines, workers, concurrent, num_trials, probe, load),
    )


def plan_search(
    study: Study, machines: Machines, num_trials: int, probe: Probe | None = None, load: Load | None = None
) -> Plan:
    """Plan the trials of a search: as many at once as fit, with one worker each unless the study says otherwise.

    Args:
        study: The study's settings.
        machines: The cluster.
        num_trials: How many trials there are, over all models.
        probe: What a fold takes of a device; without it, folds do not share GPUs unless the study says so.
        load: How much a fold trains; needed with a probe for `Plan.seconds`.

    Raises:
        UserError: If the study asks for more than the cluster has.
    """
    workers, max_trials, warnings = _workers(study, machines, 1, num_trials, probe)
    asked = max_trials if study.search.concurrent == "auto" else study.search.concurrent
    concurrent = max(1, min(max_trials, asked, num_trials))
    text = f"{_describe(study, workers)}, {concurrent} trial{'s' * (concurrent > 1)} at once"
    if asked > max_trials:
        text += f" (search.concurrent asks for {asked}; there is no room for more)"
    if study.search.scheduler == "racing" and workers.num_concurrent_folds >= study.folds.count:
        warnings.append(
            "all folds of a trial run at once, so racing has nothing to stop before its end: "
            "fewer run.workers, or search.scheduler = asha, would save time"
        )
    return Plan(
        workers,
        concurrent,
        text,
        tuple(warnings),
        seconds=_seconds(study, machines, workers, concurrent, num_trials, probe, load),
    )


def _workers(
    study: Study, machines: Machines, auto_folds: int, num_trials: int, probe: Probe | None
) -> tuple[Workers, int, list[str]]:
    """Choose the workers of each cross-validation.

    Args:
        study: The study's settings.
        machines: The cluster.
        auto_folds: How many folds of a cross-validation to train at once if `run.workers` is auto.
        num_trials: How many cross-validations could use the GPUs at once.
        probe: What a fold takes of a device.

    Returns:
        The workers, how many such cross-validations fit on the cluster (at least 1), and warnings.
    """
    run, num_folds = study.run, study.folds.count
    if machines.cpus <= 0:
        raise UserError(
            "the cluster has no CPU for workers; start it with some (ray start --num-cpus), or join another"
        )
    warnings: list[str] = []
    gpus_per_fold = _gpus_per_fold(study, machines, auto_folds * num_trials, probe, warnings)
    asked_folds, gpu_kind = auto_folds if run.workers == "auto" else run.workers, ""
    if asked_folds > 1 or gpus_per_fold > 1:  # else the only fold of a trial waits for no other
        machines, gpu_kind = _of_one_gpu_kind(study, machines, gpus_per_fold, asked_folds, warnings)
    team_size, gpus = (round(gpus_per_fold), 1.0) if gpus_per_fold > 1 else (1, gpus_per_fold)
    fitting = machines.max_workers(_ANY_CPUS, gpus) // team_size if gpus else machines.max_workers(run.threads_per_fold)
    if run.threads_per_fold > (largest := max(node.cpus for node in machines.nodes)):
        raise UserError(
            f"run.threads_per_fold is {run.threads_per_fold}, and the largest machine has {largest:g} cores; lower it"
        )
    concurrent = min(asked_folds if run.workers != "auto" else max(1, min(auto_folds, fitting)), num_folds)
    if gpus and concurrent > fitting:
        raise UserError(
            f"run.workers is {concurrent} with {gpus_per_fold:g} GPUs a fold, and the cluster has {machines.gpus:g} "
            "GPUs; lower run.workers or run.gpus_per_fold"
        )
    is_gpu_share_chosen = run.gpus_per_fold == "auto" and 0 < gpus < 1  # then its makespan is the shortest already
    if run.workers == "auto" and 1 < concurrent < num_folds and num_folds % concurrent and not is_gpu_share_chosen:
        cores = machines.cpus / run.threads_per_fold
        better = concurrent if gpus else _best_concurrency(auto_folds, auto_folds, concurrent, lambda n: n / cores)
        cure = f"; run.workers = {better} would share the cores and end sooner" if better > concurrent else ""
        rounds = math.ceil(num_folds / concurrent)
        warnings.append(
            f"{num_folds} folds on {concurrent} workers take {rounds} rounds, and the last one leaves "
            f"{concurrent * rounds - num_folds} of them idle{cure}"
        )
    count = concurrent * team_size
    # if there are more workers than cores, each asks Ray for a part of a core
    cpus = _cpus_that_fit(machines, _cpus_per_worker(study, machines, gpus), gpus, count)
    max_trials = max(1, machines.max_workers(cpus, gpus) // count)
    least = min((run.min_workers or concurrent) * team_size, count)
    return Workers(count, least, cpus, gpus, team_size, gpu_kind), max_trials, warnings


def _gpus_per_fold(study: Study, machines: Machines, num_folds: int, probe: Probe | None, warnings: list[str]) -> float:
    """Return the GPUs of a fold: what the study says; else one, or a part of one if that shortens the makespan.

    Args:
        study: The study's settings.
        machines: The cluster.
        num_folds: How many folds there are to train at once, of all cross-validations.
        probe: What a fold takes of a GPU; without it, folds do not share GPUs.
        warnings: The list to which warnings are added.
    """
    asked = study.run.gpus_per_fold
    if asked != "auto":
        if asked > machines.gpus:
            raise UserError(
                f"run.gpus_per_fold is {asked:g}, and the cluster has {machines.gpus:g}; set it to 0 or less"
            )
        if 0 < asked < 1 and probe is not None:
            warnings += _gpu_share_warnings(asked, probe)
        return float(asked)
    if not machines.gpus:
        return 0.0
    if probe is None or not probe.total_bytes or machines.gpus >= num_folds:
        return 1.0
    num_gpus, busy_share = int(machines.gpus), max(probe.busy_share, 0.01)
    fitting = int(_MAX_GPU_MEMORY_SHARE * probe.total_bytes / (probe.peak_bytes + _CUDA_CONTEXT_BYTES))
    concurrent = _best_concurrency(
        num_folds,
        num_gpus * max(1, fitting),
        num_gpus,
        lambda num_active: math.ceil(num_active / num_gpus) * busy_share,
    )
    folds_per_gpu = math.ceil(concurrent / num_gpus)
    if folds_per_gpu == 1:
        why = (
            f"a fold takes {probe.peak_bytes >> 20} MiB of {probe.total_bytes >> 20}"
            if fitting < 2
            else f"a fold fills {probe.busy_share:.0%} of a GPU's time"
        )
        warnings.append(f"several folds a GPU would gain little: {why}")
    return math.floor(1000 / folds_per_gpu) / 1000


def _best_concurrency(num_folds: int, max_concurrent: int, num_devices: int, slowdown: Callable[[int], float]) -> int:
    """Return how many folds to train at once for the shortest makespan, or nearly the shortest with fewer folds.

    Args:
        num_folds: How many folds there are.
        max_concurrent: How many may train at once.
        num_devices: How many train at once without sharing a core or GPU; it stays that many if more gain little.
        slowdown: How many times slower each fold is while so many are active, if that is over 1.
    """
    makespans = {n: epoch_makespan(num_folds, n, slowdown) for n in range(1, min(num_folds, max_concurrent) + 1)}
    shortest, unshared = min(makespans.values()), max(1, min(num_devices, len(makespans)))
    if makespans[unshared] <= _MIN_SPEEDUP_TO_SHARE * shortest:
        return unshared
    return next(n for n, makespan in makespans.items() if makespan <= _NEARLY_SHORTEST * shortest)


def epoch_makespan(num_folds: int, num_concurrent: int, slowdown: Callable[[int], float]) -> float:
    """Return the makespan of an epoch of all folds; one fold alone takes 1.

    The folds are dealt out evenly to the workers, and all active workers slow down alike.

    Args:
        num_folds: How many folds there are.
        num_concurrent: How many train at once.
        slowdown: How many times slower each fold is while so many are active, if that is over 1.

    >>> epoch_makespan(5, 2, lambda active: active / 2), epoch_makespan(5, 3, lambda active: active / 2)
    (3.0, 2.5)
    """
    loads = [len(range(worker, num_folds, num_concurrent)) for worker in range(num_concurrent)]
    makespan, done = 0.0, 0
    for load in sorted(set(loads)):
        makespan += (load - done) * max(1.0, slowdown(sum(other >= load for other in loads)))
        done = load
    return makespan


def _gpu_share_warnings(asked: float, probe: Probe) -> list[str]:
    folds_per_gpu, lines = int(1 / asked + 1e-9), []
    fold_bytes = probe.peak_bytes + _CUDA_CONTEXT_BYTES
    if folds_per_gpu * fold_bytes > _MAX_GPU_MEMORY_SHARE * probe.total_bytes > 0:
        lines.append(
            f"{folds_per_gpu} folds a GPU may not fit: each takes about {fold_bytes >> 20} MiB of "
            f"{probe.total_bytes >> 20}"
        )
    if folds_per_gpu * probe.busy_share > 1.5:
        lines.append(
            f"{folds_per_gpu} folds a GPU will take turns: one alone fills {probe.busy_share:.0%} of its time; "
            "run.gpus_per_fold = 1 would be no slower"
        )
    return lines


def _of_one_gpu_kind(
    study: Study, machines: Machines, gpus: float, num_folds: int, warnings: list[str]
) -> tuple[Machines, str]:
    """Return the machines with the commonest kind of GPU, and the kind, if it has room for all concurrent folds.

    Folds that advance together wait for the slowest. If there is one kind, or too few of each, return all machines.
    """
    kinds = machines.gpu_kinds
    if not gpus or len(kinds) < 2:
        return machines, ""
    kind = next(iter(kinds))
    named = ", ".join(f"{number:g} {name or 'unnamed'}" for name, number in kinds.items())
    if kind and kinds[kind] >= gpus * min(num_folds, study.folds.count):
        warnings.append(f"GPUs of several kinds ({named}): only {kind} are used, since folds wait for the slowest")
        return machines.of_kind(kind), kind
    warnings.append(f"GPUs of several kinds ({named}): folds that advance together wait for the slowest")
    return machines, ""


def _cpus_per_worker(study: Study, machines: Machines, gpus: float) -> float:
    """Return the CPUs of a worker: its threads; with a GPU also data-loading threads, up to its share of the node's."""
    threads = study.run.threads_per_fold
    if not gpus:
        return threads
    share = min(node.cpus / max(node.gpus / gpus, 1) for node in machines.nodes if node.gpus)
    return max(min(share, max(threads, _MAX_LOADER_THREADS)), 0.001)


def _cpus_that_fit(machines: Machines, asked: float, gpus: float, num_workers: int) -> float:
    """Return the most CPUs a worker, up to `asked` and in thousandths, with which so many workers fit."""
    shares = [node.cpus / workers for node in machines.nodes for workers in range(1, num_workers + 1)]
    choices = sorted({math.floor(1000 * share) / 1000 for share in [asked, *shares] if share <= asked}, reverse=True)
    return next((cpus for cpus in choices if cpus > 0 and machines.max_workers(cpus, gpus) >= num_workers), 0.001)


def _seconds(
    study: Study,
    machines: Machines,
    workers: Workers,
    concurrent_trials: int,
    num_trials: int,
    probe: Probe | None,
    load: Load | None,
) -> float | None:
    """Return the makespan in seconds of all cross-validations, if none is stopped; None without a probe or a load."""
    if probe is None or load is None:
        return None
    batch, epochs = study.train.batch_size, study.train.epochs_to_train
    steps = math.ceil(load.training_images / (batch * workers.team_size))
    epoch_s = steps * probe.step_s + math.ceil(load.scored_images / batch) * probe.score_s

    def slowdown(num_active: int) -> float:
        if not workers.gpus:
            return num_active * concurrent_trials * study.run.threads_per_fold / machines.cpus
        folds_per_gpu = min(
            int(1 / workers.gpus), math.ceil(num_active * concurrent_trials / max(1, int(machines.gpus)))
        )
        return folds_per_gpu * probe.busy_share if workers.gpus < 1 else 1.0

    makespan = epoch_makespan(study.folds.count, workers.num_concurrent_folds, slowdown)
    return makespan * math.ceil(num_trials / concurrent_trials) * epochs * epoch_s


def _describe(study: Study, workers: Workers) -> str:
    resources = f"{workers.gpus:g} GPU" if workers.gpus else f"{workers.cpus:g} CPU"
    kind = f" {workers.gpu_kind}" if workers.gpu_kind else ""
    plural = "s" * (workers.num_concurrent_folds > 1)
    noun = f"team{plural} of {workers.team_size} processes" if workers.team_size > 1 else f"worker{plural}"
    return f"{study.folds.count} folds on {workers.num_concurrent_folds} {noun} ({resources}{kind} each)"
