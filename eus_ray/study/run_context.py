"""A study folder that a run holds: its lock, its trials, its data shared among the workers."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from eus_ray.data.dataset import Dataset
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.session import Session
from eus_ray.distributed.shared_arrays import SharedArrays, delete_arrays, share_arrays
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKey
from eus_ray.store.lock import StudyLock
from eus_ray.study.callbacks import Callback
from eus_ray.study.loggers import open_loggers
from eus_ray.study.prepare import check_identity, renew_study, write_study
from eus_ray.study.trials import Trials

_RAY_LOGS = "logs/ray"
_MAX_LOG_BYTES = 4 << 20
"""The end of each of Ray's log files is kept: a fault stands there."""

_log = logging.getLogger(__name__)


@dataclass
class RunContext:
    """A study folder that this run holds, and all that it works with."""

    store: Store
    dataset: Dataset
    session: Session
    callbacks: Sequence[Callback]
    lock: StudyLock
    trials: Trials
    arrays: SharedArrays
    interrupted: threading.Event
    has_failed: bool = False
    """Whether a process of a trial ended by a fault: then Ray's own logs are kept."""

    def cross_validation(self, key: TrialKey, **how: Any) -> CrossValidation:
        """Return a cross-validation of one of the study's models."""
        return CrossValidation(
            study=self.dataset.study.for_model(key.model),
            model=key.model,
            trial=key.trial,
            store=self.store,
            token=self.lock.token,
            folds=self.dataset.folds,
            image_ids=self.dataset.frame["image_id"].tolist(),
            patient_ids=self.dataset.frame["patient_id"].tolist(),
            arrays=self.arrays,
            code=self.session.code,
            **how,
        )

    def keep_process_error(self, key: TrialKey, error: str) -> None:
        """Log the text by which a trial's process ended, and keep its last line; do nothing if it is empty."""
        if error:
            self.has_failed = True
            self.trials.log(key, error)
            self.trials.errors[key] = error.splitlines()[-1].strip()


@contextmanager
def run_context(
    store: Store, dataset: Dataset, session: Session, callbacks: Sequence[Callback]
) -> Iterator[RunContext]:
    """Lock the study folder, write what a new study needs, and share the decoded images.

    Raises:
        UserError: If the folder holds another study, or a living run.
    """
    loggers = open_loggers(dataset.study, store)
    callbacks = (*callbacks, *loggers)
    with ExitStack() as stack:
        for logger in loggers:
            stack.callback(logger.close)
        lock = stack.enter_context(StudyLock(store))
        is_known = check_identity(store, dataset)
        arrays, shared = share_arrays(dataset, session)
        stack.callback(delete_arrays, shared, session)
        if is_known:
            renew_study(store, dataset)
        else:
            write_study(store, dataset, arrays)
        del arrays  # the object store has the only copy from here on
        trials = Trials(store, callbacks, lock.token)
        trials.mend()
        interrupted = stack.enter_context(_stop_on_sigint(lock))
        context = RunContext(store, dataset, session, callbacks, lock, trials, shared, interrupted)
        try:
            yield context
        except Exception as error:
            context.has_failed |= not isinstance(error, UserError)
            raise
        finally:
            if context.has_failed:
                _keep_rays_logs(store, session)


@contextmanager
def _stop_on_sigint(lock: StudyLock) -> Iterator[threading.Event]:
    """Ctrl-C once: the folds finish and save their epoch. Twice: stop now. Only the main thread can hear it."""
    interrupted = threading.Event()

    def on_sigint(*_: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        lock.ask_to_stop()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, on_sigint)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _keep_rays_logs(store: Store, session: Session) -> None:
    """Copy what Ray's processes wrote into the study, where a person who looks for the fault finds it."""
    if session.logs_folder is None:
        return
    for path in sorted(session.logs_folder.rglob("*")):
        with suppress(OSError, UserError):  # Ray writes and moves its logs meanwhile, and the disk may be full
            if path.is_file() and (size := path.stat().st_size):
                with path.open("rb") as file:
                    file.seek(max(0, size - _MAX_LOG_BYTES))
                    store.write_bytes(f"{_RAY_LOGS}/{path.relative_to(session.logs_folder)}", file.read())
    _log.debug("Ray's logs are kept in %s/%s", store.location, _RAY_LOGS)
