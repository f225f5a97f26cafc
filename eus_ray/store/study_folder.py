"""Reading and writing a study folder, on a disk or on an object store."""

from __future__ import annotations

import json
import os
import re
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from eus_ray.errors import UserError
from eus_ray.store.layout import (
    PARTS,
    SCHEMA_VERSION,
    PartKey,
    TrialKey,
    part_name,
    whole_name,
)
from eus_ray.store.location import shown_location

_COMPRESSION = "zstd"


class DamagedFile(UserError):
    """A table of the study folder that is not what was written."""

    def __init__(self, location: str, name: str, error: Exception) -> None:
        super().__init__(
            f"{location}: {name} is damaged ({str(error).splitlines()[0]}); where it holds results, the run's own "
            "command with --resume makes it again; any other file must come from a backup"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return UserError, self.lines  # as it travels from a worker


class Store:
    """One study folder.

    `location` is a path or a URI. Nothing is created before the first write.
    """

    def __init__(self, location: str | Path) -> None:
        """Raises `UserError` for a URI that no file system answers to."""
        text = str(location)
        if "://" in text:
            try:
                self.fs, self.root = pafs.FileSystem.from_uri(text)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise UserError(f"{shown_location(text)}: cannot be opened ({str(error).splitlines()[0]})") from None
        else:
            text = str(Path(text).resolve())
            self.fs, self.root = pafs.LocalFileSystem(), text
        self.root = self.root.rstrip("/")
        self.location = shown_location(text)
        """For messages: without what a URI says about access."""
        self.is_local = isinstance(self.fs, pafs.LocalFileSystem)
        self._opens = text

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self._opens,)

    # ---- files ----------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """The full path of a file named relative to the study folder."""
        return f"{self.root}/{name}"

    def exists(self, name: str = "") -> bool:
        with self._answering():
            info = self.fs.get_file_info(self.path(name).rstrip("/"))
        return info.type != pafs.FileType.NotFound

    def names(self, folder: str = "") -> list[str]:
        """The files below a folder, relative to the study folder, sorted; none where it is missing."""
        selector = pafs.FileSelector(self.path(folder).rstrip("/"), recursive=True, allow_not_found=True)
        with self._answering():
            found = self.fs.get_file_info(selector)
        files = (info for info in found if info.type == pafs.FileType.File)
        names = (info.path[len(self.root) + 1 :] for info in files)
        return sorted(name for name in names if not name.rsplit("/", 1)[-1].startswith("."))

    def check_unused(self) -> None:
        """Raise `UserError` unless this is a folder, or the place for one, without any file, as results need it."""
        if self.fs.get_file_info(self.root).type == pafs.FileType.File:
            raise UserError(f"{self.location}: is a file; --out must name a folder")
        if self.names():
            raise UserError(f"{self.location}: has files already; name a new folder with --out, or empty this one")

    def read_bytes(self, name: str) -> bytes:
        with self._answering(), self.fs.open_input_stream(self.path(name)) as stream:
            return stream.read()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """One line, where a server or a disk does not answer; a file that is not there stays a FileNotFoundError."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            cure = "" if self.is_local else "; check the address, the network and the credentials"
            reason = (error.strerror or str(error)).splitlines()[0]
            raise UserError(f"{self.location}: cannot be read ({reason}){cure}") from None

    def write_bytes(self, name: str, data: bytes | memoryview, *, durable: bool = True) -> None:
        """Replace a file as a whole. Raises `UserError` where there is no room or no permission.

        durable: whether it survives a power cut from here on, which takes longer than to write it; else from when the
        system writes by itself, some half a minute later.
        """
        path = self.path(name)
        try:
            if not self.is_local:
                with self.fs.open_output_stream(path) as stream:
                    stream.write(data)
                return
            folder, base = path.rsplit("/", 1)
            self._make(Path(folder))
            aside = f"{folder}/.{base}.{uuid.uuid4().hex}"
            try:
                with Path(aside).open("wb") as file:
                    file.write(data)
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())
                Path(aside).replace(path)
            except BaseException:
                Path(aside).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._not_written(name, error) from None

    def _not_written(self, name: str, error: OSError) -> UserError:
        return UserError(
            f"{self.location}: cannot write {name} ({error.strerror or error}); make room or choose another --out"
        )

    def append_text(self, name: str, text: str) -> None:
        """Add lines to a log; its one writer is the driver. Raises `UserError` as `write_bytes` does."""
        if not self.is_local:
            self.write_text(name, (self.read_text(name) if self.exists(name) else "") + text)
            return
        path = Path(self.path(name))
        try:
            self._make(path.parent)
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise self._not_written(name, error) from None

    def delete(self, name: str) -> None:
        """Delete a file; a file that is gone already is no error."""
        try:
            self.fs.delete_file(self.path(name))
        except FileNotFoundError:
            return

    def move(self, name: str, to: str) -> None:
        """Rename a file, over one that may be there."""
        self.fs.move(self.path(name), self.path(to))

    def _make(self, folder: Path) -> None:
        """Make a folder; a new study folder is not for everybody: images of patients lie in it."""
        new = not Path(self.root).exists()
        folder.mkdir(parents=True, exist_ok=True)
        if new:
            Path(self.root).chmod(Path(self.root).stat().st_mode & ~0o007)

    def sweep(self) -> int:
        """Delete files that a killed writer left aside on a disk, and return how many there were."""
        if not self.is_local:
            return 0
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

    # ---- tables ---------------------------------------------------------------------------------

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write a table as one Parquet file, zstd, with the schema's version in its metadata."""
        said = {b"eus_ray_schema": SCHEMA_VERSION.encode(), b"eus_ray_checksum": _UNSEALED}
        metadata = {**(table.schema.metadata or {}), **said}
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata(metadata),
            sink,
            compression=_COMPRESSION,
            row_group_size=row_group_size,
            write_page_checksum=True,
        )
        self.write_bytes(name, _sealed(sink.getvalue()))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A table, or some of its columns. Raises `DamagedFile` where it is not what was written."""
        data = self.read_bytes(name)
        try:
            _check_seal(data)
            return pq.read_table(pa.BufferReader(data), columns=columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedFile(self.location, name, error) from None

    def is_whole(self, name: str) -> bool:
        """Whether a table is what was written."""
        try:
            self.read_table(name, [])
        except DamagedFile:
            return False
        return True

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        self.write_table(name, pa.Table.from_pandas(frame, preserve_index=False))

    def write_part(self, table: str, key: PartKey, rows: pa.Table) -> None:
        """Replace the rows of one fold of one trial. A part's one writer is the worker that has the fold."""
        small = 16 if table == "predictions" else None  # rows of maps are large: read a few at a time
        self.write_table(part_name(table, key), rows.cast(PARTS[table]), small)

    def read_part(self, table: str, key: PartKey) -> pa.Table:
        """The rows of one fold of one trial; an empty table where there are none yet."""
        name = part_name(table, key)
        if self.exists(name):
            return self.read_table(name)
        whole = whole_name(table, TrialKey(key.model, key.trial))
        if self.exists(whole):
            return self.read_table(whole).filter(pa.compute.field("fold") == key.fold)
        return PARTS[table].empty_table()

    def finish_trial(self, key: TrialKey, folds: int, tables: Iterable[str] = tuple(PARTS)) -> None:
        """Turn the parts of a trial that has ended into one file a table.

        The whole file appears first and hides the parts from `read_parts`; then they go. Killed in
        between, the next call ends it.
        """
        for table in tables:
            whole = whole_name(table, key)
            parts = [part_name(table, key.part(fold)) for fold in range(folds)]
            here = [name for name in parts if self.exists(name)]
            if here and (len(here) == folds or not self.exists(whole)):  # a trial trained again replaces its tables
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

    def read_trial(self, table: str, key: TrialKey, columns: list[str]) -> pa.Table:
        """One trial's rows; those of its parts where it is not finished, none where it has not begun."""
        whole = whole_name(table, key)
        if self.exists(whole):
            return self.read_table(whole, columns)
        before = whole.removesuffix(".parquet") + "_fold-"
        found = [name for name in self.names(f"{table}/model={key.model}") if name.startswith(before)]
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


_UNSEALED = b"crc32:--------"


def _sealed(table: pa.Buffer) -> memoryview:
    """A Parquet file with the checksum of everything in it at its place in the head's metadata."""
    data = bytearray(table)
    place = data.rindex(_UNSEALED)
    data[place : place + len(_UNSEALED)] = b"crc32:%08x" % zlib.crc32(data)
    return memoryview(data)


def _check_seal(data: bytes) -> None:
    """Raises `ValueError` where a file has a seal that does not fit; other programs' tables have none."""
    place = data.rfind(_UNSEALED[:6])
    if place < 0:
        return
    end = place + len(_UNSEALED)
    checksum = zlib.crc32(data[end:], zlib.crc32(_UNSEALED, zlib.crc32(data[:place])))
    if data[place:end] != b"crc32:%08x" % checksum:
        raise ValueError("its checksum does not fit")


_ASIDE = re.compile(r"/\.[^/]+\.[0-9a-f]{32}$")
