"""Cross-validate a fixed list of models. What is done is read from the study folder, never from Ray."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eus_ray.config import Order, Study
from eus_ray.distributed.cross_validation import num_folds_done
from eus_ray.distributed.planner import Plan, load_of, plan_fixed
from eus_ray.distributed.profiling import probe_cluster
from eus_ray.distributed.session import Session, session
from eus_ray.distributed.tune_driver import TrialSpec, run_trials
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKey, TrialKind, TrialState
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import Callback
from eus_ray.study.networks import others_modules
from eus_ray.study.prepare import prepare_dataset, refuse_models_there, tell_warnings
from eus_ray.study.run_context import RunContext, run_context
from eus_ray.study.trials import Trials, different_settings, settings_row


@dataclass(frozen=True)
class Outcome:
    """How a run ended, by model."""

    states: dict[str, TrialState]
    folds_at_once: dict[str, int]
    """How many folds were being trained at the same moment, at most; 0 if none was."""
    is_interrupted: bool
    headline: tuple[str, ...] = ()
    """The results of a search in plain lines."""

    @property
    def unfinished(self) -> list[str]:
        """The models that did not come to their end."""
        return [model for model, state in self.states.items() if state is not TrialState.COMPLETE]


def cross_validate(
    study: Study,
    out: str | Path,
    *,
    resume: bool = False,
    address: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Cross-validate every model of a study, side by side if there is room, and wait for all.

    Args:
        study: What to train; `load_study` reads one.
        out: The study folder, a path or a URI; new, or of the same study.
        resume: Whether to go on with models that the folder holds already.
        address: Of a running Ray cluster; a local one is started if there is none.
        callbacks: Who hears how it goes on.

    Returns:
        How each model ended. If the run is interrupted by Ctrl-C, what is done is saved, and `resume` goes on.

    Raises:
        UserError: If the study, its data or the folder are not as they must be; then nothing is written.
    """
    store = Store(out)
    dataset = prepare_dataset(study, store, resume=resume)
    with session(address, dashboard=study.run.dashboard, modules=others_modules(study)) as cluster:
        probe = probe_cluster(study, cluster)
        plan = plan_fixed(study, cluster.machines, len(study.models), probe, load_of(dataset))
        tell_warnings(callbacks, dataset, store)
        tell_plan(callbacks, plan, cluster)
        with run_context(store, dataset, cluster, callbacks) as context:
            trials = context.trials
            refuse_models_there(trials, store, study, resume=resume)
            _refuse_other_settings(trials, store, study)
            trials.relabel(study)
            keys = {model: _fixed_key(trials, model) for model in study.models}
            train_fixed(context, [TrialSpec(key) for key in keys.values()], TrialKind.FIXED, plan)
            return Outcome(
                states={model: trials[key].state for model, key in keys.items()},
                folds_at_once={model: most_at_once(trials.spans.get(key, [])) for model, key in keys.items()},
                is_interrupted=context.interrupted.is_set(),
            )


def train_fixed(context: RunContext, specs: Sequence[TrialSpec], kind: TrialKind, plan: Plan, why: str = "") -> None:
    """Train cross-validations that are all known before, and say of each how it ended.

    Args:
        context: The run.
        specs: The cross-validations; those that are complete are not trained again.
        kind: Theirs.
        plan: How they lie on the machines.
        why: To tell with the plan, if there is anything to train; empty if the plan has been told.
    """
    controller = FixedTrials(context, specs, kind)
    if controller.todo:
        order = context.dataset.study.run.order_of(Order.ABREAST)
        runs = {spec.key.model: context.cross_validation(spec.key, order=order, kind=kind) for spec in controller.todo}
        if why:
            _tell(context.callbacks, f"training {', '.join(runs)} {why}: {plan.text}")
        run_trials(controller, runs, plan.workers, plan.max_concurrent_trials, len(runs), context.session)
    controller.close()


def _refuse_other_settings(trials: Trials, store: Store, study: Study) -> None:
    """Raise `UserError` if a cross-validation in the folder was begun with other settings."""
    for model in study.models:
        for record in trials.of(model, TrialKind.FIXED):
            differ = different_settings(record.settings, settings_row(study.for_model(model)))
            if differ:
                raise UserError(
                    *(
                        f"{store.location}: {model} was begun with other settings: {name} was {before} and is {now}"
                        for name, (before, now) in differ.items()
                    )
                )


def tell_plan(callbacks: Sequence[Callback], plan: Plan, cluster: Session) -> None:
    """Tell the plan, why, what could be better, and where to watch Ray."""
    time_left = "" if plan.seconds is None else f"; about {plan.seconds / 60:.0f} min"
    texts = [plan.text + time_left, *(f"note: {warning}" for warning in plan.warnings)]
    if cluster.dashboard:
        texts.append(f"Ray's dashboard: http://{cluster.dashboard}; `ray get-auth-token` prints the token it asks for")
    _tell(callbacks, *texts)


def _tell(callbacks: Sequence[Callback], *texts: str) -> None:
    for text in texts:
        for callback in callbacks:
            callback.on_plan(text)


def _fixed_key(trials: Trials, model: str) -> TrialKey:
    fixed = trials.of(model, TrialKind.FIXED)
    return fixed[0].key if fixed else TrialKey(model, trials.next_number(model))


class FixedTrials:
    """A `TrialController` of cross-validations that are all known before; none is stopped.

    Args:
        context: The run.
        specs: The cross-validations; those that are complete are not trained again.
        kind: Theirs.
    """

    def __init__(self, context: RunContext, specs: Sequence[TrialSpec], kind: TrialKind) -> None:
        self._context, self._specs = context, specs
        trials = context.trials
        self.todo = [
            spec for spec in specs if spec.key not in trials or trials[spec.key].state is not TrialState.COMPLETE
        ]
        for spec in self.todo:
            run = context.cross_validation(spec.key).as_trial(spec.key.trial, spec.settings)
            trials.begin(spec.key, kind, run.study)
        self._waiting = iter(self.todo)
        self._ended: set[TrialKey] = set()

    def next(self) -> TrialSpec | None:
        """Return the next of them."""
        return None if self._context.interrupted.is_set() else next(self._waiting, None)

    def on_reports(self, key: TrialKey, reports: Sequence[FoldReport], note: str) -> bool:
        """Log the reports, and stop nothing."""
        self._context.trials.report(key, reports, note)
        return False

    def on_process_end(self, key: TrialKey, error: str) -> None:
        """Keep the error; without one, a trial whose folds are all done has ended."""
        self._context.keep_process_error(key, error)
        if key not in self._context.trials.errors and self._num_done(key) == self._context.dataset.study.folds.count:
            self._end(key)

    def close(self) -> None:
        """Say of each trial that has not ended before how it ended, by what lies in the study folder."""
        for spec in self._specs:
            if spec.key not in self._ended:
                self._end(spec.key)

    def _num_done(self, key: TrialKey) -> int:
        return num_folds_done(self._context.store, key)

    def _end(self, key: TrialKey) -> None:
        trials, done = self._context.trials, self._num_done(key)
        if key in trials.errors:  # also if all rows are there: the weights may have found no room
            trials.update(key, folds_done=done, state=TrialState.FAILED, reason=trials.errors[key])
        elif done == self._context.dataset.study.folds.count:
            value = _mean_test_dsc(self._context.store, key)
            trials.update(key, folds_done=done, state=TrialState.COMPLETE, reason="", value=value)
        else:
            trials.update(key, folds_done=done)
        trials.end(key)
        self._ended.add(key)


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Return the largest number of spans, (start, end) in seconds, that share a moment.

    >>> most_at_once([(0, 2), (1, 3), (3, 4)]), most_at_once([])
    (2, 0)
    """
    ends_first = sorted(event for start, end in spans if end > start for event in ((start, 1), (end, -1)))
    return max(itertools.accumulate(change for _, change in ends_first), default=0)


def _mean_test_dsc(store: Store, key: TrialKey) -> float:
    """Mean over folds of the mean over their test images."""
    epochs = store.read_trial("epochs", key, ["split", "dsc"]).to_pandas()
    return float(epochs.loc[epochs["split"] == "test", "dsc"].mean())
