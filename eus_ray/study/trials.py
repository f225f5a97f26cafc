"""The trials of a study while it runs: `trials.parquet`, the logs, and the callbacks. The driver is the one writer."""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eus_ray.config import LATER, Study, field_of, to_dotted
from eus_ray.config_file import with_settings
from eus_ray.errors import UserError
from eus_ray.store import (
    PARTS,
    DamagedFileError,
    Hardware,
    Store,
    TrialKey,
    TrialKind,
    TrialRecord,
    TrialState,
    read_records,
    write_trials,
)
from eus_ray.store.event_log import FoldReport, log_notes, log_reports
from eus_ray.store.lock import is_held_by
from eus_ray.study.callbacks import Callback

_RESULT = re.compile(r"\w+/model=(?P<model>\w+)/trial-(?P<trial>\d+)_repeat-\d+(_fold-\d+)?\.parquet")

_log = logging.getLogger(__name__)


class Trials:
    """The trials of a study by key; numbers count from 0 in each model.

    Args:
        store: The study folder.
        callbacks: Who hears what happens.
        token: The token of the lock that this run holds; empty if nothing is to be written.
    """

    def __init__(self, store: Store, callbacks: Sequence[Callback] = (), token: str = "") -> None:
        self._store, self._callbacks, self._token = store, callbacks, token
        fields = [*to_dotted(Study())]
        self._records = {record.key: _completed(record, fields) for record in read_records(store)}
        self.spans: dict[TrialKey, list[tuple[float, float]]] = {}
        """When each epoch of a fold began and ended, in seconds since 1970."""
        self.errors: dict[TrialKey, str] = {}
        """Why trials of this run cannot go on: the first error of a fold, or what ended the trial's process."""

    def __getitem__(self, key: TrialKey) -> TrialRecord:
        return self._records[key]

    def __contains__(self, key: TrialKey) -> bool:
        return key in self._records

    def of(self, model: str, kind: TrialKind | None = None) -> list[TrialRecord]:
        """Return a model's trials, of one kind or of all, by number."""
        mine = (record for record in self._records.values() if record.model == model and kind in (None, record.kind))
        return sorted(mine, key=lambda record: record.trial)

    def next_number(self, model: str) -> int:
        """Return the first number that no trial of the model has."""
        return max((key.trial for key in self._records if key.model == model), default=-1) + 1

    def begin(self, key: TrialKey, kind: TrialKind, study: Study) -> None:
        """Write that a trial runs, with its settings; what it has done before is kept.

        Raises:
            ValueError: If the number is that of a trial of another kind.
        """
        before = self._records.get(key, TrialRecord(*key, kind))
        if before.kind != kind:
            raise ValueError(f"{key.model}'s trial {key.trial} is a {before.kind}, not a {kind}")
        from eus_ray.models import count_parameters  # loads PyTorch

        self._records[key] = replace(
            before,
            state=TrialState.RUNNING,
            reason="",
            settings={**before.settings, **settings_row(study)},
            parameters=count_parameters(study.model, study.data.num_channels),
        )
        self.write()
        _log.debug("%s trial %d (%s) begins", *key, kind)
        for callback in self._callbacks:
            callback.on_trial_begin(self._records[key])

    def update(self, key: TrialKey, **changes: Any) -> None:
        """Write fields of a trial's record."""
        self._records[key] = replace(self._records[key], **changes)
        self.write()

    def relabel(self, study: Study) -> None:
        """Give all trials of a study's models the labels that the study has now: they change nothing else."""
        labels = {model: study.for_model(model).model.label for model in study.models}
        mine = [record for record in self._records.values() if record.model in labels and record.settings]
        old = [record for record in mine if record.settings.get("model.label", "") != labels[record.model]]
        for record in old:
            settings = {**record.settings, "model.label": labels[record.model]}
            self._records[record.key] = replace(record, settings=settings)
        if old:
            self.write()

    def end(self, key: TrialKey) -> None:
        """Say that nothing trains a trial any more."""
        _log.debug("%s trial %d ends: %s %s", *key, self._records[key].state, self._records[key].reason)
        for callback in self._callbacks:
            callback.on_trial_end(self._records[key])

    def mend(self) -> None:
        """Delete results that are not as they were written, so that they are made again, and say so.

        A trial that had ended runs again; folds whose checkpoints are kept only write their rows anew.
        """
        found = [_RESULT.fullmatch(name) for table in PARTS for name in self._store.names(table)]
        for match in filter(None, found):
            key, name = TrialKey(match["model"], int(match["trial"])), match[0]
            try:
                self._store.read_table(name, [])
            except DamagedFileError:
                self._store.delete(name)
                if key in self._records and self._records[key].state in (TrialState.COMPLETE, TrialState.PRUNED):
                    self.update(key, state=TrialState.RUNNING, folds_done=0, reason="")
                self._tell(key, f"{name} is damaged and is made again")

    def write(self) -> None:
        """Replace the table.

        Raises:
            UserError: If another run has taken the folder over; its table must not be replaced by ours.
        """
        if self._token and not is_held_by(self._store, self._token):
            raise UserError(f"{self._store.location}: another run has taken over here; this one ends")
        write_trials(self._store, [self._records[key].row() for key in sorted(self._records)])

    def report(self, key: TrialKey, reports: Sequence[FoldReport], note: str = "") -> None:
        """Log what the folds of a trial report, keep their hardware and their first error, and tell it all."""
        self.spans.setdefault(key, []).extend((report.started, report.ended) for report in reports)
        self.note(key, *filter(None, [note, *(report.note for report in reports)]))
        log_reports(self._store, key, reports)
        hardware = functools.reduce(Hardware.joined, (r.hardware for r in reports), self._records[key].hardware)
        if hardware != self._records[key].hardware:
            self.update(key, hardware=hardware)
        for report in reports:
            if report.error:
                self.errors.setdefault(key, report.error)
            for callback in self._callbacks:
                callback.on_fold_report(key, report)

    def log(self, key: TrialKey, *texts: str) -> None:
        """Write texts into a trial's logs."""
        log_notes(self._store, key, texts)

    def note(self, key: TrialKey, *texts: str) -> None:
        """Log texts of a trial, and tell them."""
        self.log(key, *texts)
        for text in texts:
            self._tell(key, text)

    def _tell(self, key: TrialKey, text: str) -> None:
        for callback in self._callbacks:
            callback.on_trial_note(key, text)


def settings_row(study: Study) -> dict[str, Any]:
    """Return one model's settings as columns of `trials.parquet`: lists as JSON, and so every entry of `model.args`."""
    return {
        name: json.dumps(value) if isinstance(value, list) or name != field_of(name) else value
        for name, value in to_dotted(study).items()
    }


def different_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the settings that change what is trained and that differ between two trials, as text.

    Args:
        before: Settings as `settings_row` gives them; a version without one of the fields cannot differ in it.
        now: Likewise, of this version.
    """
    arguments = {name: "not set" for name in (*before, *now) if name != field_of(name)}
    before, now = arguments | dict(before), arguments | dict(now)
    names = [name for name in now if name in before and name not in ("model.label", "augment.preset")]
    return {name: (str(before[name]), str(now[name])) for name in names if str(before[name]) != str(now[name])}


def _completed(record: TrialRecord, fields: Sequence[str]) -> TrialRecord:
    """Return a record with those of the fields that its version did not have, as they were then."""
    own = {name: value for name, value in record.settings.items() if not _is_null(value)}
    known = {**LATER, **own}
    return replace(record, settings={name: known[name] for name in fields if name in known} | own)


def _is_null(value: Any) -> bool:
    return value is None or value != value


def study_of(settings: Mapping[str, Any], base: Study, source: str) -> Study:
    """Return one model's study with a trial's settings.

    Args:
        settings: By dotted name, lists as JSON; other names, and empty values, are passed over.
        base: What is not among them.
        source: Where they come from, for messages.
    """
    fields = to_dotted(base)
    changed = {
        name: json.loads(value) if isinstance(fields.get(name), list) or name != field_of(name) else value
        for name, value in settings.items()
        if (name in fields or name != field_of(name)) and not _is_null(value)
    }
    return with_settings(base, changed, source)
