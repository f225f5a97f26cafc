"""How a study's cross-validations lie on the machines: pure functions of a table of nodes and a probe's figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from eus_ray.config import Order, Study
from eus_ray.data.dataset import Dataset
from eus_ray.distributed.resources import Machines, Probe
from eus_ray.distributed.trainable import Workers
from eus_ray.errors import UserError

_MEMORY_SHARE = 0.9
"""Of a GPU's memory, that folds may fill together."""
_CONTEXT_BYTES = 1 << 30
"""What a process takes of a GPU before it computes anything."""
_MOST_LOADERS = 8
_WORTH_IT = 1.15
"""Folds share a GPU where they are done so many times as soon: each is one more process to start."""


@dataclass(frozen=True)
class Load:
    """How much there is to train: of the folds' images, the mean numbers."""

    training_images: int
    scored_images: int
    """Images that each epoch scores: validation images of a nested search; 0 where none are."""


def load_of(dataset: Dataset, *, searching: bool = False) -> Load:
    """Return how much a cross-validation of a data set trains.

    Args:
        dataset: The study's data.
        searching: Whether it is a trial of a search; a nested one judges a fold's epochs by a share of its training
            images.
    """
    images, folds, search = len(dataset.frame), dataset.study.folds.count, dataset.study.search
    validated = 1 / search.inner_folds if searching and search.protocol == "nested" else 0.0
    training = images * (folds - 1) / folds
    return Load(round(training * (1 - validated)), round(training * validated))


@dataclass(frozen=True)
class Plan:
    """Workers of each cross-validation, how many of these run side by side, and that in words."""

    workers: Workers
    num_at_once: int
    text: str
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    """About how long it will take, at most; None without a probe."""


def plan_fixed(
    study: Study, machines: Machines, count: int, probe: Probe | None = None, load: Load | None = None
) -> Plan:
    """`count` cross-validations, each to finish soonest: a worker a fold where there is room.

    Raises `UserError` where what the study asks for is more than the machines have.
    """
    workers, room, warnings = _workers(study, machines, study.folds.count, 1, probe)
    at_once = max(1, min(room, count))
    side = "" if count == 1 else f", {at_once} of {count} architectures at a time"
    text = f"{_describe(study, workers)}, {study.run.order_of(Order.ABREAST)}{side}"
    return Plan(
        workers, at_once, text, tuple(warnings), _seconds(study, machines, workers, at_once, count, probe, load)
    )


def plan_search(
    study: Study, machines: Machines, trials: int, probe: Probe | None = None, load: Load | None = None
) -> Plan:
    """`trials` cross-validations, as many side by side as there is room for: one worker each unless told otherwise.

    Raises `UserError` where what the study asks for is more than the machines have.
    """
    workers, room, warnings = _workers(study, machines, 1, trials, probe)
    wanted = room if study.search.concurrent == "auto" else study.search.concurrent
    at_once = max(1, min(room, wanted, trials))
    text = f"{_describe(study, workers)}, {at_once} trial{'s' * (at_once > 1)} at once"
    if isinstance(study.search.concurrent, int) and study.search.concurrent > room:
        text += f" (search.concurrent asks for {study.search.concurrent}; there is no room for more)"
    if study.search.scheduler == "racing" and workers.places >= study.folds.count:
        warnings.append(
            "all folds of a trial run at once, so racing has nothing to stop before its end: "
            "fewer run.workers, or search.scheduler = asha, would save time"
        )
    seconds = _seconds(study, machines, workers, at_once, trials, probe, load)
    return Plan(workers, at_once, text, tuple(warnings), seconds)


def _workers(
    study: Study, machines: Machines, wanted: int, side_by_side: int, probe: Probe | None
) -> tuple[Workers, int, list[str]]:
    """The workers of a cross-validation that trains `wanted` folds at once unless the study says how many, how many
    such cross-validations there is room for, up to `side_by_side`, and what a person should know."""
    run, folds = study.run, study.folds.count
    if machines.cpus <= 0:
        raise UserError(
            "the cluster has no CPU for workers; start it with some (ray start --num-cpus), or join another"
        )
    warnings: list[str] = []
    gpus = _gpus_of_a_fold(study, machines, wanted * side_by_side, probe, warnings)
    together = wanted if run.workers == "auto" else run.workers
    kind = ""
    if together > 1 or gpus > 1:  # a fold that trains alone waits for nobody
        machines, kind = _one_kind(study, machines, gpus, together, warnings)
    team = max(1, round(gpus)) if gpus > 1 else 1
    each = 1.0 if team > 1 else gpus
    cores = machines.cpus / run.threads_per_fold
    most = machines.room(_ANY_CPU, each) // team if gpus else machines.room(run.threads_per_fold, 0)
    if run.threads_per_fold > (largest := max(node.cpus for node in machines.nodes)):
        raise UserError(
            f"run.threads_per_fold is {run.threads_per_fold}, and the largest machine has {largest:g} cores; lower it"
        )
    places = min(run.workers if run.workers != "auto" else max(1, min(wanted, most)), folds)
    if gpus and places > most:
        raise UserError(
            f"run.workers is {places} with {gpus:g} GPUs a fold, and the cluster has {machines.gpus:g} GPUs; "
            "lower run.workers or run.gpus_per_fold"
        )
    packed = run.gpus_per_fold == "auto" and 0 < gpus < 1  # then that was weighed, and is the soonest
    if run.workers == "auto" and 1 < places < folds and folds % places and not packed:
        rounds = -(-folds // places)
        better = _places(wanted, wanted, places, lambda active: active / cores) if not gpus else places
        cure = f"; run.workers = {better} would share the cores and end sooner" if better > places else ""
        warnings.append(
            f"{folds} folds on {places} workers take {rounds} rounds, and the last one leaves "
            f"{places * rounds - folds} of them idle{cure}"
        )
    count = places * team
    # more workers than cores share them: each then asks Ray for a part of one
    cpus = _cpus_that_fit(machines, _cpus_of_a_worker(study, machines, each), each, count)
    room = max(1, machines.room(cpus, each) // count)
    least = min((run.min_workers or places) * team, count)
    return Workers(count, least, cpus, each, team, kind), room, warnings


def _gpus_of_a_fold(study: Study, machines: Machines, wanted: int, probe: Probe | None, warnings: list[str]) -> float:
    """GPUs of a fold: what the study says; else one, or a part of one where folds outnumber GPUs that idle."""
    asked = study.run.gpus_per_fold
    if asked != "auto":
        if asked > machines.gpus:
            raise UserError(
                f"run.gpus_per_fold is {asked:g}, and the cluster has {machines.gpus:g}; set it to 0 or less"
            )
        if 0 < asked < 1 and probe is not None:
            warnings += _packing_warnings(asked, probe)
        return float(asked)
    if not machines.gpus:
        return 0.0
    if probe is None or not probe.of_bytes or machines.gpus >= wanted:
        return 1.0
    devices, busy = int(machines.gpus), max(probe.busy, 0.01)
    by_memory = int(_MEMORY_SHARE * probe.of_bytes / (probe.device_bytes + _CONTEXT_BYTES))
    at_once = _places(wanted, devices * max(1, by_memory), devices, lambda active: -(-active // devices) * busy)
    packed = -(-at_once // devices)
    if packed == 1:
        why = (
            f"a fold takes {probe.device_bytes >> 20} MiB of {probe.of_bytes >> 20}"
            if by_memory < 2
            else f"a fold fills {probe.busy:.0%} of a GPU's time"
        )
        warnings.append(f"several folds a GPU would gain little: {why}")
    return math.floor(1000 / packed) / 1000


def _places(folds: int, most: int, apart: int, crowding: Callable[[int], float]) -> int:
    """How many of `folds` to train at once, up to `most`: soonest done, and the fewest that are.

    `apart` of them have a core or a GPU each. As many it stays where more would hardly be sooner.
    """
    counts = range(1, min(folds, most) + 1)
    duration = {places: epoch_of_folds(folds, places, crowding) for places in counts}
    best, plain = min(duration.values()), max(1, min(apart, len(duration)))
    if duration[plain] <= _WORTH_IT * best:
        return plain
    return next(places for places in counts if duration[places] <= 1.05 * best)


def epoch_of_folds(folds: int, places: int, crowding: Callable[[int], float]) -> float:
    """How long `folds` folds take for an epoch, one alone taking 1, when `places` are trained at once.

    They are dealt out evenly, and all active ones slow down alike: to `crowding(active)` times, where that is over 1.

    >>> epoch_of_folds(5, 2, lambda active: active / 2), epoch_of_folds(5, 3, lambda active: active / 2)
    (3.0, 2.5)
    """
    loads = [len(range(place, folds, places)) for place in range(places)]
    duration, done = 0.0, 0
    for load in sorted(set(loads)):
        duration += (load - done) * max(1.0, crowding(sum(other >= load for other in loads)))
        done = load
    return duration


def _packing_warnings(asked: float, probe: Probe) -> list[str]:
    packed = int(1 / asked + 1e-9)
    lines = []
    if packed * (probe.device_bytes + _CONTEXT_BYTES) > _MEMORY_SHARE * probe.of_bytes > 0:
        lines.append(
            f"{packed} folds a GPU may not fit: each takes about {(probe.device_bytes + _CONTEXT_BYTES) >> 20} MiB of "
            f"{probe.of_bytes >> 20}"
        )
    if packed * probe.busy > 1.5:
        lines.append(
            f"{packed} folds a GPU will take turns: one alone fills {probe.busy:.0%} of its time; "
            "run.gpus_per_fold = 1 would be no slower"
        )
    return lines


def _one_kind(study: Study, machines: Machines, gpus: float, wanted: int, warnings: list[str]) -> tuple[Machines, str]:
    """The machines of the commonest kind of GPU where there are several kinds and it has room for all folds.

    Folds that advance together wait for the slowest.
    """
    kinds = machines.gpu_kinds
    if not gpus or len(kinds) < 2:
        return machines, ""
    kind = next(iter(kinds))
    named = ", ".join(f"{number:g} {name or 'unnamed'}" for name, number in kinds.items())
    if kind and kinds[kind] >= gpus * min(wanted, study.folds.count):
        warnings.append(f"GPUs of several kinds ({named}): only {kind} are used, since folds wait for the slowest")
        return machines.of_kind(kind), kind
    warnings.append(f"GPUs of several kinds ({named}): folds that advance together wait for the slowest")
    return machines, ""


_ANY_CPU = 1e-6


def _cpus_of_a_worker(study: Study, machines: Machines, gpus: float) -> float:
    """CPUs of a worker: its arithmetic's threads; beside a GPU also threads that load, its share of the node's."""
    threads = study.run.threads_per_fold
    if not gpus:
        return threads
    share = min(node.cpus / max(node.gpus / gpus, 1) for node in machines.nodes if node.gpus)
    return max(min(share, max(threads, _MOST_LOADERS)), 0.001)


def _cpus_that_fit(machines: Machines, wanted: float, gpus: float, count: int) -> float:
    """The most CPUs, up to `wanted`, with which so many workers find a place, in thousandths."""
    shares = [node.cpus / workers for node in machines.nodes for workers in range(1, count + 1)]
    choices = sorted({math.floor(1000 * share) / 1000 for share in [wanted, *shares] if share <= wanted}, reverse=True)
    return next((cpus for cpus in choices if cpus > 0 and machines.room(cpus, gpus) >= count), 0.001)


def _seconds(
    study: Study, machines: Machines, workers: Workers, at_once: int, count: int, probe: Probe | None, load: Load | None
) -> float | None:
    """Seconds of all cross-validations when none is stopped; folds that share cores or a GPU share its speed."""
    if probe is None or load is None:
        return None
    batch, epochs = study.train.batch_size, study.train.epochs_to_train
    steps = math.ceil(load.training_images / (batch * workers.team_size))
    epoch_s = steps * probe.step_s + math.ceil(load.scored_images / batch) * probe.score_s

    def crowding(active: int) -> float:
        if not workers.gpus:
            return active * at_once * study.run.threads_per_fold / machines.cpus
        on_one = min(int(1 / workers.gpus), -(-active * at_once // max(1, int(machines.gpus))))
        return on_one * probe.busy if workers.gpus < 1 else 1.0

    epoch_of_all = epoch_of_folds(study.folds.count, workers.places, crowding) * math.ceil(count / at_once)
    return epoch_of_all * epochs * epoch_s


def _describe(study: Study, workers: Workers) -> str:
    where = f"{workers.gpus:g} GPU" if workers.gpus else f"{workers.cpus:g} CPU"
    kind = f" {workers.gpu_kind}" if workers.gpu_kind else ""
    team = f" of {workers.team_size} processes" if workers.team_size > 1 else ""
    plural = "s" * (workers.places > 1)
    what = f"team{plural}{team}" if workers.team_size > 1 else f"worker{plural}"
    return f"{study.folds.count} folds on {workers.places} {what} ({where}{kind} each)"
