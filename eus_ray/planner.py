"""How a study's cross-validations lie on the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from eus_ray.config import Study, UserError
from eus_ray.ray_session import Session
from eus_ray.trial import Workers


@dataclass(frozen=True)
class Plan:
    """Workers of each cross-validation, how many of these run side by side, and that in words."""

    workers: Workers
    at_once: int
    text: str


def plan_fixed(study: Study, session: Session, count: int) -> Plan:
    """`count` cross-validations, each to finish soonest: a worker a fold where there is room."""
    workers, room = _workers(study, session, study.folds.count)
    at_once = max(1, min(room, count))
    side = "" if count == 1 else f", {at_once} of {count} architectures at a time"
    return Plan(workers, at_once, f"{_describe(study, workers)}, {study.run.order_of('abreast')}{side}")


def plan_search(study: Study, session: Session, trials: int) -> Plan:
    """`trials` cross-validations, as many side by side as there is room for: one worker each unless told otherwise."""
    workers, room = _workers(study, session, 1)
    wanted = room if study.search.concurrent == "auto" else study.search.concurrent
    at_once = max(1, min(room, wanted, trials))
    text = f"{_describe(study, workers)}, {at_once} trial{'s' * (at_once > 1)} at once"
    if isinstance(study.search.concurrent, int) and study.search.concurrent > room:
        text += f" (search.concurrent asks for {study.search.concurrent}; there is no room for more)"
    if study.search.scheduler == "racing" and workers.count >= study.folds.count:
        text += "; all folds of a trial run at once, so racing has nothing to stop before its end: "
        text += "fewer run.workers, or search.scheduler = asha, would save time"
    return Plan(workers, at_once, text)


def _workers(study: Study, session: Session, wanted: int) -> tuple[Workers, int]:
    """The workers of a cross-validation, `wanted` unless the study says, and how many of them there is room for.

    Raises `UserError` where what the study asks for is more than the cluster has.
    """
    run, folds = study.run, study.folds.count
    gpus = run.gpus_per_fold if run.gpus_per_fold != "auto" else (1.0 if session.gpus else 0.0)
    if gpus > session.gpus:
        raise UserError(f"run.gpus_per_fold is {gpus:g}, and the cluster has {session.gpus:g}; set it to 0 or less")
    if session.cpus <= 0:
        raise UserError(
            "the cluster has no CPU for workers; start it with some (ray start --num-cpus), or join another"
        )
    most = session.gpus / gpus if gpus else session.cpus / run.threads_per_fold
    count = run.workers if run.workers != "auto" else max(1, min(wanted, int(most)))
    count = min(count, folds)
    if gpus and count > most + 1e-9:
        raise UserError(
            f"run.workers is {count} with {gpus:g} GPUs a fold, and the cluster has {session.gpus:g} GPUs; "
            "lower run.workers or run.gpus_per_fold"
        )
    # more workers than cores share them: each then asks Ray for a part of one
    cpus = int(min(run.threads_per_fold, session.cpus / count) * 1000) / 1000
    room = min(session.cpus / (cpus * count), session.gpus / (gpus * count) if gpus else float("inf"))
    least = min(run.min_workers or count, count)
    return Workers(count, least, cpus, gpus), max(1, int(room + 1e-9))


def _describe(study: Study, workers: Workers) -> str:
    where = f"{workers.gpus:g} GPU" if workers.gpus else f"{workers.cpus:g} CPU"
    return f"{study.folds.count} folds on {workers.count} worker{'s' * (workers.count > 1)} ({where} each)"
