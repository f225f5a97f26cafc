"""A study on S3-compatible storage is the study that it is on a disk."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from eus_ray.cli import main
from eus_ray.errors import UserError
from eus_ray.store import RUN, Store, optuna_name, read_trials
from tests.helpers import LIGHT, assert_same, light_study, serial, tables

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Where studies may lie on a real S3 server; `{}` stands for the study's name."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = f"scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    fs = pafs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        scheme="http",
        endpoint_override=f"{host}:{port}",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    fs.create_dir("studies")
    yield f"s3://key:secret@studies/{{}}?{options}"
    server.stop()


def options(manifest: Path, *overrides: str) -> list[str]:
    return [part for value in (f"data.manifest={manifest}", *LIGHT, *overrides) for part in ("--set", value)]


def test_files_of_an_object_store(bucket: str) -> None:
    store = Store(bucket.format("files"))
    assert not store.exists()
    assert store.location == "s3://studies/files", "no key is shown"
    store.write_bytes("a/b.txt", b"first")
    store.write_bytes("a/b.txt", b"second")
    store.append_text("a/log.txt", "one\n")
    store.append_text("a/log.txt", "two\n")
    store.move("a/b.txt", "a/c.txt")
    assert store.names() == ["a/c.txt", "a/log.txt"]
    assert store.read_bytes("a/c.txt") == b"second"
    assert store.read_text("a/log.txt") == "one\ntwo\n"
    store.delete("a/c.txt")
    store.delete("a/c.txt")
    assert store.names("a") == ["a/log.txt"]
    schema = pa.schema([("n", pa.int64())])
    store.write_batches("t.parquet", schema, (pa.RecordBatch.from_pylist([{"n": n}], schema=schema) for n in (1, 2)))
    assert store.read_table("t.parquet")["n"].to_pylist() == [1, 2]
    with pytest.raises(FileNotFoundError):
        store.read_table("a/nothing.parquet")


def test_a_server_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = "s3://key:secret@bucket/x?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
    assert main(["status", nobody]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("eus-ray: s3://bucket/x: cannot be read (")
    assert line.endswith("check the address, the network and the credentials")


def test_what_cannot_be_opened_is_said(bucket: str, phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"^gopher://x: cannot be opened"):
        Store("gopher://x")
    lost = bucket.format("x").replace("@studies", "@no-such-bucket")
    assert main(["cv", "--out", lost, "--models", "unet", *options(phantom)]) == 2
    err = capsys.readouterr().err
    assert "s3://no-such-bucket/x: cannot write" in err
    assert "secret" not in err


@pytest.mark.usefixtures("ray_session")
@pytest.mark.ray
def test_a_cross_validation_on_an_object_store(
    bucket: str, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = bucket.format("cv")
    assert main(["cv", "--out", there, "--models", "unet", *options(phantom, "folds.count=3")]) == 0
    assert_same(tables(there), serial(light_study(phantom, "folds.count=3"), "unet"))
    assert not Store(there).exists(RUN), "the claim is given back"
    assert main(["status", there]) == 0
    printed = capsys.readouterr().out
    assert "1 complete" in printed
    assert "key:secret" not in printed
    assert f"next: eus-ray analyze {there.replace('key:secret@', '')}" in printed
    assert main(["analyze", there, "--out", str(tmp_path / "report")]) == 0, "from another machine"
    assert main(["analyze", there]) == 0
    reports = [pd.read_parquet(tmp_path / "report" / "images.parquet"), *_images(there)]
    pd.testing.assert_frame_equal(*reports)


def _images(there: str) -> list[pd.DataFrame]:
    return [Store(there).read_table("report/images.parquet").to_pandas()]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.ray
@pytest.mark.long
def test_a_search_on_an_object_store(bucket: str, phantom: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text('[search."optim.lr"]\nkind = "log_float"\nlow = 1e-4\nhigh = 1e-2\n')
    more = ("folds.count=2", "search.inner_folds=2", f"search.space={space}", "search.concurrent=1")
    there = bucket.format("tune")
    for out in (there, str(tmp_path / "here")):
        assert main(["tune", "--out", out, "--models", "unet", "--trials", "3", *options(phantom, *more)]) == 0
    assert_same(tables(there), tables(tmp_path / "here"))
    journal = tmp_path / "journal.log"
    journal.write_bytes(Store(there).read_bytes(optuna_name("unet")))
    study = optuna.load_study(study_name="unet", storage=JournalStorage(JournalFileBackend(str(journal))))
    assert len(study.trials) == 3


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_killed_run_on_an_object_store_goes_on(bucket: str, phantom: Path) -> None:
    there = bucket.format("killed")
    changed = ("folds.count=2", "train.epochs=12", "run.workers=1")
    arguments = ["--models", "unet", *options(phantom, *changed)]
    command = [sys.executable, "-m", "eus_ray.cli", "cv", "--out", there, *arguments]
    driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store = Store(there)
    end = time.monotonic() + 120
    while len(store.names("checkpoints")) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert read_trials(store)["state"].tolist() == ["running"]
    subprocess.run([*command, "--resume"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert_same(tables(there), serial(light_study(phantom, *changed), "unet"))
