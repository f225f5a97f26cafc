"""The search: several architectures side by side, each with its own Optuna study, then the winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from eus_ray.config import Study
from eus_ray.data.dataset import Dataset
from eus_ray.data.splits import validation_split
from eus_ray.distributed.planner import plan_fixed, plan_search
from eus_ray.distributed.session import Session
from eus_ray.distributed.tune_driver import Task, run_campaign
from eus_ray.errors import UserError
from eus_ray.search.pruners import make_rule
from eus_ray.search.space import Space
from eus_ray.store import PROVENANCE, Store, search_name
from eus_ray.study.cross_validate import (
    FixedList,
    Listener,
    Opened,
    Outcome,
    load_of,
    most_at_once,
    opened,
    probe_of,
    refuse_unwanted,
    tell,
)
from eus_ray.study.model_search import ModelSearch
from eus_ray.study.trials import Trials, study_of

_FROM_EACH = 3
"""Settings that a search takes over from another study, of each architecture."""


class SearchListener(Listener, Protocol):
    """What wants to know how a search goes on."""

    def searched(self, search: ModelSearch) -> None: ...
    def winners_begin(self, epochs: Mapping[str, int]) -> None: ...


@dataclass(frozen=True)
class Start:
    """What one architecture's search starts from."""

    space: Space
    first: list[dict[str, Any]]
    """Settings that are tried first."""
    order: Literal["abreast", "by_fold"]
    validation: npt.NDArray[np.bool_] | None
    """Images that each fold sets aside, `(K, N)`; None where the test folds judge."""


def starts(dataset: Dataset, spaces: Mapping[str, Space], start_from: Store | None = None) -> dict[str, Start]:
    """What each architecture's search starts from; nothing is written.

    Raises `UserError` where the study contradicts itself, has too few patients to validate on, or
    `start_from` holds no trial of a model.
    """
    study = dataset.study
    search = study.search
    order = make_rule(search, study.folds.count, study.train.epochs).order
    if study.run.order_of(order) != order:
        raise UserError(
            f"run.order is {study.run.order}, and search.scheduler {search.scheduler} trains {order}; "
            "leave run.order out, or choose another search.scheduler"
        )
    validation = None
    if search.protocol == "nested":
        if start_from is not None:
            refuse_seen(dataset, start_from)
        seed, stratify = study.folds.seed, study.folds.stratify
        validation = validation_split(dataset.frame, dataset.folds, search.inner_folds, seed, stratify)
    return {
        model: Start(spaces[model], first_points(study.for_model(model), spaces[model], start_from), order, validation)
        for model in study.models
    }


def refuse_seen(dataset: Dataset, start_from: Store) -> None:
    """Raise `UserError` where another study's search was judged by its test folds, and they are of these images."""
    if not start_from.exists(PROVENANCE):
        return
    if start_from.read_json(PROVENANCE)["identity"].get("data.fingerprint") != dataset.manifest.fingerprint:
        return
    lines = [
        f"{start_from.location}: --from: {model}'s trials were judged by test patients, who are this study's too, and "
        'a nested search must not have seen them; name a nested search, or set search.protocol = "paper"'
        for model in dataset.study.models
        if start_from.exists(search_name(model)) and start_from.read_json(search_name(model))["protocol"] == "paper"
    ]
    if lines:
        raise UserError(*lines)


def tune(
    store: Store,
    dataset: Dataset,
    begin: Mapping[str, Start],
    session: Session,
    listener: SearchListener,
    *,
    resume: bool = False,
) -> Outcome:
    """Search the settings of every architecture of the study, then train each winner on all training patients.

    Raises `UserError` where the folder holds another study, a living run, these models already, or
    another search of them.
    """
    study = dataset.study
    with opened(store, dataset, session) as run:
        refuse_unwanted(store, study, resume)
        for (model, trial), line in run.mended:
            listener.cells(model, trial, [], line)
        campaign = _Searches(run, [_search(run, model, start) for model, start in begin.items()], listener)
        if most := campaign.most():
            load = load_of(dataset, searching=True)
            plan = plan_search(study, session.machines, most, probe_of(study, session), load)
            tell(listener, plan, session)
            run_campaign(campaign, campaign.runs, plan.workers, plan.at_once, most, session)
        winners = [task for search in campaign.searches if (task := search.winner()) is not None]
        if winners and not run.interrupted.is_set():
            _train_winners(run, winners, session, listener)
        states = {search.model: _state(run.trials, search) for search in campaign.searches}
        spans = run.trials.spans.items()
        at_once: dict[str, int] = {
            model: most_at_once([span for (owner, _), mine in spans if owner == model for span in mine])
            for model in study.models
        }
        return Outcome(states, at_once, run.interrupted.is_set())


def first_points(study: Study, space: Space, start_from: Store | None) -> list[dict[str, Any]]:
    """What a search tries first: the paper's values, the study's own, and the best of another study.

    Of a study without a search its newest settings are taken: what they scored, they scored on test patients.
    """
    points = [space.paper_point(study), space.default_of(study)]
    if start_from is not None:
        model = study.model.arch
        complete = [row for row in Trials(start_from).of(model) if row["state"] == "complete"]
        searched, fixed = ([row for row in complete if row["kind"] == kind] for kind in ("trial", "fixed"))
        if not searched and not fixed:
            raise UserError(f"{start_from.location}: --from has no complete trial of {model}; name another study")
        best = (sorted(searched, key=lambda row: -row["value"]) or fixed[::-1])[:_FROM_EACH]
        points += [space.default_of(study_of(row, study)) for row in best]
    distinct: list[dict[str, Any]] = []
    for point in points:
        if point is not None and point not in distinct:
            distinct.append(point)
    return distinct


def _search(run: Opened, model: str, start: Start) -> ModelSearch:
    base = run.run(model, 0, order=start.order, kind="trial", validation=start.validation)
    return ModelSearch(base, run.trials, start.space, start.first, run.scratch)


def _train_winners(run: Opened, winners: Sequence[Task], session: Session, listener: SearchListener) -> None:
    plan = plan_fixed(run.dataset.study, session.machines, len(winners))
    campaign = FixedList(run, winners, "winner", listener)
    stop_after = "train.stop_after"
    listener.winners_begin({task.model: task.settings[stop_after] for task in winners if stop_after in task.settings})
    if campaign.todo:
        listener.plan(
            f"training {', '.join(task.model for task in campaign.todo)} again with the best setting: {plan.text}"
        )
        order = run.dataset.study.run.order_of("abreast")
        runs = {task.model: run.run(task.model, task.trial, order=order, kind="winner") for task in campaign.todo}
        run_campaign(campaign, runs, plan.workers, plan.at_once, len(campaign.todo), session)
    campaign.close()


def _state(trials: Trials, search: ModelSearch) -> str:
    """How an architecture's search ended: as its winner did; failed where no trial was completed."""
    winner = search.winner()
    if winner is not None:
        return str(trials[winner.model, winner.trial]["state"]) if (winner.model, winner.trial) in trials else "running"
    return "failed" if search.over else "running"


class _Searches:
    """A campaign of several architectures' searches, in turns."""

    def __init__(self, run: Opened, searches: Sequence[ModelSearch], listener: SearchListener) -> None:
        self._run, self._listener, self.searches = run, listener, searches
        self._by_model = {search.model: search for search in searches}
        self.runs = {search.model: search.base for search in searches}

    def most(self) -> int:
        """How many trials there still are to run, at most."""
        return sum(search.left() for search in self.searches)

    def next(self) -> Task | None:
        if self._run.interrupted.is_set():
            return None
        for search in sorted(self.searches, key=lambda search: search.begun):
            if (task := search.next()) is not None:
                self._listener.searched(search)
                return task
        return None

    def heard(self, model: str, trial: int, cells: Sequence[dict[str, Any]], note: str) -> bool:
        self._run.trials.heard((model, trial), cells, note)
        stop = self._by_model[model].heard(trial, cells)
        self._listener.cells(model, trial, cells, note)
        return stop

    def ended(self, model: str, trial: int, broke: str) -> None:
        search = self._by_model[model]
        state = search.ended(trial, broke)
        self._listener.ended(model, trial, state, self._run.trials[model, trial]["reason"])
        self._listener.searched(search)
