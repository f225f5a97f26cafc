"""The audit of published tables: the paper's own, numbers worked by hand, and the bounds against what they bound."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eus_ray.analysis.audit import audit, audit_lines, read_statements
from eus_ray.analysis.audit.relations import least_mean_iou, most_mean_dsc
from eus_ray.analysis.audit.statements import COLUMNS, KINDS, printed
from eus_ray.analysis.measures.image_metrics import DISTANCES, OVERLAPS
from eus_ray.errors import UserError

PAPER = Path(__file__).parent / "paper_tables.csv"


def table(folder: Path, *rows: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([",".join(COLUMNS), *rows]) + "\n", encoding="utf-8")
    return path


def found(folder: Path, *rows: str) -> list[tuple[str, str]]:
    """Verdict and line of each finding; `metric,value,sd,n,unit` is of one group of one table."""
    rows = tuple(row if row.count(",") == 6 else f"Table 2,U-Net,{row}" for row in rows)
    return [(finding.verdict, finding.line) for finding in audit(read_statements(table(folder, *rows)))]


# ---- the paper ----------------------------------------------------------------------------------


def test_the_papers_tables_have_three_oddities_and_no_other() -> None:
    """Table 2's distances and overlaps, the folds, stages and shares (of 330 images) are possible as they are."""
    locations, sensitivity, stages, last = audit_lines(PAPER)
    assert sensitivity == (
        "worth a look: Abstract, DAF-Net and Table 2, DAF-Net (rows 6, 58): SEN is 89.0 % in one place and 0.84 in the "
        "other; as rounded they share no number. It could mean that one is wrong, or that they are of other images or "
        "averaged in another way."
    )
    assert locations.startswith("cannot be: Table 1, location: body and 4 others (rows 22, 23, 24, 25, 26): ")
    assert "37 + 60 + 18 + 33 + 6 = 154, and all are 150; that is 4 too many" in locations
    assert stages.startswith("worth a look: Section 3.2, by T-stage (rows 61, 62): ")
    assert "0.98 for DSC and 0.9 for IoU" in stages
    assert last == "68 statements: 1 cannot be, 2 worth a look"


def test_the_papers_shares_are_of_images_and_not_of_patients(tmp_path: Path) -> None:
    text = PAPER.read_text().replace(",330,%", ",150,%")
    lines = audit_lines(table(tmp_path, *text.splitlines()[1:]))
    of_patients = [line for line in lines if "iou>0.5" in line]
    assert len(of_patients) == 3
    assert "75.2 % of 150; " in of_patients[0]
    assert "112/150 = 74.67 % and 113/150 = 75.33 %" in of_patients[0]


# ---- numbers worked by hand ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "most"),
    [
        ("dsc,0.74,0.50,66,", "0.4447"),  # √(.735 · .265 · 66/65)
        ("dsc,74,50,66,%", "0.4447"),
        ("dsc,0.74,0.64,,", "0.6241"),  # n = 2: √(2 · .735 · .265)
        ("dsc,0.99,0.36,5,", "0.1359"),  # √(.985 · .015 · 5/4)
        ("hd,10.0,23.0,5,px", "22.47"),  # 10.05 √5
    ],
)
def test_an_sd_has_a_largest_value(tmp_path: Path, row: str, most: str) -> None:
    ((verdict, line),) = found(tmp_path, row)
    assert verdict == "impossible"
    assert f" = {most} (" in line


@pytest.mark.parametrize("row", ["dsc,0.74,0.44,66,", "dsc,0.74,0.62,,", "hd,10.0,22.5,5,px", "hd,10.0,99,,px"])
def test_an_sd_that_can_be(tmp_path: Path, row: str) -> None:
    assert found(tmp_path, row) == []


def test_a_range_narrows_the_sd(tmp_path: Path) -> None:
    """Ages from 40 to 94 with mean 71.2: √((94.5 - 71.15)(71.15 - 39.5) 150/149) = 27.28."""
    rows = ("age_min,40,,,years", "age_max,94,,,years")
    assert found(tmp_path, "age,71.2,27.2,150,years", *rows) == []
    ((verdict, line),) = found(tmp_path, "age,71.2,27.5,150,years", *rows)
    assert verdict == "impossible"
    assert " = 27.28 (m = 71.15" in line


@pytest.mark.parametrize(
    ("dsc", "iou", "verdict", "bound"),
    [
        ("0.80,,,", "0.66,,,", None, ""),
        ("0.80,,,", "0.65,,,", "impossible", "D/(2 - D) = 0.6597 "),  # .795/1.205
        ("0.80,,,", "0.81,,,", None, ""),
        ("0.80,,,", "0.82,,,", "impossible", "IoU <= DSC"),
        ("80,,,%", "0.82,,,", "impossible", "IoU <= DSC"),
        ("0.80,0.20,100,", "0.69,,,", None, ""),
        ("0.80,0.20,100,", "0.67,,,", "look", "= 0.6867"),  # D = .795, v = .195² · .99
        ("0.80,0.20,,", "0.66,,,", "look", "= 0.6731"),  # v = .195² / 2
        ("0.73,,,", "0.60,0.30,100,", "look", "at most 0.7152"),  # 1 - .395²/(.79 - .395² - .295² · .99)
        ("0.72,,,", "0.60,0.30,100,", None, ""),
        ("0.80,,1,", "0.68,,1,", "look", "0.6736 at most"),  # .805/1.195
        ("0.80,,330,", "0.65,,325,", None, ""),  # not the same images
    ],
)
def test_iou_against_dsc(tmp_path: Path, dsc: str, iou: str, verdict: str | None, bound: str) -> None:
    findings = found(tmp_path, f"dsc,{dsc}", f"iou,{iou}")
    assert [one for one, _ in findings] == ([verdict] if verdict else [])
    assert all(bound in line for _, line in findings)


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("mad,9.1,,,", "avd,9.04,,,", "MAD <= AVD"),
        ("avd,20.0,,,mm", "mad,9.9,,,mm", "AVD <= 2 MAD"),
        ("avd,30.0,,,", "hd,29.8,,,", "HD is the largest"),
        ("hd95,30.0,,,px", "hd,29.8,,,pixels", "percentile"),
        ("assd,9.1,,,", "avd,9.04,,,", "ASSD lies between"),
        ("mad,1.1,,,cm", "avd,9.04,,,mm", "MAD <= AVD"),
    ],
)
def test_distances_have_an_order(tmp_path: Path, one: str, other: str, why: str) -> None:
    for rows in ((one, other), (other, one)):
        ((verdict, line),) = found(tmp_path, *rows)
        assert verdict == "impossible"
        assert why in line


@pytest.mark.parametrize(
    "rows",
    [
        ("mad,9.0,,,", "avd,9.04,,,"),
        ("mad,9.1,,,", "avd,9,,,"),  # 9 may be 9.4
        ("avd,20,,,mm", "mad,9.9,,,mm"),
        ("avd,30.0,,,", "hd,29.9,,,"),
        ("avd,30.0,,,mm", "hd,29.8,,,px"),
        ("avd,30.0,,330,", "hd,29.8,,320,"),
    ],
)
def test_orders_that_digits_units_or_other_images_leave_open(tmp_path: Path, rows: tuple[str, str]) -> None:
    assert found(tmp_path, *rows) == []


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("dsc,82.8,,,", "DSC is 82.8; it lies between 0 and 1, or 0 and 100 %. It could mean a percentage"),
        ("sen,101,,,%", "SEN is 101 %; it lies between 0 and 1"),
        ("iou,-0.02,,,", "IoU is -0.02; it is never negative"),
        ("hd,\N{MINUS SIGN}3,,,mm", "HD is \N{MINUS SIGN}3 mm; it is never negative"),
        ("dsc_kruskal_p,1.3,,,", "p of DSC is 1.3; it lies between 0 and 1"),
        ("dsc_max,1.2,,,", "largest DSC is 1.2; it lies between 0 and 1"),
        ("dsc,0.8,-0.1,,", "the SD of DSC is -0.1; an SD is never negative"),
        ("dsc,0.8,0.1,1,", "an SD of 0.1 and n = 1; one value has no spread"),
        ("count,37.5,,,patients", "a count is a whole number"),
        ("count,151,,150,patients", "151 patients of 150; a part is not more than the whole"),
        ("share,24.9,,150,%", "37/150 = 24.67 % and 38/150 = 25.33 %"),
    ],
)
def test_single_numbers_that_cannot_be(tmp_path: Path, row: str, text: str) -> None:
    ((verdict, line),) = found(tmp_path, row)
    assert verdict == "impossible"
    assert text in line


@pytest.mark.parametrize(
    "row", ["share,24.7,,150,%", "share,25,,150,%", "dsc_high,1.02,,,", "dsc,100,,,%", "sp,1.00,,,"]
)
def test_single_numbers_that_can_be(tmp_path: Path, row: str) -> None:
    assert found(tmp_path, row) == []


def test_a_share_is_its_count(tmp_path: Path) -> None:
    assert found(tmp_path, "count missed,37,,150,images", "share missed,24.7,,150,%") == []
    (one,) = found(tmp_path, "count missed,37,,150,images", "share missed,25.3,,150,%")
    assert one[0] == "impossible"
    assert "37 images of 150 are 24.67 %" in one[1]


@pytest.mark.parametrize(
    ("rows", "verdict", "text"),
    [
        (("dsc_low,0.85,,,", "dsc_high,0.80,,,"), "impossible", "upside down"),
        (("dsc,0.80,,,", "dsc_low,0.82,,,", "dsc_high,0.90,,,"), "look", "leaves its own mean out"),
        (("hd,80.0,,,", "hd_min,2,,,", "hd_max,79,,,"), "impossible", "a mean lies within the range"),
        (("dsc,0.80,,1,", "sen,0.80,,1,", "pc,0.90,,1,"), "look", "here 0.842 to 0.8521"),
    ],
)
def test_intervals_and_single_images(tmp_path: Path, rows: tuple[str, ...], verdict: str, text: str) -> None:
    ((given_verdict, line),) = found(tmp_path, *rows)
    assert given_verdict == verdict
    assert text in line


def test_means_do_not_obey_what_single_images_do(tmp_path: Path) -> None:
    """Two images with SEN, PC of 1, .1 and .1, 1 have a mean DSC of .18, far from 2 · .55 · .55/1.1."""
    assert found(tmp_path, "dsc,0.18,,2,", "sen,0.55,,2,", "pc,0.55,,2,") == []


def test_categories_sum_to_all(tmp_path: Path) -> None:
    def of(neck: int, n: str = "", total: str = "T1,all,count,150,,,patients") -> list[tuple[str, str]]:
        sizes = {"body": 37, "head": 60, "neck": neck, "tail": 33, "uncinate": 6}
        return found(tmp_path, total, *(f"T1,Location: {name},count,{k},,{n},patients" for name, k in sizes.items()))

    assert of(14) == []
    assert of(14, n="150", total="T1,all,count,9,,,images") == []
    assert [verdict for verdict, _ in of(18)] == [verdict for verdict, _ in of(18, n="150")] == ["impossible"]
    ((verdict, line),) = of(10)
    assert verdict == "look"
    assert "4 are in no category" in line
    assert of(18, total="T1,all,count,330,,,images") == []  # of patients nothing is known


def test_strata_are_not_more_than_all(tmp_path: Path) -> None:
    rows = ("T2,all,dsc,0.8,,150,", "T2,stage: T1,dsc,0.8,,33,", "T2,stage: T2,dsc,0.8,,99,")
    assert found(tmp_path, *rows, "T2,stage: T3,dsc,0.8,,18,") == []
    ((verdict, line),) = found(tmp_path, *rows, "T2,stage: T3,dsc,0.8,,28,")
    assert verdict == "look"
    assert "33 + 99 + 28 = 160, and all are 150" in line


def test_one_quantity_has_one_value(tmp_path: Path) -> None:
    rows = ("Table 2,DAF-Net,dsc,0.83,,330,", "Table 3,daf net,DSC,79,,,%", "Table 2,DAF-Net,dsc,0.79,,,")
    assert found(tmp_path, rows[0], rows[1].replace("79,,", "79,,66")) == []  # of other images
    assert found(tmp_path, rows[0], rows[1].replace("79", "83.4")) == []
    assert [verdict for verdict, _ in found(tmp_path, *rows[:2])] == ["look"]
    assert [verdict for verdict, _ in found(tmp_path, rows[0], rows[2])] == ["impossible"]


# ---- the bounds ---------------------------------------------------------------------------------

SHARES = st.fractions(0, 1, max_denominator=50)


@given(st.lists(SHARES, min_size=1, max_size=6))
def test_no_images_lie_beyond_the_bounds(dsc: list[Fraction]) -> None:
    iou = [d / (2 - d) for d in dsc]
    mean_dsc, mean_iou = sum(dsc) / len(dsc), sum(iou) / len(dsc)
    assert least_mean_iou(mean_dsc) <= least_mean_iou(mean_dsc, _variance(dsc)) <= mean_iou <= mean_dsc
    assert mean_dsc <= most_mean_dsc(mean_iou, _variance(iou)) <= most_mean_dsc(mean_iou)


@given(SHARES, st.integers(1, 5), st.integers(0, 5))
def test_some_images_lie_on_the_bounds(share: Fraction, times: int, extremes: int) -> None:
    """DSC 0 and one other value; IoU 1 and one other value."""
    dsc = [share] * times + [Fraction(0)] * extremes
    assert least_mean_iou(sum(dsc) / len(dsc), _variance(dsc)) == sum(d / (2 - d) for d in dsc) / len(dsc)
    iou = [share] * times + [Fraction(1)] * extremes
    assert most_mean_dsc(sum(iou) / len(iou), _variance(iou)) == sum(2 * y / (1 + y) for y in iou) / len(iou)


def _variance(values: list[Fraction]) -> Fraction:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values)


# ---- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0.84", 0.835, 0.845),
        ("0.840", 0.8395, 0.8405),
        (".84", 0.835, 0.845),
        ("84", 83.5, 84.5),
        ("8.4e1", 83.5, 84.5),
        ("1e+01", 5, 15),
        ("-3", -3.5, -2.5),
    ],
)
def test_digits_leave_an_interval(text: str, low: float, high: float) -> None:
    number = printed(text)
    trust = 1e-6 * max(1, abs(low + high) / 2)
    assert (float(number.low), float(number.high)) == pytest.approx((low - trust, high + trust), rel=1e-12)


def test_a_percent_sign_is_a_unit(tmp_path: Path) -> None:
    statements = read_statements(
        table(tmp_path, "T,g,dsc,82.8 %,1.2 %,,", "T,g,dsc,82.8,1.2,,percent", "T,g,dsc,.828,,,")
    )
    assert [float(one.value.low) for one in statements] == pytest.approx([0.8275] * 3, abs=2e-6)
    assert statements[0].value == statements[1].value
    assert statements[0].sd == statements[1].sd


def test_every_metric_of_the_project_is_known() -> None:
    assert {*OVERLAPS, *DISTANCES, "auc"} <= set(KINDS)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["is empty; its first row must name the columns"]),
        ("table,group,metric,value,std,n,unit\nT,g,dsc,1,,,\n", ["has no column sd; did you mean std?"]),
        ("table,group,metric,value,sd,n,unit\n", ["has no rows below its header"]),
        ("table,group,metric,value,sd,n,unit\nT,g,dsc,0,84,,,\n", ["row 2: has 8 cells, the header 7; a comma within"]),
        (
            "table,group,metric,value,sd,n,unit\nT,g,dcs,0.8,,,\n\nT,g,dsc,good,~.1,3.5,mmm\nT,g,hd,,,,%\n",
            [
                "row 2: metric dcs: unknown; did you mean dsc?",
                "row 4: unit mmm: unknown; did you mean mm?",
                "row 4: value good: is not a number",
                "row 4: sd ~.1: is not a number",
                "row 4: n 3.5: must be a whole number from 1 on",
                "row 5: unit %: that of hd can be px, mm, or empty",
                "row 5: value is empty",
            ],
        ),
        (
            "table,group,metric,value,sd,n,unit\n"
            + "".join(f"T,g,dsc,{value},,,\n" for value in ("nan", "inf", "1_0", "<0.1", '"0,84"', "0.8±0.1", "1e999")),
            [f"row {row}: value" for row in range(2, 9)],
        ),
        ("table,group,metric,value,sd,n,unit\nT,g,,1,,,\n", ["row 2: metric is empty"]),
        ("table,group,metric,value,sd,n,unit\nT,g,qqq,1,,,\n", ["row 2: metric qqq: unknown; there is dsc, iou"]),
    ],
)
def test_what_is_no_table_of_statements_is_refused_whole(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        audit_lines(path)
    assert len(caught.value.lines) == len(lines)
    for line, start in zip(caught.value.lines, lines, strict=True):
        assert line.startswith(f"{path}: {start}")


def test_groups_that_look_alike_are_one_and_told(tmp_path: Path) -> None:
    path = table(
        tmp_path, "T,DAF-Net,dsc,.90,,,", "T,d\N{CYRILLIC SMALL LETTER A}f net,iou,.95,,,", "T,U-Net,dsc,.9,,,"
    )
    said: list[str] = []
    impossible, _ = audit_lines(path, say=said.append)
    assert "IoU <= DSC in every image" in impossible
    (line,) = said
    assert line.startswith(f"{path}: groups DAF-Net and d")
    assert line.endswith("differ in case, blanks, look-alike letters and hyphens only; they are taken as one group")


def test_the_table_may_come_from_any_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    text = "sep=;\r\n" + ";".join((*COLUMNS, "")) + "\r\nT;g;dsc;0,99;0,30;330;;\r\n"
    path.write_bytes(b"\xef\xbb\xbf" * 2 + text.encode())
    (finding, _) = audit_lines(path)
    assert "(row 2): DSC is 0.99 with an SD of 0.30; the SD is at most" in finding


def test_a_near_name_of_a_metric_or_column_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, "T,g,hd_95,1,,,", "T,g,ds\N{CYRILLIC SMALL LETTER ES},1,,,")
    with pytest.raises(UserError) as caught:
        audit_lines(path)
    assert [line.rpartition("; ")[2] for line in caught.value.lines] == ["did you mean hd95?", "did you mean dsc?"]
    path.write_text("Table,group,metric,value,sd,n,unit\nT,g,dsc,1,,,\n")
    with pytest.raises(UserError, match="has no column table; did you mean Table"):
        audit_lines(path)


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"no such file|is a folder"):
        audit_lines(tmp_path / name)
