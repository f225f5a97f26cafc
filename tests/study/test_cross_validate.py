"""The Ray Train run: the same tables however the folds lie on workers, and after whatever was killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import psutil
import pytest
import ray
import ray.util

from eus_ray.cli import main
from eus_ray.config_file import study_toml
from eus_ray.data.arrays import Arrays
from eus_ray.data.dataset import Dataset
from eus_ray.data.io.images import decode
from eus_ray.distributed import shared_arrays
from eus_ray.distributed.session import Session
from eus_ray.metrics import THRESHOLD, counts
from eus_ray.store import Store, TrialKey, read_trials
from eus_ray.store.event_log import FoldReport
from eus_ray.study.callbacks import Callback
from eus_ray.study.cross_validate import cross_validate
from tests.helpers import assert_same, light_study, serial, tables
from tests.processes import marked, name_of, wait_until

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def reference(phantom: Path) -> dict[str, pd.DataFrame]:
    return serial(light_study(phantom), "unet")


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(("workers", "order"), [(1, "abreast"), (1, "by_fold"), (2, "by_fold"), (5, "abreast")])
def test_any_number_of_workers_and_either_order_give_the_serial_tables(
    phantom: Path, reference: dict[str, pd.DataFrame], tmp_path: Path, workers: int, order: str
) -> None:
    study = light_study(phantom, f"run.workers={workers}", f"run.order={order}")
    outcome = cross_validate(study, tmp_path / "study")
    assert outcome.states == {"unet": "complete"}
    assert_same(tables(tmp_path / "study"), reference)
    assert (outcome.folds_at_once["unet"] >= 2) == (workers > 1)


@pytest.mark.usefixtures("ray_session")
def test_a_fold_gives_way_to_no_other_program_of_the_machine() -> None:
    assert ray.get(ray.remote(num_cpus=0)(lambda: os.nice(0)).remote()) == os.nice(0)


@pytest.fixture(scope="module")
def three(phantom: Path, ray_session: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of all three architectures, one worker each, so that two run side by side on two cores."""
    del ray_session  # needed, but never read
    folder = tmp_path_factory.mktemp("three") / "study"
    models = ("unet", "attention_unet", "daf_net")
    outcome = cross_validate(light_study(phantom, "run.workers=1", "folds.count=3", models=models), folder)
    assert set(outcome.states.values()) == {"complete"}
    return folder


def test_counts_of_training_are_those_of_the_stored_maps(three: Path) -> None:
    store = Store(three)
    cases = store.read_table("cases/cases.parquet").to_pandas().set_index("image_id")
    scores = store.read_parts("scores").to_pandas().set_index(["model", "image_id"])
    predictions = store.read_parts("predictions").to_pandas()
    assert len(predictions) == len(scores) == 3 * len(cases)
    for row in predictions.itertuples():
        predicted = np.asarray(row.probability).reshape(row.height, row.width) >= THRESHOLD
        truth = decode(cases.loc[row.image_id, "truth"]).mask().astype(bool)
        expected = scores.loc[(row.model, row.image_id), ["tp", "fp", "fn", "tn"]].tolist()
        assert counts(predicted, truth).tolist() == expected


def test_every_image_is_tested_once_and_by_the_fold_that_never_saw_its_patient(three: Path) -> None:
    store = Store(three)
    manifest = store.read_table("manifest.parquet").to_pandas().set_index("image_id")
    scores = store.read_parts("scores").to_pandas()
    assert (scores["split"] == "test").all()
    assert not scores.duplicated(["model", "image_id"]).any()
    assert (manifest.loc[scores["image_id"], "fold"].to_numpy() == scores["fold"].to_numpy()).all()
    assert (manifest.groupby("patient_id")["fold"].nunique() == 1).all()


def test_the_study_folder_holds_what_it_should(three: Path) -> None:
    trials = read_trials(Store(three)).set_index("model")
    assert trials["state"].tolist() == ["complete"] * 3
    assert trials["kind"].tolist() == ["fixed"] * 3
    epochs = Store(three).read_parts("epochs").to_pandas()
    test = epochs[epochs["split"] == "test"]
    for model, value in trials["value"].items():
        assert value == pytest.approx(test.loc[test["model"] == model, "dsc"].mean())
    assert (epochs[epochs["split"] == "train"].groupby(["model", "fold"])["epoch"].apply(list).map(len) == 2).all()
    names = Store(three).names()
    assert "run.json" not in names
    assert {f"logs/{model}_trial-0.log" for model in trials.index} <= set(names)
    assert len([name for name in names if name.startswith("checkpoints/")]) == 9
    assert not list(three.rglob(".*"))


@pytest.mark.usefixtures("ray_session")
def test_models_are_added_but_never_overwritten_and_no_study_is_mixed(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    study_file = tmp_path / "study.toml"
    study_file.write_text(study_toml(light_study(phantom, "run.workers=1", "train.epochs=1", "folds.count=2")))
    command = ["cv", str(study_file), "--out", str(folder)]
    assert main(command) == 0
    before = tables(folder)
    assert main(command) == 2
    assert "holds unet already (fixed, complete); resume to go on with it" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0  # nothing to do
    assert main([*command, "--resume", "--set", "optim.lr=0.5"]) == 2
    assert "unet was begun with other settings: optim.lr was 0.001 and is 0.5" in capsys.readouterr().err
    assert main([*command, "--set", "folds.seed=1", "--models", "daf_net"]) == 2
    assert "holds another study: folds.assignment" in capsys.readouterr().err
    assert main([*command, "--models", "daf_net"]) == 0
    assert_same(tables(folder, "unet"), before)
    assert set(read_trials(Store(folder))["model"]) == {"unet", "daf_net"}


@pytest.mark.usefixtures("ray_session")
def test_a_loss_that_is_no_number_fails_the_trial_and_says_where(phantom: Path, tmp_path: Path) -> None:
    study = light_study(phantom, "run.workers=2", "optim.lr=1e30", "optim.optimizer=sgd", "train.epochs=4")
    outcome = cross_validate(study, tmp_path / "study")
    assert outcome.states == {"unet": "failed"}
    (row,) = read_trials(Store(tmp_path / "study")).to_dict("records")
    assert "the loss is nan in fold" in row["reason"]
    assert "learning rate" in row["reason"]


@pytest.mark.usefixtures("ray_session")
def test_rays_own_logs_are_kept_if_a_process_ends_by_a_fault(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = light_study(phantom, "run.workers=1", "run.max_failures=0", "folds.count=2", "train.epochs=1")
    assert cross_validate(study, tmp_path / "sound").states == {"unet": "complete"}
    assert not Store(tmp_path / "sound").exists("logs/ray")

    class NoFolder:
        """Where a worker would find its arrays; it is not there."""

        def __call__(self) -> NoReturn:
            raise RuntimeError("a fault of ours")

    def not_shared(dataset: Dataset, session: Session) -> tuple[Arrays, shared_arrays.SharedArrays]:
        arrays, _ = shared_arrays.share_arrays(dataset, session)
        return arrays, NoFolder()

    monkeypatch.setattr("eus_ray.study.run_context.share_arrays", not_shared)
    outcome = cross_validate(study, tmp_path / "broken")
    assert outcome.states == {"unet": "failed"}
    store = Store(tmp_path / "broken")
    assert "a fault of ours" in store.read_text("logs/unet_trial-0.log")
    (record,) = read_trials(store).to_dict("records")
    assert "a fault of ours" in record["reason"]
    kept = store.names("logs/ray")
    assert any(name.endswith((".log", ".out", ".err")) for name in kept), kept


@pytest.mark.usefixtures("ray_session")
def test_metrics_on_the_original_pixels(phantom: Path, tmp_path: Path) -> None:
    options = ("run.workers=1", "folds.count=2", "train.epochs=1", "evaluate.grid=original", "data.resize=pad")
    cross_validate(light_study(phantom, *options), tmp_path / "study")
    scores = Store(tmp_path / "study").read_parts("scores").to_pandas()
    assert (scores[["tp", "fp", "fn", "tn"]].sum(axis=1) == 64 * 64).all()


@pytest.mark.usefixtures("ray_session")
def test_arrays_too_large_for_the_store_are_mapped_and_give_the_same_numbers(
    phantom: Path, reference: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_arrays, "OBJECT_STORE_SHARE", 0.0)
    folders: list[Path] = []

    def deleted(shared: shared_arrays.SharedArrays, session: Session) -> None:
        folders.append(session.scratch / "arrays")
        assert folders[-1].is_dir()
        shared_arrays.delete_arrays(shared, session)

    monkeypatch.setattr("eus_ray.study.run_context.delete_arrays", deleted)
    cross_validate(light_study(phantom, "run.workers=1"), tmp_path / "study")
    assert_same(tables(tmp_path / "study"), reference)
    assert [folder.exists() for folder in folders] == [False], "patients' images stay on no machine"


LONGER = ("train.epochs=8", "data.image_size=64", "model.width=8")
"""A cross-validation that can be caught in mid-run."""


@pytest.fixture(scope="module")
def undisturbed(phantom: Path) -> dict[str, pd.DataFrame]:
    return serial(light_study(phantom, *LONGER), "unet")


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("workers", "process_name", "epochs"),
    [(1, "ResourceTrainable", 2), (2, "RayTrainWorker", 2), (2, "ImplicitFunc", 2), (2, "ImplicitFunc", 0)],
)
def test_a_killed_process_is_replaced_and_the_tables_are_the_same(
    phantom: Path, undisturbed: dict[str, pd.DataFrame], tmp_path: Path, workers: int, process_name: str, epochs: int
) -> None:
    """An ImplicitFunc controls a group of workers: it is killed in mid-run, and while its workers start."""
    folder = tmp_path / "study"
    killed: list[int] = []

    def workers_have_room() -> bool:
        """Whether the workers hold their share of the machine, which is before they have started."""
        groups = ray.util.placement_group_table().values()
        return workers == 1 or any(group["name"] and group["state"] == "CREATED" for group in groups)

    def kill() -> None:
        wait_until(lambda: epochs_done(folder) >= epochs and workers_have_room())
        mine = psutil.Process().children(recursive=True)
        worker = next(process for process in mine if process_name in name_of(process))
        worker.kill()
        killed.append(worker.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    outcome = cross_validate(light_study(phantom, f"run.workers={workers}", *LONGER), folder)
    thread.join()
    assert killed
    assert outcome.states == {"unet": "complete"}
    assert_same(tables(folder), undisturbed)
    if process_name == "RayTrainWorker":
        assert "lost worker" in (folder / "logs/unet_trial-0.log").read_text()
    groups = ray.util.placement_group_table
    wait_until(lambda: all(group["state"] == "REMOVED" for group in groups().values()), groups)


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_tables_and_leaves_nothing_behind(phantom: Path, tmp_path: Path) -> None:
    """Ctrl-C, then kill -9 of the driver, then of all its processes, each in mid-run and followed by `--resume`."""
    study = light_study(phantom, "run.workers=2", "train.epochs=16", "data.image_size=64", "model.width=8")
    study_file, folder, scratch = tmp_path / "study.toml", tmp_path / "study", tmp_path / "scratch"
    study_file.write_text(study_toml(study))
    scratch.mkdir()
    command = [sys.executable, "-m", "eus_ray.cli", "cv", str(study_file), "--out", str(folder)]
    mark = uuid.uuid4().hex
    # Ray's agents look for their lost server for a minute before they leave; not so long here
    patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
    environment = {**os.environ, **patience, "TMPDIR": str(scratch), "EUS_RAY_TEST": mark}
    pids = []
    for what in ("interrupt", "driver", "everything"):
        before = epochs_done(folder)
        run = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.PIPE)
        wait_until(lambda run=run, before=before: epochs_done(folder) >= before + 2 or run.poll() is not None)
        assert run.poll() is None, run.stderr and run.stderr.read()
        if what == "interrupt":
            run.send_signal(signal.SIGINT)
            assert run.wait(timeout=120) == 130
            command.append("--resume")
        else:
            for victim in [psutil.Process(run.pid)] if what == "driver" else marked(mark):
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()
            run.wait(timeout=30)
        assert before < epochs_done(folder) < 5 * 16, "it was meant to be stopped in mid-run"
        pids.append(run.pid)
    last = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert_same(tables(folder), serial(study, "unet"))
    wait_until(lambda: not marked(mark), lambda: [name_of(process) for process in marked(mark)])
    assert list(scratch.iterdir()) == []
    for pid in (*pids, last.pid):  # the test's own path is too long for Ray's sockets
        assert not list(Path("/tmp").glob(f"eus-ray-{pid}-*"))
    assert not list(folder.rglob(".*"))


def test_two_runs_in_one_folder_do_not_meet(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from eus_ray.store.lock import StudyLock

    study_file = tmp_path / "study.toml"
    study_file.write_text(study_toml(light_study(phantom)))
    with StudyLock(Store(tmp_path / "study")):
        names = Store(tmp_path / "study").names()
        assert main(["cv", str(study_file), "--out", str(tmp_path / "study")]) == 2
        assert "another run writes here" in capsys.readouterr().err
        assert Store(tmp_path / "study").names() == names


@pytest.mark.usefixtures("ray_session")
def test_the_object_store_has_one_copy_of_the_arrays() -> None:
    from ray._private.internal_api import memory_summary

    def used_mib() -> float:
        (used,) = re.findall(
            r"Plasma memory usage (\d+) MiB", memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
        )
        return float(used)

    @ray.remote(num_cpus=0.1)
    class Worker:
        def hold(self, shared: list) -> tuple[bool, bool]:
            self.images, self.masks = ray.get(shared[0])
            return self.images.flags.owndata, self.images.flags.writeable

    before = used_mib()
    arrays = np.random.default_rng(0).integers(0, 255, (15_000, 64, 64), dtype=np.uint8)  # 59 MiB
    handle = ray.put((arrays, arrays[:1]))
    workers = [Worker.remote() for _ in range(5)]
    assert ray.get([worker.hold.remote([handle]) for worker in workers]) == [(False, False)] * 5
    assert used_mib() - before == pytest.approx(59, abs=3)


@pytest.mark.usefixtures("ray_session")
def test_the_drivers_memory_does_not_grow_with_epochs(phantom: Path, tmp_path: Path) -> None:
    mib: list[float] = []

    class Memory(Callback):
        def on_fold_report(self, _key: TrialKey, report: FoldReport) -> None:
            if report.fold == 0:
                mib.append(psutil.Process().memory_info().rss / 2**20)

    study = light_study(phantom, "run.workers=1", "folds.count=2", "train.epochs=60")
    cross_validate(study, tmp_path / "study", callbacks=[Memory()])
    assert len(mib) >= 60
    assert mib[-1] - mib[10] < 10, mib


def epochs_done(folder: Path) -> int:
    rows = Store(folder).read_parts("epochs").to_pandas() if folder.exists() else pd.DataFrame({"split": []})
    return int((rows["split"] == "train").sum())
