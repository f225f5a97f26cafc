"""`trials.parquet` and the logs while a run goes on. The driver is their one writer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from eus_ray import store as names
from eus_ray.config import Study, flat
from eus_ray.store import Store, read_trials, write_trials
from eus_ray.study_file import with_settings

Key = tuple[str, int]
"""Model and trial."""


class Trials:
    """The trials of a study by model and number; numbers count from 0 in each model."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[Key, dict[str, Any]] = {
            (row["model"], row["trial"]): {str(name): value for name, value in row.items()}
            for row in read_trials(store).to_dict("records")
        }
        self.spans: dict[Key, list[tuple[float, float]]] = {}
        """When each epoch of a fold began and ended, in seconds."""

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._rows[key]

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def of(self, model: str, kind: str | None = None) -> list[dict[str, Any]]:
        """A model's trials, of one kind or of all, by number."""
        rows = (row for row in self._rows.values() if row["model"] == model and kind in (None, row["kind"]))
        return sorted(rows, key=lambda row: row["trial"])

    def next_number(self, model: str) -> int:
        return max((trial for owner, trial in self._rows if owner == model), default=-1) + 1

    def begin(self, model: str, kind: str, trial: int, study: Study) -> None:
        """Write that a trial runs, with its settings; what it has done before is kept."""
        fresh = {
            "model": model,
            "kind": kind,
            "trial": trial,
            "folds_done": 0,
            "value": None,
        }
        row = fresh | self._rows.get((model, trial), {}) | {"state": "running", "reason": ""}
        self._rows[model, trial] = row | settings_row(study)
        self.write()

    def update(self, key: Key, **changes: Any) -> None:
        self._rows[key].update(changes)
        self.write()

    def write(self) -> None:
        write_trials(self._store, [self._rows[key] for key in sorted(self._rows)])

    def heard(self, key: Key, cells: Sequence[Mapping[str, Any]], note: str) -> None:
        """Log what the folds of a trial report."""
        self.spans.setdefault(key, []).extend((cell["started"], cell["ended"]) for cell in cells)
        notes = [note] * bool(note) + [cell["note"] for cell in cells if cell["note"]]
        self.log(key, *(f"{_clock()} {text}" for text in notes), *(_log_line(cell) for cell in cells))

    def log(self, key: Key, *lines: str) -> None:
        self._store.append_text(names.log_name(*key), "".join(f"{line}\n" for line in lines))


def settings_row(study: Study) -> dict[str, Any]:
    """One architecture's settings as columns of `trials.parquet`: lists as JSON."""
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in flat(study).items()}


def _log_line(cell: Mapping[str, Any]) -> str:
    text = f"{_clock(cell['started'])} {_clock(cell['ended'])} fold {cell['fold']} epoch {cell['epoch']}"
    text += f": loss {cell['loss']:.4f}, training DSC {cell['dsc']:.4f}"
    if cell["judged_dsc"] is not None:
        text += f", {cell['judged']} DSC {cell['judged_dsc']:.4f}"
    return f"{text}; FAILED: {cell['failed']}" if cell["failed"] else text


def _clock(seconds: float | None = None) -> str:
    moment = datetime.now() if seconds is None else datetime.fromtimestamp(seconds)
    return moment.isoformat(timespec="milliseconds")


def study_of(row: Mapping[str, Any], base: Study) -> Study:
    """One architecture's study with the settings of a row of `trials.parquet`."""
    lists = {name for name, value in flat(base).items() if isinstance(value, list)}
    settings = {name: json.loads(row[name]) if name in lists else row[name] for name in flat(base) if name in row}
    return with_settings(base, settings, f"trial {row['trial']}")
