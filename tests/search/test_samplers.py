"""What a search tries next."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.config import ARCHITECTURES, SearchSettings, Study
from eus_ray.config_file import with_settings
from eus_ray.search.samplers import Tried, propose
from eus_ray.search.space import Dimension, Space
from eus_ray.search.space_loader import load_space
from eus_ray.store import TrialState

SMALL = Space(
    "",
    {},
    (
        Dimension("optim.optimizer", "choice", choices=("sgd", "adamw")),
        Dimension("optim.momentum", "float", 0.8, 0.9, step=0.05, when={"optim.optimizer": ("sgd",)}),
        Dimension("optim.schedule", "choice", choices=("steps", "cosine")),
        Dimension("optim.milestones", "choice", choices=([5, 20], [30]), when={"optim.schedule": ("steps",)}),
        Dimension("train.batch_size", "int", 4, 8, step=4),
    ),
)
"""(3 momenta or adamw) x (2 milestones or cosine) x 2 batch sizes: 4 * 3 * 2 = 24 points."""

CONTINUOUS = Space(
    "",
    {},
    (
        Dimension("optim.optimizer", "choice", choices=("sgd", "adamw")),
        Dimension("optim.lr", "log_float", 1e-5, 1e-1),
        Dimension("optim.momentum", "float", 0.8, 0.99, when={"optim.optimizer": ("sgd",)}),
        Dimension("loss.level_weights", "choice", choices=([1.0, 1.0, 1.0, 1.0], [1.0, 0.5, 0.25, 0.125])),
    ),
)


def brute_force() -> list[dict[str, Any]]:
    optimizers = [{"optim.optimizer": "adamw"}]
    optimizers += [{"optim.optimizer": "sgd", "optim.momentum": momentum} for momentum in (0.8, 0.85, 0.9)]
    schedules = [{"optim.schedule": "cosine"}]
    schedules += [{"optim.schedule": "steps", "optim.milestones": milestones} for milestones in ([5, 20], [30])]
    batches = [{"train.batch_size": 4}, {"train.batch_size": 8}]
    return [one | two | three for one, two, three in itertools.product(optimizers, schedules, batches)]


def text(points: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(point, sort_keys=True) for point in points)


def score(params: dict[str, Any]) -> float:
    """Best at a learning rate of 0.01 with adamw; any stable function of the setting would do."""
    distance = abs(params.get("optim.lr", 1e-2) / 1e-2 - 1)
    return 0.8 - min(0.3, 0.05 * distance) + 0.05 * (params.get("optim.optimizer") == "adamw")


def ended(number: int, params: dict[str, Any]) -> Tried:
    """Every third trial is pruned, every seventh fails."""
    value = score(params)
    if number % 7 == 6:
        return Tried(number, params, TrialState.FAILED, None, ((1, value),))
    if number % 3 == 2:
        return Tried(number, params, TrialState.PRUNED, value, ((1, value - 0.01), (2, value)))
    return Tried(number, params, TrialState.COMPLETE, value, tuple((fold, value) for fold in (1, 2, 3)))


def search(space: Space, options: SearchSettings, trials: int, history: list[Tried] | None = None) -> list[Tried]:
    history = list(history or [])
    for number in range(len(history), trials):
        params = propose(space, options, [], number, history)
        if params is None:
            break
        history.append(ended(number, params))
    return history


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_whatever_is_proposed_can_be_trained(arch: str, sampler: str) -> None:
    study = Study().for_model(arch)
    space = load_space(study, lambda _: None)
    options = SearchSettings(sampler=sampler, seed=3)
    for trial in search(space, options, 24):
        assert space.contains(trial.params)
        trained = with_settings(study, trial.params, "test")
        assert trained.model.arch == arch
        json.dumps(trial.params)  # plain values


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_space_and_history_gives_a_new_point_of_the_space(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 14))
    options = SearchSettings(
        sampler=data.draw(st.sampled_from(["tpe", "random", "grid"])), seed=data.draw(st.integers(0, 2**31))
    )
    history: list[Tried] = []
    states = tuple(TrialState)
    value = st.floats(-1, 1) | st.just(math.nan)
    for earlier in range(number):
        params = propose(CONTINUOUS, SearchSettings(sampler="random", seed=options.seed), [], earlier, history)
        assert params is not None
        state = data.draw(st.sampled_from(states))
        steps = tuple((fold + 1, data.draw(value)) for fold in range(data.draw(st.integers(0, 2))))
        worth = {TrialState.COMPLETE: st.floats(-1, 1), TrialState.PRUNED: st.none() | value}.get(state, st.none())
        history.append(Tried(earlier, params, state, data.draw(worth), steps))
    point = propose(CONTINUOUS, options, [], number, history)
    assert point is not None
    assert CONTINUOUS.contains(point)
    assert point not in [trial.params for trial in history]
    assert point == propose(CONTINUOUS, options, [], number, history)


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_finite_space_is_tried_through_once_each(sampler: str) -> None:
    options = SearchSettings(sampler=sampler, grid_points=3, seed=5)
    history = search(SMALL, options, 60)
    assert text([trial.params for trial in history]) == text(brute_force())
    assert propose(SMALL, options, [], 24, history) is None


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_range_of_one_value_is_a_range(sampler: str) -> None:
    one = Dimension("optim.lr", "float", 0.1, 0.1)
    space = Space("", {}, (one, Dimension("train.batch_size", "int", 4, 4, step=1), SMALL.dimensions[0]))
    history = search(space, SearchSettings(sampler=sampler), 9)
    fixed = {"optim.lr": 0.1, "train.batch_size": 4}
    assert text([trial.params for trial in history]) == text(
        [{**fixed, "optim.optimizer": "sgd"}, {**fixed, "optim.optimizer": "adamw"}]
    )


def test_a_setting_is_the_same_whether_its_numbers_are_whole_or_not() -> None:
    options = SearchSettings(sampler="grid")
    history = [
        Tried(number, {**point, "train.batch_size": float(point["train.batch_size"])}, TrialState.RUNNING, None)
        for number, point in enumerate(brute_force()[:-1])
    ]
    assert propose(SMALL, options, [], 23, history) == brute_force()[-1]


def test_trials_outside_the_space_do_not_disturb() -> None:
    odd: list[dict[str, Any]] = [{"optim.lr": 5.0}, {"optim.optimizer": "adamw"}, {"model.width": 3}, {}]
    history = [ended(number, params) for number, params in enumerate(odd)]
    for sampler in ("tpe", "gp", "random", "grid"):
        point = propose(CONTINUOUS, SearchSettings(sampler=sampler), [], 4, history)
        assert point is not None
        assert CONTINUOUS.contains(point)


def test_the_first_trials_come_first_and_once() -> None:
    paper, default = brute_force()[3], brute_force()[7]
    options = SearchSettings(sampler="random")
    history: list[Tried] = []
    for number in range(3):
        params = propose(SMALL, options, [paper, dict(paper), default], number, history)
        assert params is not None
        history.append(Tried(number, params, TrialState.RUNNING, None))
    assert [trial.params for trial in history[:2]] == [paper, default]
    assert history[2].params not in (paper, default)
    everything = search(SMALL, options, 60, history)
    assert text([trial.params for trial in everything]) == text(brute_force())


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "gp"])
def test_a_resumed_search_proposes_the_same(sampler: str) -> None:
    options = SearchSettings(sampler=sampler, seed=11)
    unbroken = search(CONTINUOUS, options, 14)
    for killed_at in (12,) if sampler == "gp" else (1, 12, 13):
        stored = json.loads(json.dumps([asdict(trial) for trial in unbroken[:killed_at]]))
        for row in stored:
            row |= {"state": TrialState(row["state"]), "steps": tuple(map(tuple, row["steps"]))}
        again = [Tried(**row) for row in stored]
        assert search(CONTINUOUS, options, 14, again) == unbroken


def test_another_process_proposes_the_same() -> None:
    """Python's string hashing differs between processes; proposals must not."""
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.search.test_samplers import *\n"
        "print(json.dumps([t.params for t in search(CONTINUOUS, SearchSettings(seed=2), 14)]))"
    )
    root = str(Path(__file__).resolve().parents[2])
    answers = [
        subprocess.run(
            [sys.executable, "-c", program, root],
            capture_output=True, text=True, check=True, cwd=root, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert answers[0] == answers[1]
    assert json.loads(answers[0]) == [trial.params for trial in search(CONTINUOUS, SearchSettings(seed=2), 14)]


def test_other_seeds_and_numbers_propose_otherwise() -> None:
    lrs = [
        propose(CONTINUOUS, SearchSettings(sampler="random", seed=seed), [], number, [])
        for seed in range(5)
        for number in range(5)
    ]
    assert len({point["optim.lr"] for point in lrs if point}) == 25


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_learns_where_the_good_settings_are(sampler: str) -> None:
    """Also where, as in a race, only one trial in five is complete."""
    options = SearchSettings(sampler=sampler, seed=1)
    history = []
    for number in range(14):
        params = propose(CONTINUOUS, SearchSettings(sampler="random", seed=1), [], number, [])
        assert params is not None
        value = score(params)
        state = TrialState.PRUNED if number % 5 else TrialState.COMPLETE
        history.append(Tried(number, params, state, value, ((1, value),)))
    proposed = [propose(CONTINUOUS, options, [], number, history) for number in range(14, 18)]
    chance = [propose(CONTINUOUS, SearchSettings(sampler="random"), [], number, history) for number in range(14, 44)]
    assert mean(score(p) for p in proposed if p) > mean(score(p) for p in chance if p) + 0.03


def test_gp_hears_of_pruned_trials_and_not_of_failed_ones() -> None:
    params = [propose(CONTINUOUS, SearchSettings(sampler="random"), [], number, []) for number in range(12)]
    gp, chance = SearchSettings(sampler="gp"), SearchSettings(sampler="random")
    pruned = [Tried(number, point, TrialState.PRUNED, score(point)) for number, point in enumerate(params) if point]
    failed = [replace(trial, state=TrialState.FAILED, value=None) for trial in pruned]
    assert propose(CONTINUOUS, gp, [], 12, failed) == propose(CONTINUOUS, chance, [], 12, failed)
    assert propose(CONTINUOUS, gp, [], 12, pruned) != propose(CONTINUOUS, chance, [], 12, pruned)


def test_a_grid_has_the_ends_and_the_middle_in_an_order_of_its_seed() -> None:
    history = search(CONTINUOUS, SearchSettings(sampler="grid", grid_points=3), 100)
    points = [trial.params for trial in history]
    assert len(points) == 2 * 3 * (1 + 3)  # level weights x learning rates x (adamw, or a momentum of sgd)
    assert sorted({point["optim.lr"] for point in points}) == pytest.approx([1e-5, 1e-3, 1e-1], rel=1e-12)
    other = [trial.params for trial in search(CONTINUOUS, SearchSettings(sampler="grid", seed=1), 100)]
    assert points != other
    assert text(points) == text(other)


def test_a_grid_too_large_to_write_down_is_walked_all_the_same() -> None:
    dimensions = tuple(Dimension(f"x{index}", "float", 0, 1) for index in range(40))
    space = Space("", {}, dimensions)
    history = search(space, SearchSettings(sampler="grid"), 5)
    assert len({json.dumps(trial.params) for trial in history}) == 5
    assert {value for trial in history for value in trial.params.values()} == {0, 0.5, 1}


def test_proposing_is_quick_and_leaves_chance_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing printed, Python's and NumPy's own generators untouched, 200 trials of history in a moment."""
    import numpy as np

    space = load_space(Study().for_model("daf_net"), lambda _: None)
    history = []
    for number in range(200):
        params = propose(space, SearchSettings(sampler="random"), [], number, [])
        assert params is not None
        history.append(ended(number, params))
    states = random.getstate(), np.random.get_state()[1].tolist()
    started = time.process_time()
    assert propose(space, SearchSettings(), [], 200, history) is not None
    assert time.process_time() - started < 2
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert capfd.readouterr() == ("", "")
