"""A study's runs: a fixed list of architectures (`cross_validate`), and what any run needs; `search.py` has the search.

What is done is read from the study folder, never from Ray.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from eus_ray.config import Study
from eus_ray.data.arrays import Arrays
from eus_ray.data.dataset import Dataset
from eus_ray.distributed.cross_validation import CrossValidation, folds_done
from eus_ray.distributed.planner import Load, Plan, plan_fixed
from eus_ray.distributed.resources import Probe, worst
from eus_ray.distributed.session import Session
from eus_ray.distributed.tune_driver import Task, run_campaign
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKey
from eus_ray.store.lock import Claim
from eus_ray.study.loggers import Key, open_loggers
from eus_ray.study.prepare import check_identity, write_manifest, write_study
from eus_ray.study.trials import Trials, settings_row

_STORE_SHARE = 0.6
"""Arrays that would fill more of Ray's object store than this go to memory-mapped files."""
_MAPPED = "arrays"
"""The folder of these in a session's scratch, on each machine."""
_PATIENCE_S = 10.0


class Listener(Protocol):
    """What wants to know how a run goes on: the progress display, a test."""

    def plan(self, text: str) -> None: ...
    def cells(self, model: str, trial: int, cells: Sequence[dict[str, Any]], note: str) -> None: ...
    def ended(self, model: str, trial: int, state: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended, by model."""

    states: dict[str, str]
    folds_at_once: dict[str, int]
    """How many folds were being trained at the same moment, at most; 0 where none was."""
    interrupted: bool


@dataclass(frozen=True)
class Opened:
    """A study folder that this run holds, with its data shared among the workers."""

    store: Store
    dataset: Dataset
    claim: Claim
    trials: Trials
    arrays: Any
    interrupted: threading.Event
    mended: tuple[tuple[Key, str], ...]
    """What was damaged, and is made again."""
    scratch: Path
    """A folder of this machine, deleted with the session."""

    def run(self, model: str, trial: int, **how: Any) -> CrossValidation:
        """A cross-validation of one of the study's architectures."""
        frame = self.dataset.frame
        return CrossValidation(
            study=self.dataset.study.for_model(model),
            model=model,
            trial=trial,
            store=self.store,
            token=self.claim.token,
            folds=self.dataset.folds,
            image_ids=frame["image_id"].tolist(),
            patient_ids=frame["patient_id"].tolist(),
            arrays=self.arrays,
            **how,
        )


@contextmanager
def opened(store: Store, dataset: Dataset, session: Session) -> Iterator[Opened]:
    """Hold the study folder, write what a new study needs, and share the decoded images.

    Raises `UserError` where the folder holds another study, or a living run.
    """
    loggers = open_loggers(dataset.study, store)
    with Claim(store) as claim:
        known = check_identity(store, dataset)
        arrays, handle = _share(dataset, session)
        if known:
            write_manifest(store, dataset)
        else:
            write_study(store, dataset, arrays)
        del arrays  # the object store has the only copy from here on
        trials = Trials(store, loggers, claim.token)
        mended = tuple(trials.mend()) if known else ()
        with ExitStack() as stack:
            if not isinstance(handle, ray.ObjectRef):
                stack.callback(_delete_mapped, session.scratch / _MAPPED)
            for logger in loggers:
                stack.callback(logger.close)
            interrupted = stack.enter_context(_stopping_on_sigint(claim))
            yield Opened(store, dataset, claim, trials, handle, interrupted, mended, session.scratch)


def refuse_unwanted(store: Store, study: Study, resume: bool) -> None:
    """Raise `UserError` where the folder holds these models already and `resume` is not asked for."""
    trials = Trials(store)
    for model in study.models:
        rows = trials.of(model)
        if rows and not resume:
            raise UserError(
                f"{store.location}: holds {model} already ({rows[0]['kind']}, {rows[0]['state']}); --resume goes on "
                "with it, --models names others, or choose another --out"
            )


def refuse_other_settings(store: Store, study: Study) -> None:
    """Raise `UserError` where a cross-validation in the folder was begun with other settings."""
    trials = Trials(store)
    for model in study.models:
        for row in trials.of(model, "fixed"):
            now = settings_row(study.for_model(model))
            changed = [name for name in now if name in row and str(row[name]) != str(now[name])]
            lines = [f"{name} was {row[name]} and is {now[name]}" for name in changed]
            if lines:
                raise UserError(*(f"{store.location}: {model} was begun with other settings: {line}" for line in lines))


def cross_validate(
    store: Store, dataset: Dataset, session: Session, listener: Listener, *, resume: bool = False
) -> Outcome:
    """Cross-validate every architecture of the study, side by side where there is room, and wait for all.

    Raises `UserError` where the folder holds another study, a living run, or these models already.
    """
    study = dataset.study
    plan = plan_fixed(study, session.machines, len(study.models), probe_of(study, session), load_of(dataset))
    tell(listener, plan, session)
    with opened(store, dataset, session) as run:
        refuse_unwanted(store, study, resume)
        refuse_other_settings(store, study)
        for (model, trial), line in run.mended:
            listener.cells(model, trial, [], line)
        numbers = {model: _fixed_number(run.trials, model) for model in study.models}
        order = study.run.order_of("abreast")
        runs: dict[str, CrossValidation] = {
            model: run.run(model, numbers[model], order=order, kind="fixed") for model in study.models
        }
        campaign = FixedList(run, [Task(model, numbers[model]) for model in study.models], "fixed", listener)
        if campaign.todo:
            run_campaign(campaign, runs, plan.workers, plan.at_once, len(campaign.todo), session)
        campaign.close()
        spans = run.trials.spans
        at_once: dict[str, int] = {
            model: most_at_once(spans.get((model, numbers[model]), [])) for model in study.models
        }
        states: dict[str, str] = {model: str(run.trials[model, numbers[model]]["state"]) for model in study.models}
        return Outcome(states, at_once, run.interrupted.is_set())


def tell(listener: Listener, plan: Plan, session: Session) -> None:
    """The plan, why, what could be better, and where to watch Ray."""
    time_left = "" if plan.seconds is None else f"; about {plan.seconds / 60:.0f} min"
    listener.plan(plan.text + time_left)
    for warning in plan.warnings:
        listener.plan(f"note: {warning}")
    if session.dashboard:
        listener.plan(f"Ray's dashboard: http://{session.dashboard}; `ray get-auth-token` prints the token it asks for")


def probe_of(study: Study, session: Session) -> Probe | None:
    """A few steps of each architecture on the cluster's GPUs, where a plan depends on them: the worst of them."""
    if not session.machines.gpus or study.run.gpus_per_fold == 0:
        return None
    from eus_ray.distributed.profiling import measure

    remote = ray.remote(num_gpus=1, max_calls=1)(measure)
    probes = ray.get([remote.remote(study.for_model(model)) for model in study.models])
    return worst(probes)


def load_of(dataset: Dataset, searching: bool = False) -> Load:
    """Mean numbers of images; a nested search judges a fold's epochs by a share of its training images."""
    images, folds, search = len(dataset.frame), dataset.study.folds.count, dataset.study.search
    validated = 1 / search.inner_folds if searching and search.protocol == "nested" else 0.0
    training = images * (folds - 1) / folds
    return Load(round(training * (1 - validated)), round(training * validated))


def _fixed_number(trials: Trials, model: str) -> int:
    rows = trials.of(model, "fixed")
    return int(rows[0]["trial"]) if rows else trials.next_number(model)


class FixedList:
    """A campaign of cross-validations that are all known before; none is stopped."""

    def __init__(self, run: Opened, tasks: Sequence[Task], kind: str, listener: Listener) -> None:
        self._run, self._listener, self._tasks = run, listener, tasks
        self._failed: dict[tuple[str, int], str] = {}
        self.todo: list[Task] = []
        for task in tasks:
            before = [row for row in run.trials.of(task.model, kind) if row["trial"] == task.trial]
            if not before or before[0]["state"] != "complete":
                changed = run.run(task.model, task.trial).as_trial(task.trial, task.settings)
                run.trials.begin(task.model, kind, task.trial, changed.study)
                self.todo.append(task)
        self._waiting = iter(self.todo)

    def next(self) -> Task | None:
        return None if self._run.interrupted.is_set() else next(self._waiting, None)

    def heard(self, model: str, trial: int, cells: Sequence[dict[str, Any]], note: str) -> bool:
        self._listener.cells(model, trial, cells, note)
        self._run.trials.heard((model, trial), cells, note)
        for cell in cells:
            if cell["failed"]:
                self._failed.setdefault((model, trial), cell["failed"])
        return False

    def ended(self, model: str, trial: int, broke: str) -> None:
        if broke:
            self._run.trials.log((model, trial), broke)
            self._failed[model, trial] = broke.splitlines()[-1].strip()

    def close(self) -> None:
        """Say of each trial how it ended, by what lies in the study folder."""
        store, trials = self._run.store, self._run.trials
        for task in self._tasks:
            key = task.model, task.trial
            done = folds_done(store, *key)
            if key in self._failed:  # also where all rows are there: the weights may have found no room
                trials.update(key, folds_done=done, state="failed", reason=self._failed[key])
            elif done == self._run.dataset.study.folds.count:
                value = _mean_test_dsc(store, *key)
                trials.update(key, folds_done=done, state="complete", reason="", value=value)
            else:
                trials.update(key, folds_done=done)
            self._listener.ended(*key, trials[key]["state"], trials[key]["reason"])


def _share(dataset: Dataset, session: Session) -> tuple[Arrays, Any]:
    """The decoded arrays, and what workers open them by: one copy a node either way."""
    if dataset.num_bytes <= _STORE_SHARE * session.object_store_bytes:
        arrays = dataset.arrays()
        return arrays, ray.put((arrays.images, arrays.masks))
    folder = session.scratch / _MAPPED
    return dataset.arrays(into=folder), partial(open_mapped, dataset, folder)


def open_mapped(dataset: Dataset, folder: Path) -> tuple[Any, Any]:
    """The memory-mapped arrays of this machine, made first where it has none yet."""
    arrays = dataset.arrays(into=folder)
    return arrays.images, arrays.masks


def _delete_mapped(folder: Path) -> None:
    """Delete the mapped arrays of every machine: they are patients' images. What does not answer in 10 s keeps them."""
    delete: Any = ray.remote(num_cpus=0, max_retries=0)(shutil.rmtree)
    nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    tasks = [delete.options(scheduling_strategy=node).remote(folder, ignore_errors=True) for node in nodes]
    ray.wait(tasks, num_returns=len(tasks), timeout=_PATIENCE_S)


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The largest number of spans, (start, end) in seconds, that share a moment.

    >>> most_at_once([(0, 2), (1, 3), (3, 4)]), most_at_once([])
    (2, 0)
    """
    long = [span for span in spans if span[1] > span[0]]
    ends_first = sorted([(end, -1) for _, end in long] + [(start, 1) for start, _ in long])
    return max(itertools.accumulate(change for _, change in ends_first), default=0)


def _mean_test_dsc(store: Store, model: str, trial: int) -> float:
    """Mean over folds of the mean over their test images."""
    epochs = store.read_trial("epochs", TrialKey(model, trial), ["split", "dsc"]).to_pandas()
    return float(epochs.loc[epochs["split"] == "test", "dsc"].mean())


@contextmanager
def _stopping_on_sigint(claim: Claim) -> Iterator[threading.Event]:
    """Ctrl-C once: the folds finish and save their epoch. Twice: stop now."""
    interrupted = threading.Event()

    def on_sigint(*_: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        claim.ask_to_stop()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, on_sigint)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
