"""Opening a study folder: what is taken for a study, what is refused, and runs killed in their first seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from eus_ray import store as names
from eus_ray.data.dataset import check_data
from eus_ray.errors import UserError
from eus_ray.store import Store, lock, read_manifest
from eus_ray.store.lock import StudyLock
from eus_ray.study import prepare
from eus_ray.study.prepare import check_identity, provenance, write_manifest, write_study
from tests.helpers import light_study


def test_a_run_killed_before_its_study_was_whole_can_begin_again(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_WATCH_S", 0.0)
    dataset = check_data(light_study(phantom))
    store = Store(tmp_path / "study")
    assert not check_identity(store, dataset)
    write_study(store, dataset, dataset.arrays())
    assert check_identity(store, dataset)
    store.delete(names.PROVENANCE)  # it is written last: without it the study is not whole
    store.write_json(names.RUN, {"token": "x", "host": "elsewhere", "pid": 1, "born": "", "heartbeat": 0.0})
    with StudyLock(store):  # the dead run's claim is no hindrance
        assert not check_identity(store, dataset)
        write_study(store, dataset, dataset.arrays())
    assert store.read_json(names.PROVENANCE)["identity"] == provenance(dataset)["identity"]


@pytest.mark.parametrize("name", [names.MANIFEST, names.CASES_FILE, "thesis.txt"])
def test_files_that_no_run_left_are_not_taken_over(phantom: Path, tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "study")
    store.write_text(name, "mine")
    with pytest.raises(UserError, match=f"holds {name} and no study"):
        check_identity(store, check_data(light_study(phantom)))
    assert store.read_text(name) == "mine"


def test_a_run_that_ended_while_it_wrote_its_study_can_begin_again(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    dataset, store = check_data(light_study(phantom)), Store(tmp_path / "study")
    with monkeypatch.context() as patched:
        patched.setattr(prepare, "cases_table", interrupted)
        with pytest.raises(KeyboardInterrupt), StudyLock(store):
            write_study(store, dataset, dataset.arrays())
    assert store.names() == [names.MANIFEST, names.STUDY]
    assert not check_identity(store, dataset)


def test_without_git_there_is_no_commit(phantom: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert provenance(check_data(light_study(phantom)))["commit"] is None


def test_corrected_clinical_columns_and_another_order_of_rows_are_the_same_study(phantom: Path, tmp_path: Path) -> None:
    study = light_study(phantom)
    dataset, store = check_data(study), Store(tmp_path / "study")
    write_study(store, dataset, dataset.arrays())
    frame = dataset.frame.iloc[::-1].reset_index(drop=True).assign(t_stage="T9")
    other = replace(dataset, manifest=replace(dataset.manifest, frame=frame))
    other = replace(other, plan=replace(dataset.plan, fold=dataset.folds[::-1].copy()))
    assert check_identity(store, other)
    write_manifest(store, other)
    assert set(read_manifest(store)["t_stage"]) == {"T9"}
