"""The right to write in a study folder, held by one run at a time."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from eus_ray import store as names
from eus_ray.errors import UserError
from eus_ray.store import Store
from eus_ray.store.process_identity import birth_of, this_process

HEARTBEAT_S = 10.0
STALE_S = 60.0
_WATCH_S = 2.5 * HEARTBEAT_S


class Claim:
    """`run.json` names the owner and is renewed while the run lives.

    Workers hold the token and look before they write, so that those of a killed run, which live on for seconds, write
    nothing any more. On storage without conditional writes two runs that begin within the same moment are told apart
    by who wrote last: best effort, and enough against the usual case, a second start by mistake. Entering raises
    `UserError` where another run is alive.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.token = uuid.uuid4().hex
        self._stopping = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claim:
        owner = self.store.owner()
        if owner and is_alive(owner, self.store.owner):
            raise UserError(
                f"{self.store.location}: another run writes here (process {owner['pid']} on {owner['host']}); "
                "wait for it, or stop it and use --resume"
            )
        self._write()
        time.sleep(0.05)  # of two that start at once, the later writer wins and the other sees it
        if self.store.owner().get("token") != self.token:
            raise UserError(f"{self.store.location}: another run has just started here; wait for it")
        self.store.sweep()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.store.is_held_by(self.token):
            self.store.delete(names.RUN)

    def ask_to_stop(self) -> None:
        """Let the workers finish and save the epoch that they are in, and leave; nothing where the claim is lost."""
        self._stopping = True
        if self.store.is_held_by(self.token):
            self._write()

    def _write(self) -> None:
        owner = {"token": self.token, **this_process()}
        self.store.write_json(names.RUN, {**owner, "heartbeat": time.time(), "stop": self._stopping})

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                if not self.store.is_held_by(self.token):
                    return
                self._write()
            except (UserError, OSError):
                continue  # a full disk, or a store out of reach, is not a lost claim; the next beat tries again


def is_alive(owner: Mapping[str, Any], look_again: Callable[[], Mapping[str, Any]] | None = None) -> bool:
    """Whether the run that wrote `run.json` lives.

    On this machine its process is looked for. Of another machine the heartbeat counts; one that looks old may come
    from a clock that was set anew, so that with `look_again` it is watched until it beats or has missed two beats.
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
