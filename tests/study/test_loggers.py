"""What TensorBoard and MLflow hear of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from eus_ray import store as names
from eus_ray.config import Study
from eus_ray.errors import UserError
from eus_ray.store import Store, TrialKey, TrialKind, TrialState
from eus_ray.study.loggers import MLflow, TensorBoard, open_loggers
from eus_ray.study.trials import Trials
from tests.study.test_status import report

KEY = TrialKey("unet", 0)


@pytest.fixture
def study() -> Study:
    return Study.model_validate({"models": ["unet"], "folds": {"count": 2}, "train": {"epochs": 4}})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "study")
    store.write_json(names.PROVENANCE, {"started": "2026-01-01T00:00:00+00:00"})
    return store


def train(trials: Trials, study: Study, epochs: range) -> None:
    trials.begin(TrialKey("unet", 0), TrialKind.FIXED, study.for_model("unet"))
    for epoch in epochs:
        judged = 0.8 if epoch == 3 else None
        trials.report(KEY, [report(fold, epoch, 1000.0 + epoch, 1001.0 + epoch, judged) for fold in (0, 1)])


def test_tensorboard_has_a_folder_a_fold_and_forgets_what_was_trained_again(study: Study, store: Store) -> None:
    folder = Path(store.path("logs/tensorboard"))
    first = TensorBoard(folder)
    train(Trials(store, [first]), study, range(3))
    first.close()
    again = TensorBoard(folder)
    trials = Trials(store, [again])
    train(trials, study, range(2, 4))
    trials.update(KEY, state=TrialState.COMPLETE, value=0.8)
    trials.end(KEY)
    again.close()
    assert {path.parent.relative_to(folder).as_posix() for path in folder.rglob("events*")} == {
        "unet/trial-0/fold-0",
        "unet/trial-0/fold-1",
    }
    events = [event for path in sorted((folder / "unet/trial-0/fold-1").iterdir()) for event in _events(path)]
    steps = [(value.tag, event.step) for event in events for value in event.summary.value if value.tag == "test/dsc"]
    assert steps == [("test/dsc", 3)]
    purged = [event.step for event in events if event.session_log.status == 1]
    assert purged == [0, 2], "the second run takes the place of epoch 2"


def _events(path: Path) -> list:
    """The events of a file: records of a length, its checksum, an event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, events = path.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return events


def test_mlflow_has_a_run_a_trial_and_below_it_one_a_fold(study: Study, store: Store, tmp_path: Path) -> None:
    client_of = pytest.importorskip("mlflow", reason="mlflow is an extra: pip install eus-ray[mlflow]").MlflowClient
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    train(Trials(store, [MLflow(uri, "eus", store)]), study, range(2))
    trials = Trials(store, [MLflow(uri, "eus", store)])  # resumed
    train(trials, study, range(2, 4))
    trials.update(KEY, state=TrialState.COMPLETE, value=0.8)
    trials.end(KEY)
    client = client_of(uri)
    runs = client.search_runs([client.get_experiment_by_name("eus").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert set(by_name) == {"unet trial 0", "unet trial 0 fold 0", "unet trial 0 fold 1"}
    parent, child = by_name["unet trial 0"], by_name["unet trial 0 fold 1"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params["optim.lr"] == "0.001"
    assert parent.data.metrics["value"] == 0.8
    assert [metric.step for metric in client.get_metric_history(child.info.run_id, "train/loss")] == [0, 1, 2, 3]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_what_cannot_be_had_is_said_before_anything_is_written(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:

    there = Store("mock://bucket/study")
    assert not there.is_local
    log = study.log.model_copy(update={"tensorboard": True})
    with pytest.raises(UserError, match=r"log\.tensorboard writes to a disk"):
        open_loggers(study.model_copy(update={"log": log}), there)
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    log = study.log.model_copy(update={"mlflow": "http://127.0.0.1:1"})
    with pytest.raises(UserError, match=r"not installed; pip install .*mlflow"):
        open_loggers(study.model_copy(update={"log": log}), there)
