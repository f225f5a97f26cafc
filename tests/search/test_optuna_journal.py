"""Optuna's journal of a search: what Optuna loads from it is the history, whatever happened to the file."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState

from eus_ray.config import SearchSettings
from eus_ray.search.optuna_journal import OptunaJournal
from eus_ray.search.samplers import Tried
from eus_ray.store import TrialState
from tests.search.test_samplers import CONTINUOUS, search

OPTUNA_STATES = {
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


def loaded(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="unet", storage=JournalStorage(JournalFileBackend(str(path))))


def assert_agrees(path: Path, history: list[Tried]) -> None:
    trials = loaded(path).trials
    assert [trial.number for trial in trials] == [trial.number for trial in history]
    for trial, tried in zip(trials, history, strict=True):
        params = {
            name: json.loads(value) if isinstance(value, str) and value.startswith("[") else value
            for name, value in trial.params.items()
        }
        assert params == tried.params
        assert trial.state == OPTUNA_STATES[tried.state]
        assert trial.value == tried.value
        assert trial.intermediate_values == dict(tried.steps)


def stages(history: list[Tried]) -> list[list[Tried]]:
    """The history as it looks while two trials run at a time."""
    looks = []
    for now in range(1, len(history) + 2):
        done, going = history[: max(0, now - 2)], history[max(0, now - 2) : now]
        looks.append(
            done + [replace(trial, state=TrialState.RUNNING, value=None, steps=trial.steps[:1]) for trial in going]
        )
    return [*looks, history]


@pytest.fixture(scope="module")
def history() -> list[Tried]:
    return search(CONTINUOUS, SearchSettings(sampler="random"), 9)


def test_the_journal_is_what_optuna_loads(tmp_path: Path, history: list[Tried]) -> None:
    path = tmp_path / "search" / "unet.log"
    mirror = OptunaJournal(path, "unet", CONTINUOUS)
    for look in stages(history):
        mirror.update(look)
        assert_agrees(path, look)
    assert loaded(path).direction == optuna.study.StudyDirection.MAXIMIZE


def test_nothing_new_writes_nothing(tmp_path: Path, history: list[Tried]) -> None:
    path = tmp_path / "unet.log"
    OptunaJournal(path, "unet", CONTINUOUS).update(history)
    before = path.read_bytes()
    again = OptunaJournal(path, "unet", CONTINUOUS)
    again.update(history)
    again.update(history)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["unet.log"]


def test_a_dashboard_that_is_open_follows(tmp_path: Path, history: list[Tried]) -> None:
    path = tmp_path / "unet.log"
    mirror = OptunaJournal(path, "unet", CONTINUOUS)
    mirror.update(stages(history)[0])
    dashboard = loaded(path)
    for look in stages(history)[1:]:
        mirror.update(look)
        assert [trial.state for trial in dashboard.trials] == [OPTUNA_STATES[trial.state] for trial in look]


def test_a_pruned_trial_is_never_the_best(tmp_path: Path, history: list[Tried]) -> None:
    path = tmp_path / "unet.log"
    lucky = replace(history[2], value=0.99, steps=((1, 0.99),))
    assert lucky.state is TrialState.PRUNED
    tried = [*history[:2], lucky, *history[3:]]
    OptunaJournal(path, "unet", CONTINUOUS).update(tried)
    study = loaded(path)
    best = max((trial for trial in tried if trial.state is TrialState.COMPLETE), key=lambda trial: trial.value or 0)
    assert (study.best_trial.number, study.best_value) == (best.number, best.value)
    assert study.trials[2].value == 0.99


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_killed_anywhere_the_next_run_agrees_again(data: st.DataObject, history: list[Tried]) -> None:
    """The writer dies at a byte of its choice, with or without the lock, and the tables may be ahead."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unet.log"
        looks = stages(history)
        at = data.draw(st.integers(0, len(looks) - 1))
        mirror = OptunaJournal(path, "unet", CONTINUOUS)
        for look in looks[: at + 1]:
            mirror.update(look)
        written = path.read_bytes()
        path.write_bytes(written[: data.draw(st.integers(0, len(written)))])
        if data.draw(st.booleans()):
            Path(f"{path}.lock").symlink_to(path)
        later = looks[data.draw(st.integers(at, len(looks) - 1))]
        started = time.monotonic()
        resumed = OptunaJournal(path, "unet", CONTINUOUS)
        resumed.update(later)
        assert time.monotonic() - started < 10  # Optuna itself would wait for the lock for 30 s
        assert_agrees(path, later)
        resumed.update(history)
        assert_agrees(path, history)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: [*lines[:3], b"{not json}\n", *lines[3:]],
        lambda _: [b"\x00\xff\n"],
        lambda lines: lines[1:],  # trials of no study
        lambda lines: [lines[0].replace(b"unet", b"other"), *lines[1:]],
        lambda lines: [lines[0].replace(b"[2]", b"[1]"), *lines[1:]],  # minimizes
        lambda lines: [*lines, lines[1]],  # a trial too many
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],  # in another order
        lambda lines: [line.replace(b'"state":1', b'"state":2') for line in lines],  # complete ones are pruned
        lambda lines: [line.replace(b'"value":0.', b'"value":1.') for line in lines],  # other values
        lambda lines: [line.replace(b'"op_code":4', b'"op_code":99') for line in lines],
        lambda _: [b'{"op_code":4}\n'],
    ],
)
def test_a_journal_that_is_broken_or_contradicts_is_written_anew(
    tmp_path: Path, history: list[Tried], spoil: Any
) -> None:
    path = tmp_path / "unet.log"
    OptunaJournal(path, "unet", CONTINUOUS).update(history)
    lines = path.read_bytes().splitlines(keepends=True)
    spoilt = b"".join(spoil(lines))
    assert spoilt != path.read_bytes()
    path.write_bytes(spoilt)
    OptunaJournal(path, "unet", CONTINUOUS).update(history)
    assert_agrees(path, history)
    assert [file.name for file in tmp_path.iterdir()] == ["unet.log"]


def test_a_trial_that_runs_again_is_running_again(tmp_path: Path, history: list[Tried]) -> None:
    path = tmp_path / "unet.log"
    OptunaJournal(path, "unet", CONTINUOUS).update(history)
    again = [*history[:-1], replace(history[-1], state=TrialState.RUNNING, value=None, steps=())]
    OptunaJournal(path, "unet", CONTINUOUS).update(again)
    assert_agrees(path, again)


def test_fair_values_of_stopped_trials_stay_as_they_were_told(tmp_path: Path, history: list[Tried]) -> None:
    path = tmp_path / "unet.log"
    mirror = OptunaJournal(path, "unet", CONTINUOUS)
    mirror.update(history)
    before = path.read_bytes()
    mirror.update([*history[:2], replace(history[2], value=0.1, steps=((1, 0.2), (2, 0.1))), *history[3:]])
    assert path.read_bytes() == before


def test_values_outside_the_space_are_kept_as_attributes(tmp_path: Path) -> None:
    path = tmp_path / "unet.log"
    odd = {"optim.optimizer": "adamw", "optim.lr": 5.0, "loss.level_weights": [9.0, 1.0, 1.0, 1.0]}
    tried = [Tried(0, odd, TrialState.COMPLETE, 0.7), Tried(1, {**odd, "optim.lr": 0.1}, TrialState.RUNNING, None)]
    mirror = OptunaJournal(path, "unet", CONTINUOUS)
    mirror.update(tried)
    before = path.read_bytes()
    mirror.update(tried)
    assert path.read_bytes() == before
    first, second = loaded(path).trials
    assert first.params == {"optim.optimizer": "adamw"}
    assert first.user_attrs == {"optim.lr": 5.0, "loss.level_weights": [9.0, 1.0, 1.0, 1.0]}
    assert second.params == {"optim.optimizer": "adamw", "optim.lr": 0.1}
