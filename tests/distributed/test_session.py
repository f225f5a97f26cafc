"""Folders for what Ray writes: those of dead runs are deleted, and nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eus_ray.distributed import session
from eus_ray.store.process_identity import this_process
from tests.architecture import ROOT


def test_only_what_a_dead_run_of_this_machine_left_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    here = this_process()
    owners = {
        "eus-ray-1-dead": {**here, "born": "1"},
        "eus-ray-2-elsewhere": {**here, "host": "another", "born": "1"},
        "eus-ray-2025-cohort": None,
        "eus-2026-study": None,
    }
    for name, owner in owners.items():
        (tmp_path / name / "images").mkdir(parents=True)
        if owner is not None:
            (tmp_path / name / ".owner").write_text(json.dumps(owner))
    with session._scratch_folder(str(tmp_path)) as alive:
        session._sweep()
        left = {path.name for path in tmp_path.iterdir()}
    assert left == {alive.name, *owners} - {"eus-ray-1-dead"}
    assert not alive.exists()


def test_an_interrupted_deletion_leaves_what_a_later_run_can_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "eus-ray-1-dead"
    (folder / "session_1" / "logs").mkdir(parents=True)
    (folder / "session_latest").symlink_to("session_1")
    (folder / ".owner").write_text(json.dumps({**this_process(), "born": "1"}))

    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(session.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session._delete(folder)
    assert (folder / ".owner").exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    session._sweep()
    assert not folder.exists()


@pytest.mark.ray
@pytest.mark.slow
def test_a_session_restores_what_it_sets_and_sessions_of_one_process_share_a_cluster() -> None:
    """In a process of its own: this one may be in a session already."""
    program = """
import logging, os, threading
from eus_ray.distributed.session import session
import ray
logging.getLogger("ray.tune").setLevel(logging.WARNING)
os.environ["RAY_AIR_NEW_OUTPUT"] = "mine"
environment = dict(os.environ)
with session(num_cpus=1) as outer:
    folders = [outer.scratch, outer.logs_folder]
    def inside():
        with session() as inner:
            folders.append(inner.scratch)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert ray.is_initialized(), "the first session is still open"
    assert logging.getLogger("ray.tune").level == logging.CRITICAL
    assert os.environ["RAY_AIR_NEW_OUTPUT"] == "mine"
    os.environ["SET_MEANWHILE"] = environment["SET_MEANWHILE"] = "kept"
assert not ray.is_initialized()
assert dict(os.environ) == environment
assert logging.getLogger("ray.tune").level == logging.WARNING
assert len(set(folders)) == 3 and not [folder for folder in folders if folder.exists()]
with session(num_cpus=1):
    assert ray.is_initialized(), "a second one begins anew"
print("done")
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.stdout == "done\n", answer.stderr


def test_the_engine_says_what_it_does_if_it_is_asked_to() -> None:
    program = "from eus_ray.store import Store; from eus_ray.store.lock import StudyLock\nimport sys, tempfile\n"
    program += "with tempfile.TemporaryDirectory() as folder, StudyLock(Store(folder)): pass"
    said = {}
    for level in ("", "debug"):
        environment = {**os.environ, "EUS_RAY_LOG": level}
        command = [sys.executable, "-c", program]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
        assert answer.stdout == ""
        said[level] = answer.stderr
    assert said[""] == ""
    assert "eus_ray.store.lock: " in said["debug"]
    assert "is locked" in said["debug"]
