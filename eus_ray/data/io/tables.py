"""Tables as text, from CSV (UTF-8, commas) or Parquet.

Rows are counted as a spreadsheet counts them: the header is row 1.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from eus_ray.errors import UserError

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan"})
"""Cells without a value."""


@dataclass
class Table:
    """A table's cells, without blanks around them.

    `rows[i]` is row `numbers[i]` of the spreadsheet, whose row 1 is the header. `defects` are those of single rows or
    columns; rows with a wrong number of cells are left out.
    """

    columns: list[str]
    rows: list[list[str]]
    numbers: list[int]
    defects: list[str] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        """Return the cells of a column, one a row."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def records(self) -> list[dict[str, str]]:
        """Return each row as a dictionary by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file.

    Raises:
        UserError: If the file is missing, or as `parse_table`.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError:
        example = path / "manifest.csv"
        raise UserError(f"{path}: is a folder, not a table; name a file in it, such as {example}") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_table(content, path)


def parse_table(content: bytes, path: Path | str) -> Table:
    """Parse the content of a CSV or Parquet file; the content tells which it is.

    Empty rows of a CSV file are left out. Messages call the file `path`.

    Raises:
        UserError: If the content is no table, or has no rows.
    """
    table = _from_parquet(content, path) if content.startswith(b"PAR1") else _from_csv(content, path)
    if not table.rows and not table.defects:
        raise UserError(f"{path}: has no rows below its header")
    return table


def _from_csv(content: bytes, path: Path | str) -> Table:
    try:
        text = content.decode("utf-8-sig")
        records = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        raise UserError(f"{path}: is neither Parquet nor UTF-8 text; save it as CSV UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: is not a CSV table ({error})") from None
    if not records or not any(cell.strip() for cell in records[0]):
        raise UserError(f"{path}: is empty; its first row must name the columns")
    header, *body = records
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise UserError(f"{path}: its cells are separated by {name}; save it with commas")
    table = Table(header, [], [])
    for number, record in enumerate(body, start=2):
        cells = [cell.strip() for cell in record]
        if not any(cells):
            continue
        if len(cells) != len(header):
            table.defects.append(
                f"row {number}: has {len(cells)} cells, the header {len(header)}; a comma within a cell needs quotes"
            )
            continue
        table.rows.append(cells)
        table.numbers.append(number)
    return table


def _from_parquet(content: bytes, path: Path | str) -> Table:
    try:
        stored = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is a damaged Parquet file ({error})") from None
    defects = [
        f"column {one.name} holds {one.type}; there can be numbers and text only"
        for one in stored.schema
        if pa.types.is_nested(one.type) or pa.types.is_binary(one.type)
    ]
    columns = [[_text(value) for value in column.to_pylist()] for column in stored.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(list(stored.column_names), rows, list(range(2, len(rows) + 2)), defects)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # whole numbers beside empty cells are often stored so: patient 7.0 is 7
    return str(value).strip()


# ---- messages about rows, and types of cells --------------------------------------------------------


class Lines:
    """Messages about rows, added in any order and told in the order of the rows."""

    def __init__(self) -> None:
        """Begin without messages."""
        self.found: list[tuple[int, str]] = []

    def add(self, row: int, text: str) -> None:
        """Add a message about a row, which it then names."""
        self.found.append((row, f"row {row}: {text}"))

    def told(self) -> list[str]:
        """Return the messages by row; those of one row in the order they were added."""
        return [line for _, line in sorted(self.found, key=lambda one: one[0])]


def repeated(table: Table, keys: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Yield the row of each repeated key, and the row of its first occurrence.

    `keys` holds one key a row of the table; None and missing cells are no keys.
    """
    first: dict[object, int] = {}
    for number, key in zip(table.numbers, keys, strict=True):
        if key is not None and key not in MISSING and first.setdefault(key, number) != number:
            yield number, first[key]


def typed(cells: Sequence[str]) -> pd.Series:
    """Return a clinical column in the type that its cells have.

    These are whole numbers (int64), numbers with NaN if missing (float64), or text with None if missing. Numbers with
    leading zeros are text, and so are whole numbers of more than 15 digits: they are ids.
    """
    there = [cell for cell in cells if cell not in MISSING]
    number = re.compile(r"[+-]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
    if all(number.fullmatch(cell) and not re.fullmatch(r"[+-]?\d{16,}", cell) for cell in there):
        if there and len(there) == len(cells) and all(re.fullmatch(r"[+-]?\d+", cell) for cell in there):
            return pd.Series([int(cell) for cell in cells], dtype="int64")
        return pd.Series([float("nan") if cell in MISSING else float(cell) for cell in cells], dtype="float64")
    return pd.Series([None if cell in MISSING else cell for cell in cells], dtype="str")
