"""The study folder: every path, file and column name, and how they are written.

Training and analysis meet only here. A study lives on a local path or on any URI that pyarrow.fs
opens. Each file has one writer and appears atomically: on a disk it is written aside and renamed, on
an object store one PUT is atomic already. So a reader sees the old file or the new one, and a folder
in which a run goes on, or was killed, can be read at any moment.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from eus_ray.config import UserError

SCHEMA_VERSION = "1"

_KEY = [("model", pa.string()), ("trial", pa.int32()), ("repeat", pa.int32()), ("fold", pa.int32())]

EPOCHS = pa.schema(
    [
        *_KEY,
        ("epoch", pa.int32()),
        ("split", pa.string()),
        ("loss", pa.float64()),
        ("dsc", pa.float64()),
        ("lr", pa.float64()),
        ("seconds", pa.float64()),
    ]
)
"""One row an epoch and split; the learning curves. `epoch` counts from 0."""

SCORES = pa.schema(
    [
        *_KEY,
        ("epoch", pa.int32()),
        ("image_id", pa.string()),
        ("patient_id", pa.string()),
        ("split", pa.string()),
        ("tp", pa.int64()),
        ("fp", pa.int64()),
        ("fn", pa.int64()),
        ("tn", pa.int64()),
    ]
)
"""Pixel counts of each image: validation at every epoch, test only at the epoch that counts."""

PREDICTIONS = pa.schema(
    [
        *_KEY,
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("probability", pa.list_(pa.uint16())),
    ]
)
"""Probability maps of the test images, row by row: rint(p * 65535); the lesion is where it is >= 32768."""

CASES = pa.schema(
    [
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("image", pa.binary()),
        ("truth", pa.binary()),
        ("spacing_row", pa.float64()),
        ("spacing_col", pa.float64()),
    ]
)
"""Images and truths as the networks saw them, as gray PNG on the evaluation grid. No spacing: NaN (pixels)."""

TRIALS = pa.schema(
    [
        ("model", pa.string()),
        ("kind", pa.string()),
        ("trial", pa.int32()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("folds_done", pa.int32()),
        ("value", pa.float64()),
    ]
)
"""One row a trial; the trial's settings follow as columns named by their dotted names."""

SELECTION = pa.schema(
    [
        ("model", pa.string()),
        ("estimate", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("trials", pa.int32()),
        ("fold", pa.int32()),
        ("trial", pa.int32()),
        ("name", pa.string()),
    ]
)
"""What a search found, and how much of it to believe; one row an estimate, NULL where a column says nothing.

`naive`: the best complete trial's score as the search saw it. `nested`: each fold's own winner on its test patients.
`fold_winner`: which trial that is in `fold`. `naive_test` and `bbc`: the best score on test patients, and what is left
of it after the bias of choosing (`bias`, their difference) is taken away. `default` and `gain`: the study's own
settings on the same test patients, and by how much the fold winners are better. `importance`: of the searched field
`name`.
`trials` is how many complete trials an estimate rests on; `low` and `high` bound its 95 % interval. Where the test
folds judged (protocol `paper`) there is no `nested` and no `fold_winner`, and `gain` is that of the winners that BBC-CV
draws, on the patients that it left out.
"""

PARTS = {"epochs": EPOCHS, "scores": SCORES, "predictions": PREDICTIONS}
TRIAL_KINDS = ("fixed", "trial", "winner")
TRIAL_STATES = ("running", "complete", "pruned", "failed")
_COMPRESSION = "zstd"


class Store:
    """One study folder.

    `location` is a path or a URI. Nothing is created before the first write.
    """

    def __init__(self, location: str | Path) -> None:
        text = str(location)
        if "://" in text:
            self.fs, self.root = pafs.FileSystem.from_uri(text)
        else:
            self.fs, self.root = pafs.LocalFileSystem(), str(Path(text).resolve())
            text = self.root
        self.location = text
        self._local = isinstance(self.fs, pafs.LocalFileSystem)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.location,)

    # ---- files ----------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """The full path of a file named relative to the study folder."""
        return f"{self.root}/{name}"

    def exists(self, name: str = "") -> bool:
        info = self.fs.get_file_info(self.path(name).rstrip("/"))
        return info.type != pafs.FileType.NotFound

    def names(self, folder: str = "") -> list[str]:
        """The files below a folder, relative to the study folder, sorted; none where it is missing."""
        selector = pafs.FileSelector(self.path(folder).rstrip("/"), recursive=True, allow_not_found=True)
        files = (info for info in self.fs.get_file_info(selector) if info.type == pafs.FileType.File)
        names = (info.path[len(self.root) + 1 :] for info in files)
        return sorted(name for name in names if not name.rsplit("/", 1)[-1].startswith("."))

    def read_bytes(self, name: str) -> bytes:
        with self.fs.open_input_stream(self.path(name)) as stream:
            return stream.read()

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Replace a file as a whole. Raises `UserError` where there is no room or no permission."""
        path = self.path(name)
        try:
            self.fs.create_dir(path.rsplit("/", 1)[0], recursive=True)
            if not self._local:
                with self.fs.open_output_stream(path) as stream:
                    stream.write(data)
                return
            folder, base = path.rsplit("/", 1)
            aside = f"{folder}/.{base}.{uuid.uuid4().hex}"
            try:
                with Path(aside).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(aside).replace(path)
            except BaseException:
                Path(aside).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise UserError(
                f"{self.location}: cannot write {name} ({error.strerror or error}); make room or choose another --out"
            ) from None

    def append_text(self, name: str, text: str) -> None:
        """Add lines to a log; its one writer is the driver."""
        if self._local:
            path = Path(self.path(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        else:
            self.write_text(name, (self.read_text(name) if self.exists(name) else "") + text)

    def delete(self, name: str) -> None:
        """Delete a file; a file that is gone already is no error."""
        try:
            self.fs.delete_file(self.path(name))
        except FileNotFoundError:
            return

    def sweep(self) -> int:
        """Delete files that a killed writer left aside, and return how many there were."""
        selector = pafs.FileSelector(self.root, recursive=True, allow_not_found=True)
        left = [info.path for info in self.fs.get_file_info(selector) if _ASIDE.search(info.path)]
        for path in left:
            self.fs.delete_file(path)
        return len(left)

    def read_text(self, name: str) -> str:
        return self.read_bytes(name).decode("utf-8")

    def write_text(self, name: str, text: str) -> None:
        self.write_bytes(name, text.encode("utf-8"))

    def read_json(self, name: str) -> dict[str, Any]:
        return json.loads(self.read_text(name))

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write_text(name, json.dumps(value, indent=2, sort_keys=True) + "\n")

    # ---- who writes -----------------------------------------------------------------------------

    def is_held_by(self, token: str) -> bool:
        """Whether the run with this token may still write here."""
        return self._owner().get("token") == token

    def stop_is_wanted(self, token: str) -> bool:
        """Whether the run with this token was asked to stop, or has lost the folder to another."""
        owner = self._owner()
        return owner.get("token") != token or bool(owner.get("stop"))

    def _owner(self) -> dict[str, Any]:
        try:
            return self.read_json(RUN)
        except FileNotFoundError:
            return {}

    # ---- tables ---------------------------------------------------------------------------------

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write a table as one Parquet file, zstd, with the schema's version in its metadata."""
        metadata = {**(table.schema.metadata or {}), b"eus_ray_schema": SCHEMA_VERSION.encode()}
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata(metadata), sink, compression=_COMPRESSION, row_group_size=row_group_size
        )
        self.write_bytes(name, memoryview(sink.getvalue()))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        with self.fs.open_input_file(self.path(name)) as file:
            return pq.read_table(file, columns=columns)

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        self.write_table(name, pa.Table.from_pandas(frame, preserve_index=False))

    def write_part(self, table: str, model: str, trial: int, repeat: int, fold: int, rows: pa.Table) -> None:
        """Replace the rows of one fold of one trial. A part's one writer is the worker that has the fold."""
        small = 16 if table == "predictions" else None  # rows of maps are large: read a few at a time
        self.write_table(part_name(table, model, trial, repeat, fold), rows.cast(PARTS[table]), small)

    def read_part(self, table: str, model: str, trial: int, repeat: int, fold: int) -> pa.Table:
        """The rows of one fold of one trial; an empty table where there are none yet."""
        name = part_name(table, model, trial, repeat, fold)
        if self.exists(name):
            return self.read_table(name)
        whole = whole_name(table, model, trial, repeat)
        if self.exists(whole):
            return self.read_table(whole).filter(pa.compute.field("fold") == fold)
        return PARTS[table].empty_table()

    def finish_trial(
        self, model: str, trial: int, repeat: int, folds: int, tables: Iterable[str] = tuple(PARTS)
    ) -> None:
        """Turn the parts of a trial that has ended into one file a table.

        The whole file appears first and hides the parts from `read_parts`; then they go. Killed in
        between, the next call ends it.
        """
        for table in tables:
            whole = whole_name(table, model, trial, repeat)
            parts = [part_name(table, model, trial, repeat, fold) for fold in range(folds)]
            here = [name for name in parts if self.exists(name)]
            if here and not self.exists(whole):
                rows = pa.concat_tables([self.read_table(name) for name in here])
                self.write_table(whole, rows, 16 if table == "predictions" else None)
            for name in here:
                self.delete(name)

    def part_names(self, table: str, model: str | None = None) -> list[str]:
        """The files that hold a table's rows, none counted twice."""
        found = self.names(table if model is None else f"{table}/model={model}")
        names = [name for name in found if name.endswith(".parquet")]
        wholes = {name.removesuffix(".parquet") for name in names if "_fold-" not in name}
        return [name for name in names if "_fold-" not in name or name.split("_fold-")[0] not in wholes]

    def read_trial(self, table: str, model: str, trial: int, repeat: int, columns: list[str]) -> pa.Table:
        """One trial's rows; those of its parts where it is not finished, none where it has not begun."""
        whole = whole_name(table, model, trial, repeat)
        if self.exists(whole):
            return self.read_table(whole, columns)
        before = whole.removesuffix(".parquet") + "_fold-"
        found = [name for name in self.names(f"{table}/model={model}") if name.startswith(before)]
        schema = pa.schema([PARTS[table].field(column) for column in columns])
        tables = [self.read_table(name, columns).cast(schema) for name in found if name.endswith(".parquet")]
        return pa.concat_tables([schema.empty_table(), *tables])

    def read_parts(self, table: str, columns: list[str] | None = None, model: str | None = None) -> pa.Table:
        """All rows of `epochs`, `scores` or `predictions`, in the order of their keys' files.

        A trial may finish while this reads: its parts are then gone and the whole is there, so the
        list of files is taken again.
        """
        schema = PARTS[table]
        if columns is not None:
            schema = pa.schema([schema.field(column) for column in columns])
        for attempt in range(20):
            try:
                names = self.part_names(table, model)
                tables = [self.read_table(name, columns).cast(schema) for name in names]
                return pa.concat_tables([schema.empty_table(), *tables]).replace_schema_metadata(None)
            except FileNotFoundError:
                if attempt == 19:
                    raise
        raise AssertionError("unreachable")


_ASIDE = re.compile(r"/\.[^/]+\.[0-9a-f]{32}$")


def part_name(table: str, model: str, trial: int, repeat: int, fold: int) -> str:
    return f"{table}/model={model}/trial-{trial}_repeat-{repeat}_fold-{fold}.parquet"


def whole_name(table: str, model: str, trial: int, repeat: int) -> str:
    return f"{table}/model={model}/trial-{trial}_repeat-{repeat}.parquet"


def checkpoint_name(model: str, trial: int, fold: int) -> str:
    return f"checkpoints/{model}/{trial}/fold_{fold}.safetensors"


def log_name(model: str, trial: int) -> str:
    return f"logs/{model}_trial-{trial}.log"


def optuna_name(model: str) -> str:
    """Optuna's journal of a search; `optuna-dashboard` opens it."""
    return f"search/{model}.log"


def search_name(model: str) -> str:
    """What a search is: protocol, metric, space, first trial; JSON."""
    return f"search/{model}.json"


STUDY = "study.toml"
PROVENANCE = "provenance.json"
MANIFEST = "manifest.parquet"
CASES_FILE = "cases/cases.parquet"
TRIALS_FILE = "trials.parquet"
SELECTION_FILE = "selection.parquet"
RUN = "run.json"
"""Who writes here now: a token that each writer holds, host, process, heartbeat."""


def write_trials(store: Store, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `trials.parquet`. Settings become columns by dotted name."""
    frame = pd.DataFrame(list(rows))
    settings = [column for column in frame.columns if column not in TRIALS.names]
    columns = {field.name: pa.array(frame[field.name], field.type, from_pandas=True) for field in TRIALS}
    for column in settings:
        values = frame[column].tolist()
        kinds = {type(value) for value in values if value is not None and value == value}
        if not kinds <= {bool} and not kinds <= {int} and not kinds <= {int, float}:
            values = [None if value is None or value != value else str(value) for value in values]
        columns[column] = pa.array(values, from_pandas=True)
    store.write_table(TRIALS_FILE, pa.table(columns))


def read_trials(store: Store) -> pd.DataFrame:
    """`trials.parquet`; no rows before the first trial."""
    if not store.exists(TRIALS_FILE):
        return TRIALS.empty_table().to_pandas()
    return store.read_table(TRIALS_FILE).to_pandas()


def read_manifest(store: Store) -> pd.DataFrame:
    """`manifest.parquet`: image_id, patient_id, fold, clinical columns."""
    return store.read_table(MANIFEST).to_pandas()
