"""Optuna's record of a search: the journal file agrees with the search's own history.

It is there for `optuna-dashboard` and for whoever knows Optuna; nothing is read back from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from eus_ray.search.samplers import Tried, frozen_trials
from eus_ray.search.space import Space


class OptunaJournal:
    """Optuna's journal of one search, written by this process alone and read by whoever wants to.

    Opening it mends what a killed run left: a torn last line, a lock that nobody holds. A journal that Optuna cannot
    read, or that contradicts the history, is written anew aside and renamed; a dashboard that has the old one open must
    then be started again. A trial's number there is its place in the history.

    Args:
        path: Of the file; its folder is made.
        study_name: Optuna's name of the search.
        space: What is searched.
    """

    def __init__(self, path: Path, study_name: str, space: Space) -> None:
        self._path, self._name, self._space = path, study_name, space
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{path.name}.*"):
            if left.name.endswith((".lock", ".rename", ".new")):  # Optuna renames a lock to free it
                left.unlink(missing_ok=True)
        _cut_torn_line(path)
        self._storage = self._open()

    def update(self, history: Sequence[Tried]) -> None:
        """Bring the journal up to the history, all trials in order of number; write nothing if nothing is new."""
        wanted = frozen_trials(self._space, history)
        if self._storage is None:
            self._storage = self._write_anew(wanted)
            return
        study_id = self._storage.get_study_id_from_name(self._name)
        there = self._storage.get_all_trials(study_id, deepcopy=False)
        if len(there) > len(wanted) or any(map(_contradicts, there, wanted)):
            self._storage = self._write_anew(wanted)
            return
        for old, new in zip(there, wanted, strict=False):
            if not old.state.is_finished():
                _bring_up(self._storage, old, new)
        for new in wanted[len(there) :]:
            self._storage.create_new_trial(study_id, new)

    def _open(self) -> JournalStorage | None:
        """The journal that is there; None where there is none with this study that Optuna can read."""
        if not self._path.exists():
            return None
        try:
            storage = JournalStorage(JournalFileBackend(str(self._path)))
            study_id = storage.get_study_id_from_name(self._name)
            maximizes = storage.get_study_directions(study_id) == [StudyDirection.MAXIMIZE]
        except Exception:  # a broken record raises whatever Optuna stumbles over
            return None
        return storage if maximizes else None

    def _write_anew(self, wanted: Iterable[FrozenTrial]) -> JournalStorage | None:
        aside = self._path.with_name(f"{self._path.name}.new")
        aside.unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(aside)))
        study_id = storage.create_new_study([StudyDirection.MAXIMIZE], self._name)
        for trial in wanted:
            storage.create_new_trial(study_id, trial)
        aside.replace(self._path)
        return self._open()


def _bring_up(storage: JournalStorage, old: FrozenTrial, new: FrozenTrial) -> None:
    """Tell a running trial of the journal what has become of it."""
    for step, value in new.intermediate_values.items():
        if old.intermediate_values.get(step) != value:
            storage.set_trial_intermediate_value(old._trial_id, step, value)
    if new.state.is_finished():
        storage.set_trial_state_values(old._trial_id, new.state, new.values)


def _contradicts(old: FrozenTrial, new: FrozenTrial) -> bool:
    """Whether a trial of the journal neither is that of the history nor can become it.

    Fair values depend on who led: those of a finished trial stay as they were told.
    """
    if (old.params, old.distributions) != (new.params, new.distributions) or any(
        old.user_attrs.get(name) != value for name, value in new.user_attrs.items()
    ):
        return True
    if not old.state.is_finished():
        return not old.intermediate_values.keys() <= new.intermediate_values.keys()
    same_value = old.state != OptunaState.COMPLETE or old.values == new.values
    return old.state != new.state or not same_value or old.intermediate_values.keys() != new.intermediate_values.keys()


def _cut_torn_line(path: Path) -> None:
    """Shorten a journal to its last whole line: a killed writer may have left half of one."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
