"""Read and write a study folder, on a disk or on an object store."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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

_MAX_LISTINGS = 20
"""A trial that finishes between a listing and its reads is listed again; twenty in a row are no coincidence."""


class DamagedFileError(UserError):
    """A table of the study folder is not what was written."""

    def __init__(self, location: str, name: str, error: Exception) -> None:
        super().__init__(
            f"{location}: {name} is damaged ({str(error).splitlines()[0]}); if it holds results, resume the run to "
            "make it again; any other file must come from a backup"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return UserError, self.lines  # as it travels from a worker


class Store:
    """One study folder, which the first write creates.

    Args:
        location: A path, or a URI that `pyarrow.fs` opens.

    Raises:
        UserError: If no file system opens the URI, or the path is none, such as a loop of links.
    """

    def __init__(self, location: str | Path) -> None:
        text = str(location)
        if "://" in text:
            try:
                self.fs, self.root = pafs.FileSystem.from_uri(text)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise UserError(f"{shown_location(text)}: cannot be opened ({str(error).splitlines()[0]})") from None
        else:
            try:
                text = str(Path(text).resolve())
            except (OSError, RuntimeError, ValueError):  # a loop of links, a zero byte
                raise UserError(f"{text}: is not a path that can be opened") from None
            self.fs, self.root = pafs.LocalFileSystem(), text
        self.root = self.root.rstrip("/")
        self.location = shown_location(text)
        """The location for messages: without a URI's credentials and options."""
        self.is_local = isinstance(self.fs, pafs.LocalFileSystem)
        self._opens = text

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self._opens,)

    # ---- files ----------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Return the full path of a file named relative to the study folder."""
        return f"{self.root}/{name}"

    def exists(self, name: str = "") -> bool:
        """Return whether a file or folder exists; by default, whether the study folder does."""
        with self._answering():
            return self.fs.get_file_info(self.path(name).rstrip("/")).type != pafs.FileType.NotFound

    def names(self, folder: str = "") -> list[str]:
        """Return the files below a folder, relative to the study folder, sorted; none if it is missing."""
        selector = pafs.FileSelector(self.path(folder).rstrip("/"), recursive=True, allow_not_found=True)
        with self._answering():
            found = self.fs.get_file_info(selector)
        names = (info.path[len(self.root) + 1 :] for info in found if info.type == pafs.FileType.File)
        return sorted(name for name in names if not name.rsplit("/", 1)[-1].startswith("."))

    def check_unused(self) -> None:
        """Raise `UserError` if this is a file, or a folder with files in it."""
        with self._answering():
            info = self.fs.get_file_info(self.root)
        if info.type == pafs.FileType.File:
            raise UserError(f"{self.location}: is a file; choose another output folder")
        if self.names():
            raise UserError(f"{self.location}: has files already; choose another output folder, or empty this one")

    def read_bytes(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: If there is none.
            UserError: If the disk or the server does not answer.
        """
        with self._answering(), self.fs.open_input_stream(self.path(name)) as stream:
            return stream.read()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn an OSError of a disk or server into a `UserError`; a FileNotFoundError stays as it is."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            cure = "" if self.is_local else "; check the address, the network and the credentials"
            reason = (error.strerror or str(error)).splitlines()[0]
            raise UserError(f"{self.location}: cannot be read ({reason}){cure}") from None

    def write_bytes(self, name: str, data: bytes | memoryview, *, durable: bool = True) -> None:
        """Replace a file atomically.

        Args:
            name: The file, relative to the study folder.
            data: Its new content.
            durable: Whether to fsync, so that the file survives a power cut from now on. That takes longer than the
                write; without it, the system writes by itself after about half a minute.

        Raises:
            UserError: If there is no room, or no permission.
        """
        try:
            if not self.is_local:
                with self.fs.open_output_stream(self.path(name)) as stream:
                    stream.write(data)
                return
            with self._aside(name) as path, path.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise self._not_written(name, error) from None

    def _not_written(self, name: str, error: OSError) -> UserError:
        return UserError(
            f"{self.location}: cannot write {name} ({error.strerror or error}); "
            "make room or choose another output folder"
        )

    def append_text(self, name: str, text: str) -> None:
        """Append lines to a log, whose one writer is the driver.

        Raises:
            UserError: If there is no room, or no permission.
        """
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
        """Delete a file, if it is there."""
        with suppress(FileNotFoundError):
            self.fs.delete_file(self.path(name))

    def move(self, name: str, to: str) -> None:
        """Rename a file, and replace one that has the new name."""
        self.fs.move(self.path(name), self.path(to))

    def _make(self, folder: Path) -> None:
        """Make a folder; a new study folder is closed to other users, since it holds patients' images."""
        new = not Path(self.root).exists()
        folder.mkdir(parents=True, exist_ok=True)
        if new:
            Path(self.root).chmod(Path(self.root).stat().st_mode & ~0o007)

    def sweep(self) -> int:
        """Delete the temporary files that a killed writer left on a disk, and return how many there were."""
        if not self.is_local:
            return 0
        selector = pafs.FileSelector(self.root, recursive=True, allow_not_found=True)
        left = [info.path for info in self.fs.get_file_info(selector) if _TEMPORARY.search(info.path)]
        for path in left:
            self.fs.delete_file(path)
        return len(left)

    def read_text(self, name: str) -> str:
        """Read a UTF-8 file."""
        return self.read_bytes(name).decode("utf-8")

    def write_text(self, name: str, text: str) -> None:
        """Replace a file by UTF-8 text, as `write_bytes` does."""
        self.write_bytes(name, text.encode("utf-8"))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON object."""
        return json.loads(self.read_text(name))

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a file by a JSON object with sorted keys."""
        self.write_text(name, json.dumps(value, indent=2, sort_keys=True) + "\n")

    # ---- tables ---------------------------------------------------------------------------------

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write a table as one Parquet file (zstd), with the schema's version and a CRC-32 in its metadata."""
        sink = pa.BufferOutputStream()
        pq.write_table(
            table.replace_schema_metadata(_stamped(table.schema).metadata),
            sink,
            compression="zstd",
            row_group_size=row_group_size,
            write_page_checksum=True,
        )
        self.write_bytes(name, _with_checksum(sink.getvalue()))

    def write_batches(self, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Write a table of any size as `write_table` does: each batch is a row group, and one is in memory at a time.

        Raises:
            UserError: If there is no room, or no permission.
        """
        try:
            with self._aside(name) as path:
                with pq.ParquetWriter(path, _stamped(schema), compression="zstd", write_page_checksum=True) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
                _fill_in_checksum(path)
        except OSError as error:
            raise self._not_written(name, error) from None

    @contextmanager
    def _aside(self, name: str) -> Iterator[Path]:
        """Give a path for a file's new content, which is in its place afterwards if nothing is raised."""
        if self.is_local:
            path = Path(self.path(name))
            self._make(path.parent)
            temporary = path.with_name(f".{uuid.uuid4().hex}")  # short: `path` may have the longest name
            try:
                yield temporary
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "content"
            yield temporary
            with temporary.open("rb") as content, self.fs.open_output_stream(self.path(name)) as stream:
                shutil.copyfileobj(content, stream)

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a table, or some of its columns.

        Raises:
            DamagedFileError: If it is not what was written.
            FileNotFoundError: If there is none.
        """
        data = self.read_bytes(name)
        try:
            _verify_checksum(data)
            return pq.read_table(pa.BufferReader(data), columns=columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DamagedFileError(self.location, name, error) from None

    def write_frame(self, name: str, frame: pd.DataFrame) -> None:
        """Write a data frame without its index, as `write_table` does."""
        self.write_table(name, pa.Table.from_pandas(frame, preserve_index=False))

    def write_part(self, table: str, key: PartKey, rows: pa.Table) -> None:
        """Replace the rows of one fold of one trial, whose one writer is the worker that trains the fold."""
        self.write_table(part_name(table, key), rows.cast(PARTS[table]), _ROW_GROUP_SIZE.get(table))

    def read_part(self, table: str, key: PartKey) -> pa.Table:
        """Read the rows of one fold of one trial; an empty table if there are none yet."""
        name = part_name(table, key)
        if self.exists(name):
            return self.read_table(name)
        whole = whole_name(table, TrialKey(key.model, key.trial))
        if self.exists(whole):
            return self.read_table(whole).filter(pa.compute.field("fold") == key.fold)
        return PARTS[table].empty_table()

    def finish_trial(self, key: TrialKey, folds: int, tables: Iterable[str] = tuple(PARTS)) -> None:
        """Join the parts of a trial that has ended into one file a table.

        The whole file is written first and hides the parts from `read_parts`; then they are deleted. If the process is
        killed in between, the next call completes it.
        """
        for table in tables:
            whole = whole_name(table, key)
            here = [name for fold in range(folds) if self.exists(name := part_name(table, key.part(fold)))]
            if here and (len(here) == folds or not self.exists(whole)):  # a trial trained again replaces its tables
                rows = pa.concat_tables([self.read_table(name) for name in here])
                self.write_table(whole, rows, _ROW_GROUP_SIZE.get(table))
            for name in here:
                self.delete(name)

    def part_names(self, table: str, model: str | None = None) -> list[str]:
        """Return the files that together hold a table's rows, each row once."""
        found = self.names(table if model is None else f"{table}/model={model}")
        names = [name for name in found if name.endswith(".parquet")]
        wholes = {name.removesuffix(".parquet") for name in names if "_fold-" not in name}
        return [name for name in names if "_fold-" not in name or name.split("_fold-")[0] not in wholes]

    def read_trial(self, table: str, key: TrialKey, columns: list[str]) -> pa.Table:
        """Read one trial's rows: those of its parts if it is not finished, none if it has not begun."""
        whole = whole_name(table, key)
        if self.exists(whole):
            return self.read_table(whole, columns)
        before = whole.removesuffix(".parquet") + "_fold-"
        schema = pa.schema([PARTS[table].field(column) for column in columns])
        tables = [
            self.read_table(name, columns).cast(schema)
            for name in self.names(f"{table}/model={key.model}")
            if name.startswith(before) and name.endswith(".parquet")
        ]
        return pa.concat_tables([schema.empty_table(), *tables])

    def read_parts(self, table: str, model: str | None = None) -> pa.Table:
        """Read all rows of `epochs`, `scores` or `predictions`, of all models by default, in the order of the files.

        If a trial finishes meanwhile, its parts are gone and the whole file is there: the files are listed again.
        """
        schema = PARTS[table]
        for _ in range(_MAX_LISTINGS):
            try:
                tables = [self.read_table(name).cast(schema) for name in self.part_names(table, model)]
                return pa.concat_tables([schema.empty_table(), *tables]).replace_schema_metadata(None)
            except FileNotFoundError as error:
                missing = error
        raise missing


_ROW_GROUP_SIZE = {"predictions": 16}
"""Rows; a probability map is large, so that a reader takes a few at a time."""
_NO_CHECKSUM = b"crc32:--------"


def _stamped(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the version of the study folder's tables, and room for a checksum."""
    ours = {b"eus_ray_schema": SCHEMA_VERSION.encode(), b"eus_ray_checksum": _NO_CHECKSUM}
    return schema.with_metadata({**(schema.metadata or {}), **ours})


def _fill_in_checksum(path: Path) -> None:
    """Do to a file on the disk what `_with_checksum` does, and fsync it."""
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)  # the last bytes are the length of the metadata and PAR1
        start = file.seek(-8 - int.from_bytes(file.read(4), "little"), os.SEEK_END)
        place, checksum = start + file.read().rindex(_NO_CHECKSUM), 0
        file.seek(0)
        while part := file.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
        file.seek(place)
        file.write(b"crc32:%08x" % checksum)
        file.flush()
        os.fsync(file.fileno())


def _with_checksum(table: pa.Buffer) -> memoryview:
    """Fill in the CRC-32 of a Parquet file, which counts the placeholder in its metadata as it was."""
    data = bytearray(table)
    place = data.rindex(_NO_CHECKSUM)
    data[place : place + len(_NO_CHECKSUM)] = b"crc32:%08x" % zlib.crc32(data)
    return memoryview(data)


def _verify_checksum(data: bytes) -> None:
    """Raise `ValueError` if a file's checksum does not fit; other programs' tables have none."""
    place = data.rfind(_NO_CHECKSUM[:6])
    if place < 0:
        return
    end = place + len(_NO_CHECKSUM)
    checksum = zlib.crc32(data[end:], zlib.crc32(_NO_CHECKSUM, zlib.crc32(data[:place])))
    if data[place:end] != b"crc32:%08x" % checksum:
        raise ValueError("its checksum does not fit")


_TEMPORARY = re.compile(r"/\.([^/]+\.)?[0-9a-f]{32}$")
