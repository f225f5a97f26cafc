"""Two models on the same patients, against numbers worked by hand and scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.analysis.comparison.pairwise import (
    Comparison,
    Training,
    compare_pairs,
    margin_of,
    read_training,
)
from eus_ray.analysis.comparison.paper_tables import table2
from eus_ray.analysis.comparison.score_matrix import align
from eus_ray.analysis.statistics import sign_flip_test
from eus_ray.config import AnalysisSettings

NO_FOLDS = Training({0: 3}, {})
FIVE_FOLDS = Training(dict.fromkeys(range(5), 5), {})


def scores(**models: dict[str, Any]) -> pd.DataFrame:
    """Return one row per model and image from each model's columns; `image_id` counts from 0 by default."""
    frames = []
    for model, columns in models.items():
        frame = pd.DataFrame({"model": model, "fold": 0, "diagonal": 100.0} | columns)
        if "image_id" not in frame:
            frame["image_id"] = [f"i{place}" for place in range(len(frame))]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def random_study(models: int, patients: int, seed: int = 0, spread: float = 0.05) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    base = rng.uniform(0.5, 0.9, len(patient))
    columns = {"patient_id": [f"p{number:03d}" for number in patient], "fold": patient % 5}
    return scores(
        **{f"m{k}": columns | {"dsc": base + 0.02 * k + rng.normal(0, spread, len(patient))} for k in range(models)}
    )


def only(frame: pd.DataFrame, metric: str = "dsc", training: Training = NO_FOLDS) -> Comparison:
    (pair,) = compare_pairs(align(frame, [metric]), training)
    return pair


def test_the_unit_is_the_patient() -> None:
    patients = {"patient_id": ["p", "p", "q", "r"], "fold": [0, 0, 1, 1]}
    frame = scores(a=patients | {"dsc": [0.8, 0.6, 0.5, 0.9]}, b=patients | {"dsc": [0.6, 0.6, 0.4, 0.6]})
    pair = only(frame, training=Training({0: 1, 1: 2}, {}))
    assert (pair.first, pair.second, pair.num_patients, pair.num_images) == ("a", "b", 3, 4)
    # patients differ by 0.1 in one fold, by 0.1 and 0.3 in the other: (0.1 + 0.2)/2
    assert pair.difference == pytest.approx(0.15)
    # flips, times 4: ±0.2 ± 0.1 ± 0.3 is as far as 0.6 if all signs are alike
    assert pair.mean.p_value == 2 / 8
    assert pair.sd == pytest.approx(math.sqrt(0.04 / 3))
    assert (pair.favour("a"), pair.favour("b")) == (3, 0)
    assert pair.ranks.effect_size == 1
    assert pair.ranks.statistic == 0
    assert pair.p_adjusted == pair.mean.p_value
    # folds differ by 0.1 and 0.2; three patients are tested, and three are trained on: t = 0.15 / sqrt(1.5 x 0.005)
    assert pair.folds.statistic == pytest.approx(math.sqrt(3))
    assert pair.folds.p_value == pytest.approx(1 / 3)
    # d - 0.02 against less: t = (0.5/3 - 0.02) / (sd / sqrt 3)
    t = (0.5 / 3 - 0.02) / (math.sqrt(0.04 / 3) / math.sqrt(3))
    assert pair.equivalence.p_value == pytest.approx(scipy.stats.t.cdf(t, 2))


def test_infinite_distances_are_the_diagonal_in_every_paired_number() -> None:
    patients = {"patient_id": ["p", "q", "r", "s"]}
    frame = scores(a=patients | {"hd": [4, math.inf, 8, 6.0]}, b=patients | {"hd": [2, 5, math.inf, math.inf]})
    pair = only(frame, "hd")
    assert pair.margin == 2
    assert pair.difference == pytest.approx((2 + 95 - 92 - 94) / 4)
    assert pair.images.n == 4
    assert pair.ranks.effect_size == pytest.approx((1 + 4 - 2 - 3) / 10)
    assert (pair.favour("a"), pair.favour("b")) == (2, 2)


def test_only_what_both_have_is_compared() -> None:
    frame = scores(
        a={"image_id": ["1", "2", "3"], "patient_id": ["p", "p", "q"], "dsc": [0.9, 0.1, 0.5]},
        b={"image_id": ["1", "3", "4"], "patient_id": ["p", "q", "r"], "dsc": [0.8, 0.5, 0.7]},
    )
    pair = only(frame)
    assert (pair.num_patients, pair.num_images, pair.left_out) == (2, 2, 2)
    assert pair.difference == pytest.approx(0.05)
    apart = only(frame[(frame["model"] == "a") | (frame["image_id"] == "4")])
    assert (apart.num_patients, apart.left_out, apart.num_tests) == (0, 4, 0)
    assert math.isnan(apart.difference)
    assert math.isnan(apart.p_adjusted)
    assert math.isnan(apart.mean.low)


def test_an_undefined_auc_is_left_out_and_is_no_missing_image() -> None:
    patients = {"patient_id": ["p", "p", "q", "r"]}
    frame = scores(
        a=patients | {"auc": [0.9, math.nan, math.nan, 0.8]}, b=patients | {"auc": [0.7, math.nan, math.nan, 0.8]}
    )
    pair = only(frame, "auc")
    assert (pair.num_patients, pair.num_images, pair.left_out) == (2, 2, 0)
    assert pair.difference == pytest.approx(0.1)


def test_the_test_flips_each_patients_share_of_the_average() -> None:
    frame = random_study(2, 13)  # folds of 3 and 2 patients
    means = frame.groupby(["model", "patient_id", "fold"])["dsc"].mean().unstack(0).reset_index()
    differences = (means["m0"] - means["m1"]).to_numpy()
    number = means.groupby("fold")["fold"].transform("size").to_numpy()
    pair = only(frame, training=FIVE_FOLDS)
    expected = scipy.stats.permutation_test(
        (differences / number / 5,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert pair.mean.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    assert pair.difference == pytest.approx(expected.statistic)
    assert pair.ranks.p_value == pytest.approx(scipy.stats.wilcoxon(differences).pvalue)
    assert pair.images.n == len(frame) // 2


def test_images_may_be_averaged_as_in_the_paper() -> None:
    frame = random_study(2, 24)
    (pair,) = compare_pairs(align(frame, ["dsc"]), FIVE_FOLDS, AnalysisSettings(average="images"))
    wide = frame.pivot(index=["image_id", "patient_id", "fold"], columns="model", values="dsc").reset_index()
    wide["difference"] = wide["m0"] - wide["m1"]
    assert pair.difference == pytest.approx(wide.groupby("fold")["difference"].mean().mean())
    shares = 1 / wide.groupby("fold")["fold"].transform("size") / 5
    by_patient = wide.assign(share=shares, part=shares * wide["difference"]).groupby("patient_id")[["share", "part"]]
    sums = by_patient.sum()
    expected = sign_flip_test(sums["part"] / sums["share"], sums["share"])
    assert pair.mean.p_value == expected.p_value
    assert (pair.mean.low, pair.mean.high) == pytest.approx((expected.low, expected.high))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(6, 30), st.integers(0, 10_000), st.sampled_from(["patients", "images"]), st.sampled_from(["dsc", "hd"])
)
def test_random_studies_contradict_themselves_nowhere(number: int, seed: int, average: Any, metric: str) -> None:
    frame = random_study(3, number, seed)
    frame["hd"] = np.where(frame["dsc"] < 0.5, np.inf, 100 * (1 - frame["dsc"]))
    chosen = AnalysisSettings(average=average)
    pairs = compare_pairs(align(frame, [metric]), FIVE_FOLDS, chosen)
    rows = table2(frame, [metric], average, draws=2).set_index("model")[metric]
    for pair in pairs:
        assert pair.difference == pytest.approx(rows[pair.first] - rows[pair.second], abs=1e-9)
        assert (pair.mean.p_value < 0.05) == (pair.mean.low > 0 or pair.mean.high < 0)
    two = frame[frame["model"] != "m2"]
    (alone,) = compare_pairs(align(two, [metric]), FIVE_FOLDS, chosen)
    beside = pairs[0]
    assert {name for name in vars(alone) if vars(alone)[name] != vars(beside)[name]} <= {
        "p_adjusted",
        "ranks_p_adjusted",
        "images_p_adjusted",
        "num_tests",
    }


def test_swapping_the_models_turns_the_signs_and_nothing_else() -> None:
    frame = random_study(2, 20)
    there, back = only(frame, training=FIVE_FOLDS), only(frame.iloc[::-1], training=FIVE_FOLDS)
    assert (back.first, back.second) == ("m1", "m0")
    assert back.difference == pytest.approx(-there.difference)
    assert (back.mean.low, back.mean.high) == pytest.approx((-there.mean.high, -there.mean.low))
    assert back.mean.p_value == there.mean.p_value
    assert back.folds.statistic == pytest.approx(-there.folds.statistic)
    assert back.ranks.p_value == pytest.approx(there.ranks.p_value)
    assert back.equivalence.p_value == pytest.approx(there.equivalence.p_value)


def test_holm_counts_the_pairs_within_one_metric() -> None:
    frame = random_study(3, 30).assign(iou=lambda rows: rows["dsc"] / (2 - rows["dsc"]))
    compared = compare_pairs(align(frame, ["dsc", "iou"]), FIVE_FOLDS)
    assert len(compared) == 6
    assert {pair.num_tests for pair in compared} == {3}
    mine = sorted((pair for pair in compared if pair.metric == "dsc"), key=lambda pair: pair.mean.p_value)
    raw = [pair.mean.p_value for pair in mine]
    expected = np.maximum.accumulate(np.minimum(np.array(raw) * [3, 2, 1], 1))
    assert [pair.p_adjusted for pair in mine] == pytest.approx(expected)


def test_one_model_has_no_pairs() -> None:
    assert compare_pairs(align(random_study(1, 5), ["dsc"]), FIVE_FOLDS) == ()


# ---- training -----------------------------------------------------------------------------------


def patients_of(folds: dict[int, int]) -> pd.DataFrame:
    rows = [(f"{fold}-{number}", fold) for fold, count in folds.items() for number in range(count)]
    return pd.DataFrame(rows * 2, columns=["patient_id", "fold"])


def test_test_to_train_of_whole_and_of_unfinished_studies() -> None:
    training = read_training(patients_of({0: 30, 1: 30, 2: 31, 3: 29, 4: 30}), {"a": "fixed", "b": "fixed"}, {})
    assert training.test_to_train(["a", "b"], range(5)) == pytest.approx(1 / 4)
    assert training.test_to_train(["a", "b"], [0, 1]) == pytest.approx(60 / 240)
    assert training.test_to_train(["a", "b"], [2]) == pytest.approx(31 / 119)


def test_a_nested_estimate_trains_on_fewer() -> None:
    kinds = {"a": "nested", "b": "fixed"}
    training = read_training(patients_of({0: 10, 1: 10, 2: 10}), kinds, {"search": {"inner_folds": 4}})
    assert training.test_to_train(["b"], range(3)) == pytest.approx(1 / 2)
    assert training.test_to_train(["a", "b"], range(3)) == pytest.approx(1 / 2 / 0.75)


def test_one_fold_says_nothing_of_training() -> None:
    frame = random_study(2, 20).assign(fold=0)
    pair = only(frame, training=read_training(frame, {}, {}))
    assert math.isnan(pair.folds.p_value)


# ---- margins ------------------------------------------------------------------------------------


def test_margins_come_from_the_study_or_are_those_of_the_field() -> None:
    assert [margin_of(metric, AnalysisSettings()) for metric in ("dsc", "nsd", "hd", "hd_largest")] == [
        0.02,
        0.02,
        2,
        2,
    ]
    chosen = AnalysisSettings(margin=0.05, distance_margin=1)
    assert (margin_of("iou", chosen), margin_of("hd95", chosen)) == (0.05, 1)


# ---- aligned ------------------------------------------------------------------------------------


def test_aligned_keeps_infinities_for_rank_tests_and_bounds_them_for_the_rest() -> None:
    frame = scores(
        a={"image_id": ["2", "1"], "patient_id": ["q", "p"], "hd": [math.inf, 3.0]},
        b={"image_id": ["1"], "patient_id": ["p"], "hd": [4.0]},
    )
    found = align(frame, ["hd"])
    assert found.images.tolist() == ["2", "1"]
    assert found.models == ("a", "b")
    assert found.predicted.tolist() == [[True, False], [True, True]]
    assert found.values[0, 0, 0] == math.inf
    assert found.bounded[0, 0, 0] == 100
    assert np.isnan(found.values[0, 1, 0])
    assert found.patient_means(found.bounded)[:, 0, 0].tolist() == [3, 100]  # p, q
    with pytest.raises(ValueError, match="several rows for one image"):
        align(pd.concat([frame, frame]), ["hd"])
