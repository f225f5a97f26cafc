"""Table 1 and Table 2 against the paper's own shape and numbers worked by hand."""

from __future__ import annotations

import io
import math
import re
import time

import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.comparison.paper_tables import (
    TABLE2_METRICS,
    as_csv,
    best_printed,
    common_images,
    escape_latex,
    has_same_images,
    table1,
    table1_latex,
    table2,
    table2_latex,
)
from eus_ray.analysis.statistics import bootstrap


def paper_patients() -> pd.DataFrame:
    """Return 150 patients and 330 images with the categories of the paper's Table 1."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "patient_id": [f"{number:03d}" for number in range(150)],
            "sex": ["male"] * 96 + ["female"] * 54,
            "t_stage": rng.permutation(["T1"] * 33 + ["T2"] * 99 + ["T3"] * 18),
            "size_mm": np.r_[10.0, 130.0, np.full(148, 31.0 - 78 / 148)],
            "age": np.r_[40.0, 94.0, np.full(148, (71.2 * 150 - 134) / 148)],
        }
    )
    frame = frame.loc[np.r_[np.arange(150), np.arange(150), np.arange(30)]].reset_index(drop=True)
    return frame.assign(image_id=[f"i{number}" for number in range(330)], fold=0, height=256, lesion_share=0.1)


def values(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["characteristic"], table["value"], strict=True))


def test_table1_reads_as_in_the_paper() -> None:
    assert values(table1(paper_patients())) == {
        "Patients": "150",
        "Images": "330",
        "Sex (male, female)": "96/54",
        "T-stage (T1, T2, T3)": "33/99/18",
        "Size, mm, mean (range)": "31.0 (10\N{EN DASH}130)",
        "Age, years, mean (range)": "71.2 (40\N{EN DASH}94)",
    }


def test_table1_counts_patients_not_images_and_says_what_is_missing() -> None:
    frame = pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "patient_id": ["p", "p", "p", "q", "r", "s"],
            "stage": ["T10", None, "T10", "T2", " ", "T2"],
            "side": ["left", "right", "left", "left", None, "left"],
            "size_mm": [10.0, 20.0, 30.0, math.nan, 40.0, math.nan],
            "grade": [2, 2, 2, 1, 1, 2],
            "seen": [True, True, True, False, True, True],
        }
    )
    table = table1(frame).set_index("characteristic")
    assert table.loc["Stage (T2, T10)"].tolist() == ["2/1", "patients", 1]
    assert table.loc["Side (left, right)"].tolist() == ["4/1", "images", 1]  # differs within p
    assert table.loc["Size, mm, mean (range)"].tolist() == ["30.0 (20\N{EN DASH}40)", "patients", 2]
    assert table.loc["Grade (1, 2)"].tolist() == ["2/2", "patients", 0]
    assert table.loc["Seen (False, True)"].tolist() == ["1/3", "patients", 0]


@pytest.mark.filterwarnings("error")
def test_table1_of_the_largest_numbers() -> None:
    frame = pd.DataFrame(
        {"image_id": list("abcd"), "patient_id": list("ppqr"), "age": [1.6e308, 1.6e308, -1.6e308, 8e307]}
    )
    assert values(table1(frame))["Age, years, mean (range)"] == "2.667e+307 (-1.6e+308\N{EN DASH}1.6e+308)"


def test_table1_of_identifiers_many_categories_and_nothing() -> None:
    frame = pd.DataFrame({"image_id": [f"i{n}" for n in range(20)], "patient_id": [f"p{n}" for n in range(20)]})
    frame = frame.assign(file=[f"x{n}.png" for n in range(20)], histology=[f"h{n % 13}" for n in range(20)], grade=None)
    assert values(table1(frame)) == {
        "Patients": "20",
        "Images": "20",
        "Histology": "13 different",
        "Grade": "\N{EN DASH}",
    }
    assert values(table1(frame.iloc[:0]))["Patients"] == "0"


def scores(model: str, folds: list[int], patients: list[str], **metrics: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"model": model, "fold": folds, "patient_id": patients, **metrics})
    return frame.assign(image_id=[f"i{number}" for number in range(len(frame))], diagonal=100.0)


def test_table2_by_hand() -> None:
    """Fold 0 has one image, fold 1 three: the mean of fold means weighs folds alike."""
    inf = math.inf
    images = scores("m", [0, 1, 1, 1], ["a", "b", "b", "c"], dsc=[0.9, 0.3, 0.6, 0.0], hd=[4, 10, 20, inf])
    images["auc"] = [0.8, math.nan, 0.6, math.nan]
    by_patient = table2(images, average="patients").iloc[0]
    assert by_patient["dsc"] == pytest.approx((0.9 + (0.45 + 0.0) / 2) / 2)
    assert by_patient["hd"] == pytest.approx((4 + (15 + 100) / 2) / 2)
    assert by_patient["hd_finite"] == pytest.approx((4 + 15) / 2)
    assert by_patient["auc"] == pytest.approx(0.7)
    row = table2(images, average="images").iloc[0]
    assert row["dsc"] == pytest.approx((0.9 + 0.3) / 2)
    assert row["dsc_sd"] == pytest.approx(math.sqrt(2) * 0.3)
    assert row["hd"] == pytest.approx((4 + 130 / 3) / 2)
    assert row["hd_not_finite"] == 1
    assert row["hd_finite"] == pytest.approx((4 + 15) / 2)
    assert row["auc"] == pytest.approx(0.7)
    assert math.isnan(row["dsc_low"]), "fold 0 has a single patient"
    assert math.isnan(row["dsc_high"])
    assert math.isnan(row["iou"])
    assert math.isnan(row["mad_finite"])


def test_table2_columns_are_the_contract() -> None:
    images = pd.concat([scores(model, [0], ["a"], dsc=[0.5]) for model in ("b", "a")])
    table = table2(images)
    assert table["model"].tolist() == ["b", "a"]
    assert list(table.columns[:10]) == ["model", "dsc", "iou", "avd", "hd", "mad", "sen", "sp", "pc", "auc"]
    assert TABLE2_METRICS[9:] == ("hd95", "assd", "nsd")
    expected = {f"{name}_{end}" for name in TABLE2_METRICS for end in ("low", "high", "sd")}
    expected |= {f"{name}_{end}" for name in ("avd", "hd", "mad", "hd95", "assd") for end in ("not_finite", "finite")}
    assert set(table.columns[10:]) == expected | set(TABLE2_METRICS[9:])
    assert table.columns.get_loc("auc_sd") < table.columns.get_loc("hd95") < table.columns.get_loc("hd95_low")
    assert math.isnan(table["dsc_sd"][0])  # one fold has no spread
    assert table[["dsc_low", "dsc_high"]].isna().all(axis=None)  # nor has one patient


def test_table2_interval_is_the_patient_bootstrap_within_folds() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 3)
    images = scores("m", (patients % 5).tolist(), patients.astype(str).tolist(), dsc=rng.random(120).tolist())
    drawn = bootstrap.bootstrap(images[["dsc"]].to_numpy(), images["patient_id"], images["fold"], draws=2000, seed=0)
    row = table2(images, average="images").iloc[0]
    assert (row["dsc_low"], row["dsc_high"]) == tuple(np.percentile(drawn, [2.5, 97.5]))
    assert row.equals(table2(images, average="images").iloc[0])
    means = images.groupby("patient_id", as_index=False)[["dsc", "fold"]].mean()
    drawn = bootstrap.bootstrap(means[["dsc"]].to_numpy(), means["patient_id"], means["fold"], draws=2000, seed=0)
    row = table2(images).iloc[0]
    assert (row["dsc_low"], row["dsc_high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_table2_refuses_two_rows_for_one_image() -> None:
    twice = pd.concat([scores("m", [0], ["a"], dsc=[0.5])] * 2)
    with pytest.raises(ValueError, match="several rows"):
        table2(twice)


def test_the_bootstrap_of_a_papers_study_is_quick() -> None:
    rng = np.random.default_rng(0)
    patients = np.sort(rng.integers(0, 150, 330))
    names = [str(patient) for patient in patients]
    metrics = {name: rng.random(330).tolist() for name in TABLE2_METRICS}
    images = pd.concat([scores(model, (patients % 5).tolist(), names, **metrics) for model in "abc"])
    start = time.process_time()
    table2(images)
    assert time.process_time() - start < 2


def test_csv_keeps_every_bit() -> None:
    table = table2(scores("m", [0, 1], ["a", "b"], dsc=[1 / 3, 0.1 + 0.2]))
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(as_csv(table)), float_precision="round_trip"),
        table,
        check_exact=True,
        check_dtype=False,
    )


def test_latex_bolds_what_prints_best_and_escapes() -> None:
    images = pd.concat(
        [
            scores("a_b & 5%", [0], ["p"], dsc=[0.8], sp=[0.9801], hd=[20.0]),
            scores("daf_net", [0], ["p"], dsc=[0.7], sp=[0.9802], hd=[10.0]),
            scores("unet", [0], ["p"], dsc=[0.8001], sp=[0.98], hd=[30.0]),
        ]
    )
    table = table2(images)
    assert best_printed(table, "sp") is None  # all print .980
    text = table2_latex(table, "px")
    assert r"a\_b \& 5\% & \textbf{0.800} & 20.00 & 0.980 \\" in text
    assert r"DAF-Net & 0.700 & \textbf{10.00} & 0.980 \\" in text
    assert r"U-Net & \textbf{0.800} & 30.00 & 0.980 \\" in text
    assert r"Model & DSC & HD (px) & SP \\" in text
    assert "IoU" not in text
    assert all(line.count("&") - line.count(r"\&") == 3 for line in text.splitlines() if line.endswith(r"\\"))
    assert text.count("{") == text.count("}")
    assert re.search(r"\\toprule.*\\midrule.*\\bottomrule", text, re.S)


def test_latex_has_intervals_where_there_are_some() -> None:
    alone = table2_latex(table2(scores("unet", [0], ["p"], dsc=[0.8])), "px")
    assert "scriptsize" not in alone
    assert "interval" not in alone
    assert "mean of the fold means. Best" in alone
    two = table2_latex(table2(scores("unet", [0, 0], ["p", "q"], dsc=[0.8, 0.6])), "px")
    assert r" & {\scriptsize 0.600--0.800} \\" in two
    assert r"its 95\,\% interval (patients resampled within folds)" in two
    no_folds = table2_latex(table2(scores("a", [0, 0], ["p", "q"], dsc=[0.8, 0.6])), "px", average="mean over patients")
    assert r"Segmentation performance: mean over patients and its 95\,\% interval (patients resampled)." in no_folds


def test_ids_and_parts_of_splits_are_no_characteristics_of_patients() -> None:
    frame = pd.DataFrame({"image_id": list("abcd"), "patient_id": list("pqrs"), "case_id": list("xyxy")})
    frame = frame.assign(kfold5=[1, 2, 1, 2], stage=["T1", "T2", "T1", "T1"], set_mm=[0.5, 1.5, 2.5, 3.5])
    assert table1(frame)["characteristic"].tolist() == ["Patients", "Images", "Stage (T1, T2)", "Set, mm, mean (range)"]


def test_images_that_all_models_have() -> None:
    of_a = scores("a", [0, 0, 1], ["p", "p", "q"], dsc=[0.8, 0.6, 0.4], auc=[0.9, math.nan, 0.7])
    of_b = scores("b", [0, 0, 1], ["p", "p", "q"], dsc=[0.8, 0.6, 0.4], auc=[0.9, math.nan, 0.7])
    both = pd.concat([of_a, of_b])
    assert has_same_images(both, "dsc")
    assert has_same_images(both, "auc")  # undefined for the same image
    fewer = pd.concat([of_a, of_b.iloc[:2]])
    assert not has_same_images(fewer, "dsc")
    assert common_images(fewer, "dsc")[["model", "dsc"]].to_numpy().tolist() == [
        ["a", 0.8],
        ["a", 0.6],
        ["b", 0.8],
        ["b", 0.6],
    ]
    assert common_images(pd.concat([of_a.iloc[:1], of_b.iloc[1:]]), "dsc").empty
    assert has_same_images(pd.concat([of_a, of_b.assign(auc=math.nan)]), "auc")  # b has none, so nothing is compared
    assert not has_same_images(pd.concat([of_a, of_b.assign(auc=[0.9, math.nan, math.nan])]), "auc")


def test_latex_bolds_no_means_of_different_images() -> None:
    images = pd.concat(
        [scores("a", [0, 0], ["p", "q"], dsc=[0.8, 0.6], sp=[1, 1]), scores("b", [0], ["p"], dsc=[0.8], sp=[0.9])]
    )
    text = table2_latex(table2(images), "", "Note.", ["dsc", "sp"], {"a": 2, "b": 1})
    assert r"\textbf" not in text
    assert "Best mean" not in text
    assert "a (2 images) & 0.700" in text
    assert "b (1 images) & 0.800" in text
    one = table2_latex(table2(images), "", "", ["dsc"])
    assert r"a & 0.700 & \textbf{1.000} \\" in one
    assert "Best mean in bold." in one


def test_latex_of_table1_and_of_everything_special() -> None:
    frame = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["p", "q"], "who_100%": ["x&y", None]})
    assert r"Who 100\% (x\&y) & 1 (1 missing) \\" in table1_latex(table1(frame))
    assert escape_latex("\\ ~ ^ # $ { }\n<|>") == (
        r"\textbackslash{} \textasciitilde{} \textasciicircum{} \# \$ \{ \} \textless{}\textbar{}\textgreater{}"
    )
