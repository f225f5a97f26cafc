"""One Ray Tune run: cross-validations, each one Tune trial, chosen and stopped by a `TrialController`.

The controller is what differs between a fixed list of architectures and a search. Tune copies and pickles its searcher,
scheduler and callbacks, so these hold nothing but a name, by which they find the controller in this process. Ray
remembers nothing that is needed later; Tune's own folder lies in scratch and goes with the session.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.session import Session
from eus_ray.distributed.trainable import Workers, group_name, remove_group, trainable
from eus_ray.store import TrialKey
from eus_ray.store.event_log import FoldReport

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialSpec:
    """A cross-validation to run: which trial, and the settings in which it differs from its model's own."""

    key: TrialKey
    settings: Mapping[str, Any] = field(default_factory=dict)


class TrialController(Protocol):
    """Decide which cross-validations run and which are stopped, and hear how they go."""

    def next(self) -> TrialSpec | None:
        """Return the next cross-validation; None if no more will come."""

    def on_reports(self, key: TrialKey, reports: Sequence[FoldReport], note: str) -> bool:
        """Hear what the folds of a trial report; return whether to stop the trial."""

    def on_process_end(self, key: TrialKey, error: str) -> None:
        """Hear that the trial's process is done with it; `error` is the text of what ended it, empty if nothing did."""


def run_trials(
    controller: TrialController,
    cross_validations: Mapping[str, CrossValidation],
    workers: Workers,
    max_concurrent_trials: int,
    max_trials: int,
    session: Session,
) -> None:
    """Run the controller's cross-validations to their end.

    Args:
        controller: Chooses and stops them.
        cross_validations: What a trial is made of, by model.
        workers: How each lies on the machines.
        max_concurrent_trials: How many run side by side.
        max_trials: How many there are at most.
        session: The Ray cluster.

    Raises:
        Exception: What the controller raised; Tune itself must not see it.
    """
    driver = _Driver(controller, next(iter(cross_validations.values())).token)
    name = f"tune-{uuid.uuid4().hex[:12]}"
    _DRIVERS[name] = driver
    with _registering:
        # by a name of its own: Tune's registry would mistake another study's trainable in this process for it
        tune.register_trainable(name, trainable(cross_validations, workers, session.scratch))
    tuner = tune.Tuner(
        name,
        tune_config=tune.TuneConfig(
            search_alg=_NextTrial(name),
            scheduler=_StopTrials(name),
            num_samples=max_trials,
            max_concurrent_trials=max_concurrent_trials,
            reuse_actors=True,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(session.scratch),
            verbose=0,
            callbacks=[_TrialEnds(name)],
            failure_config=tune.FailureConfig(
                max_failures=max(each.study.run.max_failures for each in cross_validations.values())
            ),
        ),
    )
    try:
        tuner.fit()
    finally:
        del _DRIVERS[name]
    if driver.error is not None:
        raise driver.error


@dataclass
class _Driver:
    """A controller, and what went wrong in it."""

    controller: TrialController
    token: str
    """The lock's: it tells the runs of a cluster apart."""
    error: Exception | None = None


_DRIVERS: dict[str, _Driver] = {}
"""The drivers of this process by name: Tune's hooks are pickled, and a controller cannot be."""
_registering = threading.Lock()
"""Tune's registry is not safe among threads."""


class _Hook:
    """What Tune calls: it holds a driver's name, and finds the driver in this process."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def ask(self, question: Callable[[TrialController], Any], otherwise: Any) -> Any:
        """Ask the driver's controller; the other answer if it is gone, has raised before, or raises now."""
        driver = _DRIVERS.get(self._name)
        if driver is None or driver.error is not None:
            return otherwise
        try:
            return question(driver.controller)
        except Exception as error:
            driver.error = error
            return otherwise

    def report(self, trial: Any, result: Mapping[str, Any]) -> bool:
        """Tell the controller what a trial reports; return whether to stop it."""
        if "reports" not in result:
            return self._name not in _DRIVERS
        reports, note = result["reports"], result["note"]
        return bool(self.ask(lambda controller: controller.on_reports(_key(trial), reports, note), True))


class _NextTrial(_Hook, Searcher):
    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        spec: TrialSpec | None = self.ask(lambda controller: controller.next(), None)
        if spec is None:
            return Searcher.FINISHED
        return {**spec.key._asdict(), "settings": json.dumps(dict(spec.settings))}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Ray demands it; the controller hears of the end from `_TrialEnds`."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a search goes on from the study folder."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing back."""


class _StopTrials(_Hook, FIFOScheduler):
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.STOP if self.report(trial, result) else TrialScheduler.CONTINUE


class _TrialEnds(_Hook, tune.Callback):
    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Before Tune tries it again: the placement group of a node that died would wait first in line for room."""
        self._remove_group(trial)
        _log.debug("%s lost its process", trial)
        self.report(trial, {"reports": [], "note": "lost the trial's own process; it starts again"})

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._end(trial, trial.last_result.get("failure", ""))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        path = Path(trial.error_file) if trial.error_file else None
        text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
        self._end(trial, text.strip() or "the trial's process ended")

    def _end(self, trial: Any, error: str) -> None:
        self._remove_group(trial)
        self.ask(lambda controller: controller.on_process_end(_key(trial), error), None)

    def _remove_group(self, trial: Any) -> None:
        if (driver := _DRIVERS.get(self._name)) is not None:
            remove_group(group_name(_key(trial), driver.token))


def _key(trial: Any) -> TrialKey:
    return TrialKey(trial.config["model"], trial.config["trial"])


def _folder_name(trial: Any) -> str:
    return "-".join(map(str, (*_key(trial), trial.trial_id)))
