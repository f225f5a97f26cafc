"""`trials.parquet` and the logs while a run goes on. The driver is their one writer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eus_ray import store as names
from eus_ray.config import Study, to_dotted
from eus_ray.config_file import with_settings
from eus_ray.errors import UserError
from eus_ray.store import PARTS, Store, read_trials, write_trials
from eus_ray.study.loggers import Key, Logger

_RESULT = re.compile(r"\w+/model=(?P<model>\w+)/trial-(?P<trial>\d+)_repeat-\d+(_fold-\d+)?\.parquet")


class Trials:
    """The trials of a study by model and number; numbers count from 0 in each model."""

    def __init__(self, store: Store, loggers: Sequence[Logger] = (), token: str = "") -> None:
        """`loggers` hear of trials and epochs as the logs do; `token` is that of the run that writes."""
        self._store, self._loggers, self._token = store, loggers, token
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
        """Write that a trial runs, with its settings; what it has done before is kept.

        Raises `ValueError` for the number of a trial of another kind.
        """
        if self._rows.get((model, trial), {}).get("kind", kind) != kind:
            raise ValueError(f"{model}'s trial {trial} is a {self._rows[model, trial]['kind']}, not a {kind}")
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
        self._tell_state((model, trial))

    def update(self, key: Key, **changes: Any) -> None:
        before = self._rows[key]["state"]
        self._rows[key].update(changes)
        self.write()
        if self._rows[key]["state"] != before:
            self._tell_state(key)

    def _tell_state(self, key: Key) -> None:
        for logger in self._loggers:
            logger.state(key, self._rows[key])

    def mend(self) -> list[tuple[Key, str]]:
        """Delete results that are not what was written, so that they are made again; a line for each file.

        A trial that had ended runs again; folds whose checkpoints are kept only write their rows anew.
        """
        found = [_RESULT.fullmatch(name) for table in PARTS for name in self._store.names(table)]
        lines = []
        for match in filter(None, found):
            key, name = (match["model"], int(match["trial"])), match[0]
            if self._store.is_whole(name):
                continue
            self._store.delete(name)
            if key in self._rows and self._rows[key]["state"] in ("complete", "pruned"):
                self._rows[key].update(state="running", folds_done=0, reason="")
            lines.append((key, f"{name} is damaged and is made again"))
        if lines:
            self.write()
        return lines

    def write(self) -> None:
        """Raises `UserError` where another run has taken the folder over: its table must not be replaced by ours."""
        if self._token and not self._store.is_held_by(self._token):
            raise UserError(f"{self._store.location}: another run has taken over here; this one ends")
        write_trials(self._store, [self._rows[key] for key in sorted(self._rows)])

    def heard(self, key: Key, cells: Sequence[Mapping[str, Any]], note: str) -> None:
        """Log what the folds of a trial report."""
        self.spans.setdefault(key, []).extend((cell["started"], cell["ended"]) for cell in cells)
        for logger in self._loggers:
            logger.heard(key, cells)
        notes = [note] * bool(note) + [cell["note"] for cell in cells if cell["note"]]
        self.log(key, *(f"{_clock()} {text}" for text in notes), *(_log_line(cell) for cell in cells))

    def log(self, key: Key, *lines: str) -> None:
        self._store.append_text(names.log_name(*key), "".join(f"{line}\n" for line in lines))


def settings_row(study: Study) -> dict[str, Any]:
    """One architecture's settings as columns of `trials.parquet`: lists as JSON."""
    return {name: json.dumps(value) if isinstance(value, list) else value for name, value in to_dotted(study).items()}


@dataclass(frozen=True)
class LoggedEpoch:
    """A line of a trial's log: an epoch of a fold; times in seconds since 1970."""

    started: float
    ended: float
    fold: int
    epoch: int
    training_dsc: float
    judged: str
    judged_dsc: float | None
    failed: str


def read_log(store: Store, model: str, trial: int) -> list[LoggedEpoch]:
    """The epochs in a trial's log, in the order in which they were heard of; none before the first.

    Of an epoch that was trained again after an interruption the latest line counts.
    """
    name = names.log_name(model, trial)
    found: dict[tuple[int, int], LoggedEpoch] = {}
    for line in store.read_text(name).splitlines() if store.exists(name) else []:
        match = _LOGGED.match(line)
        if match is None:
            continue
        started, ended = (datetime.fromisoformat(match[group]).timestamp() for group in ("started", "ended"))
        key = int(match["fold"]), int(match["epoch"])
        found.pop(key, None)
        found[key] = LoggedEpoch(
            started,
            ended,
            *key,
            training_dsc=float(match["training"]),
            judged=match["judged"] or "",
            judged_dsc=float(match["score"]) if match["score"] else None,
            failed=match["failed"] or "",
        )
    return list(found.values())


_LOGGED = re.compile(
    r"(?P<started>\S+) (?P<ended>\S+) fold (?P<fold>\d+) epoch (?P<epoch>\d+): loss \S+, training DSC "
    r"(?P<training>[\d.]+|nan)(?:, (?P<judged>\w+) DSC (?P<score>[\d.]+))?(?:; FAILED: (?P<failed>.*))?$"
)


def _log_line(cell: Mapping[str, Any]) -> str:
    """What `_LOGGED` reads."""
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
    lists = {name for name, value in to_dotted(base).items() if isinstance(value, list)}
    settings = {name: json.loads(row[name]) if name in lists else row[name] for name in to_dotted(base) if name in row}
    return with_settings(base, settings, f"trial {row['trial']}")
