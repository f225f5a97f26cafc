"""Search settings: several models side by side, each with its own sampler and pruner, then the winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eus_ray.config import Order, Study
from eus_ray.data.dataset import Dataset
from eus_ray.data.splits import validation_split
from eus_ray.distributed.planner import load_of, plan_fixed, plan_search
from eus_ray.distributed.profiling import probe_cluster
from eus_ray.distributed.session import session
from eus_ray.distributed.tune_driver import TrialSpec, run_trials
from eus_ray.errors import UserError
from eus_ray.models import check_model_of
from eus_ray.search.pruners import make_pruner
from eus_ray.search.space import Space
from eus_ray.search.space_loader import load_space
from eus_ray.store import PROVENANCE, TRIALS_FILE, Store, TrialKey, TrialKind, TrialState, search_name
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import Callback
from eus_ray.study.cross_validate import Outcome, most_at_once, tell_plan, train_fixed
from eus_ray.study.model_search import ModelSearch
from eus_ray.study.networks import others_modules
from eus_ray.study.prepare import collect_errors, prepare_dataset, refuse_models_there, tell_warnings
from eus_ray.study.run_context import RunContext, run_context
from eus_ray.study.trials import Trials, study_of

_NUM_FROM_EACH_MODEL = 3
"""The settings that a search takes over from another study, of each model."""


@dataclass(frozen=True)
class Start:
    """The start of one model's search."""

    space: Space
    first: list[dict[str, Any]]
    """Settings that are tried first."""
    order: Order
    validation: npt.NDArray[np.bool_] | None
    """Images that each fold sets aside, `(K, N)`; None if the test folds judge."""


def tune(
    study: Study,
    out: str | Path,
    *,
    resume: bool = False,
    address: str | None = None,
    start_from: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Search the settings of every model, then train each winner on all training patients.

    `eus_ray.tune` is this with the estimates of what was found; the arguments are explained there.

    Returns:
        How each model ended: as its winner did; failed if no trial was completed.
    """
    models = study.models
    loaded = collect_errors(lambda model: load_space(study.for_model(model), check_model_of), models)
    store, old = Store(out), None if start_from is None else Store(start_from)
    if old is not None and not old.exists(TRIALS_FILE):
        raise UserError(f"{old.location}: is no study with trials from which a search could start")
    dataset = prepare_dataset(study, store, resume=resume)
    begin = starts(dataset, dict(zip(models, loaded, strict=True)), old)
    tell_warnings(callbacks, dataset, store)
    with (
        session(address, dashboard=study.run.dashboard, modules=others_modules(study)) as cluster,
        run_context(store, dataset, cluster, callbacks) as context,
    ):
        refuse_models_there(context.trials, store, study, resume=resume)
        context.trials.relabel(study)
        searches = [_model_search(context, model, start) for model, start in begin.items()]
        _search_all(context, searches)
        winners = [spec for search in searches if (spec := search.winner()) is not None]
        if winners and not context.interrupted.is_set():
            plan = plan_fixed(study, context.session.machines, len(winners))
            train_fixed(context, winners, TrialKind.WINNER, plan, "again with the best setting")
        spans = context.trials.spans.items()
        return Outcome(
            states={search.model: _state(context.trials, search) for search in searches},
            folds_at_once={
                model: most_at_once([span for key, mine in spans if key.model == model for span in mine])
                for model in models
            },
            is_interrupted=context.interrupted.is_set(),
        )


def starts(dataset: Dataset, spaces: Mapping[str, Space], start_from: Store | None = None) -> dict[str, Start]:
    """Return what each model's search starts from; nothing is written.

    Raises:
        UserError: If the study contradicts itself, has too few patients to validate on, or `start_from` holds no trial
            of a model.
    """
    study = dataset.study
    search = study.search
    order = make_pruner(search, study.train.epochs).order
    if study.run.order_of(order) != order:
        raise UserError(
            f"run.order is {study.run.order}, and search.scheduler {search.scheduler} trains {order}; "
            "leave run.order out, or choose another search.scheduler"
        )
    validation = None
    if search.protocol == "nested":
        if start_from is not None:
            _refuse_seen(dataset, start_from)
        validation = validation_split(
            dataset.frame, dataset.folds, search.inner_folds, study.folds.seed, study.folds.stratify
        )
    return {
        model: Start(spaces[model], first_points(study.for_model(model), spaces[model], start_from), order, validation)
        for model in study.models
    }


def _refuse_seen(dataset: Dataset, start_from: Store) -> None:
    """Raise `UserError` if another study's search was judged by its test folds, and they are of these images."""
    about = start_from.read_json(PROVENANCE)["identity"] if start_from.exists(PROVENANCE) else {}
    if about.get("data.fingerprint") != dataset.manifest.fingerprint:
        return
    lines = [
        f"{start_from.location}: {model}'s trials were judged by test patients, who are this study's too, and a nested "
        'search must not start from them; name a nested search, or set search.protocol = "paper"'
        for model in dataset.study.models
        if start_from.exists(search_name(model)) and start_from.read_json(search_name(model))["protocol"] == "paper"
    ]
    if lines:
        raise UserError(*lines)


def first_points(study: Study, space: Space, start_from: Store | None) -> list[dict[str, Any]]:
    """Return what a search tries first: the paper's values, the study's own, and the best of another study.

    If that study has no search of the model, its newest settings are taken: their scores are those of test patients.
    """
    points = [space.paper_point(study), space.default_of(study)]
    if start_from is not None:
        model = study.name
        complete = [record for record in Trials(start_from).of(model) if record.state is TrialState.COMPLETE]
        searched, fixed = (
            [record for record in complete if record.kind is kind] for kind in (TrialKind.TRIAL, TrialKind.FIXED)
        )
        if not searched and not fixed:
            raise UserError(
                f"{start_from.location}: has no complete trial of {model} from which its search could start; "
                "name another study"
            )
        best = (sorted(searched, key=lambda record: -(record.value or 0.0)) or fixed[::-1])[:_NUM_FROM_EACH_MODEL]
        points += [
            space.default_of(study_of(record.settings, study, f"{start_from.location}, trial {record.trial}"))
            for record in best
        ]
    return [point for place, point in enumerate(points) if point is not None and point not in points[:place]]


def _model_search(context: RunContext, model: str, start: Start) -> ModelSearch:
    base = context.cross_validation(
        TrialKey(model, 0), order=start.order, kind=TrialKind.TRIAL, validation=start.validation
    )
    return ModelSearch(base, context.trials, start.space, start.first, context.session.scratch)


def _search_all(context: RunContext, searches: Sequence[ModelSearch]) -> None:
    """Run all searches to their end, in one Tune run."""
    num_left = sum(search.num_left() for search in searches)
    if not num_left:
        return
    study, cluster = context.dataset.study, context.session
    probe = probe_cluster(study, cluster)
    plan = plan_search(study, cluster.machines, num_left, probe, load_of(context.dataset, searching=True))
    tell_plan(context.callbacks, plan, cluster)
    runs = {search.model: search.base for search in searches}
    run_trials(_Searches(context, searches), runs, plan.workers, plan.max_concurrent_trials, num_left, cluster)


def _state(trials: Trials, search: ModelSearch) -> TrialState:
    """How a model's search ended: as its winner did; failed if no trial was completed."""
    if (winner := search.winner()) is not None:
        return trials[winner.key].state if winner.key in trials else TrialState.RUNNING
    return TrialState.FAILED if search.is_over else TrialState.RUNNING


class _Searches:
    """A `TrialController` of several models' searches, in turns."""

    def __init__(self, context: RunContext, searches: Sequence[ModelSearch]) -> None:
        self._context, self._searches = context, searches
        self._by_model = {search.model: search for search in searches}
        self._num_begun = dict.fromkeys(self._by_model, 0)

    def next(self) -> TrialSpec | None:
        if self._context.interrupted.is_set():
            return None
        for search in sorted(self._searches, key=lambda search: self._num_begun[search.model]):
            if (spec := search.next()) is not None:
                self._num_begun[search.model] += 1
                self._tell(search)
                return spec
        return None

    def on_reports(self, key: TrialKey, reports: Sequence[FoldReport], note: str) -> bool:
        return self._by_model[key.model].on_reports(key.trial, reports, note)

    def on_process_end(self, key: TrialKey, error: str) -> None:
        search = self._by_model[key.model]
        self._context.keep_process_error(key, error)
        search.on_process_end(key.trial)
        self._context.trials.end(key)
        self._tell(search)

    def _tell(self, search: ModelSearch) -> None:
        for callback in self._context.callbacks:
            callback.on_search_update(search.update())
