"""Estimates of a search: by hand, against a slow literal BBC-CV, without signal, from a study folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eus_ray import store
from eus_ray.analysis.comparison.importances import importances
from eus_ray.analysis.comparison.search_statements import headline
from eus_ray.analysis.comparison.selection_bias import (
    PatientScores,
    bbc_cv,
    draw_patients,
    estimates,
    fold_winners,
    weighted_scores,
    write_selection,
)
from eus_ray.analysis.inputs.searches import read_searches
from eus_ray.analysis.statistics import sign_flip_test
from eus_ray.errors import UserError
from eus_ray.store import PartKey, Store, TrialKey
from tests.analysis.search_example import trial_row, write_scores, write_search

MakeStudy = Callable[..., Store]
NAN = float("nan")


def judged(
    test: list[list[float]], validation: list[list[list[float]]], folds: list[int], first: int = 0
) -> PatientScores:
    patients = np.array([f"p{place:03d}" for place in range(len(folds))])
    trials = tuple(range(first, first + len(test)))
    return PatientScores(trials, np.array(validation), np.array(test), np.array(folds), patients)


def by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["estimate"]: row for row in rows}


# Two folds with patients p0, p1 and p2, p3; those of the other fold validate. Three trials, 7, 8 and 9.
HAND = judged(
    test=[[0.5, 0.7, 0.6, 0.8], [0.9, 0.7, 0.5, 0.3], [0.6, 0.6, 0.6, 0.6]],
    validation=[
        [[NAN, NAN, 0.6, 0.8], [0.5, 0.5, NAN, NAN]],  # .7 and .5: .60
        [[NAN, NAN, 0.9, 0.7], [0.7, 0.5, NAN, NAN]],  # .8 and .6: .70
        [[NAN, NAN, 0.5, 0.5], [0.8, 0.6, NAN, NAN]],  # .5 and .7: .60
    ],
    folds=[0, 0, 1, 1],
    first=7,
)


def test_estimates_by_hand() -> None:
    rows = estimates(HAND, "nested", default_trial=7, draws=500)
    found = by_name(rows)
    assert (found["naive"]["value"], found["naive"]["trial"]) == (pytest.approx(0.70), 8)
    won = [(row["fold"], row["trial"], round(row["value"], 9)) for row in rows if row["estimate"] == "fold_winner"]
    assert won == [(0, 8, 0.8), (1, 9, 0.7)]
    # Trial 8 has (.9 + .7)/2 on the test patients of fold 0, trial 9 .6 on those of fold 1.
    assert found["nested"]["value"] == pytest.approx(0.7)
    # On test patients: (.6 + .7)/2, (.8 + .4)/2, .6.
    assert (found["naive_test"]["value"], found["naive_test"]["trial"]) == (pytest.approx(0.65), 7)
    assert (found["default"]["value"], found["default"]["trial"]) == (pytest.approx(0.65), 7)
    # Differences of patients: .4, 0 in fold 0, 0, -.2 in fold 1.
    assert found["gain"]["value"] == pytest.approx(0.05)
    assert found["bias"]["value"] == pytest.approx(0.65 - found["bbc"]["value"])
    assert {row["trials"] for row in rows} == {3}
    # Patients drawn within folds: fold 0 has .9, .8 or .7, fold 1 always .6.
    assert (found["nested"]["low"], found["nested"]["high"]) == (pytest.approx(0.65), pytest.approx(0.75))
    # Flips of four patients reject no shift.
    assert np.isnan([found["gain"]["low"], found["gain"]["high"]]).all()


def with_rival(shift: float) -> PatientScores:
    """Return two equal trials on 16 patients in two folds, and a fixed mask that is `shift` below them."""
    test = np.linspace(0.5, 0.8, 16) + 0.01 * (-1.0) ** np.arange(16)
    validation = [[[NAN] * 8 + [0.6] * 8, [0.6] * 8 + [NAN] * 8]] * 2
    scores = judged([list(test)] * 2, validation, [0] * 8 + [1] * 8)
    fixed_mask = test - shift - 0.05 * (-1.0) ** np.arange(16)
    return replace(scores, baseline=fixed_mask, images=np.array([1, 3] * 8))


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (0.1, "Better than one fixed mask: the interval lies above 0."),
        (0.01, "Not shown to be better than one fixed mask that looks at no image: the interval includes 0."),
        (-0.1, "Worse than one fixed mask that looks at no image: the interval lies below 0."),
    ],
)
def test_the_fixed_mask_is_a_rival_of_what_was_found(shift: float, said: str) -> None:
    scores = with_rival(shift)
    rows = estimates(scores, "nested", None, draws=200)
    found = by_name(rows)
    assert found["over_baseline"]["value"] == pytest.approx(shift)
    expected = sign_flip_test(shift + 0.05 * (-1.0) ** np.arange(16), np.ones(16))
    assert (found["over_baseline"]["low"], found["over_baseline"]["high"]) == pytest.approx(
        (expected.low, expected.high)
    )
    assert headline(pd.DataFrame(rows).assign(model="unet", metric="dsc"))[-1].endswith(said)
    if shift > 0.05:
        assert by_name(estimates(scores, "paper", None, draws=200))["over_baseline"]["low"] > 0


def test_what_is_reported_is_averaged_as_the_study_says() -> None:
    scores = with_rival(0.1)
    found = by_name(estimates(scores, "nested", None, "images", draws=200))
    images = np.repeat(scores.test[0], scores.images), np.repeat(scores.folds, scores.images)
    by_fold = [images[0][images[1] == fold].mean() for fold in (0, 1)]
    assert found["nested"]["value"] == pytest.approx(np.mean(by_fold))
    # an image of the patients with three is 0.05 more above the fixed mask than one of the others is below
    assert found["over_baseline"]["value"] == pytest.approx(0.1 + 0.05 * (1 - 3) / 4)
    assert by_name(estimates(scores, "nested", None, draws=200))["nested"]["value"] == pytest.approx(
        scores.test[0].mean()
    )


def test_under_paper_nothing_is_nested() -> None:
    rows = estimates(HAND, "paper", default_trial=7, draws=400)
    found = by_name(rows)
    assert "nested" not in found
    assert "fold_winner" not in found
    assert found["naive"] == found["naive_test"] | {"estimate": "naive"}
    assert found["naive"]["trial"] == 7
    winners, left_out = bbc_cv(HAND.test, HAND.folds, 400)
    outside = weighted_scores(HAND.test, HAND.folds, left_out * 1.0)
    gains = outside[np.arange(400), winners] - outside[:, 0]
    assert found["gain"]["value"] == pytest.approx(gains.mean())
    assert found["gain"]["low"] == pytest.approx(np.percentile(gains, 2.5))


def test_a_default_that_was_not_completed_has_no_gain() -> None:
    assert {"default", "gain"}.isdisjoint(by_name(estimates(HAND, "nested", None, draws=20)))
    assert {"default", "gain"}.isdisjoint(by_name(estimates(HAND, "nested", 3, draws=20)))


def test_a_fold_with_a_single_patient_leaves_no_interval() -> None:
    one_each = judged([[0.5, 0.6], [0.7, 0.9]], [[[NAN, 0.6], [0.5, NAN]], [[NAN, 0.8], [0.7, NAN]]], [0, 1])
    rows = estimates(one_each, "nested", 0, draws=100)
    found = by_name(rows)
    assert found["gain"]["value"] == pytest.approx(0.25)
    assert all(np.isnan(found[name]["low"]) for name in ("nested", "default", "gain"))
    said = headline(pd.DataFrame(rows).assign(model="unet", metric="dsc"))
    assert said[-1].endswith("Too few patients to judge by.")


def test_the_only_trial_has_no_bias_to_speak_of() -> None:
    one = judged([[0.5, 0.7, 0.6, 0.8]], [[[NAN, NAN, 0.6, 0.8], [0.5, 0.5, NAN, NAN]]], [0, 0, 1, 1])
    found = by_name(estimates(one, "nested", 0, draws=2000))
    assert found["gain"] | {"low": 0.0, "high": 0.0, "value": 0.0} == found["gain"]
    assert abs(found["bias"]["value"]) < 0.005


def test_no_complete_trial_no_estimate() -> None:
    none = PatientScores((), np.empty((0, 2, 4)), np.empty((0, 4)), np.array([0, 0, 1, 1]), np.array(list("abcd")))
    assert estimates(none, "nested", 0) == []


def test_the_first_of_equals_wins() -> None:
    scores = np.random.default_rng(0).normal(0.7, 0.1, 60)
    folds = np.arange(60) % 5
    winners, _ = bbc_cv(np.tile(scores, (37, 1)), folds, draws=300)
    assert (winners == 0).all()  # whatever rounding a matrix product does in column 36
    assert fold_winners(np.tile(scores, (3, 2, 1))).tolist() == [0, 0]


# ---- BBC-CV -------------------------------------------------------------------------------------


def literal_bbc(test: np.ndarray, folds: np.ndarray, drawn: np.ndarray) -> tuple[list[int], list[float]]:
    """Compute BBC-CV word by word: one draw, one trial, one patient at a time."""

    def score(values: np.ndarray, patients: list[int]) -> float:
        means = []
        for fold in sorted(set(folds.tolist())):
            here = [float(values[patient]) for patient in patients if folds[patient] == fold]
            if here:
                means.append(sum(here) / len(here))
        return sum(means) / len(means)

    winners, losses = [], []
    for times in drawn:
        inside = [patient for patient, number in enumerate(times) for _ in range(number)]
        outside = [patient for patient, number in enumerate(times) if number == 0]
        scores = [score(values, inside) for values in test]
        winners.append(scores.index(max(scores)))
        losses.append(score(test[winners[-1]], outside))
    return winners, losses


@pytest.mark.parametrize(("patients", "folds", "trials"), [(30, 5, 12), (7, 3, 4), (2, 2, 3)])
def test_bbc_is_the_literal_one(patients: int, folds: int, trials: int) -> None:
    """Also where draws leave whole folds without a patient, inside or outside."""
    rng = np.random.default_rng(patients)
    test = rng.normal(0.7, 0.1, patients) + rng.normal(0, 0.08, (trials, patients))
    of_fold = rng.permutation(np.arange(patients) % folds)
    winners, left_out = bbc_cv(test, of_fold, draws=150, seed=4)
    outside = weighted_scores(test, of_fold, left_out * 1.0)
    drawn = draw_patients(patients, 150, np.random.default_rng(4))
    expected, losses = literal_bbc(test, of_fold, drawn)
    assert winners.tolist() == expected
    assert outside[np.arange(150), winners] == pytest.approx(losses, abs=1e-12)


def test_draws_are_with_replacement_and_leave_somebody_out() -> None:
    drawn = draw_patients(3, 3000, np.random.default_rng(0))
    assert drawn.shape == (3000, 3)
    assert (drawn.sum(axis=1) == 3).all()
    assert (drawn == 0).any(axis=1).all()
    # Of the 27 ordered draws 6 leave nobody out; of the other 21, 3 are of one patient alone.
    assert (drawn.max(axis=1) == 3).mean() == pytest.approx(3 / 21, abs=0.02)
    with pytest.raises(ValueError, match="1 patients cannot be divided"):
        draw_patients(1, 10, np.random.default_rng(0))


def test_without_signal_only_the_naive_score_is_too_good() -> None:
    """Fifty equal settings, fifty patients: what is found is luck, and neither estimate believes in it."""
    rng = np.random.default_rng(0)
    naive, nested, corrected = [], [], []
    folds = np.arange(50) % 5
    patients = np.array([f"p{place:02d}" for place in range(50)])
    for _ in range(120):
        people = rng.normal(0, 0.10, 50)
        test = people + rng.normal(0, 0.09, (50, 50))
        validation = np.full((50, 5, 50), NAN)
        for fold in range(5):
            who = rng.choice(np.flatnonzero(folds != fold), 8, replace=False)
            validation[:, fold, who] = people[who] + rng.normal(0, 0.09, (50, 8))
        found = by_name(
            estimates(PatientScores(tuple(range(50)), validation, test, folds, patients), "nested", 0, draws=200)
        )
        truth = people.mean()
        naive.append(found["naive_test"]["value"] - truth)
        nested.append(found["nested"]["value"] - truth)
        corrected.append(found["bbc"]["value"] - truth)
    assert np.mean(naive) > 0.02
    for errors in (nested, corrected):
        assert abs(np.mean(errors)) < min(0.004, 3 * np.std(errors) / np.sqrt(len(errors)))


def test_a_setting_that_is_better_is_found_and_believed() -> None:
    rng = np.random.default_rng(1)
    test = rng.normal(0.7, 0.1, 80) + rng.normal(0, 0.02, (20, 80))
    test[13] += 0.1
    validation = np.where(np.arange(80) % 4 == np.arange(4)[:, None], NAN, test[:, None, :])
    found = by_name(estimates(judged(test.tolist(), validation.tolist(), (np.arange(80) % 4).tolist()), "nested", 0))
    assert found["naive"]["trial"] == found["naive_test"]["trial"] == 13
    assert abs(found["bias"]["value"]) < 0.003
    assert found["gain"]["low"] > 0.08
    assert found["gain"]["high"] < 0.12


# ---- from a study folder ------------------------------------------------------------------------

TEST = {
    1: dict(zip("ABCDEFGH", (0.70, 0.72, 0.60, 0.62, 0.50, 0.81, 0.64, 0.55), strict=True)),
    2: dict(zip("ABCDEFGH", (0.80, 0.62, 0.70, 0.66, 0.52, 0.71, 0.74, 0.65), strict=True)),
}
VALIDATION = {
    1: {0: {"C": 0.6, "D": 0.8}, 1: {"A": 0.7, "F": 0.5}, 2: {"B": 0.9}},
    2: {0: {"C": 0.8, "D": 0.7}, 1: {"A": 0.5, "F": 0.6}, 2: {"B": 0.8}},
}


def searched(make_study: MakeStudy, **changes: Any) -> Store:
    study = make_study(models=["unet"], whole=[])
    rows = [trial_row("unet", 1), trial_row("unet", 2), trial_row("unet", 3, "pruned", folds_done=1)]
    write_search(study, "unet", [*rows, trial_row("unet", 4, "failed", value=None)], **({"default_trial": 1} | changes))
    for trial in (1, 2):
        write_scores(study, "unet", trial, TEST[trial], VALIDATION[trial])
    write_scores(study, "unet", 3, TEST[2], {0: {"C": 0.95, "D": 0.95}}, folds=[0])
    return study


def test_a_search_is_read_from_its_folder(make_study: MakeStudy) -> None:
    study = searched(make_study)
    study.finish_trial(TrialKey("unet", 1), 3)  # one trial in one file, the other in parts
    found = write_selection(study)
    schema = study.read_table(store.SELECTION_FILE).schema.remove_metadata()
    assert schema == store.SELECTION
    pd.testing.assert_frame_equal(found, study.read_table(store.SELECTION_FILE).to_pandas())
    value = found.set_index("estimate")["value"]
    # Validation means of trial 1: .7, .6, .9. Patients of two images count once, with their mean.
    assert value["naive"] == pytest.approx((0.7 + 0.6 + 0.9) / 3)
    won = found[found["estimate"] == "fold_winner"]
    assert won["fold"].tolist() == [0, 1, 2]
    assert won["trial"].tolist() == [2, 1, 1]
    mine = pd.DataFrame({"fold": store.read_manifest(study).groupby("patient_id")["fold"].first()})
    mine = mine.assign(one=pd.Series(TEST[1]), two=pd.Series(TEST[2])).groupby("fold").mean()
    assert value["nested"] == pytest.approx((mine["two"][0] + mine["one"][1] + mine["one"][2]) / 3)
    assert value["default"] == pytest.approx(mine["one"].mean())
    assert value["gain"] == pytest.approx((mine["two"][0] - mine["one"][0]) / 3)
    assert value["naive_test"] == pytest.approx(max(mine["one"].mean(), mine["two"].mean()))
    assert set(found["trials"].dropna()) == {2}
    assert set(found["metric"]) == {"dsc"}


def test_under_paper_the_test_folds_are_what_was_searched(make_study: MakeStudy) -> None:
    found = write_selection(searched(make_study, protocol="paper")).set_index("estimate")
    assert set(found.index) == {"naive", "naive_test", "bbc", "bias", "default", "gain", "baseline", "over_baseline"}
    assert found.loc["naive", "value"] == found.loc["naive_test", "value"]


def test_another_metric_is_judged_by_itself(make_study: MakeStudy) -> None:
    value = write_selection(searched(make_study, metric="sp")).set_index("estimate")["value"]
    assert 0.9 < value["naive"] < 1  # tn is 50000, fp some thousand


def test_a_search_without_a_complete_trial_says_nothing(make_study: MakeStudy) -> None:
    study = make_study(models=["unet"], whole=[])
    write_search(study, "unet", [trial_row("unet", 1, "failed", value=None)])
    found = write_selection(study)
    assert found.empty
    assert list(found.columns) == store.SELECTION.names
    assert headline(found) == []
    assert study.exists(store.SELECTION_FILE)


def test_scores_that_are_not_all_there_are_named_at_once(make_study: MakeStudy) -> None:
    study = searched(make_study)
    study.delete(store.part_name("scores", PartKey("unet", 1, 0, 2)))
    write_scores(study, "unet", 2, TEST[2], {}, folds=[1])
    with pytest.raises(UserError) as caught:
        write_selection(study)
    first, second, third = caught.value.lines
    assert "unet, trial 1: is complete, but its scores lack 3 test patients (fold 2); run the search again" in first
    assert "unet, trial 1: is complete, but its scores lack the validation patients of fold 2" in second
    assert "unet, trial 2: is complete, but its scores lack the validation patients of fold 1" in third
    assert not study.exists(store.SELECTION_FILE)


# ---- importances --------------------------------------------------------------------------------


def tried(make_study: MakeStudy, number: int, seed: int = 0) -> dict[str, float]:
    """Compute importances if scores depend on the learning rate alone; every third trial is pruned."""
    study = make_study(models=["unet"], whole=[])
    rng = np.random.default_rng(seed)
    rows = []
    for trial in range(1, number + 1):
        rate = float(10 ** rng.uniform(-5, -1))
        value = 0.8 - 0.1 * abs(np.log10(rate) + 3) + rng.normal(0, 0.005)
        settings = {"optim.lr": rate, "optim.gamma": rng.uniform(0.01, 0.5)}
        settings["optim.milestones"] = str(rng.choice(["[5, 20]", "[10, 30]"]))
        rows.append(trial_row("unet", trial, "complete" if trial % 3 else "pruned", value=value, **settings))
    rows[0]["optim.lr"] = 0.5  # the study's own, outside the range
    write_search(study, "unet", rows)
    return importances(read_searches(study, store.read_trials(study))["unet"])


def test_what_the_score_depends_on_is_important(make_study: MakeStudy) -> None:
    shares = tried(make_study, 60)
    assert list(shares) == ["optim.lr", "optim.schedule", "optim.gamma", "optim.milestones", "train.batch_size"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["optim.lr"] > 0.6
    assert max(shares, key=lambda name: shares[name]) == "optim.lr"


def test_too_few_trials_tell_nothing(make_study: MakeStudy) -> None:
    assert tried(make_study, 9) == {}
    study = make_study("same", models=["unet"], whole=[])
    write_search(study, "unet", [trial_row("unet", trial) for trial in range(1, 13)])  # all have one value
    assert importances(read_searches(study, store.read_trials(study))["unet"]) == {}


def test_a_field_plays_a_part_only_where_its_condition_holds(make_study: MakeStudy) -> None:
    study = make_study(models=["unet"], whole=[])
    write_search(study, "unet", [trial_row("unet", trial) for trial in range(1, 5)])
    search = read_searches(study, store.read_trials(study))["unet"]
    lists = search.settings(search.dimensions[3])
    assert lists[[0, 2]].tolist() == ["[5, 20]", "[5, 20]"]
    assert lists[[1, 3]].isna().all()


# ---- headline -----------------------------------------------------------------------------------


def rows_of(**values: tuple[float, float, float]) -> pd.DataFrame:
    rows = [
        {"model": "unet", "metric": "dsc", "trials": 16, "trial": 7, "estimate": name}
        | dict(zip(("value", "low", "high"), numbers, strict=True))
        for name, numbers in values.items()
    ]
    return pd.DataFrame(rows)


def test_the_headline_says_which_number_to_believe() -> None:
    nested = rows_of(
        naive=(0.771, NAN, NAN),
        nested=(0.742, 0.701, 0.78),
        naive_test=(0.751, NAN, NAN),
        bbc=(0.738, 0.7, 0.775),
        bias=(0.013, NAN, NAN),
        default=(0.73, 0.69, 0.77),
        gain=(0.012, -0.003, 0.027),
    )
    lines = headline(nested)
    assert lines[0] == "U-Net: DSC, mean over folds of patients' means (95 % interval); 16 complete trials"
    assert lines[1].startswith("  Nested estimate       0.742 (0.701–0.780)  Believe this one")
    assert "0.771" in lines[2]
    assert "the best of 16, trial 7" in lines[2]
    assert "difference from the nested estimate is +0.029." in lines[2]
    assert "0.738 (0.700–0.775)" in lines[3]
    assert "minus a selection bias of 0.013" in lines[3]
    assert "+0.012 (-0.003 to +0.027)  Not shown to be better" in lines[5]
    assert sum("Believe" in line for line in lines) == 1


def test_under_paper_the_headline_is_the_corrected_score() -> None:
    lines = headline(rows_of(naive=(0.75, NAN, NAN), bbc=(0.738, 0.7, 0.775), bias=(0.012, NAN, NAN)))
    assert lines[1].startswith("  BBC-CV    0.738 (0.700–0.775)  Believe this one")
    assert "Do not report it" in lines[2]
    assert "0.012" in lines[2]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((0.02, 0.01, 0.03), "found better settings"),
        ((-0.02, -0.03, -0.01), "found worse settings"),
        ((0.0, 0.0, 0.0), "the study's own settings were chosen"),
    ],
)
def test_a_gain_is_read_off_its_interval(gain: tuple[float, float, float], words: str) -> None:
    base = {"naive": (0.7, NAN, NAN), "bbc": (0.7, 0.6, 0.8), "bias": (0.0, NAN, NAN), "default": (0.7, 0.6, 0.8)}
    assert words in headline(rows_of(**base, gain=gain))[-1]
