"""One Ray Tune run: cross-validations, each one Tune trial, chosen and stopped by a `Campaign`.

A campaign is what differs between a fixed list of architectures and a search. Tune copies and pickles
its searcher, scheduler and callbacks, so these hold nothing: they ask the campaign of this process.
Ray remembers nothing that is needed later; Tune's own folder lies in scratch and goes with the session.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.session import Session
from eus_ray.distributed.trainable import Workers, free, group_name, trainable


@dataclass(frozen=True)
class Task:
    """A cross-validation to run: which model, under which number, with which settings changed."""

    model: str
    trial: int
    settings: Mapping[str, Any] = field(default_factory=dict)


class Campaign(Protocol):
    """Decides which cross-validations run and which are stopped, and hears how they go."""

    def next(self) -> Task | None:
        """The next cross-validation; None where no more will come."""
        ...

    def heard(self, model: str, trial: int, cells: Sequence[dict[str, Any]], note: str) -> bool:
        """What the folds report; whether the trial is to be stopped."""
        ...

    def ended(self, model: str, trial: int, broke: str) -> None:
        """The trial's process is done with it; `broke` is the text of an error that it ended by."""
        ...


def run_campaign(
    campaign: Campaign, runs: dict[str, CrossValidation], workers: Workers, at_once: int, most: int, session: Session
) -> None:
    """Run a campaign of at most `most` trials to its end, `at_once` of them side by side."""
    _CURRENT.campaign, _CURRENT.fault = campaign, None
    _CURRENT.token = next(iter(runs.values())).token
    most_failures = max(run.study.run.max_failures for run in runs.values())
    tuner = tune.Tuner(
        trainable(runs, workers, session.scratch),
        tune_config=tune.TuneConfig(
            search_alg=_Next(),
            scheduler=_Decide(),
            num_samples=most,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{time.monotonic_ns()}",
            storage_path=str(session.scratch),
            verbose=0,
            callbacks=[_Ends()],
            failure_config=tune.FailureConfig(max_failures=most_failures),
        ),
    )
    try:
        tuner.fit()
    finally:
        _CURRENT.campaign = None
    if _CURRENT.fault is not None:
        raise _CURRENT.fault


class _Current:
    """The campaign of this process, and what went wrong in it: Tune must not see it raise."""

    campaign: Campaign | None = None
    fault: Exception | None = None
    token: str = ""


_CURRENT = _Current()


class _Next(Searcher):
    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]
        if _CURRENT.campaign is None or _CURRENT.fault is not None:
            return Searcher.FINISHED
        try:
            task = _CURRENT.campaign.next()
        except Exception as error:
            _CURRENT.fault = error
            return Searcher.FINISHED
        if task is None:
            return Searcher.FINISHED
        return {"model": task.model, "trial": task.trial, "settings": json.dumps(dict(task.settings))}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        return None

    def save(self, checkpoint_path: str) -> None:
        return None  # a search goes on from the study folder

    def restore(self, checkpoint_path: str) -> None:
        return None


class _Decide(FIFOScheduler):
    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.STOP if _tell(trial, result) else TrialScheduler.CONTINUE


def _tell(trial: Any, result: dict[str, Any]) -> bool:
    """Tell the campaign what a trial reports; whether it is to be stopped."""
    if _CURRENT.campaign is None or _CURRENT.fault is not None:
        return True
    try:
        model, number = trial.config["model"], trial.config["trial"]
        return "cells" in result and _CURRENT.campaign.heard(model, number, result["cells"], result["note"])
    except Exception as error:
        _CURRENT.fault = error
        return True


class _Ends(tune.Callback):
    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Before it is tried again: shares of a node that died would be first in line for room, and nobody's."""
        free(group_name(trial.config["model"], trial.config["trial"], _CURRENT.token))
        _tell(trial, {"cells": [], "note": "lost the trial's own process; it starts again"})

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._ended(trial, trial.last_result.get("broke", ""))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        path = Path(trial.error_file) if trial.error_file else None
        text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
        self._ended(trial, text.strip() or "the trial's process ended")

    @staticmethod
    def _ended(trial: Any, broke: str) -> None:
        free(group_name(trial.config["model"], trial.config["trial"], _CURRENT.token))
        if _CURRENT.campaign is None or _CURRENT.fault is not None:
            return
        try:
            _CURRENT.campaign.ended(trial.config["model"], trial.config["trial"], broke)
        except Exception as error:
            _CURRENT.fault = error


def _folder_name(trial: Any) -> str:
    return f"{trial.config['model']}-{trial.config['trial']}-{trial.trial_id}"
