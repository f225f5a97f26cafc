"""Folders for what Ray writes: those of dead runs are deleted, and nobody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eus_ray.distributed import session
from eus_ray.store.process_identity import this_process


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
