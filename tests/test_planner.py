"""How cross-validations lie on a cluster, by tables of resources."""

from __future__ import annotations

from pathlib import Path

import pytest

from eus_ray.config import Study, UserError
from eus_ray.planner import plan_fixed, plan_search
from eus_ray.ray_session import Session
from eus_ray.study_file import load_study


def cluster(cpus: float, gpus: float = 0) -> Session:
    return Session(Path("scratch"), cpus, gpus, 1 << 30)


def study(*overrides: str) -> Study:
    return load_study(None, overrides=overrides)


@pytest.mark.parametrize(
    ("cpus", "gpus", "overrides", "workers", "per_worker", "at_once"),
    [
        (2, 0, (), 2, (1, 0), 1),
        (10, 0, (), 5, (1, 0), 2),
        (64, 8, (), 5, (1, 1), 1),
        (64, 8, ("run.gpus_per_fold=0.5",), 5, (1, 0.5), 3),
        (2, 0, ("run.workers=5",), 5, (0.4, 0), 1),
        (16, 0, ("run.threads_per_fold=4",), 4, (4, 0), 1),
    ],
)
def test_fixed_cross_validations_take_a_worker_a_fold_where_there_is_room(
    cpus: float, gpus: float, overrides: tuple[str, ...], workers: int, per_worker: tuple[float, float], at_once: int
) -> None:
    plan = plan_fixed(study(*overrides), cluster(cpus, gpus), 3)
    assert (plan.workers.count, (plan.workers.cpus, plan.workers.gpus), plan.at_once) == (workers, per_worker, at_once)


@pytest.mark.parametrize(
    ("cpus", "gpus", "overrides", "workers", "at_once"),
    [
        (2, 0, (), 1, 2),
        (64, 8, (), 1, 8),
        (64, 8, ("search.concurrent=3",), 1, 3),
        (64, 8, ("run.workers=5",), 5, 1),
        (64, 1, ("run.gpus_per_fold=0.25",), 1, 4),
        (256, 64, (), 1, 20),
    ],
)
def test_searches_take_one_worker_a_trial(
    cpus: float, gpus: float, overrides: tuple[str, ...], workers: int, at_once: int
) -> None:
    plan = plan_search(study(*overrides), cluster(cpus, gpus), 20)
    assert (plan.workers.count, plan.at_once) == (workers, at_once)


def test_the_plan_says_where_it_helps_little() -> None:
    assert "racing has nothing to stop" in plan_search(study("run.workers=5"), cluster(8), 20).text
    assert "racing" not in plan_search(study(), cluster(8), 20).text
    assert "there is no room for more" in plan_search(study("search.concurrent=9"), cluster(2), 20).text


@pytest.mark.parametrize(
    ("session", "overrides", "said"),
    [
        (cluster(4), ("run.gpus_per_fold=1",), "run.gpus_per_fold is 1, and the cluster has 0"),
        (cluster(8, 2), ("run.workers=5",), "run.workers is 5 with 1 GPUs a fold, and the cluster has 2 GPUs"),
        (cluster(0), (), "the cluster has no CPU"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(session: Session, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan_fixed(study(*overrides), session, 1)
