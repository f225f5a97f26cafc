"""The search of one architecture, driven step by step in this process, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors.torch import load as load_tensors

from eus_ray.config import Study
from eus_ray.data.dataset import check_data
from eus_ray.data.splits import validation_split
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.distributed.trainable import finish
from eus_ray.distributed.worker import steps
from eus_ray.errors import UserError
from eus_ray.models import check_model_of
from eus_ray.search.pruners import make_pruner
from eus_ray.search.space_loader import load_space
from eus_ray.store import (
    PartKey,
    Store,
    TrialKind,
    TrialState,
    checkpoint_name,
    optuna_name,
    part_name,
    read_trials,
    search_name,
)
from eus_ray.store.event_log import FoldReport
from eus_ray.store.lock import StudyLock
from eus_ray.study.model_search import ModelSearch
from eus_ray.study.trials import Trials
from eus_ray.study.tune import first_points
from eus_ray.training.fold import FoldData
from tests.helpers import OF_THE_MACHINE, light_study

pytestmark = pytest.mark.slow

SPACE = """
[search."optim.lr"]
kind = "log_float"
low = 1e-5
high = 3e-2

[search."train.batch_size"]
kind = "choice"
choices = [4, 8]
"""


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tuned(manifest: Path, folder: Path, *overrides: str, space: str = SPACE) -> Study:
    path = folder / "space.toml"
    path.write_text(space)
    options = ("folds.count=3", "search.trials=6", "search.inner_folds=3", f"search.space={path}", "train.epochs=3")
    return light_study(manifest, *options, *overrides)


DEFAULT = {"optim.lr": 1e-4, "train.batch_size": 4}


class CrashError(Exception):
    """Stands for a kill -9 of the whole search: nothing is tidied up."""


@dataclass(frozen=True)
class Run:
    """A search in a study folder; `change` alters what a fold sees."""

    study: Study
    store: Store
    change: Callable[[FoldData], FoldData] = lambda data: data

    def base(self, token: str) -> CrossValidation:
        dataset = check_data(self.study)
        arrays = dataset.arrays()
        study = self.study.for_model("unet")
        search = study.search
        validation = None
        if search.protocol == "nested":
            validation = validation_split(dataset.frame, dataset.folds, search.inner_folds, study.folds.seed)
        change = self.change

        class Changed(CrossValidation):
            def data(self, fold: int, images: Any, masks: Any) -> FoldData:
                return change(super().data(fold, images, masks))

        return Changed(
            study=study,
            model="unet",
            trial=0,
            store=self.store,
            token=token,
            folds=dataset.folds,
            image_ids=dataset.frame["image_id"].tolist(),
            patient_ids=dataset.frame["patient_id"].tolist(),
            arrays=lambda: (arrays.images, arrays.masks),
            order=make_pruner(search, study.train.epochs).order,
            kind=TrialKind.TRIAL,
            validation=validation,
        )

    def go(self, crash_after: int | None = None) -> ModelSearch:
        """Search to the end, one trial at a time; or crash after so many steps, the last of them unheard."""
        done = 0
        with StudyLock(self.store) as lock:
            base = self.base(lock.token)
            space = load_space(base.study, check_model_of)
            search = ModelSearch(base, Trials(self.store), space, first_points(base.study, space, None), Path())
            while (spec := search.next()) is not None:
                trial = base.as_trial(spec.key.trial, spec.settings)
                for reports in steps(trial, 0, 1, 0):
                    done += 1
                    if done == crash_after:
                        raise CrashError
                    if search.on_reports(spec.key.trial, reports):
                        break
                else:
                    finish(trial)
                search.on_process_end(spec.key.trial)
        return search


def run_of(manifest: Path, folder: Path, *overrides: str, **how: Any) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(tuned(manifest, folder, *overrides), Store(folder / "study"), **how)


def table(store: Store) -> pd.DataFrame:
    return read_trials(store)


def everything(store: Store) -> dict[str, pd.DataFrame]:
    """All tables of a study, without seconds and hardware, in the order of their keys."""
    found = {"trials": table(store).drop(columns=list(OF_THE_MACHINE))}
    for name in ("epochs", "scores", "predictions"):
        frame = store.read_parts(name).to_pandas().drop(columns="seconds", errors="ignore")
        if "probability" in frame:
            frame["probability"] = [np.asarray(row).tobytes() for row in frame["probability"]]
        keys = [key for key in ("trial", "fold", "epoch", "split", "image_id") if key in frame]
        found[name] = frame.sort_values(keys, ignore_index=True)
    return found


def test_a_search_from_its_first_trial_to_its_winner(phantom: Path, tmp_path: Path) -> None:
    run = run_of(phantom, tmp_path, "search.scheduler=none")
    search = run.go()
    rows = table(run.store)
    assert rows["trial"].tolist() == list(range(6))
    assert set(rows["state"]) == {"complete"}
    assert rows.duplicated(["optim.lr", "train.batch_size"]).sum() == 0
    assert (rows.loc[0, "optim.lr"], rows.loc[0, "train.batch_size"]) == (0.001, 4), "the study's own setting is tried"

    scores = run.store.read_parts("scores").to_pandas()
    scores["dsc"] = 2 * scores["tp"] / (2 * scores["tp"] + scores["fp"] + scores["fn"]).clip(lower=1)
    scores.loc[scores["tp"] + scores["fp"] + scores["fn"] == 0, "dsc"] = 1.0
    for trial in range(6):
        folds = []
        for fold in range(3):
            mine = scores[(scores["trial"] == trial) & (scores["fold"] == fold)]
            by_epoch = mine[mine["split"] == "validation"].groupby(["epoch", "patient_id"])["dsc"].mean()
            values = by_epoch.groupby(level="epoch").mean()
            folds.append(values.max())
            assert set(mine.loc[mine["split"] == "test", "epoch"]) == {values.idxmax()}
        assert rows.loc[trial, "value"] == pytest.approx(np.mean(folds), abs=1e-12)

    best = int(rows["value"].idxmax())
    winner = search.winner()
    assert winner is not None
    assert winner.key.trial == 6
    assert winner.settings["optim.lr"] == rows.loc[best, "optim.lr"]
    chosen = scores[(scores["trial"] == best) & (scores["split"] == "test")].groupby("fold")["epoch"].first() + 1
    assert winner.settings["train.stop_after"] == int(np.median(chosen))


def test_weights_and_maps_are_kept_of_each_folds_best_alone(phantom: Path, tmp_path: Path) -> None:
    run = run_of(phantom, tmp_path, "search.scheduler=none", "search.trials=4")
    run.go()
    epochs = run.store.read_parts("scores").to_pandas().query("split == 'validation'")
    epochs = epochs.assign(dsc=2 * epochs["tp"] / (2 * epochs["tp"] + epochs["fp"] + epochs["fn"]))
    epochs.loc[epochs["tp"] + epochs["fp"] + epochs["fn"] == 0, "dsc"] = 1.0
    value = (
        epochs.groupby(["fold", "trial", "epoch", "patient_id"])["dsc"]
        .mean()
        .groupby(["fold", "trial", "epoch"])
        .mean()
    )
    best = {fold: value.loc[fold].groupby("trial").max().idxmax() for fold in range(3)}
    maps, weights = set(run.store.names("predictions")), set(run.store.names("checkpoints"))
    assert maps == {part_name("predictions", PartKey("unet", trial, 0, fold)) for fold, trial in best.items()}
    assert weights == {checkpoint_name("unet", trial, fold) for fold, trial in best.items()}


def test_optuna_reads_the_same_trials(phantom: Path, tmp_path: Path) -> None:
    run = run_of(phantom, tmp_path)
    run.go()
    journal = JournalStorage(JournalFileBackend(run.store.path(optuna_name("unet"))))
    study = optuna.load_study(study_name="unet", storage=journal)
    rows = table(run.store)
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    assert [states[trial.state.name] for trial in study.trials] == rows["state"].tolist()
    assert [trial.params["optim.lr"] for trial in study.trials] == rows["optim.lr"].tolist()
    complete = rows[rows["state"] == "complete"]
    assert study.best_trial.number == complete["value"].idxmax()


def test_racing_stops_what_is_plainly_worse_but_never_the_default(phantom: Path, tmp_path: Path) -> None:
    """Every patient scores 0.9 under the first setting and less under each other: told step by step, not trained."""
    run = run_of(phantom, tmp_path, "search.inner_folds=2", "search.trials=4", "optim.lr=1e-4")
    with StudyLock(run.store) as lock:
        base = run.base(lock.token)
        space = load_space(base.study, check_model_of)
        search = ModelSearch(
            base, Trials(run.store), space, [{"optim.lr": 1e-2, "train.batch_size": 4}, DEFAULT], Path()
        )
        assert base.validation is not None
        patients = np.array(list(map(base.patient_number.get, base.patient_ids)), dtype=int)
        stopped = {}
        while (spec := search.next()) is not None:
            trial = spec.key.trial
            for fold in range(3):
                scores = np.full(len(base.patient_number), np.nan)
                scores[patients[base.validation[fold]]] = 0.9 if trial == 0 else 0.5 + 0.01 * trial
                report = FoldReport(fold, 2, 0.5, 0.5, "validation", 0.5, finished=True, patient_scores=scores)
                if search.on_reports(trial, [report]):
                    stopped[trial] = fold
                    break
            search.on_process_end(trial)
    rows = table(run.store)
    assert search.default_trial == 1
    assert rows["state"].tolist() == ["complete", "complete", "pruned", "pruned"]
    assert stopped == {2: 1, 3: 1}, "three or four patients cannot show it, those of two folds can"
    assert rows["folds_done"].tolist() == [3, 3, 2, 2]
    assert rows["reason"][2].startswith("plainly worse than trial 0 on")
    assert rows["value"].tolist() == pytest.approx([0.9, 0.51, 0.52, 0.53])


SELDOM = "run.checkpoint_interval_s=1000"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("search.scheduler=asha", "search.asha_grace=1"),
        ("search.scheduler=asha", "search.asha_grace=1", SELDOM),
        ("search.protocol=paper",),
    ],
)
def test_a_search_that_is_killed_again_and_again_ends_the_same(
    phantom: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    whole = run_of(phantom, tmp_path / "whole", *options)
    whole.go()
    broken = run_of(phantom, tmp_path / "broken", *options)
    crashes = 0
    for crash_after in (1, 4, 3, 9, 2, 11, 7, 5, 10, 8):
        try:
            broken.go(crash_after)
            break
        except CrashError:
            crashes += 1
    broken.go()
    assert crashes >= 3
    one, other = everything(whole.store), everything(broken.store)
    for name, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[name], check_exact=True, obj=name)


def test_no_trial_begins_again_from_its_first_epoch(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eus_ray.training.fold import Fold

    trained: list[tuple[str, int, int]] = []
    train = Fold.train_epoch

    def count(self: Fold) -> dict[str, Any]:
        trained.append((self.identity, self.data.fold, self.epoch))
        return train(self)

    monkeypatch.setattr(Fold, "train_epoch", count)
    run = run_of(phantom, tmp_path, "search.scheduler=none", "search.trials=3")
    with pytest.raises(CrashError):
        run.go(crash_after=14)  # in the second trial's second fold
    run.go()
    again = [key for key in trained if trained.count(key) > 1]
    assert len(trained) == 27 + len(set(again))
    assert len(set(again)) <= 1


@pytest.mark.parametrize("scheduler", ["racing", "asha"])
def test_a_folds_test_patients_decide_nothing(phantom: Path, tmp_path: Path, scheduler: str) -> None:
    """Fold 1 sees other masks of its test patients: nothing changes but its own test scores."""

    def spoiled(data: FoldData) -> FoldData:
        if data.fold != 1:
            return data
        masks = data.masks.copy()
        masks[data.test] = 1 - masks[data.test]
        return replace(data, masks=masks)

    options = (f"search.scheduler={scheduler}", "search.trials=5", "search.racing_alpha=0.3", "search.asha_grace=1")
    honest, leaky = (
        run_of(phantom, tmp_path / "honest", *options),
        run_of(phantom, tmp_path / "leaky", *options, change=spoiled),
    )
    honest.go()
    leaky.go()
    one, other = everything(honest.store), everything(leaky.store)
    pd.testing.assert_frame_equal(one["trials"], other["trials"], check_exact=True)
    for name in ("epochs", "scores"):
        same = [
            (one[name]["fold"] == 1) & (one[name]["split"] == "test"),
            (other[name]["fold"] == 1) & (other[name]["split"] == "test"),
        ]
        frames = [frame[name][~mask].reset_index(drop=True) for frame, mask in zip((one, other), same, strict=True)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
        assert not one[name][same[0]].drop(columns="epoch").equals(other[name][same[1]].drop(columns="epoch"))
    for name in honest.store.names("checkpoints"):
        states = [load_tensors(study.store.read_bytes(name)) for study in (honest, leaky)]
        weights = [{key: value for key, value in state.items() if key.startswith("model/")} for state in states]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_trial_that_fails_is_told_why_and_not_tried_again(phantom: Path, tmp_path: Path) -> None:
    space = """
    [search."optim.lr"]
    kind = "choice"
    choices = [1e-3, 1e30]

    [search."optim.optimizer"]
    kind = "choice"
    choices = ["adamw", "sgd"]
    """
    folder = tmp_path / "failing"
    folder.mkdir()
    run = Run(tuned(phantom, folder, "search.trials=9", "search.scheduler=none", space=space), Store(folder / "study"))
    search = run.go()
    rows = table(run.store)
    assert len(rows) == 4, "there are four settings, and none is tried twice"
    assert search.is_over
    failed = rows[rows["state"] == "failed"]
    assert (failed["optim.lr"] == 1e30).all()
    assert "the loss is nan in fold" in failed["reason"].iloc[0]
    assert search.winner() is not None
    assert not [name for name in run.store.names("checkpoints") if f"/{failed['trial'].iloc[0]}/" in name]


def test_another_search_is_not_mixed_into_a_folder(phantom: Path, tmp_path: Path) -> None:
    run = run_of(phantom, tmp_path, "search.trials=1")
    run.go()
    for change, said in [
        ("search.metric=iou", "unet's search.metric was dsc and is iou"),
        ("search.racing_alpha=0.1", "unet's search.racing_alpha was 0.05 and is 0.1"),
        ("folds.seed=5", "search was begun with other validation patients; set folds.seed"),
        ("loss.smooth=2", "unet was begun with other settings: loss.smooth was 1.0 and is 2.0"),
    ]:
        with pytest.raises(UserError, match=said):
            run_of(phantom, tmp_path, "search.trials=1", change).go()
    more = run_of(phantom, tmp_path, "search.trials=2").go()
    states = more.update().states
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == 2
    stored: Mapping[str, Any] = run.store.read_json(search_name("unet"))
    assert (stored["trials"], stored["first_trial"], stored["default_trial"]) == (2, 0, 0)
