"""Samplers: which setting a search tries next, by Optuna or from a grid.

`propose` is a function of the search's own history and nothing else: the same trials give the same next setting, in
this process or in the next one after a crash.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from eus_ray.config import SearchSettings
from eus_ray.search.space import Dimension, Space
from eus_ray.store import TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)

_SAMPLER_ATTEMPTS, _ATTEMPTS = 5, 100
"""How often the sampler is asked for a setting that is new, and how often when chance has taken its place."""
_WALK = 100_000
"""Cells of a grid that a walk visits at most."""
_STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}
_WITH_VALUE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Tried:
    """A trial of a search as the sampler knows it."""

    number: int
    params: dict[str, Any]
    """Values of the active dimensions by dotted name, lists for tuples."""
    state: TrialState
    value: float | None
    """The criterion of a complete trial, the fair value of a pruned one; more is better."""
    steps: tuple[tuple[int, float], ...] = ()
    """(folds done, fair value then), rising."""


def propose(
    space: Space,
    settings: SearchSettings,
    first: Sequence[Mapping[str, Any]],
    number: int,
    history: Sequence[Tried],
) -> dict[str, Any] | None:
    """Return the setting of the next trial, which no trial of the history has.

    `tpe` knows a pruned trial as pruned, so that it ranks below every complete one, and keeps away from running ones.
    `gp` would know complete trials alone, and a race prunes most: it is told a pruned trial's fair value as if it were
    complete; a dimension that is not active has its lowest or first value there. Neither hears of failed trials. `grid`
    takes the points of a grid in a random order.

    Args:
        space: What is searched.
        settings: Of the search; the sampler is seeded by (`search.seed`, `number`).
        first: Settings that come before all others, in order.
        number: Of the trial, from 0.
        history: Every earlier trial in order of number, running and failed ones too.

    Returns:
        Values of the active dimensions by dotted name; None if there is nothing new left.
    """
    tried = {_key(trial.params) for trial in history}
    for point in first:
        if _key(point) not in tried:
            return dict(point)
    if settings.sampler == "grid":
        values = [dimension.spread(settings.grid_points) for dimension in space.dimensions]
        return _first_new(_walk(space, values, settings.seed), tried)
    distributions = _distributions(space)
    study = _study(space, settings.sampler, history)
    for attempt in range(_ATTEMPTS):
        name = settings.sampler if attempt < _SAMPLER_ATTEMPTS else "random"
        study.sampler = _sampler(name, _seed(settings.seed, number, attempt))
        # Trials asked in vain stay in the study as running: TPE keeps away from them the next time.
        asked = study.ask(distributions).params
        point = space.active({one.name: _decoded(one, asked[one.name]) for one in space.dimensions})
        if _key(point) not in tried:
            return point
    # A space with few points left: chance may miss one, a walk over all of them does not.
    if any(dimension.count() is None for dimension in space.dimensions):
        return None
    everything = [dimension.spread(max(2, dimension.count() or 0)) for dimension in space.dimensions]
    return _first_new(_walk(space, everything, _seed(settings.seed, number, _ATTEMPTS)), tried)


def _key(point: Mapping[str, Any]) -> Hashable:
    """Equal for equal settings, whether a number is 1 or 1.0."""
    return frozenset((name, tuple(value) if isinstance(value, list) else value) for name, value in point.items())


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _first_new(points: Iterator[dict[str, Any]], tried: set[Hashable]) -> dict[str, Any] | None:
    return next((point for point in points if _key(point) not in tried), None)


def _walk(space: Space, values: Sequence[Sequence[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """The points of a grid in a random order; of a vast grid so many as nobody tries.

    Cells that differ in inactive dimensions alone are one point, which comes again.
    """
    num_cells, chance = math.prod(len(some) for some in values), random.Random(seed)
    small = num_cells <= _WALK
    cells = chance.sample(range(num_cells), num_cells) if small else (chance.randrange(num_cells) for _ in range(_WALK))
    for cell in cells:
        point = {}
        for dimension, some in zip(space.dimensions, values, strict=True):
            cell, index = divmod(cell, len(some))
            point[dimension.name] = some[index]
        yield space.active(point)


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`, since 2021
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _study(space: Space, sampler: str, history: Sequence[Tried]) -> optuna.Study:
    """The history in memory. Trials outside the space (another study's best, say) are not the sampler's to learn."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    if sampler == "random":
        return study
    known = [trial for trial in history if space.contains(trial.params)]
    if sampler == "gp":
        known = [_all_active(space, trial) for trial in known]
    study.add_trials(frozen_trials(space, known))
    return study


def _all_active(space: Space, trial: Tried) -> Tried:
    """A trial with a value for every dimension, complete if it has a value of its own."""
    lowest = {one.name: one.choices[0] if one.kind == "choice" else one.low for one in space.dimensions}
    state = TrialState.COMPLETE if trial.state is TrialState.PRUNED and _finite(trial.value) else trial.state
    return Tried(trial.number, lowest | trial.params, state, trial.value)


def frozen_trials(space: Space, history: Iterable[Tried]) -> list[FrozenTrial]:
    """Return trials as Optuna has them. Values outside their range, which it would refuse, become attributes."""
    distributions = _distributions(space)
    frozen = []
    for trial in history:
        inside = {
            one.name: one
            for one in space.dimensions
            if one.name in trial.params and one.contains(trial.params[one.name])
        }
        frozen.append(
            create_trial(
                state=_STATES[trial.state],
                value=trial.value if trial.state in _WITH_VALUE and _finite(trial.value) else None,
                params={name: _encoded(one, trial.params[name]) for name, one in inside.items()},
                distributions={name: distributions[name] for name in inside},
                user_attrs={name: value for name, value in trial.params.items() if name not in inside},
                intermediate_values={step: value for step, value in trial.steps if _finite(value)},
            )
        )
    return frozen


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {dimension.name: _distribution(dimension) for dimension in space.dimensions}


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Return a dimension as Optuna has it."""
    if dimension.kind == "choice":
        return CategoricalDistribution(_labels(dimension))
    if dimension.kind == "int":
        return IntDistribution(int(dimension.low), int(dimension.high), step=int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, log=dimension.kind == "log_float", step=dimension.step)


def _labels(dimension: Dimension) -> list[Any]:
    """Return the choices as Optuna has them, lists as JSON."""
    return [json.dumps(choice) if isinstance(choice, list) else choice for choice in dimension.choices]


def _encoded(dimension: Dimension, value: Any) -> Any:
    return _labels(dimension)[dimension.choices.index(value)] if dimension.kind == "choice" else value


def _decoded(dimension: Dimension, kept: Any) -> Any:
    if dimension.kind == "choice":
        return dimension.choices[_labels(dimension).index(kept)]
    return dimension.snap(kept)
