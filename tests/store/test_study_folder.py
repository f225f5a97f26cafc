"""The study folder: files that appear whole, and tables that can be read while they are written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eus_ray import store as names
from eus_ray.errors import UserError
from eus_ray.store import PartKey, Store, TrialKey, read_trials, write_trials
from eus_ray.store.lock import is_held_by, is_stop_wanted


def epochs(fold: int, count: int = 2) -> pa.Table:
    rows = [
        {"model": "unet", "trial": 0, "repeat": 0, "fold": fold, "epoch": epoch, "split": "train"}
        | {"loss": 1.0 / (epoch + 1), "dsc": 0.5, "lr": 0.1, "seconds": 1.0}
        for epoch in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=names.EPOCHS)


def test_nothing_exists_before_the_first_write(tmp_path: Path) -> None:
    store = Store(tmp_path / "study")
    assert not store.exists()
    assert store.names() == []
    assert store.read_parts("epochs").num_rows == 0
    assert read_trials(store).empty
    assert not (tmp_path / "study").exists()


def test_a_loop_of_links_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop: is not a path that can be opened"):
        Store(tmp_path / "loop")


def test_a_name_that_no_disk_takes_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x: cannot be read \(.*too long"):
        Store(tmp_path / ("x" * 256)).check_unused()


@pytest.mark.parametrize("location", ["path", "uri"])
def test_a_file_reads_back(tmp_path: Path, location: str) -> None:
    store = Store(tmp_path / "s" if location == "path" else f"file://{tmp_path}/s")
    store.write_text("a/b.txt", "one")
    store.write_text("a/b.txt", "two")
    assert store.read_text("a/b.txt") == "two"
    assert store.names() == ["a/b.txt"]


def test_a_table_written_in_batches_is_the_table_written_whole(tmp_path: Path) -> None:
    store, schema = Store(tmp_path), pa.schema([("n", pa.int64()), ("png", pa.binary())])
    batches = [pa.RecordBatch.from_pylist([{"n": n, "png": bytes([n] * 99)}], schema=schema) for n in range(5)]
    store.write_batches("batches.parquet", schema, iter(batches))
    store.write_table("whole.parquet", pa.Table.from_batches(batches), 1)
    assert store.read_bytes("batches.parquet") == store.read_bytes("whole.parquet")
    assert store.read_table("batches.parquet").to_pylist() == pa.Table.from_batches(batches).to_pylist()
    content = bytearray(store.read_bytes("batches.parquet"))
    content[60] ^= 1
    store.write_bytes("batches.parquet", content)
    with pytest.raises(UserError, match=r"batches\.parquet is damaged"):
        store.read_table("batches.parquet")


def test_batches_that_end_early_leave_nothing(tmp_path: Path) -> None:
    store, schema = Store(tmp_path), pa.schema([("n", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pylist([{"n": 1}], schema=schema)
        raise UserError("unreadable")

    with pytest.raises(UserError, match="unreadable"):
        store.write_batches("t.parquet", schema, batches())
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write folder/t.parquet \(.*make room"):
        store.write_batches("folder/t.parquet", schema, iter([]))


def test_a_log_that_cannot_grow_is_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "logs").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write logs/unet.log \(.*make room"):
        store.append_text("logs/unet.log", "line\n")


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.write_text("f", "old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        store.write_text("f", "new")
    assert store.read_text("f") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_no_room_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write f \(No space left on device\); make room"):
        Store(tmp_path).write_text("f", "new")


def test_files_that_a_killed_writer_left_aside_are_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_text("a/f", "x")
    aside = tmp_path / "a" / f".f.{'0' * 32}"
    aside.write_text("half")
    assert store.names() == ["a/f"]
    assert store.sweep() == 1
    assert not aside.exists()
    assert store.read_text("a/f") == "x"


def test_parts_are_partitioned_by_model_and_carry_the_schema(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_part("epochs", PartKey("unet", 0, 0, 1), epochs(1))
    (name,) = store.names("epochs")
    assert name == "epochs/model=unet/trial-0_repeat-0_fold-1.parquet"
    file = pq.ParquetFile(tmp_path / name)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.schema_arrow.metadata[b"eus_ray_schema"] == b"1"
    assert file.schema_arrow.remove_metadata() == names.EPOCHS
    assert pq.read_table(tmp_path / "epochs", partitioning=None).num_rows == 2  # any other reader too


def test_finishing_a_trial_keeps_every_row_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for fold in range(3):
        store.write_part("epochs", PartKey("unet", 0, 0, fold), epochs(fold))
    before = store.read_parts("epochs")
    store.finish_trial(TrialKey("unet", 0), 3)
    assert store.read_parts("epochs").equals(before)
    assert store.names("epochs") == ["epochs/model=unet/trial-0_repeat-0.parquet"]
    store.finish_trial(TrialKey("unet", 0), 3)  # once more, as after a kill
    assert store.read_parts("epochs").equals(before)


def test_a_trial_that_was_killed_while_it_finished_counts_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for fold in range(2):
        store.write_part("epochs", PartKey("unet", 0, 0, fold), epochs(fold))
    whole = store.read_parts("epochs")
    store.write_table(names.whole_name("epochs", TrialKey("unet", 0)), whole)  # the parts are still there
    assert store.read_parts("epochs").num_rows == 4
    store.finish_trial(TrialKey("unet", 0), 2)
    assert store.read_parts("epochs").equals(whole)


def test_reading_while_writing_sees_whole_parts_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stop = threading.Event()

    def write() -> None:
        for trial in range(40):
            for fold in range(2):
                store.write_part("epochs", PartKey("unet", trial, 0, fold), epochs(fold))
            store.finish_trial(TrialKey("unet", trial), 2)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not stop.is_set():
        seen.append(store.read_parts("epochs").num_rows)
    writer.join()
    assert seen == sorted(seen), "rows must never vanish"
    assert all(rows % 2 == 0 for rows in seen)
    assert store.read_parts("epochs").num_rows == 160


def test_trials_keep_their_settings_as_columns(tmp_path: Path) -> None:
    store = Store(tmp_path)
    row = {"model": "unet", "kind": "fixed", "trial": 0, "state": "running", "reason": "", "folds_done": 0}
    write_trials(store, [row | {"value": None, "optim.lr": 0.1, "train.epochs": 3, "model.encoder": "resnet18"}])
    (read,) = read_trials(store).to_dict("records")
    assert (read["optim.lr"], read["train.epochs"], read["model.encoder"]) == (0.1, 3, "resnet18")
    assert read["value"] != read["value"]


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ('models = ["unet", "daf_net"]', ["unet", "unet", "daf_net", "attention_unet"]),  # one was added later
        ("", ["attention_unet", "daf_net", "unet", "unet"]),
        ("models = [", ["attention_unet", "daf_net", "unet", "unet"]),
        ("models = 3", ["attention_unet", "daf_net", "unet", "unet"]),
        (None, ["attention_unet", "daf_net", "unet", "unet"]),
    ],
)
def test_trials_are_read_in_the_order_in_which_the_study_names_its_models(
    tmp_path: Path, settings: str | None, order: list[str]
) -> None:
    store = Store(tmp_path)
    if settings is not None:
        store.write_text(names.STUDY, settings)
    row = {"kind": "fixed", "state": "complete", "reason": "", "folds_done": 0, "value": None}
    keys = [("attention_unet", 0), ("daf_net", 0), ("unet", 0), ("unet", 1)]
    write_trials(store, [row | {"model": model, "trial": trial} for model, trial in keys])
    found = read_trials(store)
    assert found["model"].tolist() == order
    assert found.loc[found["model"] == "unet", "trial"].tolist() == [0, 1]
    assert found.index.tolist() == [0, 1, 2, 3]


def test_only_the_holder_of_the_token_may_write(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not is_held_by(store, "a")
    store.write_json(names.RUN, {"token": "a", "stop": False})
    assert is_held_by(store, "a")
    assert not is_stop_wanted(store, "a")
    assert is_stop_wanted(store, "b")
    store.write_json(names.RUN, {"token": "a", "stop": True})
    assert is_stop_wanted(store, "a")


def test_a_name_as_long_as_the_disk_takes_is_written_and_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    store, long = Store(tmp_path / "study"), "x" * 255
    store.write_bytes(long, b"whole")
    assert store.read_bytes(long) == b"whole"
    for left in (f".{'0' * 32}", f".study.toml.{'0' * 32}"):  # today's, and that of older versions
        (tmp_path / "study" / left).write_bytes(b"half")
    assert store.sweep() == 2
    assert store.names() == [long]
