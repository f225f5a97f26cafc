"""One run at a time in a study folder: who is alive, whatever the clocks say."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from eus_ray import store as names
from eus_ray.config import Study
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKey, TrialKind, TrialState, lock
from eus_ray.store.lock import StudyLock, is_alive, is_held_by, is_stop_wanted, owner_of
from eus_ray.study.trials import Trials


def elsewhere(heartbeat: float) -> dict[str, Any]:
    return {"token": "t", "host": "another-machine", "pid": 1, "born": "5", "heartbeat": heartbeat}


def test_a_second_run_is_refused_and_the_first_one_keeps_the_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with StudyLock(store) as first:
        with pytest.raises(UserError, match=r"another run writes here .*wait for it"), StudyLock(store):
            pass
        assert is_held_by(store, first.token)
    assert owner_of(store) == {}


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    dead = {"token": "t", "host": socket.gethostname(), "pid": 2**22 + 1, "born": "5", "heartbeat": time.time()}
    store.write_json(names.RUN, dead)
    with StudyLock(store) as mine:
        assert is_held_by(store, mine.token)


def test_a_run_elsewhere_is_alive_while_its_heartbeat_is_fresh() -> None:
    assert is_alive(elsewhere(time.time()))
    assert not is_alive(elsewhere(time.time() - 2 * lock.STALE_S))


def test_a_clock_that_jumped_does_not_make_a_living_run_look_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other machine's clock is an hour behind, yet its heartbeat changes while we watch."""
    monkeypatch.setattr(lock, "_WATCH_S", 5.0)
    store = Store(tmp_path)
    store.write_json(names.RUN, elsewhere(time.time() - 3600))
    beat = threading.Timer(0.3, store.write_json, [names.RUN, elsewhere(time.time() - 3599)])
    beat.start()
    with pytest.raises(UserError, match="another-machine"), StudyLock(store):
        pass
    beat.join()


def test_a_run_elsewhere_that_misses_its_beats_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_WATCH_S", 0.6)
    store = Store(tmp_path)
    store.write_json(names.RUN, elsewhere(time.time() - 3600))
    with StudyLock(store) as mine:
        assert is_held_by(store, mine.token)


def test_a_run_that_lost_its_folder_takes_nothing_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with StudyLock(store) as first:
        store.write_json(names.RUN, elsewhere(time.time()))
        assert not is_held_by(store, first.token)
        assert is_stop_wanted(store, first.token)
    assert owner_of(store)["token"] == "t", "the new owner's claim is not deleted by the old one"


def test_a_run_that_lost_its_folder_writes_no_table_and_stops_nobody(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with StudyLock(store) as first:
        trials = Trials(store, token=first.token)
        trials.begin(TrialKey("unet", 0), TrialKind.FIXED, Study().for_model("unet"))
        taken = elsewhere(time.time())
        store.write_json(names.RUN, taken)
        before = store.read_bytes(names.TRIALS_FILE)
        with pytest.raises(UserError, match="another run has taken over here; this one ends"):
            trials.update(TrialKey("unet", 0), state=TrialState.COMPLETE)
        first.ask_to_stop()
        assert owner_of(store) == taken
        assert store.read_bytes(names.TRIALS_FILE) == before
