"""Files that were damaged on the disk: found by their checksums, and made again from what is left."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from eus_ray.data.dataset import check_data
from eus_ray.distributed import fold_runner
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.fold_runner import FoldOnDisk
from eus_ray.distributed.trainable import finish
from eus_ray.distributed.tune_driver import TrialSpec
from eus_ray.distributed.worker import steps
from eus_ray.errors import UserError
from eus_ray.store import (
    PARTS,
    DamagedFileError,
    PartKey,
    Store,
    TrialKey,
    TrialKind,
    TrialState,
    checkpoint_before_name,
    checkpoint_name,
    part_name,
    read_trials,
    whole_name,
)
from eus_ray.store.lock import StudyLock
from eus_ray.study.cross_validate import FixedTrials
from eus_ray.study.run_context import RunContext
from eus_ray.study.trials import Trials
from eus_ray.training.checkpoint import pack, unpack
from tests.helpers import Recorder, assert_same, light_study, tables

EPOCHS = 3


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def cut(data: bytes) -> bytes:
    """As a full disk, or a machine that lost power, leaves a file."""
    return data[: len(data) * 2 // 3]


def flip(data: bytes) -> bytes:
    """One bit in the middle."""
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


def damage(store: Store, name: str, how: Callable[[bytes], bytes]) -> None:
    path = Path(store.path(name))
    path.write_bytes(how(path.read_bytes()))


def train(manifest: Path, folder: Path, stop_at: int | None = None, *overrides: str) -> list[str]:
    """A cross-validation of two folds, in this process; stopped after so many steps, or to its end. Its notes."""
    study = light_study(manifest, "folds.count=2", f"train.epochs={EPOCHS}", *overrides)
    dataset = check_data(study)
    arrays = dataset.arrays()
    store = Store(folder)
    notes: list[str] = []
    with StudyLock(store) as lock:
        run = CrossValidation(
            study=study.for_model("unet"),
            model="unet",
            trial=0,
            store=store,
            token=lock.token,
            folds=dataset.folds,
            image_ids=dataset.frame["image_id"].tolist(),
            patient_ids=dataset.frame["patient_id"].tolist(),
            arrays=lambda: (arrays.images, arrays.masks),
        )
        Trials(store).begin(TrialKey("unet", 0), TrialKind.FIXED, run.study)
        for number, reports in enumerate(steps(run, 0, 1, 0), start=1):
            notes += [report.note for report in reports if report.note]
            if number == stop_at:
                return notes
        finish(run)
        Trials(store).update(TrialKey("unet", 0), state=TrialState.COMPLETE)
    return notes


def weights(store: Store) -> dict[tuple[str, str], bytes]:
    """Every tensor of every checkpoint; a file's own bytes depend on the order of its metadata, which is random."""
    return {
        (file, name): tensor.numpy().tobytes()
        for file in store.names("checkpoints")
        for name, tensor in unpack(store.read_bytes(file))[0].items()
    }


@pytest.fixture(scope="module")
def undisturbed(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train(phantom, folder) == []
    return tables(folder)


def test_a_fold_is_saved_by_the_time_that_it_was_trained_itself(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(fold_runner, "time", SimpleNamespace(time=time.time, perf_counter=lambda: next(clock)))
    saves: list[tuple[int, int]] = []
    save = FoldOnDisk.save

    def noted(fold: FoldOnDisk) -> None:
        saves.append((fold.number, fold.epoch))
        save(fold)

    monkeypatch.setattr(FoldOnDisk, "save", noted)
    # an epoch takes 10 s by this clock, and between two epochs of a fold go by 30 s of the other and the report
    train(phantom, tmp_path, None, "train.epochs=8", "run.checkpoint_interval_s=25")
    assert saves == [(0, 3), (1, 3), (0, 6), (1, 6), (0, 8), (1, 8)]


@pytest.mark.parametrize("how", [cut, flip, lambda _: b""], ids=["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    phantom: Path, tmp_path: Path, undisturbed: dict[str, pd.DataFrame], how: Callable[[bytes], bytes]
) -> None:
    store = Store(tmp_path)
    train(phantom, tmp_path, stop_at=2)
    assert store.exists(checkpoint_before_name("unet", 0, 1))
    damage(store, checkpoint_name("unet", 0, 1), how)
    (note,) = train(phantom, tmp_path)
    assert "fold_1.safetensors is a damaged checkpoint" in note
    assert note.endswith("fold 1 goes on after epoch 0"), "epoch 1 alone is trained again"
    assert_same(tables(tmp_path), undisturbed)
    assert not [name for name in store.names("checkpoints") if "before" in name], "finished folds keep one"


def test_two_damaged_checkpoints_cost_their_fold_alone(
    phantom: Path, tmp_path: Path, undisturbed: dict[str, pd.DataFrame]
) -> None:
    store = Store(tmp_path)
    train(phantom, tmp_path, stop_at=2)
    for name in (checkpoint_name("unet", 0, 0), checkpoint_before_name("unet", 0, 0)):
        damage(store, name, flip)
    (note,) = train(phantom, tmp_path)
    assert note.count("damaged") == 2
    assert note.endswith("fold 0 starts again from its first epoch")
    assert_same(tables(tmp_path), undisturbed)


def test_a_kill_between_the_two_names_of_a_checkpoint_costs_an_epoch(
    phantom: Path, tmp_path: Path, undisturbed: dict[str, pd.DataFrame]
) -> None:
    train(phantom, tmp_path, stop_at=2)
    Path(Store(tmp_path).path(checkpoint_name("unet", 0, 0))).unlink()
    assert train(phantom, tmp_path) == []
    assert_same(tables(tmp_path), undisturbed)


@pytest.mark.parametrize("table", list(PARTS))
@pytest.mark.parametrize("how", [cut, flip], ids=["cut", "flipped"])
def test_a_damaged_part_of_an_unfinished_trial_is_made_again(
    phantom: Path, tmp_path: Path, undisturbed: dict[str, pd.DataFrame], table: str, how: Callable[[bytes], bytes]
) -> None:
    """Fold 0 is done and fold 1 is not, as when the order is by fold."""
    store = Store(tmp_path)
    train(phantom, tmp_path)
    for name in PARTS:  # as if the last part had not been joined yet
        rows = store.read_table(whole_name(name, TrialKey("unet", 0)))
        store.delete(whole_name(name, TrialKey("unet", 0)))
        store.write_part(name, PartKey("unet", 0, 0, 0), rows.filter(pa.compute.field("fold") == 0))
    store.delete(checkpoint_name("unet", 0, 1))
    damage(store, part_name(table, PartKey("unet", 0, 0, 0)), how)
    with pytest.raises(DamagedFileError, match=r"fold-0.parquet is damaged .*resume the run to make it again"):
        store.read_parts(table)
    recorder = Recorder()
    Trials(store, [recorder]).mend()
    line = f"{part_name(table, PartKey('unet', 0, 0, 0))} is damaged and is made again"
    assert recorder.notes == [(TrialKey("unet", 0), line)]
    train(phantom, tmp_path)
    assert_same(tables(tmp_path), undisturbed)


@pytest.mark.parametrize("table", list(PARTS))
def test_a_damaged_table_of_a_complete_trial_is_made_again(
    phantom: Path, tmp_path: Path, undisturbed: dict[str, pd.DataFrame], table: str
) -> None:
    """Weights give test rows again; the rows of epochs need training, which gives the same bits."""
    store = Store(tmp_path)
    train(phantom, tmp_path)
    damage(store, whole_name(table, TrialKey("unet", 0)), flip)
    first, second = Recorder(), Recorder()
    Trials(store, [first]).mend()
    assert len(first.notes) == 1
    assert read_trials(store)["state"].tolist() == ["running"]
    Trials(store, [second]).mend()
    assert second.notes == [], "what is damaged is found once"
    before = weights(store)
    notes = train(phantom, tmp_path)
    assert [note.endswith("starts again from its first epoch") for note in notes] == [True] * 2 * (table == "epochs")
    assert_same(tables(tmp_path), undisturbed)
    assert weights(store) == before


def test_a_finished_checkpoint_without_rows_takes_them_from_the_tables(
    phantom: Path, tmp_path: Path, undisturbed: dict[str, pd.DataFrame]
) -> None:
    store, key = Store(tmp_path), TrialKey("unet", 0)
    train(phantom, tmp_path)
    assert "rows" not in unpack(store.read_bytes(checkpoint_name("unet", 0, 0)))[0]
    store.delete(whole_name("predictions", key))
    rows = store.read_table(whole_name("epochs", key)).to_pandas()
    store.write_frame(whole_name("epochs", key), rows[~((rows["fold"] == 1) & (rows["epoch"] == 1))])
    (note,) = train(phantom, tmp_path)
    assert "fold_1.safetensors is finished, and rows of its epochs are lost" in note
    assert note.endswith("fold 1 starts again from its first epoch")
    assert_same(tables(tmp_path), undisturbed)


def test_a_checkpoint_of_an_older_version_gives_its_own_rows(
    phantom: Path, tmp_path: Path, undisturbed: dict[str, pd.DataFrame]
) -> None:
    """Then finished checkpoints held rows, and the digest of their settings."""
    store, key = Store(tmp_path), TrialKey("unet", 0)
    train(phantom, tmp_path)
    for fold in range(2):
        name = checkpoint_name("unet", 0, fold)
        tensors, metadata = unpack(store.read_bytes(name))
        tables_of_fold = (
            store.read_part(table, key.part(fold)).drop_columns(list(PartKey._fields)).to_pylist()
            for table in ("epochs", "scores")
        )
        rows = zlib.compress(json.dumps(list(tables_of_fold)).encode(), 1)
        tensors["rows"] = torch.frombuffer(bytearray(rows), dtype=torch.uint8)
        metadata["settings"] = hashlib.sha256(metadata["settings"].encode()).hexdigest()[:16]
        store.write_bytes(name, pack(tensors, metadata))
    for table in PARTS:
        store.delete(whole_name(table, key))
    assert train(phantom, tmp_path) == []
    assert_same(tables(tmp_path), undisturbed)


def test_a_trial_whose_weights_found_no_room_is_not_complete(phantom: Path, tmp_path: Path) -> None:
    """All rows were written, and then the last checkpoint was not."""
    train(phantom, tmp_path)
    store, key, recorder = Store(tmp_path), TrialKey("unet", 0), Recorder()
    trials = Trials(store, [recorder])
    trials.update(key, state=TrialState.RUNNING)
    dataset: Any = SimpleNamespace(
        study=light_study(phantom, "folds.count=2"),
        folds=np.array([0, 1]),
        frame=pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["p", "q"]}),
    )
    nothing: Any = SimpleNamespace(token="", code=None, is_set=lambda: False)
    context = RunContext(store, dataset, nothing, [], nothing, trials, nothing, nothing)
    controller = FixedTrials(context, [TrialSpec(key)], TrialKind.FIXED)
    controller.on_process_end(key, "Traceback\n  ...\nOSError: no space left")
    controller.close()
    assert context.has_failed, "Ray's own logs are worth keeping"
    assert (trials[key].state, trials[key].reason) == (TrialState.FAILED, "OSError: no space left")
    assert [(trial.key, trial.state) for trial in recorder.ended] == [(key, TrialState.FAILED)]
    again = FixedTrials(context, [TrialSpec(key)], TrialKind.FIXED)
    assert again.todo == [TrialSpec(key)], "it goes on when asked to"


def test_what_nobody_can_make_again_is_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_frame("manifest.parquet", pd.DataFrame({"image_id": ["a", "b"]}))
    damage(store, "manifest.parquet", cut)
    with pytest.raises(UserError, match=r"manifest.parquet is damaged .*must come from a backup"):
        store.read_table("manifest.parquet")


def test_every_bit_of_a_table_counts(tmp_path: Path) -> None:
    """One flipped bit anywhere is found, but for those in the name of the seal itself."""
    store, rows = Store(tmp_path), pa.table({"value": np.arange(50.0)})
    store.write_table("t.parquet", rows)
    sound = Path(store.path("t.parquet")).read_bytes()
    silent = 0
    for place in range(len(sound)):
        changed = bytearray(sound)
        changed[place] ^= 0x10
        Path(store.path("t.parquet")).write_bytes(changed)
        try:
            store.read_table("t.parquet", [])
        except DamagedFileError:
            continue
        silent += 1
        assert store.read_table("t.parquet").column("value").to_pylist() == rows.column("value").to_pylist()
    assert silent <= len("eus_ray_checksumcrc32:")
