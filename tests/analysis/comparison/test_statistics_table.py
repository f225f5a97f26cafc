"""statistics.csv and the sections that show it: what each row is, and what odd data do."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import scipy.stats
from markupsafe import escape

from eus_ray.analysis.comparison import paper_tables
from eus_ray.analysis.comparison.claims import COLUMNS
from eus_ray.analysis.comparison.pairwise import compare_pairs, read_training
from eus_ray.analysis.comparison.score_matrix import align
from eus_ray.analysis.comparison.statistics_table import AS_IN_THE_PAPER, SCHEMA, as_parquet, statistics_table
from eus_ray.analysis.comparison.subgroups import divide, level_tests, stratum_means
from eus_ray.analysis.report.results import Results, Section, read_study, read_table
from eus_ray.analysis.report.sections import claims as claims_section
from eus_ray.analysis.report.sections import strata as strata_section
from eus_ray.store import Store

MakeStudy = Callable[..., Store]
pytestmark = pytest.mark.usefixtures("undrawn")


def scores(models: int = 3, patients: int = 40, seed: int = 0) -> pd.DataFrame:
    """Return one to three images per patient; each model is a little better than the last, model 0 misses some."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    base = rng.uniform(0.5, 0.8, len(patient))
    frames = []
    for k in range(models):
        dsc = np.clip(base + 0.03 * k + rng.normal(0, 0.05, len(patient)), 0, 1)
        missed = (rng.random(len(patient)) < 0.05) & (k == 0)
        frame = pd.DataFrame(
            {
                "model": ("unet", "attention_unet", "daf_net")[k] if k < 3 else f"model_{k}",
                "image_id": [f"i{place}" for place in range(len(patient))],
                "patient_id": [f"p{number:03d}" for number in patient],
                "fold": patient % 5,
                "t_stage": np.array(["T1", "T2", "T3"])[patient % 3],
                "size_mm": 10.0 + patient,
                "dsc": np.where(missed, 0, dsc),
                "hd": np.where(missed, math.inf, 40 * (1 - dsc)),
                "height": 60,
                "width": 80,
            }
        )
        frames.append(frame.assign(iou=lambda rows: rows["dsc"] / (2 - rows["dsc"])))
    return pd.concat(frames, ignore_index=True)


def results_of(frame: pd.DataFrame, folder: Path) -> Results:
    """Return results as `analyze` reads them from a table of scores."""
    frame.to_csv(folder / "scores.csv", index=False)
    return read_table(Store(folder), "scores.csv")


def rows_of(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return results_of(scores(), tmp_path_factory.mktemp("scores"))


@pytest.fixture(scope="module")
def table(study: Results) -> pd.DataFrame:
    aligned = align(study.headline, ["dsc", "iou", "hd"])
    divisions, _ = divide(study.headline)
    compared = compare_pairs(aligned, read_training(study.patients, {}, {}))
    return statistics_table(aligned, compared, level_tests(aligned, divisions), stratum_means(aligned, divisions))


# ---- rows ---------------------------------------------------------------------------------------


def test_the_columns_are_the_contract_and_both_files_say_the_same(table: pd.DataFrame) -> None:
    assert ",".join(table.columns) == (
        "question,metric,test,groups,unit,n,statistic,p_value,p_adjusted,effect_size,effect_name,low,high"
    )
    read = pq.read_table(io.BytesIO(as_parquet(table)))
    assert read.schema.remove_metadata() == SCHEMA
    assert b"eus_ray_schema" in read.schema.metadata
    again = pd.read_csv(io.StringIO(paper_tables.as_csv(table)), float_precision="round_trip", keep_default_na=False)
    for name in ("n", "p_value", "low"):
        expected = pd.to_numeric(again[name])
        np.testing.assert_array_equal(read[name].to_numpy(zero_copy_only=False), expected)
    assert read["groups"].to_pylist() == again["groups"].tolist()


def test_every_question_is_answered_for_every_metric(table: pd.DataFrame) -> None:
    asked = table.groupby("question")["metric"].agg(set).to_dict()
    share = asked.pop("How many images have an IoU above 0.5?")
    assert share == {"iou"}
    assert set(asked) == {
        "Are the values normal?",
        "Does it differ by t_stage?",
        "Do the models differ?",
        "Which models differ?",
        "Are the models equivalent?",
        "How good is it by t_stage?",
        "How good is it by size_mm?",
    }
    assert all(metrics == {"dsc", "iou", "hd"} for metrics in asked.values())


def test_tests_over_images_say_that_images_are_not_independent(table: pd.DataFrame) -> None:
    tested = table[table["p_value"].notna()]
    said = tested["test"].str.contains(AS_IN_THE_PAPER)
    assert said.equals(tested["unit"] == "images")
    assert said.any()
    assert not said.all()


def test_normality_is_of_images_and_of_patients_with_the_diagonal(table: pd.DataFrame, study: Results) -> None:
    mine = study.headline[study.headline["model"] == "unet"]
    assert np.isinf(mine["hd"]).any()
    bounded = mine["hd"].replace(math.inf, 100.0)  # the diagonal of 60 x 80
    (images, patients) = rows_of(table, question="Are the values normal?", metric="hd", groups="unet").itertuples()
    assert (images.unit, images.n, patients.unit, patients.n) == ("images", len(mine), "patients", 40)
    assert images.statistic == pytest.approx(scipy.stats.shapiro(bounded).statistic)
    means = bounded.groupby(mine["patient_id"]).mean()
    assert patients.p_value == pytest.approx(scipy.stats.shapiro(means).pvalue)


def test_all_models_together_are_friedmans_and_nemenyis(table: pd.DataFrame, study: Results) -> None:
    means = study.headline.groupby(["patient_id", "model"], sort=False)["dsc"].mean().unstack()
    expected = scipy.stats.friedmanchisquare(*(means[model] for model in study.models))
    (row,) = rows_of(table, metric="dsc", test="Friedman").itertuples()
    assert (row.statistic, row.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert row.n == 40
    assert row.effect_size == pytest.approx(expected.statistic / (40 * 2))
    nemenyi = rows_of(table, metric="dsc", test="Nemenyi")
    assert nemenyi["groups"].tolist() == ["unet vs attention_unet", "unet vs daf_net", "attention_unet vs daf_net"]
    ranks = means[list(study.models)].rank(axis=1).mean()
    assert nemenyi["effect_size"].iloc[1] == pytest.approx(ranks["unet"] - ranks["daf_net"])


def test_a_pair_has_all_its_tests(table: pd.DataFrame, study: Results) -> None:
    mine = rows_of(table, metric="dsc", groups="unet vs daf_net").set_index("test")
    assert mine["unit"].to_dict() == {
        "Nemenyi": "patients",
        "Wilcoxon signed rank": "patients",
        "sign flips": "patients",
        "Nadeau-Bengio": "folds",
        f"Wilcoxon signed rank, {AS_IN_THE_PAPER}": "images",
        "TOST within 0.02, 90 % interval": "patients",
    }
    means = study.headline.groupby(["patient_id", "model"])["dsc"].mean().unstack()
    differences = means["unet"] - means["daf_net"]
    flips, tost = mine.loc["sign flips"], mine.loc["TOST within 0.02, 90 % interval"]
    folds = study.headline.groupby("patient_id")["fold"].first()
    assert flips["effect_size"] == pytest.approx(differences.groupby(folds).mean().mean())
    assert flips["low"] < flips["effect_size"] < flips["high"]
    assert flips["p_adjusted"] >= flips["p_value"]
    half = scipy.stats.t.isf(0.05, 39) * differences.std(ddof=1) / math.sqrt(40)
    assert (tost["low"], tost["high"]) == pytest.approx((differences.mean() - half, differences.mean() + half))
    assert mine.loc["Nadeau-Bengio", "n"] == 5
    assert mine.loc["Wilcoxon signed rank", "p_adjusted"] >= mine.loc["Wilcoxon signed rank", "p_value"]


def test_the_share_above_one_half(table: pd.DataFrame, study: Results) -> None:
    (row,) = rows_of(table, question="How many images have an IoU above 0.5?", groups="unet").itertuples()
    iou = study.headline.loc[study.headline["model"] == "unet", "iou"]
    assert row.effect_size == pytest.approx((iou > 0.5).mean())
    assert row.low < row.effect_size < row.high


# ---- sections -----------------------------------------------------------------------------------


def sections(results: Results) -> tuple[Section, Section | None]:
    first, second = claims_section.build(results), strata_section.build(results)
    assert first is not None
    return first, second


def test_the_sections_of_a_table(study: Results) -> None:
    said, strata = sections(study)
    assert strata is not None
    assert 10 < said.order < 20 < strata.order
    assert set(said.files) == {"statistics.csv", "statistics.parquet", "claims.csv"}
    assert set(strata.files) == {
        f"figures/boxes_by_{name}.{end}" for name in ("t_stage", "size_mm") for end in ("svg", "png")
    }
    claims = pd.read_csv(io.BytesIO(said.files["claims.csv"]))
    assert tuple(claims.columns) == COLUMNS
    assert len(claims) == 3 * 3
    for sentence in claims.loc[claims["role"] == "primary", "claim"]:
        assert escape(sentence) in said.body
    assert "Believe the patient level" in said.body
    assert "Friedman, 40 patients" in said.body
    assert "T-stage" in strata.body
    assert "Size, mm" in strata.body
    assert "too few" not in strata.body


def test_the_example_study(make_study: MakeStudy) -> None:
    """daf_net is nearer to the truth in each of the seven patients in whom the two differ."""
    said, strata = sections(read_study(make_study()))
    claims = pd.read_csv(io.BytesIO(said.files["claims.csv"]))
    verdicts = claims[claims["metric"] == "dsc"].set_index(["model_a", "model_b"])["verdict"]
    assert verdicts["unet", "daf_net"] == "supported"
    assert {b for _, b in verdicts.index} == {"daf_net", "baseline"}
    assert strata is not None
    assert "too few" in strata.body
    assert "Lesion area" in strata.body


def test_a_winners_numbers_are_said_to_flatter_it(make_study: MakeStudy) -> None:
    said, _ = sections(read_study(make_study(kind="winner")))
    assert "The numbers of U-Net may flatter it: its settings were chosen on these folds." in said.body


def test_an_unfinished_study_compares_what_both_have(make_study: MakeStudy) -> None:
    study = make_study(state="running", whole=[], without=[("daf_net", 1), ("daf_net", 2)])
    said, _ = sections(read_study(study))
    claims = pd.read_csv(io.BytesIO(said.files["claims.csv"]))
    claims = claims[claims["model_b"] != "baseline"]
    assert set(claims["n_patients"]) == {2}  # of fold 0
    assert "Left out: 8 images that only one of them has." in said.body
    assert claims["nadeau_bengio_p"].isna().all()


def test_margins_of_the_study_are_used(make_study: MakeStudy) -> None:
    results = replace(read_study(make_study()), settings_text="[analysis]\nmargin = 0.5\n")
    claims = pd.read_csv(io.BytesIO(sections(results)[0].files["claims.csv"]))
    claims = claims[claims["model_b"] != "baseline"].set_index("metric")
    assert claims.loc["dsc", "margin"] == 0.5
    assert claims.loc["hd", "margin"] == 2


def test_names_from_the_data_are_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    frame = scores(2).replace({"unet": evil, "T3": "</td><img src=x onerror=alert(1)>"})
    frame = frame.rename(columns={"t_stage": "sta/ge<b>"})
    said, strata = sections(results_of(frame, tmp_path))
    assert strata is not None
    assert "<script>" not in said.body
    assert "&lt;script&gt;" in said.body
    assert "<img src=x" not in strata.body
    assert "<b>" not in strata.body
    assert "figures/boxes_by_sta_ge_b_.svg" in strata.files


# ---- odd data -----------------------------------------------------------------------------------


def constant(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(dsc=0.5, iou=1 / 3, hd=4.0)


def all_empty(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(dsc=0.0, iou=0.0, hd=math.inf)


def missing_values(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(t_stage=None, size_mm=np.where(frame["size_mm"] < 20, np.nan, frame["size_mm"]))


def only_dsc(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["model", "image_id", "patient_id", "dsc"]]


def only_hd95(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["model", "image_id", "patient_id"]].assign(hd95=np.linspace(1, 9, len(frame)))


def undefined_auc(frame: pd.DataFrame) -> pd.DataFrame:
    return only_dsc(frame).assign(auc=math.nan)


ODD: dict[str, tuple[pd.DataFrame, set[str]]] = {
    "one model": (scores(1), set()),
    "one patient": (scores(2, 1), {"too few patients"}),
    "two patients": (scores(3, 2), {"too few patients"}),
    "one fold": (scores(2).assign(fold=0), {"supported"}),
    "constant": (constant(scores(3)), {"equivalent"}),
    "all empty": (all_empty(scores(2)), {"equivalent"}),
    "missing values": (missing_values(scores(2)), {"supported"}),
    "only dsc": (only_dsc(scores(2)), {"supported"}),
    "undefined auc": (undefined_auc(scores(2)), {"supported"}),
    "one image": (scores(1, 1).iloc[:1], set()),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_data_give_a_sensible_answer(name: str, tmp_path: Path) -> None:
    frame, verdicts = ODD[name]
    said, strata = sections(results_of(frame, tmp_path))
    claims = pd.read_csv(io.BytesIO(said.files["claims.csv"]), keep_default_na=False)
    assert set(claims.loc[claims["metric"] == "dsc", "verdict"]) == verdicts
    shown = said.body + (strata.body if strata else "")
    assert not [word for word in ("nan", "NaN", "inf ") if word in shown]
    assert (frame["model"].nunique() > 1) == ("There is one model" not in said.body)


def test_a_table_without_dsc_is_exploratory(tmp_path: Path) -> None:
    said, _ = sections(results_of(only_hd95(scores(2)), tmp_path))
    assert "DSC, the primary metric, is not among the scores" in said.body
    assert set(pd.read_csv(io.BytesIO(said.files["claims.csv"]))["role"]) == {"exploratory"}


def test_nothing_to_measure_is_no_section(tmp_path: Path) -> None:
    frame = undefined_auc(scores(2)).drop(columns="dsc")
    results = results_of(frame, tmp_path)
    assert claims_section.build(results) is None
    assert strata_section.build(results) is None


def test_ten_models_and_many_columns_stay_within_bounds(tmp_path: Path) -> None:
    frame = scores(10, 20)
    number = frame["patient_id"].str[1:].astype(int)
    frame = frame.assign(**{f"c{k}": "level " + (number % (k % 14 + 2)).astype(str) for k in range(20)})
    results = results_of(frame, tmp_path)
    started = time.process_time()
    said, strata = sections(results)
    assert time.process_time() - started < 20
    assert strata is not None
    assert len(strata.files) == 2 * strata_section.MAX_FIGURES
    assert "Not shown: " in strata.body
    assert "<summary>45 pairs</summary>" in said.body
    assert len(said.files["statistics.csv"]) < 20e6


def test_a_usual_study_takes_seconds(tmp_path: Path) -> None:
    """330 images of 150 patients, three models: all but the drawing."""
    frame = scores(3, 165)
    results = results_of(frame, tmp_path)
    assert len(results.table2) == 3  # shared with the performance section
    started = time.process_time()
    sections(results)
    assert time.process_time() - started < 8
