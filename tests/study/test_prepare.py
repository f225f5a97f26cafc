"""Opening a study folder: what is taken for a study, what is refused, and runs killed in their first seconds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest

from eus_ray import store as names
from eus_ray.data.dataset import check_data
from eus_ray.errors import UserError
from eus_ray.store import Store, lock, read_manifest
from eus_ray.store.lock import StudyLock
from eus_ray.study import prepare
from eus_ray.study.prepare import (
    check_identity,
    prepare_dataset,
    provenance,
    renew_study,
    tell_warnings,
    write_study,
)
from tests.helpers import Recorder, light_study


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
        patched.setattr(prepare, "case_batches", interrupted)
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
    renew_study(store, other)
    assert set(read_manifest(store)["t_stage"]) == {"T9"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("evaluate.threshold=0.4", "evaluate.threshold was 0.5 and is 0.4"),
        ("evaluate.keep=largest", "evaluate.keep was all and is largest"),
        ("evaluate.fill_holes=true", "evaluate.fill_holes was False and is True"),
    ],
)
@pytest.mark.parametrize("is_older", [False, True], ids=["new", "older than the setting"])
def test_a_study_goes_on_with_the_masks_that_it_began_with(
    phantom: Path, tmp_path: Path, override: str, said: str, is_older: bool
) -> None:
    dataset, store = check_data(light_study(phantom)), Store(tmp_path / "study")
    write_study(store, dataset, dataset.arrays())
    if is_older:
        written = store.read_json(names.PROVENANCE)
        for name in ("threshold", "keep", "fill_holes"):
            del written["identity"][f"evaluate.{name}"]
        store.write_json(names.PROVENANCE, written)
    assert check_identity(store, dataset)
    with pytest.raises(UserError) as refused:
        check_identity(store, check_data(light_study(phantom, override)))
    assert refused.value.lines == (f"{store.location}: holds another study: {said}; choose another output folder",)


def test_warnings_of_the_manifest_are_told_and_kept_without_its_path(phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom.parent, tmp_path / "set")
    manifest, heard = tmp_path / "set/manifest.csv", Recorder()
    table = pd.read_csv(manifest)
    patients = table["patient_id"].unique()
    table["patient_id"] = table["patient_id"].replace({patients[1]: f"{patients[0]}\u200b"})
    table.to_csv(manifest, index=False)
    store = Store(tmp_path / "study")
    dataset = prepare_dataset(light_study(manifest), store, resume=False)
    tell_warnings([heard], dataset, store)
    write_study(store, dataset, dataset.arrays())
    (said,) = [line for line in heard.warnings if "invisible" in line]
    kept = store.read_json(names.PROVENANCE)["data"]["warnings"]
    assert kept[:1] == [
        f"patients {patients[0]} and {patients[0]}\\u200b differ in invisible characters only; "
        "they are taken as 2 patients"
    ]
    assert said == f"{manifest}: {kept[0]}"


def test_a_resumed_study_keeps_the_warnings_of_its_manifest_as_it_is_now(phantom: Path, tmp_path: Path) -> None:
    dataset, store = check_data(light_study(phantom)), Store(tmp_path / "study")
    write_study(store, dataset, dataset.arrays())
    before = store.read_json(names.PROVENANCE)
    before["data"].pop("warnings")
    store.write_json(names.PROVENANCE, before)  # as an older run wrote it
    warned = replace(dataset, manifest=replace(dataset.manifest, warnings=(f"{phantom}: one is odd",)))
    renew_study(store, warned)
    after = store.read_json(names.PROVENANCE)
    assert after["data"].pop("warnings") == ["one is odd"]
    assert after == before


def test_settings_without_effect_are_told_with_the_warnings(phantom: Path, tmp_path: Path) -> None:
    heard = Recorder()
    tell_warnings([heard], check_data(light_study(phantom)), Store(tmp_path / "study"))
    assert heard.warnings[:1] == ["model.encoder, model.decoder_width have no effect on unet"]
