"""Folds: whole patients, as even as enumeration shows to be possible, and drawn by the seed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from eus_ray.data.manifest import read_manifest
from eus_ray.data.splits import assign_folds, balance, split_patients, validation_split
from eus_ray.errors import UserError


def frame_of(images: np.ndarray, **columns: object) -> pd.DataFrame:
    """One row an image, of patients with so many images each; columns hold a value a patient."""
    patients = pd.DataFrame({"patient_id": [f"P{i:04d}" for i in range(len(images))], **columns})
    return patients.loc[np.repeat(patients.index, images)].reset_index(drop=True)


def paper_like(seed: int = 0) -> pd.DataFrame:
    """150 patients with 330 images, 1 to 4 each, and the paper's counts of T-stage and location."""
    rng = np.random.default_rng(seed)
    images = rng.permutation(np.repeat([1, 2, 3, 4], [45, 50, 35, 20]))
    stage = rng.permutation(np.repeat(["T1", "T2", "T3"], [33, 99, 18]))
    location = rng.permutation(np.repeat(["body", "head", "neck", "tail", "uncinate"], [35, 58, 18, 33, 6]))
    return frame_of(images, t_stage=stage, location=location)


def lines_of(frame: pd.DataFrame, count: int, stratify: list[str]) -> tuple[str, ...]:
    with pytest.raises(UserError) as refused:
        assign_folds(frame, count, 0, stratify)
    return refused.value.lines


# ---- balance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_papers_folds(seed: int) -> None:
    """Each fold 30 patients and 66 images, as in the paper; each stratum within one of its even share."""
    frame = paper_like(seed)
    plan = assign_folds(frame, 5, seed, ["t_stage", "location"])
    by_fold = frame.assign(fold=plan.fold).groupby("fold")
    assert by_fold["patient_id"].nunique().tolist() == [30] * 5
    assert by_fold.size().tolist() == [66] * 5
    assert frame.assign(fold=plan.fold).groupby("patient_id")["fold"].nunique().max() == 1
    patients = frame.assign(fold=plan.fold).groupby("patient_id").first()
    for column in ("t_stage", "location"):
        table = pd.crosstab(patients[column], patients["fold"])
        assert table.sub(table.sum(axis=1) / 5, axis=0).abs().to_numpy().max() < 1
    assert (plan.gap, plan.given) == (0.0, False)


def test_real_patients(busbra: Path) -> None:
    frame = read_manifest(busbra / "manifest.csv").frame
    plan = assign_folds(frame, 5, 0, ["pathology"])
    table = balance(frame, plan.fold, ["pathology"]).set_index(["column", "stratum"])
    folds = [str(k) for k in range(5)]
    assert sorted(table.loc[("patients", ""), folds]) == [36, 36, 36, 37, 37]
    assert table.loc[("images", ""), folds].tolist() == [64] * 5
    assert table.loc["pathology", "off"].max() < 1
    assert plan.gap == 0


def evenness(images: np.ndarray, strata: list[np.ndarray], fold: np.ndarray, count: int) -> tuple[float, ...]:
    """What is to be least, straight from the definition: spread of images, then strata, first those far off."""
    totals = np.bincount(fold, weights=images, minlength=count)
    far, outside = [], []
    for column in strata:
        cells = np.array([np.bincount(fold[column == s], minlength=count) for s in np.unique(column)])
        share = cells.sum(axis=1, keepdims=True) / count
        far.append(np.ceil(np.maximum(0, np.abs(cells - share) - 1) - 1e-9).sum())
        outside.append(np.maximum(0, np.maximum(cells - np.ceil(share), np.floor(share) - cells)).sum())
    return (np.ptp(totals), *far, *outside)


@pytest.mark.parametrize("seed", range(25))
def test_no_assignment_is_more_even(seed: int) -> None:
    """Every assignment with equal numbers of patients is looked at; many of these cases have no ideal one."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 4))
    patients = int(rng.integers(count, 9 if count == 2 else 8))
    images = rng.integers(1, rng.integers(2, 9), patients)
    strata = [rng.integers(0, rng.integers(1, 4), patients) for _ in range(rng.integers(0, 3))]
    names = [f"c{i}" for i in range(len(strata))]
    frame = frame_of(images, **{name: [f"s{v}" for v in column] for name, column in zip(names, strata, strict=True)})
    plan = split_patients(frame, count, seed, names)
    fold = plan.fold[frame.drop_duplicates("patient_id").index]

    candidates = (np.array(one) for one in itertools.product(range(count), repeat=patients))
    balanced = (one for one in candidates if np.ptp(np.bincount(one, minlength=count)) <= 1)
    best = min(evenness(images, strata, one, count) for one in balanced)
    assert np.ptp(np.bincount(fold, minlength=count)) <= 1
    assert evenness(images, strata, fold, count) == best
    assert plan.gap == 0


def test_a_patient_with_most_images() -> None:
    """No spread below 100 - 8 can be: the other fold has at most four patients of two images."""
    plan = split_patients(frame_of(np.array([100, *[2] * 7])), 2, 0)
    assert sorted(np.bincount(plan.fold)) == [8, 106]
    assert plan.gap == 0


def test_gap_is_told_where_nodes_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """102 images and 3 is the best there is; without nodes only a spread of 1 (105 is odd) is known to be none."""
    frame = frame_of(np.array([100, 1, 1, 1, 1, 1]))
    assert split_patients(frame, 2, 0).gap == 0.0
    monkeypatch.setattr("eus_ray.data.split_solver._MAX_NODES_TIMES_VARIABLES", 0)
    assert split_patients(frame, 2, 0).gap == pytest.approx(98 / 99)


def test_a_thousand_patients() -> None:
    rng = np.random.default_rng(0)
    columns = {f"c{i}": rng.choice(list("abcde"), 1000) for i in range(3)}
    frame = frame_of(rng.integers(1, 5, 1000), **columns, age=rng.normal(70, 10, 1000))
    plan = split_patients(frame, 5, 0, [*columns, "age"])
    assert balance(frame, plan.fold, [*columns, "age"])["off"].max() < 1
    assert plan.gap == 0


def test_beside_scikit_learn() -> None:
    frame = paper_like()
    label = frame["t_stage"] + frame["location"]
    theirs = np.empty(len(frame), np.int64)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="least populated"):
        splits = list(splitter.split(frame, label, frame["patient_id"]))
    for fold, (_, test) in enumerate(splits):
        theirs[test] = fold
    strata = ["t_stage", "location"]
    ours = balance(frame, split_patients(frame, 5, 0, strata).fold, strata)
    assert ours["off"].max() < 1 < balance(frame, theirs, strata)["off"].max()


# ---- the seed ---------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_folds_whatever_the_order_of_the_rows() -> None:
    frame = paper_like()
    plan = split_patients(frame, 5, 7, ["t_stage"])
    assert (split_patients(frame, 5, 7, ["t_stage"]).fold == plan.fold).all()
    shuffled = frame.sample(frac=1, random_state=1)
    again = pd.Series(split_patients(shuffled, 5, 7, ["t_stage"]).fold, index=shuffled.index).sort_index()
    assert (again.to_numpy() == plan.fold).all()


def test_seeds_draw_at_random() -> None:
    """Two patients share a fold as often as chance has it, (30 - 1) / (150 - 1), and no pair plainly more."""
    frame = paper_like()
    first = frame.drop_duplicates("patient_id").index
    plans = [split_patients(frame, 5, seed, ["t_stage", "location"]).fold[first] for seed in range(12)]
    together = np.mean([fold[:, None] == fold for fold in plans], axis=0)[np.triu_indices(150, 1)]
    chance = 29 / 149
    assert together.mean() == pytest.approx(chance)
    assert together.var() == pytest.approx(chance * (1 - chance) / 12, rel=0.15)


# ---- strata -----------------------------------------------------------------------------------------


def rows_of(frame: pd.DataFrame, column: str) -> dict[str, int]:
    """The strata of a column and the patients in each."""
    table = balance(frame, split_patients(frame, 2, 0, [column]).fold, [column])
    table = table[table["column"] == column]
    return {row.stratum: round(row.even_share * 2) for row in table.itertuples()}


def test_numbers_are_cut_in_terciles_over_patients() -> None:
    frame = frame_of(np.array([1, 2, 3, 1, 2, 3, 1, 2, 3]), size=np.arange(1.0, 10.0), grade=[1, 2, 3] * 3)
    assert rows_of(frame, "size") == {"1 to 3": 3, "4 to 6": 3, "7 to 9": 3}
    assert rows_of(frame, "grade") == {"1": 3, "2": 3, "3": 3}
    tied = frame_of(np.ones(12, int), size=[0.0] * 6 + [1, 2, 3, 4, 5, 6])
    assert rows_of(tied, "size") == {"0 to 0": 6, "1 to 2": 2, "3 to 6": 4}


def test_lesion_size_is_the_mean_share_of_a_patients_images() -> None:
    frame = frame_of(np.full(6, 2))
    frame["lesion_share"] = [0.1, 0.3, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5, 0.6, 0.6]
    assert rows_of(frame, "lesion_size") == {"0.2 to 0.2": 2, "0.3 to 0.4": 2, "0.5 to 0.6": 2}


def test_missing_values_are_a_stratum_and_varying_ones_the_most_frequent() -> None:
    frame = frame_of(np.array([3, 1, 1, 2]))
    frame["grade"] = ["b", "a", "b", "a", None, "b", "a"]
    assert rows_of(frame, "grade") == {"a": 2, "b": 1, "(missing)": 1}


# ---- refused ----------------------------------------------------------------------------------------


def test_more_folds_than_patients() -> None:
    (line,) = lines_of(frame_of(np.ones(4, int)), 5, [])
    assert line == "folds.count: 5 folds need as many patients, the manifest has 4"


def test_unknown_columns_and_small_strata_at_once() -> None:
    frame = paper_like()
    unknown = lines_of(frame, 5, ["t_stag", "lesion_size"])
    assert unknown[0].endswith("has no column t_stag; did you mean t_stage?")
    assert len(unknown) == 2
    small = lines_of(frame, 20, ["t_stage", "location"])
    assert [line.split(" has ")[0] for line in small] == [
        "folds.stratify: t_stage = T3",
        "folds.stratify: location = neck",
        "folds.stratify: location = uncinate",
    ]
    assert "uncinate has 6 patients, fewer than the 20 folds" in small[2]


def test_given_folds_are_taken() -> None:
    frame = frame_of(np.array([1, 2, 1]), fold=[1, 0, 1])
    plan = assign_folds(frame, 2, 0)
    assert plan.fold.tolist() == [1, 0, 0, 1]
    assert plan.given
    assert np.isnan(plan.gap)


@pytest.mark.parametrize(
    ("fold", "reasons"),
    [
        ([0, 0, 1, 1], ["patient P0001 is in folds 0, 1"]),
        ([0, 1, 1, 2], ["the manifest has folds 2, but folds.count is 2"]),
        ([1, 1, 1, 1], ["no patient is in fold 0 of 0 to 1"]),
        ([1, 2, 2, 1], ["has folds 2, but", "no patient is in fold 0"]),
        ([0.5, 1, 1, 0], ["must be whole numbers"]),
    ],
)
def test_given_folds_are_checked(fold: list[float], reasons: list[str]) -> None:
    frame = frame_of(np.array([1, 2, 1])).assign(fold=fold)
    lines = lines_of(frame, 2, [])
    assert len(lines) == len(reasons)
    assert all(reason in line for reason, line in zip(reasons, lines, strict=True))


# ---- validation -------------------------------------------------------------------------------------


def test_validation_patients_are_whole_even_and_never_tested() -> None:
    frame = paper_like()
    fold = assign_folds(frame, 5, 0, ["t_stage"]).fold
    chosen = validation_split(frame, fold, 5, 0, ["t_stage"])
    assert chosen.shape == (5, 330)
    stage = frame.drop_duplicates("patient_id").set_index("patient_id")["t_stage"]
    for k in range(5):
        inside = frame.loc[chosen[k], "patient_id"]
        assert not (chosen[k] & (fold == k)).any()
        assert not set(inside) & set(frame.loc[~chosen[k], "patient_id"])
        assert inside.nunique() == 24  # a fifth of 120
        assert abs(stage[inside.unique()].eq("T2").sum() - 99 * 0.8 / 5) <= 1.5
    assert (chosen == validation_split(frame, fold, 5, 0, ["t_stage"])).all()


def test_few_patients_validate_twice() -> None:
    """Of 150 patients 120 places are given; drawn at random, about 83 patients would have one."""
    frame = paper_like()
    chosen = validation_split(frame, assign_folds(frame, 5, 0).fold, 5, 0)
    judged = set(frame.loc[chosen.any(axis=0), "patient_id"])
    assert len(judged) > 88


def test_too_few_patients_to_validate() -> None:
    frame = frame_of(np.ones(6, dtype=int))
    with pytest.raises(UserError, match=r"search\.inner_folds is 5, and fold 0 has 4 training patients"):
        validation_split(frame, np.array([0, 0, 1, 1, 2, 2]), 5, 0)


def test_dates_as_numbers_are_three_strata() -> None:
    frame = pd.DataFrame({"patient_id": [f"p{i:02}" for i in range(30)], "visit": range(20190101, 20190131)})
    strata = balance(frame, split_patients(frame, 3, seed=0, stratify=["visit"]).fold, ["visit"])
    named = strata.loc[strata["column"] == "visit", "stratum"].tolist()
    assert named == ["20190101 to 20190110", "20190111 to 20190120", "20190121 to 20190130"]


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(UserError, match=r"folds\.seed: -1 is below 0"):
        assign_folds(pd.DataFrame({"patient_id": list("abc")}), 2, seed=-1)
