"""Tables, read by one reader: CSV of any spreadsheet, or Parquet, as text.

Cells of a CSV are separated by commas, semicolons, tabs or bars, as the header or a line `sep=` tells; its text is
UTF-8 or UTF-16. If cells are not separated by commas, a column may have decimal commas. The row numbers that pandas
writes as a column without a name are left out. Rows are counted as a spreadsheet shows them: the header is row 1.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from eus_ray.data.names import alike, composed, near, rounded, shown
from eus_ray.errors import UserError

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
MISSING = frozenset({"", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan"})
"""Cells without a value."""
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SEP_LINE = re.compile(r"[\ufeff\s\"]*sep=([^\w\"\r\n])\"?\s*?(\r\n|\n|\r)", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_ROW = re.compile(r'(?:"[^"]*"|[^"\r\n]++)++')
csv.field_size_limit(2**20)  # a long text is no error; the whole file without an end of quotes is
_NUMBER = re.compile(r"[+-]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_NO_ID = re.compile(rf"(?![+-]?\d{{16,}}\Z){_NUMBER.pattern}")
_WHOLE = re.compile(r"[+-]?\d+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_NUMBER_WITH_COMMAS = re.compile(r"[+-]?\d+([.,' ]\d+)*,\d+([.,]\d+)*")
_NUMBER_WITH_BLANKS = re.compile(r"[+-]?\d{1,3}([\s'’]\d{3})+([.,]\d+)?")
_ODD_NUMBERS = {
    _NUMBER_WITH_COMMAS: "commas",
    _NUMBER_WITH_BLANKS: "blanks",
    re.compile(rf"[−–]({_NUMBER.pattern})|({_NUMBER.pattern})\s*%"): "a minus that is no hyphen, or with %",
}
"""Cells that are text only for what they have besides a number."""
_SPREADSHEET_ERROR = re.compile(r"#(REF|VALUE|NAME|DIV/0|NUM|NULL)[!?]")
_TEXT_FORMULA = re.compile(r'="([^"]*)"')
"""Excel keeps the zeros of 007 so."""
_ROW_NUMBERS = re.compile(r"(__index_level_\d+__|Unnamed: \d+|)")
_EXACT_WHOLES = {"double": 2**53, "float": 2**24, "halffloat": 2**11}
"""From here on a float of Parquet does not tell a whole number from the next."""


@dataclass
class Table:
    """A table's cells, without blanks around them.

    `rows[i]` is row `numbers[i]` of the spreadsheet, whose row 1 is the header. `defects` are those of single rows or
    columns; rows with a wrong number of cells are left out. `warnings` are of what may have been meant otherwise.
    """

    columns: list[str]
    rows: list[list[str]]
    numbers: list[int]
    defects: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def column(self, name: str) -> list[str]:
        """Return the cells of a column, one a row."""
        index = self.columns.index(name)
        return [row[index] for row in self.rows]

    def records(self) -> list[dict[str, str]]:
        """Return each row as a dictionary by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def frame(self, texts: Sequence[str] = ()) -> pd.DataFrame:
        """Return the table with the types that its cells have, see `typed`.

        Args:
            texts: Columns that stay text, with nothing missing, such as those of names.

        Returns:
            One row a row of the table; the index is the row's number less 2, so that row 2 is 0.
        """
        cells = {name: self.column(name) for name in self.columns}
        columns = {
            name: pd.Series(column, dtype="str") if name in texts else typed(column) for name, column in cells.items()
        }
        return pd.DataFrame(columns, columns=self.columns).set_axis([number - 2 for number in self.numbers])


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
    table.columns = [composed(name).strip() for name in table.columns]
    _drop_row_numbers(table)
    for place, name in enumerate(table.columns):
        if not name:
            table.defects.append(f"column {place + 1} has no name; name it, or drop it")
        elif table.columns.index(name) == place and table.columns.count(name) > 1:
            table.defects.append(f"column {shown(name)} is there twice; keep one")
    table.warnings += _odd_numbers(table)
    if not table.rows and not table.defects:
        raise UserError(f"{path}: has no rows below its header")
    return table


def near_columns(columns: Sequence[str], known: Sequence[str], taken_as: str) -> list[str]:
    """Return warnings of columns whose name looks like a known one that the table lacks."""
    return [
        f"column {shown(name)} is taken as {taken_as}; write {meant} if it is that"
        for name in columns
        if name not in known and (meant := near(name, known)) and meant not in columns
    ]


def names_alike(frame: pd.DataFrame, clinical: Sequence[str]) -> list[str]:
    """Return warnings of models, patients, images and categories that look alike, or that were rounded.

    Args:
        frame: Names stand in `model`, `patient_id` and `image_id`, as far as it has these.
        clinical: The columns whose texts are categories.
    """
    lines = [
        line
        for column, kind in (("model", "model"), ("patient_id", "patient"), ("image_id", "image"))
        if column in frame
        for line in [*alike(kind, frame[column]), *(rounded(kind, frame[column]) if kind != "model" else ())]
    ]
    texts = [column for column in clinical if frame[column].dtype == "str"]
    return lines + [
        f"column {shown(column)}: {line}" for column in texts for line in alike("category", frame[column].dropna())
    ]


def _drop_row_numbers(table: Table) -> None:
    """Drop the columns without a name that pandas writes, and empty ones that a spreadsheet leaves at the end."""
    kept = []
    for place, name in enumerate(table.columns):
        if not _ROW_NUMBERS.fullmatch(name):
            kept.append(place)
            continue
        cells = [row[place] for row in table.rows]
        is_pandas = bool(name)
        is_counted = not name and all(map(str.isdecimal, cells)) and len(set(cells)) == len(cells)
        is_empty = not name and not any(cells)
        if not (is_pandas or is_counted or is_empty):
            kept.append(place)
        elif is_pandas and not all(re.fullmatch(r"\d*", cell) for cell in cells):
            table.warnings.append(f"column {name} has no name of its own and is left out; name it if it is needed")
    if len(kept) < len(table.columns):
        table.columns = [table.columns[place] for place in kept]
        table.rows = [[row[place] for place in kept] for row in table.rows]


def _odd_numbers(table: Table) -> list[str]:
    """Return warnings of columns that are text only for the commas or blanks in their numbers."""
    lines = []
    for place, name in enumerate(table.columns):
        errors = [row[place] for row in table.rows if _SPREADSHEET_ERROR.fullmatch(row[place])]
        if errors:
            lines.append(
                f"column {shown(name)} holds errors of a spreadsheet, such as {errors[0]}; mend their formulas"
            )
        for pattern, what in _ODD_NUMBERS.items():
            odd = [row[place] for row in table.rows if not row[place].isalnum() and pattern.fullmatch(row[place])]
            if odd and all(
                cell in MISSING or _NUMBER.fullmatch(cell) or pattern.fullmatch(cell)
                for cell in (row[place] for row in table.rows)
            ):
                lines.append(
                    f"column {shown(name)} has numbers with {what}, such as {shown(odd[0])}, and is read as text; "
                    "write decimals with a point, and nothing between thousands"
                )
                break
    return lines


# ---- CSV ---------------------------------------------------------------------------------------------


def _from_csv(content: bytes, path: Path | str) -> Table:
    text = _decoded(content, path)
    separator = None
    if line := _SEP_LINE.match(text):  # for Excel, which does not show it
        separator, text = line[1], text[line.end() :]
    text = _TEXT_FORMULA.sub(r"\1", text) if '="' in text else text
    if not text.strip():
        raise UserError(f"{path}: is empty; its first row must name the columns")
    separator = separator or _separator(text)
    records = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator, skipinitialspace=True)
    try:
        filled = [
            (number, cells) for number, record in enumerate(records, start=1) if any(cells := [*map(str.strip, record)])
        ]
    except csv.Error as error:
        raise UserError(f"{path}: is not a CSV table: line {records.line_num}: {shown(str(error))}") from None
    if not filled:
        raise UserError(f"{path}: is empty; its first row must name the columns")
    (_, header), *body = filled
    table = Table(header, [], [])
    has_longer_rows = _end_in_separators([cells for _, cells in body], len(header))
    for number, cells in body:
        if has_longer_rows:
            del cells[len(header) :]
        while len(cells) < len(header) and not any(header[len(cells) :]):
            cells.append("")
        if len(cells) != len(header):
            table.defects.append(
                f"row {number}: has {len(cells)} cells, the header {len(header)}; a "
                f"{_SEPARATORS.get(separator, 'separator')} within a cell needs quotes"
            )
            continue
        table.rows.append(cells)
        table.numbers.append(number)
    if separator != ",":
        _read_decimal_commas(table)
    return table


def _end_in_separators(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Return whether each row ends in as many separators more than the header, which names `width` columns.

    A decimal comma makes a row longer too, before cells that are empty: so some row must have its last column filled.
    """
    widths = {len(cells) for cells in rows}
    is_longer = len(widths) == 1 and min(widths) > width
    return is_longer and any(cells[width - 1] for cells in rows) and not any(any(cells[width:]) for cells in rows)


def _decoded(content: bytes, path: Path | str) -> str:
    encoding = "utf-8"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in content[:2]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise UserError(f"{path}: is neither Parquet nor text in UTF-8 or UTF-16; save it as CSV UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}: is neither Parquet nor text: it holds bytes of 0; save it as CSV UTF-8")
    return text.lstrip("\ufeff")


def _separator(text: str) -> str:
    """Return the separator by which the header has most columns, and the row below as many; the first of equals."""
    rows = (_QUOTED.sub('""', row[0]) for row in _ROW.finditer(text))
    header, below = [*itertools.islice(filter(str.strip, rows), 2), "", ""][:2]

    def fit(separator: str) -> tuple[bool, int]:
        num = header.count(separator)
        return 0 < num == below.count(separator), num

    return max(_SEPARATORS, key=fit)


def _read_decimal_commas(table: Table) -> None:
    """Turn the decimal commas of columns of numbers into points."""
    for place in range(len(table.columns)):
        cells = [row[place] for row in table.rows if row[place] not in MISSING]
        has_commas = any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
        if has_commas and all(
            _DECIMAL_COMMA.fullmatch(cell) or re.fullmatch(r"[+-]?(\d+|inf)", cell) for cell in cells
        ):
            for row in table.rows:
                row[place] = row[place].replace(",", ".")


# ---- Parquet -----------------------------------------------------------------------------------------


def _from_parquet(content: bytes, path: Path | str) -> Table:
    try:
        stored = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = shown(str(error).splitlines()[0])
        raise UserError(f"{path}: is a damaged Parquet file ({reason})") from None
    columns: list[list[str]] = []
    for one, column in zip(stored.schema, stored.columns, strict=True):
        try:
            columns.append([_text(value, _EXACT_WHOLES.get(str(one.type), 0)) for value in column.to_pylist()])
        except (pa.ArrowException, ValueError, OverflowError) as error:  # such as a date of the year 3,000,000
            reason = shown(str(error).splitlines()[0])
            raise UserError(
                f"{path}: column {shown(one.name)} holds {one.type} that cannot be read ({reason})"
            ) from None
    defects = [
        f"column {shown(one.name)} holds {one.type}; there can be numbers and text only"
        for one in stored.schema
        if pa.types.is_nested(one.type) or "binary" in str(one.type)
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(list(stored.column_names), rows, list(range(2, len(rows) + 2)), defects)


def _text(value: object, exact: int) -> str:
    """Return a cell as text; floats from `exact` on in the form of rounded numbers, which is told of names."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        # whole numbers beside empty cells are often stored so: patient 7.0 is 7
        return str(int(value)) if abs(value) < exact else str(value) if "e" in str(value) else f"{value:.16e}"
    if isinstance(value, datetime) and value.time() == time.min:
        return str(value.date())  # a day, as a spreadsheet shows it
    return str(value)


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
    if all(map(_NO_ID.fullmatch, there)):
        if there and len(there) == len(cells) and all(map(_WHOLE.fullmatch, there)):
            return pd.Series([int(cell) for cell in cells], dtype="int64")
        return pd.Series([float("nan") if cell in MISSING else float(cell) for cell in cells], dtype="float64")
    return pd.Series([None if cell in MISSING else cell for cell in cells], dtype="str")
