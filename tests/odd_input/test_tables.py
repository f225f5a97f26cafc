"""Odd tables of scores, learning curves and published numbers, as `analyze`, `replay` and `audit` read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests.odd_input.odd import Odd, leave_reports_empty, run
from tests.odd_input.writers import NFC, NFD, a_table, both, curves, nothing, put, scores, statements, table_text

ANALYZE = "analyze ~/t.csv --out ~/report"
REPLAY = "replay ~/t.csv --rule racing:0.05"
AUDIT = "audit ~/t.csv"
TWICE = scores()["patient_id"]
MEAN = 0.745
"""Of .71 to .78."""


def rows(place: int, cell: str, column: str, columns: dict[str, Sequence[object]]) -> dict[str, Sequence[object]]:
    """Return the columns with another cell in one row."""
    cells = list(columns[column])
    cells[place] = cell
    return {**columns, column: cells}


def every_second(cells: Sequence[object], change: Callable[[str], str]) -> list[str]:
    return [change(str(cell)) if place % 2 else str(cell) for place, cell in enumerate(cells)]


def sound(here: Path, _: str) -> None:
    """The eight images of four patients, and their mean."""
    frame = pd.read_parquet(here / "report/images.parquet")
    assert len(frame) == 8
    assert frame["patient_id"].nunique() == 4
    assert round(frame["dsc"].mean(), 6) == MEAN


def named(column: str, *names: str) -> Callable[[Path, str], None]:
    def check(here: Path, _: str) -> None:
        assert set(pd.read_parquet(here / "report/images.parquet")[column]) == set(names)

    return check


def in_report(*phrases: str) -> Callable[[Path, str], None]:
    def check(here: Path, _: str) -> None:
        text = (here / "report/report.html").read_text()
        for phrase in phrases:
            assert phrase in text

    return check


DIALECTS: dict[str, dict[str, str]] = {
    "semicolons": {"separator": ";"},
    "tabs": {"separator": "\t"},
    "bars": {"separator": "|"},
    "sep line": {"before": "sep=,\n"},
    "sep line, semicolons": {"before": "sep=;\n", "separator": ";"},
    "UTF-16": {"encoding": "utf-16"},
    "UTF-16 without mark": {"encoding": "utf-16-le"},
    "mark twice": {"before": "\ufeff\ufeff"},
}
AS_TWO = "they are taken as 2 patients"

ANALYZED = [
    *[Odd(f"E1 {name}", a_table(scores(), **how), ANALYZE, 0, ("report: ",), sound) for name, how in DIALECTS.items()],
    Odd("decimal commas in quotes", a_table(scores(dsc=[f"{cell}".replace(".", ",") for cell in scores()["dsc"]])),
        ANALYZE, 2, ("dsc holds text in rows 2, 3", "with a decimal point")),
    Odd("suffix in capitals", a_table(scores(), "t.CSV"), "analyze ~/t.CSV --out ~/report", 0, ("report: ",), sound),
    Odd("Parquet", a_table({**scores(), "dsc": [0.71 + n / 100 for n in range(8)]}, "t.parquet"),
        "analyze ~/t.parquet --out ~/report", 0, ("report: ",), sound),
    Odd("Parquet of texts", a_table(scores(), "t.parquet"), "analyze ~/t.parquet --out ~/report", 0,
        ("report: ",), sound),
    Odd("Parquet named CSV", both(a_table({**scores(), "dsc": [0.71 + n / 100 for n in range(8)]}, "t.parquet"),
                              lambda here: (here / "t.parquet").rename(here / "t.csv")), ANALYZE, 0, ("report: ",),
        sound),
    Odd("E6 row numbers", a_table({"Unnamed: 0": range(8), **scores()}), ANALYZE, 0, ("report: ",), sound),
    Odd("E6 row numbers without name", a_table({"": range(8), **scores()}), ANALYZE, 0, ("report: ",), sound),
    Odd("commas at the ends of rows", lambda here: put(here / "t.csv", table_text(scores()).replace("\n", ",\n")),
        ANALYZE, 0, ("report: ",), sound),
    Odd("blank rows", lambda here: put(here / "t.csv", table_text(scores()).replace("\n", "\n\n,,,\n", 3)), ANALYZE, 0,
        ("report: ",), sound),
    Odd("E9 blank", a_table({" dsc" if name == "dsc" else name: cells for name, cells in scores().items()}), ANALYZE, 0,
        ("report: ",), sound),
    Odd("E9 capitals", a_table({"DSC" if name == "dsc" else name: cells for name, cells in scores().items()}), ANALYZE,
        2, ("DSC", "rename")),
    Odd("a known name in capitals besides", a_table(scores(HD=["4"] * 8)), ANALYZE, 0,
        ("column HD is taken as", "write hd if it is that"), sound),
    Odd("E2 dsc twice", lambda here: put(here / "t.csv", table_text(scores(iou=[0.5] * 8)).replace("iou", "dsc")),
        ANALYZE, 2, ("column dsc is there twice; keep one",)),
    Odd("a column without name", a_table({"": list("abcdefgh"), **scores()}), ANALYZE, 2, ("column 1 has no name",)),
    Odd("B2 two encodings", a_table(scores(patient_id=[NFC, NFD, *TWICE[2:]])), ANALYZE, 0,
        ("differ in encoding only", AS_TWO)),
    Odd("patients with zero width", a_table(scores(patient_id=["X0", "X0\u200b", *TWICE[2:]])), ANALYZE, 0,
        ("X0\\u200b differ in invisible characters only", AS_TWO)),
    Odd("patients rounded", a_table(scores(patient_id=["1.2E+11", "1.2E+11", *TWICE[2:]])), ANALYZE, 0,
        ("patient 1.2E+11 looks like a number that a spreadsheet rounded",)),
    Odd("a patient NA", a_table(rows(0, "NA", "patient_id", rows(1, "NA", "patient_id", scores()))), ANALYZE, 0,
        ("report: ",), named("patient_id", "NA", "X1", "X2", "X3")),
    Odd("a patient without name", a_table(rows(2, "", "patient_id", scores())), ANALYZE, 2,
        ("patient_id is empty in row 4",)),
    Odd("models in two cases", a_table(scores(("net", "Net"))), ANALYZE, 0,
        ("models net and Net differ in case only",)),
    Odd("a model with an invisible letter", a_table(scores(("net", "net\u200b"))), ANALYZE, 0,
        ("net\\u200b differ in invisible characters only; they are taken as 2 models",)),
    Odd("models printed alike", a_table(scores(("unet", "U-Net"))), ANALYZE, 2, ("are both printed as",)),
    Odd("images in two spellings", a_table(scores(
        ("a", "b"), image_id=[*(f"i{n}" for n in range(8)), *(f"I{n}" for n in range(8))])), ANALYZE, 0,
        ("images i0 and I0 differ in case only",)),
    Odd("images of two spellings in one model", a_table(rows(0, "i01", "image_id", scores())), ANALYZE, 0,
        ("images i01 and i1 differ in leading zeros only",)),
    Odd("categories", a_table(scores(stage=["T2", "t2", *["T1"] * 6])), ANALYZE, 0,
        ("column stage: categories T2 and t2 differ in case only",)),
    Odd("numbers with commas", a_table(scores(ca=[f"1,{n}34" for n in range(8)])), ANALYZE, 0,
        ("column ca has numbers with commas, such as 1,034",)),
    Odd("per cent", a_table(scores(dsc=[f"{71 + n}" for n in range(8)])), ANALYZE, 2, ("divide percentages by 100",)),
    Odd("per cent signs", a_table(scores(dsc=[f"{71 + n}%" for n in range(8)])), ANALYZE, 2, ("dsc",)),
    Odd("scores without value", a_table(rows(1, "", "dsc", scores())), ANALYZE, 2, ("dsc is missing or NaN in row 3",)),
    Odd("an image twice", a_table(rows(1, "i0", "image_id", scores())), ANALYZE, 2, ("row 3: image i0 of model unet",)),
    Odd("an image of two patients", a_table(rows(8, "X9", "patient_id", scores(("a", "b")))), ANALYZE, 2,
        ("image i0 belongs to two patients",)),
    Odd("rows too long", lambda here: put(here / "t.csv", table_text(scores()).replace("X1,", "X1,y,")), ANALYZE, 2,
        ("has 5 cells, the header 4",)),
    Odd("other numbers of folds", a_table(scores(fold=[0, 1] * 4)), ANALYZE, 2, ("is in 2 folds",)),
    Odd("Latin-1", a_table(scores(("Müller",)), encoding="latin-1"), ANALYZE, 2, ("UTF-8 or UTF-16; save it as",)),
    Odd("a folder as table", lambda here: (here / "t.csv").mkdir(), ANALYZE, 2, ("t.csv",)),
    Odd("a table named .txt", a_table(scores(), "t.txt", separator="\t"), "analyze ~/t.txt --out ~/report", 0,
        ("report: ",), sound),
    Odd("a table named otherwise", a_table(scores(), "t.dat"), "analyze ~/t.dat --out ~/report", 2, ("t.dat",)),
    Odd("header alone", lambda here: put(here / "t.csv", "model,image_id,patient_id,dsc\n"), ANALYZE, 2,
        ("has no rows",)),
    Odd("no table", nothing, ANALYZE, 2, ("t.csv: no such file",)),
    Odd("Parquet cut short", lambda here: put(here / "t.parquet", b"PAR1" + bytes(9)),
        "analyze ~/t.parquet --out ~/report", 2, ("t.parquet: is a damaged Parquet file",)),
    Odd("a report that is a file", both(a_table(scores()), lambda here: put(here / "report", "x")), ANALYZE, 2,
        ("report",)),
]  # fmt: skip

REPORTED = [
    Odd("E1 decimal commas", a_table(scores(dsc=[f"{cell}".replace(".", ",") for cell in scores()["dsc"]]),
                                  separator=";"), ANALYZE, 0, ("report: ",), sound),
    Odd("B2 two cases", a_table(scores(patient_id=every_second(TWICE, str.lower))), ANALYZE, 0,
        ("patients X0 and x0 differ in case only", AS_TWO), in_report("patients X0 and x0 differ in case only")),
    Odd("I1 a model of other letters", a_table(scores(("unet", "中文"))), ANALYZE, 0, ("report: ",)),
    Odd("I1 a column of other letters", a_table(scores(分期=list("ababcdcd"))), ANALYZE, 0, ("report: ",)),
    Odd("a model with an emoji", a_table(scores(("unet", "net\U0001f600"))), ANALYZE, 0, ("report: ",)),
    Odd("a model with markup", a_table(scores(("unet", "<b>$x_1$ & 50%"))), ANALYZE, 0, ("report: ",),
        in_report("&lt;b&gt;")),
    Odd("a model from right to left", a_table(scores(("unet", "רשת"))), ANALYZE, 0, ("report: ",)),
    Odd("I2 other images", a_table({name: [cell for n, cell in enumerate(cells) if n < 13]
                                    for name, cells in scores(("a", "b")).items()}), ANALYZE, 0, ("report: ",),
        in_report("over the images that all models have")),
]  # fmt: skip

SHOWN = ("Stopping rules, replayed",)
LAST_RUN = [
    *[Odd(f"replay E1 {name}", a_table(curves(), **how), REPLAY, 0, SHOWN) for name, how in DIALECTS.items()],
    Odd("replay Parquet", a_table(curves(), "t.parquet"), "replay ~/t.parquet --rule racing:0.05", 0, SHOWN),
    Odd("replay suffix in capitals", a_table(curves(), "t.CSV"), "replay ~/t.CSV --rule racing:0.05", 0, SHOWN),
    Odd("replay E6 row numbers", a_table({"Unnamed: 0": range(12), **curves()}), REPLAY, 0, SHOWN),
    Odd("replay E4 patient NA", a_table(rows(0, "NA", "patient_id", rows(6, "NA", "patient_id", curves()))), REPLAY, 0,
        SHOWN),
    Odd("replay E4 empty patient", a_table(rows(0, "", "patient_id", curves())), REPLAY, 2,
        ("patient_id, row 2: is empty",)),
    Odd("replay patients in two cases", a_table(rows(0, "x01", "patient_id", rows(6, "x01", "patient_id", curves()))),
        REPLAY, 0, (*SHOWN, "patients x01 and X01 differ in case only; they are taken as 2 patients")),
    Odd("replay rounded", a_table(rows(0, "1E+10", "patient_id", rows(6, "1E+10", "patient_id", curves()))), REPLAY, 0,
        (*SHOWN, "patient 1E+10 looks like a number that a spreadsheet rounded")),
    Odd("replay models in two cases", a_table(curves(model=["net"] * 6 + ["Net"] * 6)), REPLAY, 0,
        (*SHOWN, "models net and Net differ in case only; they are taken as 2 models")),
    Odd("replay a column in capitals", a_table({name.upper() if name == "tp" else name: cells
                                                for name, cells in curves().items()}), REPLAY, 2, ("tp", "TP")),
    Odd("replay a column twice", lambda here: put(here / "t.csv", table_text(curves()).replace("fp", "tp")), REPLAY, 2,
        ("column tp is there twice",)),
    Odd("replay a count of half", a_table(rows(3, "5.5", "tp", curves())), REPLAY, 2, ("tp", "row 5", "whole number")),
    Odd("replay an empty count", a_table(rows(3, "", "tp", curves())), REPLAY, 2, ("tp", "row 5")),
    Odd("replay an unknown split", a_table(rows(3, "tset", "split", curves())), REPLAY, 2,
        ("'tset' is neither train",)),
    Odd("replay a row twice", a_table({name: [*cells, cells[0]] for name, cells in curves().items()}), REPLAY, 2,
        ("1 rows repeat the",)),
    Odd("replay Latin-1", a_table(curves(model=["Müller"] * 12), encoding="latin-1"), REPLAY, 2, ("UTF-8 or UTF-16",)),
    Odd("replay a folder", lambda here: (here / "t.csv").mkdir(), REPLAY, 2, ("t.csv: is a folder, not a table",)),
    Odd("replay nothing", lambda here: put(here / "t.csv", ""), REPLAY, 2, ("t.csv: is empty",)),
    Odd("replay scores of images", a_table(scores()), REPLAY, 2, ("the table lacks trial",)),
    Odd("replay a model of other letters", a_table(curves(model=["中文"] * 12)), REPLAY, 0, (*SHOWN, "中文")),
    Odd("replay a fold of a million", a_table(rows(3, "1000000", "fold", curves())), REPLAY, 2, ("fold",)),
]  # fmt: skip

COUNTED = "2 statements: 0 cannot be, 0 worth a look"
AUDITED = [
    *[Odd(f"audit E1 {name}", a_table(statements(), **how), AUDIT, 0, (COUNTED,)) for name, how in DIALECTS.items()],
    Odd("audit decimal commas", a_table(statements(value=["0,81", "0,83"], sd=["0,10", "0,09"]), separator=";"), AUDIT,
        0, (COUNTED,)),
    Odd("F3 spread too wide", a_table(statements(value=["0.99", "0.83"], sd=["0.30", "0.09"])), AUDIT, 0,
        ("1 cannot be",)),
    Odd("audit E6 row numbers", a_table({"": [0, 1], **statements()}), AUDIT, 0, (COUNTED,)),
    Odd("audit groups in two spellings", a_table(statements(group=["DAF-Net", "daf_net"], value=["0.81", "0.83"])),
        AUDIT, 0, ("0.81 in one place and 0.83 in the other",)),
    Odd("audit groups with an invisible letter", a_table(statements(group=["unet", "unet\u200b"])), AUDIT, 0,
        ("invisible characters",)),
    Odd("audit groups of look-alike letters", a_table(statements(group=["A", "\u0410"])), AUDIT, 0,
        ("look-alike letters",)),
    Odd("audit a column in capitals", a_table({name.title(): cells for name, cells in statements().items()}), AUDIT, 2,
        ("has no column table; did you mean Table?",)),
    Odd("audit a column twice", lambda here: put(
        here / "t.csv", table_text({**statements(), "more": [1, 2]}).replace("more", "n")), AUDIT, 2,
        ("column n ", "twice; keep one")),
    Odd("audit a value with its SD", a_table(statements(value=["0.81 ± 0.1", "0.83"])), AUDIT, 2,
        ("row 2: value 0.81 ± 0.1: is not a number", "an SD in its own column")),
    Odd("audit a unit that is none", a_table(statements(unit=["mmm", ""])), AUDIT, 2, ("did you mean mm?",)),
    Odd("audit a metric that is none", a_table(statements(metric=["dcs", "dsc"])), AUDIT, 2, ("did you mean dsc?",)),
    Odd("audit an n with comma", a_table(statements(n=["1,200", "50"])), AUDIT, 2,
        ("n 1,200: must be a whole number",)),
    Odd("audit a minus of print", a_table(statements(value=["\u22120.81", "0.83"])), AUDIT, 0, ("1 cannot be",)),
    Odd("audit blank rows", lambda here: put(here / "t.csv", table_text(statements()).replace("\n", "\n,,,,,,\n", 1)),
        AUDIT, 0, (COUNTED,)),
    Odd("audit Latin-1", a_table(statements(group=["Müller", "x"]), encoding="latin-1"), AUDIT, 2,
        ("UTF-8 or UTF-16",)),
    Odd("audit a folder", lambda here: (here / "t.csv").mkdir(), AUDIT, 2, ("is a folder, not a table",)),
]  # fmt: skip


@pytest.mark.parametrize("odd", [*ANALYZED, *LAST_RUN, *AUDITED], ids=lambda odd: odd.name)
def test_odd_tables(
    odd: Odd,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leave_reports_empty(monkeypatch)
    run(odd, tmp_path, capfd, caplog)


@pytest.mark.parametrize("odd", REPORTED, ids=lambda odd: odd.name)
def test_reports_of_odd_tables(
    odd: Odd, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run(odd, tmp_path, capfd, caplog)
    assert (tmp_path / "report/report.html").stat().st_size > 10_000
