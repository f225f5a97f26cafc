"""Tables: one frame, written in every dialect of spreadsheets and pandas, and what is refused in a line."""

from __future__ import annotations

import codecs
import datetime
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from eus_ray.data.io.tables import Table, parse_table, read_table, typed
from eus_ray.errors import UserError

TEXTS = ("image", "patient_id")
FRAME = pd.DataFrame(
    {
        "image": ["a/1.png", "a/2.png", "b 3.png", "ü/4.png"],
        "patient_id": ["P01", "007", "NA", "Müller"],
        "age": [40, 51, 62, 73],
        "size": [1.5, 0.25, None, -10.0],
        "note": ['says "x"', "a, b; c\td | e", "two\nlines", None],
    }
)
ENCODINGS: dict[str, Any] = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with BOM": lambda text: text.encode("utf-8-sig"),
    "two BOMs": lambda text: codecs.BOM_UTF8 + text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 LE with BOM": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16 BE with BOM": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
}


def assert_same(table: Table, frame: pd.DataFrame, numbers: list[int]) -> None:
    assert table.defects == []
    assert table.numbers == numbers
    read = table.frame(TEXTS)
    assert read.index.tolist() == [number - 2 for number in numbers]
    expected = frame.set_axis(read.index)
    for name in ("image", "patient_id", "note"):
        expected[name] = expected[name].astype("str")
    pd.testing.assert_frame_equal(read, expected)


@settings(max_examples=100, derandomize=True, deadline=None, phases=(Phase.generate,))
@given(
    separator=st.sampled_from(",;\t|"),
    has_sep_line=st.booleans(),
    has_decimal_commas=st.booleans(),
    quoting=st.sampled_from([0, 1, 2]),
    encode=st.sampled_from(sorted(ENCODINGS)),
    end=st.sampled_from(["\r\n", "\n", "\r"]),
    trailing=st.sampled_from(["", "all", "header", "rows"]),
    blank=st.sampled_from([None, 1, 3]),
    blanks=st.sampled_from(["", ";;;", "   "]),
    index=st.sampled_from([None, "", "Unnamed: 0"]),
    has_end=st.booleans(),
)
def test_every_dialect_gives_the_same_frame(
    separator: str,
    has_sep_line: bool,
    has_decimal_commas: bool,
    quoting: int,
    encode: str,
    end: str,
    trailing: str,
    blank: int | None,
    blanks: str,
    index: str | None,
    has_end: bool,
) -> None:
    has_decimal_commas = has_decimal_commas and separator != ","
    frame = FRAME.assign(note=FRAME["note"].str.replace("\n", end))  # as the writer's own line ends

    def line(part: pd.DataFrame, *, header: bool) -> str:
        return part.to_csv(
            sep=separator,
            decimal="," if has_decimal_commas else ".",
            quoting=quoting,
            lineterminator=end,
            header=header,
            index=index is not None,
            index_label=index or None,
        )[: -len(end)]

    rows = [line(frame[:0], header=True), *(line(frame[place : place + 1], header=False) for place in range(4))]
    rows = [
        row + (separator if trailing == "all" or ((trailing == "header") == (place == 0) and trailing) else "")
        for place, row in enumerate(rows)
    ]
    numbers = [2, 3, 4, 5]
    if blank is not None:
        rows.insert(blank, blanks.replace(";", separator))
        numbers = [number + (number > blank) for number in numbers]
    if has_sep_line:
        rows.insert(0, f"sep={separator}")
    content = ENCODINGS[encode](end.join(rows) + (end if has_end else ""))
    assert_same(parse_table(content, "t.csv"), frame, numbers)


def parquet(frame: pd.DataFrame, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, **settings)
    return buffer.getvalue()


def test_parquet_gives_the_same_frame() -> None:
    assert_same(parse_table(parquet(FRAME), "t.parquet"), FRAME, [2, 3, 4, 5])
    assert_same(parse_table(parquet(FRAME, index=True), "t.parquet"), FRAME, [2, 3, 4, 5])
    filtered = FRAME[FRAME["age"] != 51]  # pandas keeps the numbers of its rows
    assert_same(parse_table(parquet(filtered), "t.parquet"), filtered, [2, 3, 4])
    categories = FRAME.astype({"patient_id": "category", "note": "category", "age": "int16"})
    assert_same(parse_table(parquet(categories), "t.parquet"), FRAME, [2, 3, 4, 5])
    named = FRAME.set_index("image")
    assert parse_table(parquet(named), "t.parquet").frame(TEXTS)["image"].tolist() == FRAME["image"].tolist()


def test_types_of_parquet_are_as_those_of_csv() -> None:
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], "Int64"),
            "number": [1.5, 2.25, -3.0],
            "is_old": [True, False, True],
            "day": [datetime.date(2020, 1, day) for day in (1, 2, 3)],
            "time": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
            "ids": [2**60, 2, 3],
        }
    )
    one = parse_table(parquet(frame), "t.parquet").frame()
    other = parse_table(frame.to_csv(index=False).encode(), "t.csv").frame()
    pd.testing.assert_frame_equal(one, other)
    assert one["day"].tolist() == ["2020-01-01", "2020-01-02", "2020-01-03"]
    assert one["ids"].tolist() == [str(2**60), "2", "3"]


def test_patients_that_pandas_made_numbers_are_whole_again() -> None:
    content = parquet(pd.DataFrame({"patient_id": [7.0, None, 8.0], "size": [1.5, 2.0, 1e20]}))
    table = parse_table(content, "t.parquet")
    assert table.rows == [["7", "1.5"], ["", "2"], ["8", "1e+20"]]


@pytest.mark.parametrize(
    ("kind", "name"), [(pa.binary(), "binary"), (pa.large_binary(), "large_binary"), (pa.list_(pa.int8()), "list")]
)
def test_columns_that_are_no_cells(kind: pa.DataType, name: str) -> None:
    values = [[1]] if "list" in name else [b"x"]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": ["x"], "b\u200b": pa.array(values, kind)}), buffer)
    (line,) = parse_table(buffer.getvalue(), "t").defects
    assert line.startswith(f"column b\\u200b holds {name}")
    assert line.endswith("; there can be numbers and text only")


# ---- nasty ones -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "t.csv: is empty; its first row must name the columns"),
        (b" \n\r\n\t", "t.csv: is empty; its first row must name the columns"),
        (b",,,\n,,\n", "t.csv: is empty; its first row must name the columns"),
        (b"image,mask\n", "t.csv: has no rows below its header"),
        (b"image,mask\n\n , \n", "t.csv: has no rows below its header"),
        (b"a,b\n1,\0\n", "t.csv: is neither Parquet nor text: it holds bytes of 0; save it as CSV UTF-8"),
        (
            "name\nMüller\n".encode("latin-1"),
            "t.csv: is neither Parquet nor text in UTF-8 or UTF-16; save it as CSV UTF-8",
        ),
        (b"PK\x03\x04\xff", "t.csv: is neither Parquet nor text in UTF-8 or UTF-16; save it as CSV UTF-8"),
        (b'a,b\n1,"2\n3,4\n', "t.csv: is not a CSV table: line 3: unexpected end of data"),
        (b'a\tb\n1\t"2"3\n', "t.csv: is not a CSV table: line 2: '\\t' expected after '\"'"),
    ],
)
def test_what_is_no_table_is_refused_in_a_line(content: bytes, line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_table(content, "t.csv")
    assert caught.value.lines == (line,)


@pytest.mark.parametrize(
    ("text", "defects"),
    [
        ("a,b,a\n1,2,3\n", ["column a is there twice; keep one"]),
        ("a,b,a ,a\n1,2,3,4\n", ["column a is there twice; keep one"]),
        ("a,,b\n1,x,3\n", ["column 2 has no name; name it, or drop it"]),
        (
            "a,b\n1,2\n\n1,2,3\n4\n5,6\n",
            [
                "row 4: has 3 cells, the header 2; a comma within a cell needs quotes",
                "row 5: has 1 cells, the header 2; a comma within a cell needs quotes",
            ],
        ),
        ("a;b\n1;2\n1;2;3\n", ["row 3: has 3 cells, the header 2; a semicolon within a cell needs quotes"]),
    ],
)
def test_defects_of_rows_and_columns(text: str, defects: list[str]) -> None:
    assert parse_table(text.encode(), "t.csv").defects == defects


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("name\nx\ny\n", [["x"], ["y"]]),  # one column
        ('a,b\n"one\n\ntwo",2\n3,4\n', [["one\n\ntwo", "2"], ["3", "4"]]),
        ("id;text\n1;a, b, c\n2;d, e, f\n", [["1", "a, b, c"], ["2", "d, e, f"]]),
        ("a, in mm;b\n1;2\n", [["1", "2"]]),
        ("patient, or name, or code;b\n1;2\n", [["1", "2"]]),
        ('"a;b;c;d",e\n1,2\n', [["1", "2"]]),
        ('"a\n;b;c",e\n1,2\n', [["1", "2"]]),
        ('"say ""a;b;c""",e\n1,2\n', [["1", "2"]]),
        ('a, b\n1, "2, 3"\n', [["1", "2, 3"]]),  # a blank after the comma
        ('a,b\n5" probe,2\n', [['5" probe', "2"]]),
        ("\n\na,b\n1,2\n", [["1", "2"]]),
    ],
)
def test_cells(text: str, rows: list[list[str]]) -> None:
    table = parse_table(text.encode(), "t.csv")
    assert table.defects == []
    assert table.rows == rows


def test_rows_are_counted_as_a_spreadsheet_shows_them() -> None:
    assert parse_table(b"a,b\n\n1,2\n,\n3,4\n", "t.csv").numbers == [3, 5]
    assert parse_table(b'a,b\n"x\ny",2\n3,4\n', "t.csv").numbers == [2, 3]
    assert parse_table(b"sep=;\r\na;b\r\n1;2\r\n", "t.csv").numbers == [2]
    assert parse_table(b"\na,b\n1,2\n", "t.csv").numbers == [3]


def test_a_long_cell_is_read() -> None:
    long = "x" * 200_000
    assert parse_table(f"a,b\n1,{long}\n".encode(), "t.csv").column("b") == [long]


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        (["1.234,5", "0,5"], "column n has numbers with commas, such as 1.234,5, and is read as text"),
        (["1,5", "2.5"], "column n has numbers with commas, such as 1,5, and is read as text"),
        (["1 234", "5"], "column n has numbers with blanks, such as 1 234, and is read as text"),
        (["1\u00a0234", "5"], "column n has numbers with blanks, such as 1\\xa0234, and is read as text"),
        (["1'234", ""], "column n has numbers with blanks, such as 1'234, and is read as text"),
    ],
)
def test_numbers_with_thousands_are_text_and_told(cells: list[str], line: str) -> None:
    table = parse_table(f"id;n\n1;{cells[0]}\n2;{cells[1]}\n".encode(), "t.csv")
    assert table.column("n") == cells
    assert table.warnings == [f"{line}; write decimals with a point, and nothing between thousands"]
    quoted = parse_table(f'id,n\n1,"{cells[0]}"\n2,"{cells[1]}"\n'.encode(), "t.csv")
    assert quoted.warnings == table.warnings


def test_texts_are_no_odd_numbers() -> None:
    table = parse_table(b'id,n,m\n1,"1,5",12 345\n2,"no, none",a 12\n', "t.csv")
    assert table.warnings == []
    assert parse_table(b"id;n\n1;1,5\n2;-3\n3;NA\n", "t.csv").frame()["n"].tolist()[:2] == [1.5, -3.0]


def test_row_numbers_of_pandas_are_left_out() -> None:
    for first in ("", "Unnamed: 0", "__index_level_0__"):
        assert parse_table(f"{first},a\n0,x\n5,y\n".encode(), "t.csv").columns == ["a"]
    table = parse_table(b"Unnamed: 0,a\nfirst,x\n", "t.csv")
    assert table.columns == ["a"]
    assert table.warnings == ["column Unnamed: 0 has no name of its own and is left out; name it if it is needed"]


def test_types() -> None:
    assert typed(["1", "-2"]).tolist() == [1, -2]
    assert typed(["1", "-2"]).dtype == np.int64
    assert typed(["1", ""]).dtype == np.float64
    assert typed(["1e3", ".5", "2."]).tolist() == [1000.0, 0.5, 2.0]
    for texts in (["01", "2"], ["1234567890123456"], ["1", "x"], ["True", "False"]):
        assert typed(texts).tolist() == texts
    assert typed(["x", "N/A"]).isna().tolist() == [False, True]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, line in (
        (tmp_path, f"{tmp_path}: is a folder, not a table; name a file in it, such as {tmp_path / 'manifest.csv'}"),
        (tmp_path / "no.csv", f"{tmp_path / 'no.csv'}: no such file"),
    ):
        with pytest.raises(UserError) as caught:
            read_table(path)
        assert caught.value.lines == (line,)


def test_floats_of_parquet_that_do_not_tell_whole_numbers_apart_look_rounded() -> None:
    ids = pd.Series([2.0**24, 2.0**24 + 2], dtype="float32")
    (first,), (second,) = parse_table(parquet(pd.DataFrame({"patient_id": ids})), "t.parquet").rows
    assert (first, second) == ("1.6777216000000000e+07", "1.6777218000000000e+07")


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        (["−1", "2"], "a minus that is no hyphen, or with %, such as −1"),
        (["5 %", "7%"], "a minus that is no hyphen, or with %, such as 5 %"),
        (["1", "#REF!"], "errors of a spreadsheet, such as #REF!"),
    ],
)
def test_cells_that_are_nearly_numbers_are_told(cells: list[str], line: str) -> None:
    (warning,) = parse_table("\n".join(["n", *cells]).encode(), "t.csv").warnings
    assert line in warning
    assert parse_table(b"n\n-1.5\n2e3\n", "t.csv").warnings == []


def test_the_texts_that_a_spreadsheet_writes_as_formulas_keep_their_zeros() -> None:
    assert parse_table(b'patient_id,age\n="007",5\n="7",6\n', "t.csv").column("patient_id") == ["007", "7"]
