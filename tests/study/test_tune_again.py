"""A search that is made longer, that stops trials, or that begins with another's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from eus_ray.data.dataset import Dataset, check_data
from eus_ray.errors import UserError
from eus_ray.models import check_model_of
from eus_ray.search.space_loader import load_space
from eus_ray.store import PROVENANCE, Store, TrialKey, TrialKind, TrialState, checkpoint_name, optuna_name, search_name
from eus_ray.study.prepare import identity
from eus_ray.study.trials import Trials
from eus_ray.study.tune import first_points, starts
from tests.study.test_model_search import run_of, table, tuned

pytestmark = pytest.mark.slow


def test_more_trials_after_the_winner_take_the_numbers_that_are_free(phantom: Path, tmp_path: Path) -> None:
    options = ("search.scheduler=none", "train.epochs=2")
    run = run_of(phantom, tmp_path, *options, "search.trials=2")
    search = run.go()
    winner = search.winner()
    assert winner is not None
    assert winner.key.trial == 2
    trials = Trials(run.store)
    trials.begin(TrialKey("unet", 2), TrialKind.WINNER, search.base.as_trial(2, winner.settings).study)
    trials.update(TrialKey("unet", 2), state=TrialState.COMPLETE, value=0.5)
    run.store.write_bytes(checkpoint_name("unet", 2, 0), b"the winner's weights")

    more = run_of(phantom, tmp_path, *options, "search.trials=4").go()
    rows = table(run.store)
    assert rows["trial"].tolist() == [0, 1, 2, 3, 4]
    assert rows["kind"].tolist() == ["trial", "trial", "winner", "trial", "trial"]
    assert set(rows["state"]) == {"complete"}
    assert more.is_over
    assert run.store.read_bytes(checkpoint_name("unet", 2, 0)) == b"the winner's weights"
    journal = JournalStorage(JournalFileBackend(run.store.path(optuna_name("unet"))))
    assert len(optuna.load_study(study_name="unet", storage=journal).trials) == 4
    again = more.winner()
    assert again is not None
    assert again.key.trial in (2, 5)
    with pytest.raises(ValueError, match="trial 2 is a winner, not a trial"):
        trials.begin(TrialKey("unet", 2), TrialKind.TRIAL, search.base.study)


def test_a_stopped_trial_leaves_no_checkpoint(phantom: Path, tmp_path: Path) -> None:
    """Each fold is saved after each epoch, so that the checkpoint before the last is there too."""
    options = ("search.scheduler=asha", "search.asha_grace=1", "search.asha_reduction=2", "train.epochs=4")
    run = run_of(phantom, tmp_path, *options)
    run.go()
    pruned = table(run.store).query("state == 'pruned'")["trial"].tolist()
    assert pruned
    left = run.store.names("checkpoints")
    assert left
    assert not [name for name in left for trial in pruned if f"/unet/{trial}/" in name or "before" in name]


def old_study(dataset: Dataset, folder: Path, protocol: str, rows: list[tuple[str, float, float]]) -> Store:
    """A study of the same images with trials of these kinds, learning rates and values."""
    store, trials = Store(folder), Trials(Store(folder))
    store.write_json(PROVENANCE, {"identity": identity(dataset)})
    if protocol:
        store.write_json(search_name("unet"), {"protocol": protocol})
    for number, (kind, lr, value) in enumerate(rows):
        study = dataset.study.for_model("unet")
        changed: Any = study.model_copy(update={"optim": study.optim.model_copy(update={"lr": lr})})
        trials.begin(TrialKey("unet", number), TrialKind(kind), changed)
        trials.update(TrialKey("unet", number), state=TrialState.COMPLETE, value=value)
    return store


def test_a_nested_search_does_not_begin_with_what_its_test_patients_chose(phantom: Path, tmp_path: Path) -> None:
    dataset = check_data(tuned(phantom, tmp_path))
    spaces = {"unet": load_space(dataset.study.for_model("unet"), check_model_of)}
    rows = [("trial", 2e-3, 0.5), ("trial", 3e-3, 0.9), ("winner", 4e-3, 0.99), ("fixed", 5e-3, 0.95)]
    seen = old_study(dataset, tmp_path / "seen", "paper", rows)
    with pytest.raises(UserError, match="unet's trials were judged by test patients"):
        starts(dataset, spaces, seen)
    nested = old_study(dataset, tmp_path / "nested", "nested", rows)
    begun = [point["optim.lr"] for point in starts(dataset, spaces, nested)["unet"].first]
    assert begun == [0.001, 3e-3, 2e-3], "by validation; what was scored on test patients is no candidate"


def test_of_a_study_without_a_search_the_newest_settings_are_taken(phantom: Path, tmp_path: Path) -> None:
    dataset = check_data(tuned(phantom, tmp_path))
    space = load_space(dataset.study.for_model("unet"), check_model_of)
    rows = [("fixed", 2e-3, 0.9), ("fixed", 3e-3, 0.5)]
    fixed = old_study(dataset, tmp_path / "fixed", "", rows)
    points = first_points(dataset.study.for_model("unet"), space, fixed)
    assert [point["optim.lr"] for point in points] == [0.001, 3e-3, 2e-3]
