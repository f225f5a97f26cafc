"""Divisions of the images, tests and means by level, and the box plots; by hand and against scipy."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Patch
from matplotlib.path import Path

from eus_ray.analysis.comparison.paper_tables import table2
from eus_ray.analysis.comparison.score_matrix import align
from eus_ray.analysis.comparison.subgroup_columns import is_category, known_values, level_order, level_text
from eus_ray.analysis.comparison.subgroups import (
    AREA,
    FEWEST_PATIENTS,
    Division,
    divide,
    level_tests,
    stratum_means,
    thirds,
)
from eus_ray.analysis.figures.box_plots import boxes_by_level, tukey
from eus_ray.analysis.labels import column_label
from eus_ray.analysis.statistics import patient_bootstrap
from eus_ray.errors import UserError


def cohort(patients: int = 60, models: Sequence[str] = ("a", "b"), seed: int = 0) -> pd.DataFrame:
    """Return two images per patient; stage T3 is harder, other columns have no effect."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 2)
    stage = np.array(["T1", "T2", "T3"])[patient % 3]
    described = {
        "image_id": [f"i{place}" for place in range(2 * patients)],
        "patient_id": [f"p{number:03d}" for number in patient],
        "fold": patient % 5,
        "t_stage": stage,
        "age": 40.0 + patient,
        "diagonal": 100.0,
    }
    frames = [
        pd.DataFrame(
            described
            | {
                "model": model,
                "dsc": rng.uniform(0.4, 0.7, len(patient)) + 0.2 * (stage != "T3"),
                "hd": np.where(rng.random(len(patient)) < 0.1, math.inf, rng.uniform(2, 20, len(patient))),
            }
        )
        for model in models
    ]
    return pd.concat(frames, ignore_index=True)


def division(images: pd.DataFrame, column: str) -> Division:
    return next(each for each in divide(images, [column])[0] if each.column == column)


# ---- dividing -----------------------------------------------------------------------------------


def test_categories_divide_by_level_and_measurements_by_thirds() -> None:
    found, left_out = divide(cohort())
    assert [(each.column, each.is_clinical) for each in found] == [("t_stage", True), ("age", False)]
    assert found[0].levels == ("T1", "T2", "T3")
    assert found[0].label == "T-stage"
    assert found[0].level[:6].tolist() == [0, 0, 1, 1, 2, 2]
    assert [np.count_nonzero(found[1].level == place) for place in range(3)] == [40, 40, 40]
    assert found[1].levels == ("up to 59.7", "above 59.7 to 79.3", "above 79.3")
    assert left_out == ()


def test_what_divides_nothing_and_what_divides_too_much() -> None:
    rows = cohort(models=["a"])
    number = np.arange(len(rows))
    rows = rows.assign(
        grade=np.where(number % 5 == 0, np.nan, number // 2 % 2 + 1.0),
        location=np.where(number // 2 % 4 == 0, "head", "tail"),
        hospital="one",
        bare=None,
        blank=" ",
        file=[f"{place}.png" for place in number],
        histology=[f"kind {place // 2 % 11}" for place in number],
        weight_kg=70.0,
        unknown=math.nan,
        view=["long", "cross"] * 58 + ["long"] * 4,
        hospital_id=[f"h{place // 2 % 3}" for place in number],
        source_kfold5=number // 2 % 5,
        code=[f"c{place // 2}" for place in number],
        record=1000 + number // 2,
    )
    found, left_out = divide(rows)
    # what the paper asks for comes first, then the order of the columns
    assert [each.column for each in found] == ["t_stage", "location", "age", "grade"]
    assert left_out == (
        "Hospital (one value only)",
        "Bare (no values)",
        "Blank (no values)",
        "File (a value of its own for each image)",
        "Histology (11 levels)",
        "Weight, kg (one value only)",
        "Unknown (no values)",
        "View (differs between the images of 58 patients)",
        "Hospital id (an id)",
        "Source kfold5 (a part of a split)",
        "Code (a value of its own for each patient)",
        "Record (a value of its own for each patient)",
    )
    grade = found[3]
    assert grade.is_clinical
    assert grade.levels == ("1", "2")
    assert grade.level[:6].tolist() == [-1, 0, 1, 1, 0, -1]


def test_many_columns_are_limited_and_named() -> None:
    rows = cohort(models=["a"])
    rows = rows.assign(**{f"c{k}": np.where(np.arange(len(rows)) // 2 % (k + 2), "x", "y") for k in range(20)})
    found, left_out = divide(rows)
    assert len(found) == 12
    assert left_out == tuple(f"C{k} (after 12 others)" for k in range(10, 20))


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("fold", ""),  # the study's own folds are no clinical column
        ("cv", "a part of a split"),
        ("Split", "a part of a split"),
        ("set", "a part of a split"),
        ("trainSet2", "a part of a split"),
        ("lesion_id", "an id"),
        ("dataset", None),
        ("cvd_risk", None),
    ],
)
def test_a_column_s_name_says_that_it_is_an_id_or_a_part_of_a_split(column: str, reason: str | None) -> None:
    rows = cohort(models=["a"])
    rows[column] = [f"{place // 2 % 5}" for place in range(len(rows))]
    found, left_out = divide(rows)
    assert (column in [each.column for each in found]) == (reason is None)
    assert [line for line in left_out if reason] == [f"{column_label(column)} ({reason})"] * bool(reason)


@pytest.mark.parametrize(("levels", "is_tested"), [(1, False), (2, True), (10, True), (11, False)])
@pytest.mark.parametrize("as_text", [True, False])
def test_categories_of_2_to_10_levels_are_tested(levels: int, is_tested: bool, as_text: bool) -> None:
    rows = cohort(models=["a"])
    codes = [place // 2 % levels for place in range(len(rows))]
    rows["code"] = [f"level {code}" for code in codes] if as_text else codes
    found = {each.column: each.is_clinical for each in divide(rows)[0]}
    assert found.get("code", False) is is_tested


def test_named_columns_divide_and_no_others_do() -> None:
    rows = cohort(models=["a"])
    number = np.arange(len(rows))
    counts = {"tp": number, "fp": 0, "fn": 1, "tn": 1000 - number}
    rows = rows.assign(**counts, view=["long", "cross"] * 60, histology=[f"kind {place % 20}" for place in number])
    found, left_out = divide(rows, ["view", "age", "histology"])
    assert [(each.column, each.is_clinical) for each in found] == [("view", True), ("age", False), (AREA, False)]
    assert left_out == ("Histology (20 levels)",)
    assert [each.column for each in divide(rows, [])[0]] == [AREA]


def test_a_named_column_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        divide(cohort(), ["stage", "age", "dsc"])
    assert caught.value.lines == (
        "analysis.clinical: there is no clinical column stage; did you mean t_stage?",
        "analysis.clinical: there is no clinical column dsc; there is t_stage, age",
    )
    with pytest.raises(UserError, match="there is no clinical column stage; there is none"):
        divide(cohort().drop(columns=["t_stage", "age"]), ["stage"])


@pytest.mark.filterwarnings("error")
def test_thirds_by_hand() -> None:
    found = thirds("size_mm", "Size", np.array([1.0, 2, 3, 4, 5, 6, math.nan, math.inf]))
    # the 1/3 and 2/3 quantiles of 1..6 are 2 2/3 and 4 1/3
    assert found.level.tolist() == [0, 0, 1, 1, 2, 2, -1, -1]
    assert found.levels == ("up to 2.67", "above 2.67 to 4.33", "above 4.33")
    ties = thirds("size_mm", "Size", np.array([1.0, 1, 1, 1, 9]))
    assert ties.levels == ("up to 1", "above 1")
    assert ties.level.tolist() == [0, 0, 0, 0, 1]
    assert thirds("size_mm", "Size", np.ones(5)).levels == ("up to 1",)
    assert thirds("size_mm", "Size", np.full(3, math.nan)).levels == ()
    large = thirds("size_mm", "Size", np.array([-1.5e308, -1.5e308, 0, 1.5e308, 1.5e308, 1.5e308]))
    # the quantiles lie at places 5/3 and 10/3: a third of the way from -1.5e308 to 0, and 1.5e308
    assert large.levels == ("up to -5e+307", "above -5e+307 to 1.5e+308")
    assert large.level.tolist() == [0, 0, 1, 1, 1, 1]


def test_without_a_size_the_lesions_area_divides_and_empty_truths_are_apart() -> None:
    rows = pd.DataFrame(
        {"model": "a", "image_id": list("123456"), "patient_id": list("pqrstu"), "fold": 0}
        | {"tp": [0, 10, 20, 0, 40, 50], "fp": 3, "fn": [0, 0, 0, 30, 0, 10], "tn": [97, 87, 77, 67, 57, 37]}
    )
    (area,) = divide(rows)[0]
    assert area.column == AREA
    assert area.level.tolist() == [0, 1, 1, 2, 3, 3]
    assert area.levels == ("no lesion", "up to 23.3", "above 23.3 to 36.7", "above 36.7")
    (area,) = divide(rows, target="fetal head")[0]
    assert (area.label, area.levels[0]) == ("Fetal head area, % of the image", "no fetal head")
    with_size = divide(rows.assign(size_mm=[1.0, 2, 3, 4, 5, 6]))[0]
    assert [each.column for each in with_size] == ["size_mm"]


@pytest.mark.parametrize(
    ("values", "category"),
    [
        (["T1", "T2"] * 10, True),
        ([True, False] * 10, True),
        ([1, 2] * 10, True),
        ([1.5, 2.5] * 10, False),
        (list(range(20)), False),
    ],
)
def test_codes_are_categories_and_measurements_are_not(values: list[object], category: bool) -> None:
    patients = pd.Series([f"p{place}" for place in range(20)])
    assert is_category(pd.Series(values, name="grade"), patients) is category
    assert not is_category(pd.Series([1, 2] * 10, name="size_mm"), patients)


def test_blank_texts_are_missing() -> None:
    assert known_values(pd.Series(["a", " ", None, 3], dtype=object)).fillna("-").tolist() == ["a", "-", "-", "3"]
    assert known_values(pd.Series(["a", " "], dtype="str")).isna().tolist() == [False, True]


# ---- tests --------------------------------------------------------------------------------------


def test_kruskal_wallis_over_images_and_over_patients_is_scipys() -> None:
    rows = cohort()
    aligned = align(rows, ["dsc", "hd"])
    found = {(each.model, each.metric, each.unit): each for each in level_tests(aligned, [division(rows, "t_stage")])}
    assert len(found) == 2 * 2 * 2
    mine = rows[rows["model"] == "b"]
    images = scipy.stats.kruskal(*[group["dsc"] for _, group in mine.groupby("t_stage")])
    assert found["b", "dsc", "images"].test.p_value == pytest.approx(images.pvalue)
    means = mine.groupby(["t_stage", "patient_id"])["dsc"].mean()
    patients = scipy.stats.kruskal(*[group for _, group in means.groupby(level=0)])
    assert found["b", "dsc", "patients"].test.p_value == pytest.approx(patients.pvalue)
    assert found["b", "dsc", "patients"].test.n == 60
    assert found["b", "dsc", "images"].test.n == 120
    apart = [(pair.first, pair.second) for pair in found["b", "dsc", "patients"].pairs if pair.pair.p_adjusted < 0.05]
    assert apart == [("T1", "T3"), ("T2", "T3")]
    assert all(pair.delta > 0.5 for pair in found["b", "dsc", "patients"].pairs[1:])
    # infinite distances tie as the largest of ranks, and are the diagonal in a patient's mean
    bounded = mine.assign(hd=mine["hd"].clip(upper=1e9)).groupby("t_stage")["hd"].apply(list)
    assert found["b", "hd", "images"].test.p_value == pytest.approx(scipy.stats.kruskal(*bounded).pvalue)


def test_holm_counts_the_categories() -> None:
    rows = cohort(models=["a"]).assign(side=lambda frame: np.where(frame["age"] % 2, "left", "right"))
    tests = level_tests(align(rows, ["dsc"]), divide(rows)[0])
    mine = {each.division.column: each for each in tests if each.unit == "patients"}
    stage, side = mine["t_stage"], mine["side"]
    assert stage.p_adjusted == pytest.approx(2 * stage.test.p_value)
    assert side.p_adjusted == pytest.approx(max(side.test.p_value, stage.p_adjusted))


def test_a_patient_in_several_levels_is_in_no_group_of_patients() -> None:
    rows = cohort(models=["a"])
    rows.loc[0, "t_stage"] = "T2"  # the first patient's other image is T1
    rows.loc[2, "t_stage"] = None
    tests = level_tests(align(rows, ["dsc"]), [division(rows, "t_stage")])
    assert {each.unit: each.test.n for each in tests} == {"images": 119, "patients": 59}


def test_a_constant_or_a_single_level_gives_no_answer_and_no_error() -> None:
    rows = cohort(models=["a"]).assign(dsc=0.5)
    (images, patients) = level_tests(align(rows, ["dsc"]), [division(rows, "t_stage")])
    assert math.isnan(images.test.p_value)
    assert math.isnan(patients.p_adjusted)
    undefined = cohort(models=["a"]).assign(auc=math.nan)
    assert level_tests(align(undefined, ["auc"]), [division(undefined, "t_stage")]) == ()


def test_pairs_with_few_patients_are_marked_and_many_levels_have_none() -> None:
    rows = cohort(models=["a"])
    rows.loc[rows["patient_id"] < "p009", "t_stage"] = "T0"
    tests = level_tests(align(rows, ["dsc"]), [division(rows, "t_stage")])
    assert {(pair.first, pair.has_few_patients) for pair in tests[1].pairs} == {
        ("T0", True),
        ("T1", False),
        ("T2", False),
    }
    rows["t_stage"] = [f"T{place // 2 % 10}" for place in range(len(rows))]
    assert level_tests(align(rows, ["dsc"]), [division(rows, "t_stage")])[0].pairs == ()


# ---- means --------------------------------------------------------------------------------------


def test_means_by_level_have_the_patient_bootstraps_interval() -> None:
    rows = cohort().assign(fold=0)
    found = {
        (each.level, each.model, each.metric): each
        for each in stratum_means(align(rows, ["dsc", "hd"]), [division(rows, "t_stage")], "images", draws=300, seed=5)
    }
    mine = rows[(rows["model"] == "b") & (rows["t_stage"] == "T3")]
    each = found["T3", "b", "dsc"]
    expected = patient_bootstrap(mine["dsc"], mine["patient_id"], draws=300, seed=5)
    assert (each.mean, each.low, each.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert (each.num_patients, each.num_images) == (20, 40)
    assert found["T3", "b", "hd"].mean == pytest.approx(mine["hd"].replace(math.inf, 100.0).mean())


def test_means_by_level_are_averaged_as_table_2() -> None:
    rows = cohort()
    rows = rows.drop(index=rows.index[(rows["t_stage"] == "T3")][::5])  # some patients have fewer images
    for average in ("patients", "images"):
        found = stratum_means(align(rows, ["dsc", "hd"]), [division(rows, "t_stage")], average, draws=20)
        for level, mine in rows.groupby("t_stage"):
            expected = table2(mine.dropna(subset="dsc"), ["dsc", "hd"], average, draws=2).set_index("model")
            for each in found:
                if each.level == level:
                    assert each.mean == pytest.approx(expected.loc[each.model, each.metric])


def test_too_few_patients_have_a_mean_without_interval() -> None:
    rows = cohort(models=["a"])
    rows.loc[rows["patient_id"] < f"p{FEWEST_PATIENTS - 1:03d}", "t_stage"] = "T0"
    rows.loc[rows["patient_id"] >= "p050", "t_stage"] = "T4"
    few, *_, enough = stratum_means(align(rows, ["dsc"]), [division(rows, "t_stage")], draws=50)
    assert (few.num_patients, enough.num_patients) == (9, 10)
    assert few.has_few_patients
    assert not math.isnan(few.mean)
    assert math.isnan(few.low)
    assert not enough.has_few_patients
    assert enough.low < enough.mean < enough.high


def test_fewest_patients_is_where_an_interval_covers_nine_tenths() -> None:
    def covers(number: int) -> float:
        reach = 1.96 * math.sqrt((number - 1) / number)
        return float(1 - 2 * scipy.stats.t.sf(reach, number - 1))

    assert covers(5) == pytest.approx(0.85, abs=0.006)
    assert covers(FEWEST_PATIENTS) == pytest.approx(0.90, abs=0.006)
    assert covers(FEWEST_PATIENTS - 1) < 0.9


# ---- boxes --------------------------------------------------------------------------------------


def test_tukey_by_hand() -> None:
    # quartiles 2.5 and 6.5 (linear), so that whiskers may reach -3.5 and 12.5
    box = tukey(np.array([1.0, 2, 3, 5, 6, 7, 20]))
    assert (box["q1"], box["med"], box["q3"]) == (2.5, 5, 6.5)
    assert (box["whislo"], box["whishi"], box["fliers"].tolist()) == (1, 7, [20])


def num_boxes(axes: Axes, *patches: Patch) -> int:
    """Count the closed shapes in a panel's patches, or in the given ones."""
    return sum(int((patch.get_path().codes == Path.CLOSEPOLY).sum()) for patch in patches or axes.patches)


def test_a_panel_a_metric_and_a_box_a_level_and_model() -> None:
    rows = cohort()
    rows.loc[rows["patient_id"] < "p006", "t_stage"] = "T0"
    figure = boxes_by_level(align(rows, ["dsc", "hd"]), division(rows, "t_stage"), "mm")
    dsc, hd = figure.axes
    assert (dsc.get_ylabel(), hd.get_ylabel()) == ("DSC", "HD (mm)")
    assert (num_boxes(dsc), num_boxes(hd)) == (4 * 2, 4 * 2)
    assert [text.get_text() for text in dsc.get_xticklabels()] == ["T0\n(6)", "T1\n(18)", "T2\n(18)", "T3\n(18)"]
    broken = [num_boxes(dsc, patch) for patch in dsc.patches if patch.get_linestyle() != "solid"]
    assert sum(broken) == 2  # T0 of both models
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    # the diagonal, 100, lies far above whiskers below 20: triangles at the top
    top = hd.get_ylim()[1]
    assert top <= 25
    assert any(line.get_marker() == "^" and set(line.get_ydata()) == {top} for line in hd.lines)


@pytest.mark.parametrize("name", ["T1", "a scanner with a very long name indeed"])
def test_the_columns_name_is_below_the_levels(name: str) -> None:
    rows = cohort().assign(auc=0.9)
    rows["t_stage"] = rows["t_stage"].replace({"T1": name})
    figure = boxes_by_level(align(rows, ["dsc", "hd", "auc"]), division(rows, "t_stage"))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    lowest = min(text.get_window_extent(renderer).y0 for axes in figure.axes for text in axes.get_xticklabels())
    label = next(text for text in figure.texts if text.get_text().strip() == "T-stage (patients)")
    below, lines = label.get_window_extent(renderer), len(label.get_text().splitlines())
    assert below.y0 >= 0
    assert below.y0 + below.height / lines <= lowest
    assert lines == (1 if name == "T1" else 2), "names that stand end lower in a file than they do here"


def test_long_names_of_levels_stand_and_are_cut() -> None:
    rows = cohort()
    rows["t_stage"] = rows["t_stage"].replace({"T1": "a scanner with a very long name indeed"})
    aligned = align(rows, ["dsc", "hd"])
    labels = boxes_by_level(aligned, division(rows, "t_stage")).axes[1].get_xticklabels()
    assert [text.get_text() for text in labels] == ["a scanner with a very… (20)", "T2 (20)", "T3 (20)"]
    assert {text.get_rotation() for text in labels} == {90}


def test_ratios_near_one_have_an_axis_of_their_own() -> None:
    rows = cohort().assign(sp=lambda frame: 0.97 + 0.02 * frame["dsc"])
    rows.loc[0, "sp"] = 0.2
    (axes,) = boxes_by_level(align(rows, ["sp"]), division(rows, "t_stage")).axes
    foot, top = axes.get_ylim()
    assert 0.96 < foot < 0.98
    assert 1 < top < 1.01
    assert [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "v"] == [[foot]]


def test_ten_models_and_empty_boxes_are_drawn() -> None:
    rows = cohort(models=[f"m{k}" for k in range(10)]).assign(auc=math.nan)
    rows.loc[rows["t_stage"] == "T2", "dsc"] = math.nan
    figure = boxes_by_level(align(rows, ["dsc", "auc"]), division(rows, "t_stage"))
    assert [num_boxes(axes) for axes in figure.axes] == [20, 0]
    assert figure.axes[0].get_position().x0 == figure.axes[1].get_position().x0


def test_a_whole_study_is_divided_and_tested_in_time() -> None:
    rows = cohort(165, ("a", "b", "c"))
    rows = rows.assign(location=np.repeat(np.resize(["head", "body", "tail", "neck", "uncinate"], 165), 2).tolist() * 3)
    aligned = align(rows, ["dsc", "hd"])
    started = time.process_time()
    found, _ = divide(rows)
    level_tests(aligned, found)
    stratum_means(aligned, found)
    assert time.process_time() - started < 5


def test_thirds_of_years_and_of_near_numbers_have_names_of_their_own() -> None:
    assert thirds("year", "Year", np.arange(2011.0, 2023)).levels == ("up to 2015", "above 2015 to 2018", "above 2018")
    close = thirds("x", "X", np.array([0.50001, 0.50002, 0.50003, 0.50004]))
    assert close.levels == ("up to 0.50002", "above 0.50002 to 0.50003", "above 0.50003")


def test_long_codes_beside_missing_values_and_circled_digits_are_levels() -> None:
    assert [level_text(level) for level in (1000001.0, 1000002.0, 2.5)] == ["1000001", "1000002", "2.5"]
    assert sorted(["T10", "T2²", "T2", "②", "①"], key=level_order) == ["T2", "T2²", "T10", "①", "②"]
