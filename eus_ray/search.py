"""The Ray Tune run: a list of architectures, each one trial, each trial one whole cross-validation.

Ray remembers nothing that is needed later: what is done is read from the study folder, and Tune's own
folder lies in scratch and goes with the session.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray import tune

from eus_ray import store as names
from eus_ray.config import Study, UserError, flat
from eus_ray.cross_validation import CrossValidation, folds_done
from eus_ray.data.arrays import Arrays
from eus_ray.prepare import Claim, Dataset, check_identity, write_study
from eus_ray.ray_session import Session
from eus_ray.store import Store, read_trials, write_trials
from eus_ray.trial import Workers, trainable

FIXED_TRIAL = 0
_STORE_SHARE = 0.6
"""Arrays that would fill more of Ray's object store than this go to memory-mapped files."""


class Listener(Protocol):
    """What wants to know how a run goes on: the progress display, a test."""

    def plan(self, text: str) -> None: ...
    def cells(self, model: str, cells: Sequence[dict[str, Any]], note: str) -> None: ...
    def ended(self, model: str, state: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended, by model."""

    states: dict[str, str]
    folds_at_once: dict[str, int]
    """How many folds were being trained at the same moment, at most; 0 where none was."""
    interrupted: bool


def refuse_unwanted(store: Store, study: Study, resume: bool) -> None:
    """Raise `UserError` where the folder holds results that this run would overwrite or contradict."""
    there = read_trials(store)
    for model in study.models:
        rows = there[(there["model"] == model) & (there["trial"] == FIXED_TRIAL)]
        if rows.empty:
            continue
        if not resume:
            raise UserError(
                f"{store.location}: holds {model} already ({rows.iloc[0]['state']}); --resume goes on with it, "
                "--models names others, or choose another --out"
            )
        before, now = rows.iloc[0], _settings(study.for_model(model))
        changed = [name for name in now if name in before and str(before[name]) != str(now[name])]
        if changed:
            lines = (f"{name} was {before[name]} and is {now[name]}" for name in changed)
            raise UserError(*(f"{store.location}: {model} was begun with other settings: {line}" for line in lines))


def cross_validate(
    store: Store, dataset: Dataset, session: Session, listener: Listener, *, resume: bool = False
) -> Outcome:
    """Cross-validate every architecture of the study, side by side where there is room, and wait for all.

    Raises `UserError` where the folder holds another study, a living run, or these models already.
    """
    study = dataset.study
    workers, abreast = plan_workers(study, session)
    listener.plan(describe(study, workers, abreast))
    with Claim(store) as claim:
        known = check_identity(store, dataset)
        refuse_unwanted(store, study, resume)
        arrays, handle = _share(dataset, session)
        if not known:
            write_study(store, dataset, arrays)
        del arrays  # the object store has the only copy from here on
        trials = _Trials(store, study, listener)
        todo = [model for model in study.models if trials.state(model) != "complete"]
        runs: dict[str, CrossValidation] = {
            model: CrossValidation(
                study=study.for_model(model),
                model=model,
                trial=FIXED_TRIAL,
                store=store,
                token=claim.token,
                folds=dataset.folds,
                image_ids=dataset.frame["image_id"].tolist(),
                patient_ids=dataset.frame["patient_id"].tolist(),
                arrays=handle,
            )
            for model in todo
        }
        with _stopping_on_sigint(claim) as interrupted:
            if runs:
                _tune(runs, workers, abreast, session, trials)
        trials.close()
    at_once: dict[str, int] = {model: most_at_once(trials.spans[model]) for model in study.models}
    return Outcome({model: trials.state(model) for model in study.models}, at_once, interrupted.is_set())


def plan_workers(study: Study, session: Session) -> tuple[Workers, int]:
    """How a cross-validation lies on the cluster, and how many of them run side by side.

    Raises `UserError` where what the study asks for is more than the cluster has.
    """
    run, folds = study.run, study.folds.count
    gpus = run.gpus_per_fold if run.gpus_per_fold != "auto" else (1.0 if session.gpus else 0.0)
    if gpus > session.gpus:
        raise UserError(f"run.gpus_per_fold is {gpus:g}, and the cluster has {session.gpus:g}; set it to 0 or less")
    most = session.gpus / gpus if gpus else session.cpus / run.threads_per_fold
    count = run.workers if run.workers != "auto" else max(1, min(folds, int(most)))
    count = min(count, folds)
    if gpus and count > most + 1e-9:
        raise UserError(
            f"run.workers is {count} with {gpus:g} GPUs a fold, and the cluster has {session.gpus:g} GPUs; "
            "lower run.workers or run.gpus_per_fold"
        )
    # more workers than cores share them: each then asks Ray for a part of one
    cpus = int(min(run.threads_per_fold, session.cpus / count) * 1000) / 1000
    room = min(session.cpus / (cpus * count), session.gpus / (gpus * count) if gpus else float("inf"))
    least = min(run.min_workers or count, count)
    return Workers(count, least, cpus, gpus), max(1, min(int(room + 1e-9), len(study.models)))


def describe(study: Study, workers: Workers, abreast: int) -> str:
    """The plan in one line."""
    where = f"{workers.gpus:g} GPU" if workers.gpus else f"{workers.cpus:g} CPU"
    folds = f"{study.folds.count} folds on {workers.count} worker{'s' * (workers.count > 1)} ({where} each)"
    side = "" if len(study.models) == 1 else f", {abreast} of {len(study.models)} architectures at a time"
    return f"{folds}, {study.run.order.replace('_', ' ')}{side}"


def _share(dataset: Dataset, session: Session) -> tuple[Arrays, Any]:
    """The decoded arrays, and what workers open them by: one copy a node either way."""
    if dataset.num_bytes <= _STORE_SHARE * session.object_store_bytes:
        arrays = dataset.arrays()
        return arrays, ray.put((arrays.images, arrays.masks))
    folder = session.scratch / "arrays"
    return dataset.arrays(into=folder), partial(open_mapped, dataset, folder)


def open_mapped(dataset: Dataset, folder: Path) -> tuple[Any, Any]:
    """The memory-mapped arrays of this machine, made first where it has none yet."""
    arrays = dataset.arrays(into=folder)
    return arrays.images, arrays.masks


def _tune(runs: dict[str, CrossValidation], workers: Workers, abreast: int, session: Session, trials: _Trials) -> None:
    _CURRENT.trials = trials
    most_failures = max(run.study.run.max_failures for run in runs.values())
    tuner = tune.Tuner(
        trainable(runs, workers, session.scratch),
        param_space={"model": tune.grid_search(list(runs))},
        tune_config=tune.TuneConfig(max_concurrent_trials=abreast, reuse_actors=workers.count == 1),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(session.scratch),
            verbose=0,
            callbacks=[_Forward()],
            failure_config=tune.FailureConfig(max_failures=most_failures if workers.count == 1 else 0),
        ),
    )
    tuner.fit()


class _Current:
    """The run of this process. Tune copies its callbacks, so that they cannot hold it themselves."""

    trials: _Trials | None = None


_CURRENT = _Current()


class _Forward(tune.Callback):
    """Hands what Tune hears from the trials to the run of this process."""

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        if _CURRENT.trials is not None and "cells" in result:
            _CURRENT.trials.heard(trial.config["model"], result["cells"], result["note"])

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        if _CURRENT.trials is not None:
            _CURRENT.trials.broke(trial.config["model"], trial.error_file or "")


class _Trials:
    """`trials.parquet` and the logs while a run goes on. The driver is their one writer."""

    def __init__(self, store: Store, study: Study, listener: Listener) -> None:
        self._store, self._study, self._listener = store, study, listener
        self._rows: dict[tuple[str, int], dict[str, Any]] = {
            (row["model"], row["trial"]): {str(name): value for name, value in row.items()}
            for row in read_trials(store).to_dict("records")
        }
        self._failed: dict[str, str] = {}
        self.spans: dict[str, list[tuple[float, float]]] = {model: [] for model in study.models}
        """When each fold's epochs began and ended."""
        for model in study.models:
            key = (model, FIXED_TRIAL)
            if self._rows.get(key, {}).get("state") != "complete":
                self._rows[key] = {
                    "model": model,
                    "kind": "fixed",
                    "trial": FIXED_TRIAL,
                    "state": "running",
                    "reason": "",
                    "folds_done": 0,
                    "value": None,
                    **_settings(study.for_model(model)),
                }
        write_trials(store, self._rows.values())

    def state(self, model: str) -> str:
        return str(self._rows[model, FIXED_TRIAL]["state"])

    def heard(self, model: str, cells: Sequence[dict[str, Any]], note: str) -> None:
        self._listener.cells(model, cells, note)
        self.spans[model] += [(cell["started"], cell["ended"]) for cell in cells]
        notes = [note] * bool(note) + [cell["note"] for cell in cells if cell["note"]]
        failures = [cell["failed"] for cell in cells if cell["failed"]]
        if failures:
            self._failed[model] = failures[0]
        lines = [f"{_clock()} {text}" for text in notes]
        lines += [_log_line(cell) for cell in cells]
        self._store.append_text(names.log_name(model, FIXED_TRIAL), "".join(f"{line}\n" for line in lines))

    def broke(self, model: str, error_file: str) -> None:
        """A trial that ended by an exception: workers that died too often, or no machine to start on."""
        text = Path(error_file).read_text(encoding="utf-8") if error_file and Path(error_file).exists() else ""
        said = [line for line in text.strip().splitlines() if line.strip()]
        self._failed[model] = said[-1].strip() if said else "the trial's process ended"
        self._store.append_text(names.log_name(model, FIXED_TRIAL), f"{_clock()} {text}\n")

    def close(self) -> None:
        """Say of each trial how it ended, by what lies in the study folder."""
        for model in self._study.models:
            row = self._rows[model, FIXED_TRIAL]
            count = self._study.folds.count
            row["folds_done"] = folds_done(self._store, model, FIXED_TRIAL, count)
            if row["folds_done"] == count:
                row.update(state="complete", reason="", value=_mean_test_dsc(self._store, model))
            elif model in self._failed:
                row.update(state="failed", reason=self._failed[model])
            self._listener.ended(model, row["state"], row["reason"])
        write_trials(self._store, self._rows.values())


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The largest number of spans, (start, end) in seconds, that share a moment.

    >>> most_at_once([(0, 2), (1, 3), (3, 4)]), most_at_once([])
    (2, 0)
    """
    long = [span for span in spans if span[1] > span[0]]
    ends_first = sorted([(end, -1) for _, end in long] + [(start, 1) for start, _ in long])
    return max(itertools.accumulate(change for _, change in ends_first), default=0)


def _mean_test_dsc(store: Store, model: str) -> float:
    """Mean over folds of the mean over their test images."""
    epochs = store.read_parts("epochs", ["trial", "fold", "split", "dsc"], model).to_pandas()
    test = epochs[(epochs["split"] == "test") & (epochs["trial"] == FIXED_TRIAL)]
    return float(test["dsc"].mean())


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


def _settings(study: Study) -> dict[str, Any]:
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in flat(study).items()}


def _log_line(cell: dict[str, Any]) -> str:
    text = f"{_clock(cell['started'])} {_clock(cell['ended'])} fold {cell['fold']} epoch {cell['epoch']}"
    text += f": loss {cell['loss']:.4f}, training DSC {cell['dsc']:.4f}"
    if cell["test_dsc"] is not None:
        text += f", test DSC {cell['test_dsc']:.4f}"
    return f"{text}; FAILED: {cell['failed']}" if cell["failed"] else text


def _clock(seconds: float | None = None) -> str:
    moment = datetime.now() if seconds is None else datetime.fromtimestamp(seconds)
    return moment.isoformat(timespec="milliseconds")
