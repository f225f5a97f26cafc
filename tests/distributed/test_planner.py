"""How cross-validations lie on a cluster, by tables of resources."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eus_ray.config import Study
from eus_ray.config_file import load_study
from eus_ray.distributed.planner import Load, plan_fixed, plan_search
from eus_ray.distributed.resources import Machines, Node, Probe, of_cluster, worst
from eus_ray.errors import UserError

GIB = 1 << 30


def cluster(cpus: float, gpus: float = 0) -> Machines:
    return Machines((Node(cpus, gpus),))


def probe(busy: float = 1.0, gib: float = 10.0, step_s: float = 0.5, score_s: float = 0.2) -> Probe:
    """Figures of a fold on a GPU with 80 GiB."""
    return Probe(step_s, score_s, busy, int(gib * GIB), 80 * GIB)


def study(*overrides: str) -> Study:
    return load_study(None, overrides=overrides)


@pytest.mark.parametrize(
    ("cpus", "gpus", "overrides", "workers", "per_worker", "at_once"),
    [
        (2, 0, (), 2, (1, 0), 1),
        (10, 0, (), 5, (1, 0), 2),
        (64, 8, (), 5, (8, 1), 1),
        (64, 8, ("run.gpus_per_fold=0.5",), 5, (4, 0.5), 3),
        (2, 0, ("run.workers=5",), 5, (0.4, 0), 1),
        (16, 0, ("run.threads_per_fold=4",), 4, (4, 0), 1),
    ],
)
def test_fixed_cross_validations_take_a_worker_a_fold_where_there_is_room(
    cpus: float, gpus: float, overrides: tuple[str, ...], workers: int, per_worker: tuple[float, float], at_once: int
) -> None:
    plan = plan_fixed(study(*overrides), cluster(cpus, gpus), 3)
    assert (plan.workers.count, (plan.workers.cpus, plan.workers.gpus), plan.max_concurrent_trials) == (
        workers,
        per_worker,
        at_once,
    )


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
    assert (plan.workers.count, plan.max_concurrent_trials) == (workers, at_once)


def test_the_plan_says_where_it_helps_little() -> None:
    assert "racing has nothing to stop" in plan_search(study("run.workers=5"), cluster(8), 20).warnings[0]
    assert plan_search(study(), cluster(8), 20).warnings == ()
    assert "there is no room for more" in plan_search(study("search.concurrent=9"), cluster(2), 20).text


@pytest.mark.parametrize(
    ("session", "overrides", "said"),
    [
        (cluster(4), ("run.gpus_per_fold=1",), "run.gpus_per_fold is 1, and the cluster has 0"),
        (cluster(8, 2), ("run.workers=5",), "run.workers is 5 with 1 GPUs a fold, and the cluster has 2 GPUs"),
        (cluster(0), (), "the cluster has no CPU"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(session: Machines, overrides: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan_fixed(study(*overrides), session, 1)


# ---- GPUs, of one kind and of two -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("machines", "workers", "at_once"),
    [
        (cluster(16, 1), 1, 1),
        (cluster(32, 5), 5, 1),
        (cluster(64, 8), 5, 1),
        (Machines((Node(64, 8),) * 8), 5, 3),
        (Machines((Node(8, 1),) * 5), 5, 1),
    ],
    ids=["1 GPU", "5 GPUs", "8 GPUs", "8 x 8 GPUs", "5 machines with 1 GPU"],
)
def test_a_fold_has_a_gpu_of_its_own_where_it_fills_one(machines: Machines, workers: int, at_once: int) -> None:
    plan = plan_fixed(study(), machines, 3, probe(busy=0.9))
    assert (plan.workers.count, plan.workers.gpus, plan.max_concurrent_trials) == (workers, 1, at_once)


def test_folds_that_leave_a_gpu_idle_share_it() -> None:
    plan = plan_fixed(study(), cluster(16, 1), 1, probe(busy=0.2))
    assert (plan.workers.count, plan.workers.gpus) == (5, 0.2)
    assert plan.workers.cpus == 3.2, "five times 3.2 is the machine's 16"
    two = plan_fixed(study(), cluster(16, 2), 1, probe(busy=0.2))
    assert (two.workers.count, two.workers.gpus) == (5, 0.333), "two GPUs need three folds on one of them at most"


def test_memory_limits_how_many_folds_share_a_gpu() -> None:
    """Of 72 GiB, 23 + 1 for each fold: three fit."""
    plan = plan_fixed(study(), cluster(16, 1), 1, probe(busy=0.1, gib=23))
    assert (plan.workers.count, plan.workers.gpus) == (3, 0.333)
    assert plan.warnings == (), "nothing sooner is to be had"


def test_folds_share_a_gpu_where_they_are_done_sooner() -> None:
    """One that fills 60 % of it: alone 5 epochs; 2 at once 2 x 1.2 + 1; 3 at once 1.8 + 1.2 = 3.0, as all 5 at once."""
    assert plan_fixed(study(), cluster(16, 1), 1, probe(busy=0.6)).workers.count == 3
    settings, load = study("train.epochs=10", "train.batch_size=16"), Load(100, 20)
    plan = plan_fixed(settings, cluster(16, 1), 1, probe(busy=0.6), load)
    assert plan.seconds == pytest.approx(3.0 * 10 * 3.9)
    search = plan_search(settings, cluster(16, 1), 20, probe(busy=0.3, gib=1), load)
    assert (search.workers.count, search.workers.gpus, search.max_concurrent_trials) == (1, 0.25, 4)
    assert search.seconds == pytest.approx(5 * 5 * 10 * 3.9 * 1.2), "5 folds, 5 rounds of 4 trials, a fifth too many"


def test_packing_that_loses_is_said() -> None:
    alone = plan_fixed(study(), cluster(16, 1), 1, probe(busy=0.9))
    assert alone.workers.gpus == 1
    assert alone.warnings == ("several folds a GPU would gain little: a fold fills 90% of a GPU's time",)
    large = plan_fixed(study(), cluster(16, 1), 1, probe(busy=0.3, gib=40))
    assert large.workers.gpus == 1
    assert "a fold takes 40960 MiB of 81920" in large.warnings[0]
    forced = plan_fixed(study("run.gpus_per_fold=0.25"), cluster(16, 1), 1, probe(busy=0.8, gib=30))
    assert forced.workers.gpus == 0.25
    assert "4 folds a GPU may not fit: each takes about 31744 MiB of 81920" in forced.warnings
    assert any("will take turns: one alone fills 80% of its time" in line for line in forced.warnings)


def test_workers_that_idle_are_said_and_how_many_would_not() -> None:
    (line,) = plan_fixed(study(), cluster(2), 1).warnings
    assert "5 folds on 2 workers take 3 rounds, and the last one leaves 1 of them idle; run.workers = 3" in line
    (line,) = plan_fixed(study(), cluster(24, 3), 1).warnings
    assert "5 folds on 3 workers take 2 rounds, and the last one leaves 1 of them idle" in line
    assert "run.workers" not in line, "a fold fills its GPU"


def test_folds_that_wait_for_each_other_take_gpus_of_one_kind() -> None:
    mixed = Machines((Node(32, 5, "A100"), Node(16, 2, "T4")))
    plan = plan_fixed(study(), mixed, 1)
    assert plan.workers.gpu_kind == "A100"
    assert plan.workers.resources["accelerator_type:A100"] == 0.001
    assert "only A100 are used" in plan.warnings[0]
    few = plan_fixed(study(), Machines((Node(32, 3, "A100"), Node(16, 2, "T4"))), 1)
    assert (few.workers.count, few.workers.gpu_kind) == (5, "")
    assert "wait for the slowest" in few.warnings[0]


def test_several_gpus_a_fold_are_a_team() -> None:
    plan = plan_fixed(study("run.gpus_per_fold=2"), cluster(64, 8), 1)
    assert (plan.workers.count, plan.workers.num_concurrent_folds, plan.workers.team_size, plan.workers.gpus) == (
        8,
        4,
        2,
        1,
    )
    assert "5 folds on 4 teams of 2 processes" in plan.text
    with pytest.raises(UserError, match="above 1 it must be a whole number"):
        study("run.gpus_per_fold=1.5")


def test_no_more_threads_than_cores() -> None:
    for cpus in (1, 2, 3, 7, 64):
        for workers in (1, 3, 5):
            plan = plan_fixed(study(f"run.workers={workers}"), cluster(cpus), 3)
            assert plan.workers.cpus * plan.workers.count * plan.max_concurrent_trials <= cpus + 1e-9
    for gpus in (1, 3, 8):
        plan = plan_fixed(study(), cluster(12, gpus), 3, probe(busy=0.3))
        assert plan.workers.cpus * plan.workers.count * plan.max_concurrent_trials <= 12 + 1e-9


def test_threads_of_a_fold_fit_on_its_machine() -> None:
    """Two machines of three cores have room for one worker of two threads each, not for three of them."""
    plan = plan_fixed(study("run.threads_per_fold=2"), Machines((Node(3), Node(3))), 1)
    assert (plan.workers.count, plan.workers.cpus) == (2, 2)
    with pytest.raises(UserError, match=r"run\.threads_per_fold is 8, and the largest machine has 3 cores"):
        plan_fixed(study("run.threads_per_fold=8"), Machines((Node(3), Node(3))), 1)


def test_trials_of_one_worker_use_gpus_of_all_kinds() -> None:
    """Nobody waits for the slowest where a trial's folds are trained one after another."""
    mixed = Machines((Node(32, 3, "A100"), Node(16, 2, "V100")))
    plan = plan_search(study(), mixed, 60)
    assert (plan.max_concurrent_trials, plan.workers.gpu_kind, plan.warnings) == (5, "", ())
    together = plan_search(study("run.workers=2"), mixed, 60)
    assert (together.workers.gpu_kind, together.max_concurrent_trials) == ("A100", 1)


def test_a_plan_reckons_with_the_worst_of_all_architectures() -> None:
    smaller = replace(probe(busy=0.2, gib=30, step_s=0.7), total_bytes=40 * GIB)
    found = worst([probe(busy=0.9, gib=1, step_s=0.1), smaller])
    assert (found.busy_share, found.peak_bytes, found.step_s, found.total_bytes) == (0.9, 30 * GIB, 0.7, 40 * GIB)


def test_workers_find_a_place_on_machines_that_are_small() -> None:
    """Two machines with one core each: five workers of 0.4 CPU would be two on each, and one nowhere."""
    plan = plan_fixed(study("run.workers=5"), Machines((Node(1), Node(1))), 1)
    assert plan.workers.cpus == 0.333
    assert Machines((Node(1), Node(1))).max_workers(plan.workers.cpus, 0) >= 5


def test_the_time_that_a_plan_tells() -> None:
    """100 images in batches of 16 are 7 steps of 0.5 s, and 20 scored images 2 batches of 0.2 s: 3.9 s an epoch."""
    settings = study("train.epochs=10", "train.batch_size=16")
    load = Load(training_images=100, scored_images=20)
    plan = plan_fixed(settings, cluster(64, 8), 3, probe(), load)
    assert plan.seconds == pytest.approx(3 * 10 * 3.9), "five folds at once, three architectures one after another"
    search = plan_search(settings, cluster(64, 8), 20, probe(), load)
    assert search.seconds == pytest.approx(5 * 3 * 10 * 3.9), "five folds in turn, 20 trials 8 at a time"
    shared = plan_fixed(study("train.epochs=10", "run.workers=5"), cluster(2), 1, Probe(0.5, 0.2, 1, 0, 0), load)
    assert shared.seconds == pytest.approx(10 * 3.9 * 5 / 2), "five workers share two cores"


def test_the_machines_of_a_cluster() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0, "accelerator_type:A100": 1.0, "memory": 1e9}},
        {"Alive": True, "Resources": {"CPU": 4.0, "node:10.0.0.1": 1.0}},
        {"Alive": False, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"memory": 1e9}},
    ]
    machines = of_cluster(nodes)
    assert machines == Machines((Node(8, 2, "A100"), Node(4)))
    assert (machines.cpus, machines.gpus, machines.gpu_kinds) == (12, 2, {"A100": 2.0})
