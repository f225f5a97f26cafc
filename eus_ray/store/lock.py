"""The lock of a study folder: one run at a time may write in it."""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from eus_ray.errors import UserError
from eus_ray.store.layout import RUN
from eus_ray.store.process_identity import birth_of, this_process
from eus_ray.store.study_folder import Store

HEARTBEAT_S = 10.0
STALE_S = 60.0
_WATCH_S = 2.5 * HEARTBEAT_S
_SETTLE_S = 0.05
"""If two runs start at once, the later writer wins, and after this time the other sees it."""

_log = logging.getLogger(__name__)


class StudyLock:
    """Hold a study folder: `run.json` names the owner and is renewed while the run lives.

    Workers hold the token and check it before they write. So the workers of a killed run, which live on for seconds,
    write nothing any more. Storage without conditional writes cannot exclude two runs that begin within the same
    moment; the last writer wins there, which is enough against a second start by mistake.

    Args:
        store: The study folder.

    Raises:
        UserError: On entering, if another run is alive.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.token = uuid.uuid4().hex
        self._is_stopping = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> StudyLock:
        owner = owner_of(self.store)
        if owner and is_alive(owner, lambda: owner_of(self.store)):
            raise UserError(
                f"{self.store.location}: another run writes here (process {owner['pid']} on {owner['host']}); "
                "wait for it, or stop it and resume"
            )
        self._write()
        time.sleep(_SETTLE_S)
        if not is_held_by(self.store, self.token):
            raise UserError(f"{self.store.location}: another run has just started here; wait for it")
        num_left = self.store.sweep()
        _log.debug("%s is locked; %d files of a killed writer deleted", self.store.location, num_left)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if is_held_by(self.store, self.token):
            self.store.delete(RUN)

    def ask_to_stop(self) -> None:
        """Let the workers finish and save their epoch, then leave; do nothing if the lock is lost."""
        self._is_stopping = True
        if is_held_by(self.store, self.token):
            self._write()

    def _write(self) -> None:
        owner = {"token": self.token, **this_process()}
        self.store.write_json(RUN, {**owner, "heartbeat": time.time(), "stop": self._is_stopping})

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            # a full disk, or a store out of reach, does not lose the lock; the next beat tries again
            with suppress(UserError, OSError):
                if not is_held_by(self.store, self.token):
                    return
                self._write()


def owner_of(store: Store) -> dict[str, Any]:
    """Read who writes in a study folder, from `run.json`; empty if nobody does."""
    try:
        return store.read_json(RUN)
    except FileNotFoundError:
        return {}


def is_held_by(store: Store, token: str) -> bool:
    """Tell whether the run with this token may still write."""
    return owner_of(store).get("token") == token


def is_stop_wanted(store: Store, token: str) -> bool:
    """Tell whether the run with this token was asked to stop, or has lost the folder to another."""
    owner = owner_of(store)
    return owner.get("token") != token or bool(owner.get("stop"))


def is_alive(owner: Mapping[str, Any], look_again: Callable[[], Mapping[str, Any]] | None = None) -> bool:
    """Tell whether the run that wrote `run.json` lives.

    On this machine its process is looked for. On another machine the heartbeat counts.

    Args:
        owner: The content of `run.json`.
        look_again: Reads it anew. A heartbeat that looks old may come from a clock that was reset, so it is watched
            until it beats, or has missed two beats.
    """
    if owner["host"] == socket.gethostname() and owner["born"]:
        return birth_of(owner["pid"]) == owner["born"]
    if abs(time.time() - owner["heartbeat"]) < STALE_S:
        return True
    end = time.monotonic() + (_WATCH_S if look_again is not None else 0.0)
    while look_again is not None and time.monotonic() < end:
        if look_again().get("heartbeat", owner["heartbeat"]) != owner["heartbeat"]:
            return True
        time.sleep(0.5)
    return False
