"""Odd manifests and the names in them, as `data check` and `folds` read them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.odd_input.odd import Odd, run
from tests.odd_input.writers import (
    NFC,
    NFD,
    NUM,
    SHAPE,
    a_set,
    mask,
    picture,
    put,
    raw,
    save,
    set_columns,
    table_text,
    with_files,
)

CHECK, FOLDS = "data check ~/m.csv", "folds ~/m.csv --count 2 --out ~/f.csv"
SOUND = "6 images of 6 patients, nothing wrong"
TAKEN_AS_TWO = "they are taken as 2 patients"
IMAGES = [f"images/{n}.png" for n in range(NUM)]


def patients(*names: str) -> list[str]:
    return [*names, *[f"X{n}" for n in range(NUM - len(names))]]


def first(column: str, cell: str) -> dict[str, object]:
    """A set whose first row has this cell."""
    return {column: [cell, *set_columns()[column][1:]]}


def two_folds(here: Path, _: str) -> None:
    folds = pd.read_csv(here / "f.csv")
    assert folds["fold"].value_counts().tolist() == [3, 3]
    assert folds["image"].tolist() == IMAGES


def filtered(here: Path) -> None:
    a_set()(here)
    frame = pd.DataFrame(set_columns())
    frame[frame.index != 2].to_parquet(here / "m.parquet")


def unnamed(here: Path) -> None:
    a_set()(here)
    pd.DataFrame(set_columns()).to_csv(here / "m.csv")


NAMES = [
    Odd("B1 zero width", a_set(patient_id=patients("P00", "P00\u200b")), CHECK, 0,
        ("patients P00 and P00\\u200b differ in invisible characters only", TAKEN_AS_TWO)),
    Odd("B1 folds", a_set(patient_id=patients("P00", "P00\u200b")), FOLDS, 0, (TAKEN_AS_TWO,), two_folds),
    Odd("byte order mark within", a_set(patient_id=patients("P00", "\ufeffP00")), CHECK, 0, (TAKEN_AS_TWO,)),
    Odd("right to left mark", a_set(patient_id=patients("P00", "P00\u200f")), CHECK, 0, ("\\u200f",)),
    Odd("no-break blank", a_set(patient_id=patients("P 00", "P\u00a000")), CHECK, 0, (TAKEN_AS_TWO,)),
    Odd("B4 spellings", a_set(patient_id=["P-01", "P01", "P_01", "P\u201101", "01", "1"]), CHECK, 0,
        ("P-01, P01, P_01 and P\u201101 differ in hyphens only; they are taken as 4 patients",
         "01 and 1 differ in leading zeros only")),
    Odd("B6 categories", a_set(t_stage=["T2", "t2", "T 2", "\u04222", "T1", "T1"]), CHECK, 0,
        ("column t_stage: categories T2, t2, T 2 and \u04222", "they are taken as 4 categories")),
    Odd("B8 scientific", a_set(patient_id=patients("1.23457E+15", "1.23457E+15")), CHECK, 0,
        ("patient 1.23457E+15 looks like a number that a spreadsheet rounded",)),
    Odd("B8 scientific with comma", a_set(separator=";", patient_id=patients("1,23457E+15", "1,23457E+15")), CHECK, 0,
        ("looks like a number that a spreadsheet rounded",)),
    Odd("B8 floats", a_set("m.parquet", patient_id=[1e17] * NUM), "data check ~/m.parquet", 0,
        ("looks like a number that a spreadsheet rounded", "6 images of 1 patients")),
    Odd("B8 sixteen digits", a_set(patient_id=patients("1234567890123450", "1234567890123450")), CHECK, 0,
        ("looks like a number that a spreadsheet rounded",)),
    Odd("image ids rounded", a_set(image_id=["1.2E+11", *"abcde"]), CHECK, 0,
        ("image 1.2E+11 looks like a number that a spreadsheet rounded",)),
    Odd("image ids in two cases", a_set(image_id=["a", "A", *"bcde"]), CHECK, 0,
        ("images a and A differ in case only; they are taken as 2 images",)),
    Odd("columns in two cases", a_set(age=[50] * NUM, Age=[51] * NUM), CHECK, 0,
        ("columns age and Age differ in case only",)),
    Odd("patient NA", a_set(patient_id=patients("NA", "N/A")), CHECK, 2,
        ("row 2: patient_id is missing", "row 3: patient_id is missing")),
    Odd("many spellings", a_set(patient_id=["A1", "a1", "B1", "b1", "C1", "c1"]), CHECK, 0,
        ("patients A1 and a1", "patients B1 and b1", "patients C1 and c1")),
    Odd("names with quote and tab", a_set(patient_id=patients('O"Neil X', 'O"Neil\tX')), CHECK, 0,
        ('O"Neil\\tX differ in blanks only',)),
    Odd("a name with a line break", a_set(patient_id=patients("P\n1", "P1")), CHECK, 0, ("P\\n1",)),
]  # fmt: skip

DIALECTS = [
    Odd(name, a_set(**options), CHECK, 0, (SOUND,))  # type: ignore[arg-type]
    for name, options in {
        "semicolons": {"separator": ";"},
        "tabs": {"separator": "\t"},
        "bars": {"separator": "|"},
        "UTF-16": {"encoding": "utf-16"},
        "UTF-16, big end first": {"encoding": "utf-16-be", "before": "\ufeff"},
        "UTF-16 without mark": {"encoding": "utf-16-le"},
        "E7 sep line": {"before": "sep=,\n"},
        "E7 sep line, semicolons": {"before": "sep=;\r\n", "separator": ";"},
        "E7 double mark": {"before": "\ufeff\ufeff"},
        "mark and sep line": {"before": "\ufeffsep=;\n", "separator": ";"},
        "blank rows before the end": {"mask": [f" masks/{n}.png " for n in range(NUM)]},
    }.items()
]
TABLES = [
    *DIALECTS,
    Odd("E6 filtered", filtered, "data check ~/m.parquet", 0, ("5 images of 5 patients, nothing wrong",)),
    Odd("E6 unnamed", unnamed, CHECK, 0, (SOUND,)),
    Odd("E6 Unnamed: 0", a_set(**{"Unnamed: 0": range(NUM)}), CHECK, 0, (SOUND,)),
    Odd("E10 numbers", a_set(ca19=[f"1,{n}34" for n in range(NUM)], size=[f"{n},5" for n in range(NUM)]), CHECK, 0,
        ("column ca19 has numbers with commas, such as 1,034, and is read as text",
         "column size has numbers with commas, such as 0,5")),
    Odd("decimal commas", a_set(separator=";", spacing_mm=["0,12"] * NUM, age=["61,5"] * NUM), CHECK, 0,
        (SOUND, "61.5")),
    Odd("decimal commas in quotes", a_set(spacing_mm=["0,12"] * NUM), CHECK, 2, ("spacing_mm is '0,12'",)),
    Odd("blank rows", raw("m.csv", table_text(set_columns()).replace("\n", "\n\n").replace("X4\n\n", "X4\n,,\n  \n")),
        CHECK, 0, (SOUND,)),
    Odd("a comma at the end of each row", raw("m.csv", table_text(set_columns()).replace("\n", ",\n")), CHECK, 0,
        (SOUND,)),
    Odd("too many cells", raw("m.csv", table_text(set_columns()).replace("X1", "X1,Doe, Jane")), CHECK, 2,
        ("row 3: has 5 cells, the header 3; a comma within a cell needs quotes",)),
    Odd("an open quote", raw("m.csv", table_text(set_columns()).replace("X1", '"X1')), CHECK, 2,
        ("is not a CSV table",)),
    Odd("header alone", raw("m.csv", "image,mask,patient_id\n"), CHECK, 2, ("has no rows below its header",)),
    Odd("empty", raw("m.csv", ""), CHECK, 2, ("is empty; its first row must name the columns",)),
    Odd("blanks alone", raw("m.csv", " \n \n"), CHECK, 2, ("is empty",)),
    Odd("a picture", lambda here: save(here / "m.csv.png", picture()).rename(here / "m.csv"), CHECK, 2,
        ("m.csv: is neither Parquet nor text",)),
    Odd("Latin-1", a_set(encoding="latin-1", patient_id=patients("Müller")), CHECK, 2,
        ("is neither Parquet nor text in UTF-8 or UTF-16; save it as CSV UTF-8",)),
    Odd("an Excel file", raw("m.csv", b"PK\x03\x04" + bytes(99)), CHECK, 2, ("m.csv: is neither Parquet nor text",)),
    Odd("JSON", raw("m.csv", '[{"image": "images/0.png"},\n {"image": "images/1.png"}]'), CHECK, 2,
        ("there is no column image",)),
    Odd("Parquet cut short", raw("m.parquet", b"PAR1" + bytes(50)), "data check ~/m.parquet", 2,
        ("is a damaged Parquet file",)),
    Odd("a folder as manifest", a_set(), "data check ~/images", 2, ("is a folder, not a table",)),
    Odd("a file as folder", a_set(), "data check ~/m.csv/m.csv", 2, ("cannot be read (Not a directory)",)),
    Odd("a column twice", raw("m.csv", table_text(set_columns()).replace("mask", "image")), CHECK, 2,
        ("column image is there twice; keep one", "there is no column mask")),
    Odd("a column without name", a_set(**{"": list("abcdef")}), CHECK, 2, ("column 4 has no name; name it, or drop",)),
    Odd("column in capitals", a_set(patient_id=None, Patient_ID=patients()), CHECK, 2,
        ("there is no column patient_id; rename Patient_ID?",)),
    Odd("column with an invisible letter", a_set(patient_id=None, **{"patient\u200b_id": patients()}), CHECK, 0,
        (SOUND,)),
    Odd("spacing in capitals", a_set(Spacing_mm=["0.1"] * NUM), CHECK, 0,
        ("column Spacing_mm is taken as clinical; write spacing_mm if it is that",)),
    Odd("fold with a blank", a_set(**{" fold ": [0, 0, 0, 1, 1, 1]}), FOLDS, 0, ("taken from the manifest's fold",),
        two_folds),
    Odd("folds of half", a_set(fold=[0.5] * NUM), CHECK, 2, ("fold is '0.5'; folds are whole numbers from 0",)),
    Odd("a patient in two folds", a_set(patient_id=["X0", "X0", *"abcd"], fold=[0, 1, 0, 1, 0, 1]), CHECK, 2,
        ("patient X0 is in folds 0 (row 2) and 1 (row 3); a patient has one",)),
    Odd("a name of the results", a_set(dsc=["0.5"] * NUM), CHECK, 2, ("column dsc has a name that the results use",)),
    Odd("height of another picture", a_set(height=[99] * NUM), CHECK, 2,
        (f"column height is 99 in row 2, where the image has {SHAPE[0]} pixels",)),
    Odd("H5 spacing", a_set(spacing_mm=["12000"] * NUM), CHECK, 0,
        ("6 of 6 images have a spacing of 12000 mm a pixel", "see that it is in mm")),
    Odd("spacing in micrometres", a_set(spacing_mm=["120"] * NUM), CHECK, 0, ("spacing of 120 mm a pixel",)),
    Odd("spacing in metres", a_set(spacing_mm=["1e-5"] * NUM), CHECK, 0, ("spacing of 1e-05 mm a pixel",)),
    Odd("spacing with unit", a_set(spacing_mm=["0.1 mm"] * NUM), CHECK, 2, ("must be a positive number of mm",)),
    Odd("spacing below 0", a_set(spacing_mm=["-0.1"] * NUM), CHECK, 2, ("must be a positive number of mm",)),
    Odd("spacing of rows alone", a_set(spacing_row_mm=["0.1"] * NUM), CHECK, 2, ("but no spacing_col_mm; give both",)),
    Odd("an image id twice", a_set(image_id=["a", "a", *"bcde"]), CHECK, 2, ("image_id is that of row 2",)),
    Odd("an image twice", a_set(image=["images/0.png", "images/0.png", *IMAGES[2:]]), CHECK, 2,
        ("image images/0.png is that of row 2; keep one row",)),
]  # fmt: skip

FILES = [
    Odd("absolute path", a_set(**first("image", "/etc/passwd")), CHECK, 2,
        ("row 2: image /etc/passwd is an absolute path",)),
    Odd("path of Windows", a_set(**first("image", "C:\\data\\0.png")), CHECK, 2, ("is an absolute path",)),
    Odd("backslashes", a_set(**first("image", "images\\0.png")), CHECK, 2, ("is not there; write / between folders",)),
    Odd("dots", a_set(**first("image", "../x/0.png")), CHECK, 2, ("leaves the manifest's folder with '..'",)),
    Odd("another case on the disk", a_set(**first("image", "images/0.PNG")), CHECK, 2,
        ("is not there; there is 0.png, which looks alike",)),
    Odd("decomposed on the disk", with_files(
        lambda here: (here / "images/0.png").rename(here / f"images/{NFD}.png"), **first("image", f"images/{NFC}.png"),
    ), CHECK, 0, (SOUND,)),
    Odd("decomposed in the table", with_files(
        lambda here: (here / "images/0.png").rename(here / f"images/{NFC}.png"), **first("image", f"images/{NFD}.png"),
    ), CHECK, 0, (SOUND,)),
    Odd("a folder", with_files(lambda here: (here / "d").mkdir(), **first("mask", "d")), CHECK, 2,
        ("row 2: mask d is not a file",)),
    Odd("a loop of links", with_files(lambda here: (here / "l.png").symlink_to("l.png"), **first("image", "l.png")),
        CHECK, 2, ("image l.png is not a path that can be opened",)),
    Odd("a link that leads nowhere", with_files(
        lambda here: (here / "l.png").symlink_to("none.png"), **first("image", "l.png")
    ), CHECK, 2, ("image l.png is not there",)),
    Odd("a link that leads out", with_files(
        lambda here: (here / "l.png").symlink_to("/etc/passwd"), **first("image", "l.png")
    ), CHECK, 2, ("is a link that leaves the manifest's folder",)),
    Odd("a name too long", a_set(**first("image", "images/" + "n" * 256 + ".png")), CHECK, 2,
        ("is not a path that can be opened",)),
    Odd("an image missing", with_files(lambda here: (here / "images/0.png").unlink()), CHECK, 2,
        ("row 2: image images/0.png is not there",)),
    Odd("an empty cell", a_set(**first("mask", "")), CHECK, 2, ("row 2: mask is missing",)),
    Odd("all images missing", a_set(image=[f"none/{n}.png" for n in range(NUM)]), CHECK, 2,
        ("is not there", "and 5 more such lines")),
    Odd("H1 the masks are the images", a_set(image=[f"masks/{n}.png" for n in range(NUM)]), CHECK, 2,
        ("the image shows the mask; name the picture that it was drawn on",)),
    Odd("masks in other gray values as images", with_files(
        lambda here: [save(here / f"images/{n}.png", mask(n, 90) + 40) for n in range(NUM)]
    ), CHECK, 2, ("the image shows the mask",)),
    Odd("masks with noise as images", with_files(lambda here: [
        save(here / f"images/{n}.png", mask(n, 200) + picture(n) // 40) for n in range(NUM)
    ]), CHECK, 0, ("is nearly its image",)),
    Odd("H2 one mask for two images", a_set(**first("mask", "masks/1.png")), CHECK, 0,
        ("masks/1.png is the mask of another image too",)),
    Odd("two patients with one mask", with_files(lambda here: save(here / "masks/0.png", mask(1))), CHECK, 0,
        ("equals masks/0.png, the mask of another patient, pixel by pixel",)),
    Odd("H3 all masks empty", with_files(lambda here: [save(here / f"masks/{n}.png", 0 * mask()) for n in range(NUM)]),
        CHECK, 0, ("all 6 masks are empty: no lesion is marked anywhere",)),
    Odd("A5 swapped", with_files(lambda here: save(here / "masks/0.png", 255 - mask())), CHECK, 0,
        ("in 1 of 6 masks the lesion covers most of the image or all its corners, such as masks/0.png",)),
    Odd("a full mask", with_files(lambda here: save(here / "masks/0.png", 0 * mask() + 255)), CHECK, 0,
        ("1 of 6 masks cover the whole image",)),
    Odd("a picture of one value", with_files(lambda here: save(here / "images/0.png", 0 * mask())), CHECK, 0,
        ("row 2: image images/0.png has one gray value only",)),
    Odd("one picture, two patients", with_files(lambda here: save(here / "images/0.png", picture(1))), CHECK, 2,
        ("is the same picture as", "keep one, give both one patient_id")),
    Odd("a mask of another size", with_files(lambda here: save(here / "masks/0.png", mask()[:30])), CHECK, 2,
        ("is 30 × 48 pixels (rows × columns), its image 40 × 48",)),
    Odd("a turned mask", with_files(lambda here: save(here / "masks/0.png", mask().T.copy())), CHECK, 2,
        ("one of them is turned",)),
    Odd("an empty file", with_files(lambda here: put(here / "masks/0.png", b"")), CHECK, 2, ("is empty (0 bytes)",)),
]  # fmt: skip

ROWS = [*NAMES, *TABLES, *FILES]


@pytest.mark.parametrize("odd", ROWS, ids=lambda odd: odd.name)
def test_odd_manifests(
    odd: Odd, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run(odd, tmp_path, capfd, caplog)
