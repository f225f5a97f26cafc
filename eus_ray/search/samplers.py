"""Which setting a search tries next, and Optuna's record of what it tried.

`propose` is a function of the search's own history and nothing else: the same trials give the same next setting,
in this process or in the next one after a crash. `Mirror` keeps Optuna's journal file in agreement with that
history, for `optuna-dashboard` and for whoever knows Optuna; nothing here is read back from it.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from eus_ray.config import SearchSettings
from eus_ray.search.space import Dimension, Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

_SAMPLER_ATTEMPTS, _ATTEMPTS = 5, 100
"""How often the sampler is asked for a setting that is new, and how often when chance has taken its place."""
_WALK = 100_000
"""Cells of a grid that a walk visits at most."""
_STATES = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True)
class Tried:
    """A trial of a search as the sampler knows it."""

    number: int
    params: dict[str, Any]
    """Values of the active dimensions by dotted name, lists for tuples."""
    state: str
    """One of `store.TRIAL_STATES`."""
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
    """The setting of trial `number`, which no trial of the history has; None where there is nothing new left.

    `first` come before all others, in order. `history` holds every earlier trial in order of number, running
    and failed ones too. The sampler is seeded by (`search.seed`, `number`).

    `tpe` knows a pruned trial as pruned, so that it ranks below every complete one, and keeps away from running
    ones. `gp` would know complete trials alone, and a race prunes most: it is told a pruned trial's fair value
    as if it were complete; a dimension that is not active has its lowest or first value there. Neither hears of
    failed trials. `grid` takes the points of a grid in a random order.
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
        point = space.active({one.name: _decoded(one, asked[one.name], distributions) for one in space.dimensions})
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
    study.add_trials(_frozen(space, known))
    return study


def _all_active(space: Space, trial: Tried) -> Tried:
    """A trial with a value for every dimension, complete if it has a value of its own."""
    lowest = {one.name: one.choices[0] if one.kind == "choice" else one.low for one in space.dimensions}
    state = "complete" if trial.state == "pruned" and _finite(trial.value) else trial.state
    return Tried(trial.number, lowest | trial.params, state, trial.value)


def _frozen(space: Space, history: Iterable[Tried]) -> list[FrozenTrial]:
    """Trials as Optuna has them. Values outside their range, which it would refuse, become attributes."""
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
                value=trial.value if trial.state in ("complete", "pruned") and _finite(trial.value) else None,
                params={name: _encoded(one, trial.params[name], distributions) for name, one in inside.items()},
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
    """A dimension as Optuna has it, choices that are lists as JSON."""
    low, high, step = dimension.low, dimension.high, dimension.step
    if dimension.kind == "choice":
        return CategoricalDistribution([json.dumps(one) if isinstance(one, list) else one for one in dimension.choices])
    if dimension.kind == "int":
        return IntDistribution(int(low), int(high), step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.kind == "log_float", step=step)


def _encoded(dimension: Dimension, value: Any, distributions: Mapping[str, BaseDistribution]) -> Any:
    distribution = distributions[dimension.name]
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[dimension.choices.index(value)]
    return value


def _decoded(dimension: Dimension, kept: Any, distributions: Mapping[str, BaseDistribution]) -> Any:
    distribution = distributions[dimension.name]
    if isinstance(distribution, CategoricalDistribution):
        return dimension.choices[distribution.choices.index(kept)]
    return dimension.snap(kept)


class Mirror:
    """Optuna's journal of one search, written by this process alone and read by whoever wants to.

    Opening it mends what a killed run left: a torn last line, a lock that nobody holds. A journal that Optuna
    cannot read, or that contradicts the history, is written anew aside and renamed; a dashboard that has the old
    one open must then be started again. A trial's number there is its place in the history.
    """

    def __init__(self, path: Path, study_name: str, space: Space) -> None:
        self._path, self._name, self._space = path, study_name, space
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{path.name}.*"):
            if left.name.endswith((".lock", ".rename", ".new")):  # Optuna renames a lock to free it
                left.unlink(missing_ok=True)
        _cut_torn_line(path)
        self._storage = self._open()

    def update(self, history: Sequence[Tried]) -> None:
        """Bring the journal up to the history, all trials in order of number; nothing new writes nothing."""
        wanted = _frozen(self._space, history)
        if self._storage is None:
            self._storage = self._write_anew(wanted)
            return
        study_id = self._storage.get_study_id_from_name(self._name)
        there = self._storage.get_all_trials(study_id, deepcopy=False)
        if len(there) > len(wanted) or any(map(_contradicts, there, wanted)):
            self._storage = self._write_anew(wanted)
            return
        for old, new in zip(there, wanted, strict=False):
            if not old.state.is_finished():
                _bring_up(self._storage, old, new)
        for new in wanted[len(there) :]:
            self._storage.create_new_trial(study_id, new)

    def _open(self) -> JournalStorage | None:
        """The journal that is there; None where there is none with this study that Optuna can read."""
        if not self._path.exists():
            return None
        try:
            storage = JournalStorage(JournalFileBackend(str(self._path)))
            study_id = storage.get_study_id_from_name(self._name)
            maximizes = storage.get_study_directions(study_id) == [StudyDirection.MAXIMIZE]
        except Exception:  # a broken record raises whatever Optuna stumbles over
            return None
        return storage if maximizes else None

    def _write_anew(self, wanted: Iterable[FrozenTrial]) -> JournalStorage | None:
        aside = self._path.with_name(f"{self._path.name}.new")
        aside.unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(aside)))
        study_id = storage.create_new_study([StudyDirection.MAXIMIZE], self._name)
        for trial in wanted:
            storage.create_new_trial(study_id, trial)
        aside.replace(self._path)
        return self._open()


def _bring_up(storage: JournalStorage, old: FrozenTrial, new: FrozenTrial) -> None:
    """Tell a running trial of the journal what has become of it."""
    for step, value in new.intermediate_values.items():
        if old.intermediate_values.get(step) != value:
            storage.set_trial_intermediate_value(old._trial_id, step, value)
    if new.state.is_finished():
        storage.set_trial_state_values(old._trial_id, new.state, new.values)


def _contradicts(old: FrozenTrial, new: FrozenTrial) -> bool:
    """Whether a trial of the journal neither is that of the history nor can become it.

    Fair values depend on who led: those of a finished trial stay as they were told.
    """
    if (old.params, old.distributions) != (new.params, new.distributions):
        return True
    if any(old.user_attrs.get(name) != value for name, value in new.user_attrs.items()):
        return True
    if not old.state.is_finished():
        return not old.intermediate_values.keys() <= new.intermediate_values.keys()
    same_value = old.state != TrialState.COMPLETE or old.values == new.values
    return old.state != new.state or not same_value or old.intermediate_values.keys() != new.intermediate_values.keys()


def _cut_torn_line(path: Path) -> None:
    """Shorten a journal to its last whole line: a killed writer may have left half of one."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
