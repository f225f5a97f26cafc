"""A table of per-image scores from any tool: what is accepted, and everything wrong with one at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from eus_ray.analysis.inputs.score_table import read_score_table
from eus_ray.analysis.inputs.study_images import clinical_columns
from eus_ray.errors import UserError
from eus_ray.store import Store

GOOD = """model,image_id,patient_id,fold,dsc,hd,height,width,t_stage
a,001,007,0,0.9,3.5,30,40,T1
a,002,NA,1,0.0,inf,30,40,T2
b,001,007,0,0.8,4.5,30,40,T1
b,002,NA,1,0.7,9,30,40,T2
"""


def read(folder: Path, text: str, name: str = "scores.csv") -> pd.DataFrame:
    (folder / name).write_text(text)
    return read_score_table(Store(folder), name)


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(folder, text)
    return [line.removeprefix(f"{folder}/scores.csv: ") for line in caught.value.lines]


def test_names_stay_text_and_sizes_give_diagonals(tmp_path: Path) -> None:
    frame = read(tmp_path, GOOD)
    assert list(frame.columns) == [
        "model",
        "kind",
        "fold",
        "image_id",
        "patient_id",
        "t_stage",
        "dsc",
        "hd",
        "diagonal",
    ]
    assert frame["patient_id"].tolist() == ["007", "NA", "007", "NA"]
    assert frame["image_id"][0] == "001"
    assert frame["hd"][1] == math.inf
    assert set(frame["diagonal"]) == {50.0}
    assert set(frame["kind"]) == {"fixed"}


def test_parquet_says_the_same(tmp_path: Path) -> None:
    expected = read(tmp_path, GOOD)
    raw = pd.read_csv(tmp_path / "scores.csv", dtype={"patient_id": str, "image_id": str}, keep_default_na=False)
    raw.to_parquet(tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(read_score_table(Store(tmp_path), "scores.parquet"), expected)


def test_a_separator_at_each_row_s_end_shifts_nothing(tmp_path: Path) -> None:
    expected = read(tmp_path, GOOD)
    header, *rows = GOOD.splitlines()
    pd.testing.assert_frame_equal(read(tmp_path, "\n".join([header, *(f"{row}," for row in rows)])), expected)


def test_what_pandas_adds_to_parquet_changes_nothing(tmp_path: Path) -> None:
    expected = read(tmp_path, GOOD)
    raw = pd.read_csv(tmp_path / "scores.csv", dtype={"patient_id": str, "image_id": str}, keep_default_na=False)
    raw["t_stage"] = pd.Categorical(raw["t_stage"])
    for frame in (raw.set_axis(list("abcd")), raw.set_index("image_id")):
        frame.to_parquet(tmp_path / "scores.parquet")
        found = read_score_table(Store(tmp_path), "scores.parquet")
        pd.testing.assert_frame_equal(found, expected)
        assert not isinstance(found["t_stage"].dtype, pd.CategoricalDtype)


def test_fold_and_clinical_columns_are_optional(tmp_path: Path) -> None:
    frame = read(tmp_path, "model,image_id,patient_id,iou\na,1,1,0.5\n")
    assert frame["fold"].tolist() == [0]
    assert frame["patient_id"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model,dsc\na,1\n", ["has no column image_id", "has no column patient_id"]),
        ("model,image_id,patient_id,accuracy\na,1,1,1\n", ["has no metric; name one column at least of dsc, iou,"]),
        ("model,image_id,patient_id,dsc\n", ["has no rows"]),
        ("", ["is empty; its first row must name the columns"]),
        (GOOD.replace("0.9,", ","), ["dsc is missing or NaN in row 2"]),
        (
            GOOD.replace("0.9,", "NaN,").replace(",9,", ",,"),
            ["dsc is missing or NaN in row 2", "hd is missing or NaN in"],
        ),
        (GOOD.replace("0.9,", "90,"), ["dsc must lie in 0 to 1, but does not in row 2; divide percentages by 100"]),
        (GOOD.replace("0.9,", "-0.9,"), ["dsc must lie in 0 to 1, but does not in row 2"]),
        (GOOD.replace("0.9,", "good,"), ["dsc holds text"]),
        (GOOD.replace("3.5,", "-3.5,"), ["hd is negative in row 2"]),
        (GOOD.replace("height,width", "tall,wide"), ["hd is infinite in row 3, and a mean needs the image's size"]),
        (GOOD.replace("b,001", ",001"), ["model is empty in row 4"]),
        (GOOD.replace("b,00", ",00"), ["model is empty in rows 4, 5"]),
        (GOOD.replace("b,001,007", "b,001,"), ["patient_id is empty in row 4"]),
        (GOOD.replace("007,0", ",0").replace("NA,1", ",1"), ["patient_id is empty in rows 2, 3, 4, 5"]),
        (GOOD.replace("b,001", "a,").replace("b,002", "a,"), ["image_id is empty in rows 4, 5"]),
        (GOOD.replace("b,002", "b,001"), ["row 5: image 001 of model b has a row already", "image 001 belongs to two"]),
        (GOOD.replace("b,001,007,0", "b,003,007,1"), ["patient 007 is in 2 folds"]),
        (GOOD.replace(",T", ",T,x"), [f"row {row}: has 10 cells, the header 9" for row in (2, 3, 4, 5)]),
        (
            "model,kind,image_id,patient_id,dsc\na,raw,1,1,0.5\na,post,1,1,0.5\n",
            ["kind is 'post'; write nested, fixed, winner", "kind is 'raw'"],
        ),
        (
            GOOD.replace("b,001,007,0", "b,001,007,x"),
            ["fold must count from 0 in whole numbers, but does not in row 4"],
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_row(tmp_path: Path, text: str, expected: list[str]) -> None:
    lines = refused(tmp_path, text)
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start)


def test_auc_may_be_undefined(tmp_path: Path) -> None:
    assert read(tmp_path, "model,image_id,patient_id,auc\na,1,1,\na,2,1,0.5\n")["auc"].isna().tolist() == [True, False]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_score_table(Store(tmp_path), "absent.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(UserError, match="has no rows below its header"):
        read_score_table(Store(tmp_path), "broken.parquet")


def test_none_is_a_level_and_an_index_without_a_name_is_none(tmp_path: Path) -> None:
    text = GOOD.replace("T1", "None")
    frame = read(tmp_path, text)
    assert frame["t_stage"].tolist() == ["None", "T2"] * 2
    header, *rows = text.splitlines()
    numbered = "\n".join([f",{header}", *(f"{number},{row}" for number, row in enumerate(rows))])
    pd.testing.assert_frame_equal(read(tmp_path, numbered), frame)


def test_a_column_is_read_whole(tmp_path: Path) -> None:
    """In pieces the first codes would be numbers and the last ones texts."""
    rows = [f"a,{number},p{number},0.5,{'unknown' if number == 299_999 else number % 3}" for number in range(300_000)]
    frame = read(tmp_path, "\n".join(["model,image_id,patient_id,dsc,code", *rows]))
    assert set(frame["code"]) == {"0", "1", "2", "unknown"}


@pytest.mark.parametrize("diagonal", ["inf", "0", "-3"])
def test_a_diagonal_is_a_length(tmp_path: Path, diagonal: str) -> None:
    rows = f"model,image_id,patient_id,hd,diagonal\na,1,1,inf,{diagonal}\na,2,2,3,50\n"
    assert refused(tmp_path, rows) == ["diagonal must be a length above 0, but is not in row 2"]


def test_folds_of_a_parquet_file_may_be_texts(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": "a", "image_id": ["1", "2"], "patient_id": ["1", "2"], "dsc": 0.5})
    frame.assign(fold=["0.0", "1.0"]).to_parquet(tmp_path / "scores.parquet")
    assert read_score_table(Store(tmp_path), "scores.parquet")["fold"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace(",", "\t").encode(),
        lambda text: text.replace(",", ";").replace(".", ",").encode(),
        lambda text: b"sep=,\r\n" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xef\xbb\xbf" * 2 + text.encode(),
        lambda text: text.replace("dsc", " dsc ").encode(),
    ],
    ids=["semicolons", "tabs", "decimal commas", "sep line", "UTF-16", "two byte order marks", "blanks"],
)
def test_every_dialect_is_the_same_table(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    expected = read(tmp_path, GOOD)
    (tmp_path / "other.csv").write_bytes(encode(GOOD))
    found = read_score_table(Store(tmp_path), "other.csv")
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert found.attrs["warnings"] == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("hd,", "dsc,"), ["column dsc is there twice; keep one"]),
        (GOOD.replace("dsc,hd", "DSC,x"), ["has no metric; rename DSC?"]),
        (GOOD.replace("patient_id", "Patient ID"), ["has no column patient_id; rename Patient ID?"]),
        (GOOD.replace("0.9,", '"0,9",'), ["dsc holds text in row 2; give numbers with a decimal point"]),
        (GOOD.replace("0.9,", "0_9,").replace("0.7", "?"), ["dsc holds text in rows 2, 5; give numbers"]),
    ],
)
def test_columns_that_are_not_what_they_seem_are_one_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    lines = refused(tmp_path, text)
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected


def test_rows_are_counted_as_a_spreadsheet_shows_them(tmp_path: Path) -> None:
    text = GOOD.replace("\na,002", "\n\n,,,,,,,,\na,002").replace("0.0,inf", "2.0,inf")
    assert refused(tmp_path, text) == ["dsc must lie in 0 to 1, but does not in row 5; divide percentages by 100"]


def test_names_columns_and_categories_that_look_alike_are_told(tmp_path: Path) -> None:
    text = "model,image_id,patient_id,dsc,IoU,t_stage\na,1,P01,.5,.4,T2\na,01,p1,.5,.4,t2\nA,1,P01,.5,.4,T2\n"
    assert read(tmp_path, text).attrs["warnings"] == tuple(
        f"{tmp_path}/scores.csv: {line}"
        for line in (
            "column IoU is taken as clinical; write iou if it is that",
            "models a and A differ in case only; they are taken as 2 models",
            "patients P01 and p1 differ in case and leading zeros only; they are taken as 2 patients",
            "images 1 and 01 differ in leading zeros only; they are taken as 2 images",
            "column t_stage: categories T2 and t2 differ in case only; they are taken as 2 categories",
        )
    )


def test_findings_are_booleans_again(tmp_path: Path) -> None:
    frame = read(tmp_path, "model,image_id,patient_id,dsc,missed\na,1,1,.5,True\na,2,2,0,FALSE\n")
    assert frame["missed"].dtype == bool
    assert frame["missed"].tolist() == [True, False]


def test_two_models_of_one_label_are_refused(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, "model,image_id,patient_id,dsc\nunet,1,1,0.5\nU-Net,1,1,0.6\n")
    assert line == "models U-Net and unet are both printed as U-Net; rename one"


MEASURED = """model,image_id,patient_id,hd,unit,grid
a,1,p,3,px,48 x 64
a,2,q,4,px,30 x 30
b,1,p,5,px,48 x 64
b,2,q,6,px,30 x 30
"""


def test_unit_and_grid_are_kept_and_are_no_clinical_columns(tmp_path: Path) -> None:
    frame = read(tmp_path, MEASURED)
    assert list(frame.columns[5:]) == ["hd", "diagonal", "unit", "grid"]
    assert frame["grid"].tolist() == ["48 x 64", "30 x 30", "48 x 64", "30 x 30"]
    assert "unit" not in clinical_columns(frame)


def test_a_grid_may_be_written_with_other_signs(tmp_path: Path) -> None:
    frame = read(tmp_path, MEASURED.replace("6,px,30 x 30", "6,px,30×30").replace("5,px,48 x 64", "5,px,48X 64"))
    assert frame["grid"].tolist() == ["48 x 64", "30 x 30", "48 x 64", "30 x 30"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            MEASURED.replace("5,px,48 x 64", "5,px,128 x 128"),
            "image 1 was measured on 48 x 64 (a) and 128 x 128 (b); such numbers are not to be compared: bring the",
        ),
        (MEASURED.replace("6,px", "6,mm"), "distances are in px in some rows and in mm in others; measure all with"),
        (MEASURED.replace("6,px", "6,"), "unit must be px or mm, but is not in row 5; rename the column if it"),
        (MEASURED.replace("6,px,30 x 30", "6,px,"), "grid is missing in row 5; give the mask's rows x columns"),
        (MEASURED.replace("6,px,30 x 30", "6,px,30*30"), "grid is not rows x columns in row 5; give the mask's rows"),
        (MEASURED.replace("48 x 64", "0 x 64"), "grid is not rows x columns in rows 2, 4; give the mask's rows x"),
        (MEASURED.replace(",px,", ",ICU,"), "unit must be px or mm, but is not in rows 2, 3, 4, 5; rename the"),
    ],
)
def test_rows_that_were_measured_in_different_ways_are_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = refused(tmp_path, text)
    assert line.startswith(expected)


# ---- the baseline -------------------------------------------------------------------------------


def test_a_network_may_not_have_the_name_of_the_baseline(tmp_path: Path) -> None:
    told = [
        "model baseline is a mask that looks at no image, and its kind is baseline, too; "
        "rename a model that is a network"
    ]
    assert refused(tmp_path, "model,image_id,patient_id,dsc\nbaseline,1,1,.5\n") == told
    assert refused(tmp_path, "model,kind,image_id,patient_id,dsc\na,fixed,1,1,.5\nbaseline,fixed,1,1,.5\n") == told
    assert refused(tmp_path, "model,kind,image_id,patient_id,dsc\na,fixed,1,1,.5\nb,baseline,1,1,.5\n") == told
    both = "model,kind,image_id,patient_id,dsc\na,fixed,1,1,.5\nbaseline,baseline,1,1,.4\n"
    assert read(tmp_path, both)["model"].tolist() == ["a", "baseline"]


def test_a_baseline_alone_compares_nothing(tmp_path: Path) -> None:
    told = refused(tmp_path, "model,kind,image_id,patient_id,dsc\nbaseline,baseline,1,1,.5\n")
    assert told == ["has no model but the baseline; add one to compare"]


def test_later_columns_are_scores_and_some_may_be_undefined(tmp_path: Path) -> None:
    text = "model,image_id,patient_id,nsd,hd_largest,empty,brier_box\na,1,1,0.5,2,False,\na,2,2,1,0,True,0.25\n"
    frame = read(tmp_path, text)
    assert clinical_columns(frame) == []
    assert frame["empty"].tolist() == [False, True]
    assert math.isnan(frame["brier_box"][0])
    assert refused(tmp_path, text.replace("0.5,2", ",2")) == ["nsd is missing or NaN in row 2; leave out no image"]
    assert refused(tmp_path, text.replace("0.25", "25")) == [
        "brier_box must lie in 0 to 1, but does not in row 3; divide percentages by 100"
    ]
