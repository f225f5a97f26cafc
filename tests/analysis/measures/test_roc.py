"""ROC curves and areas against scikit-learn on the pixels themselves, and numbers worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from eus_ray import metrics, store
from eus_ray.analysis.comparison import roc_tables
from eus_ray.analysis.comparison.pairwise import Training, compare_pairs
from eus_ray.analysis.comparison.paper_tables import table2
from eus_ray.analysis.comparison.score_matrix import align
from eus_ray.analysis.inputs.cases import read_cases
from eus_ray.analysis.inputs.study_images import read_study_images
from eus_ray.analysis.measures import image_metrics, roc
from eus_ray.analysis.measures.roc import FPR, FoldCounts, FoldRoc, LevelCounts, count_levels
from eus_ray.analysis.statistics import bootstrap, patient_bootstrap
from eus_ray.errors import UserError
from eus_ray.store import PartKey, Store, TrialKey

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]
Pixels = tuple[np.ndarray, np.ndarray]


def counted(levels: list[int], lesion: list[int]) -> LevelCounts:
    return count_levels(np.array(levels, np.uint16), np.array(lesion, bool))


def fold_of(images: list[tuple[str, Pixels]], fold: int = 0) -> FoldRoc:
    """A fold of (patient, (levels, truth)) images."""
    collected = FoldCounts(fold)
    for patient, pixels in images:
        counts = count_levels(*pixels)
        collected.add(patient, counts, roc.roc(counts).tpr)
    return collected.finish()


def made_up(seed: int, patients: list[str], levels: int = 65536) -> list[tuple[str, Pixels]]:
    """An image of 12 x 10 pixels for each name in `patients`, the lesion's levels higher on average."""
    rng = np.random.default_rng(seed)
    images = []
    for patient in patients:
        truth = rng.random((12, 10)) < 0.3
        probability = np.clip(rng.normal(0.4 + 0.15 * truth + rng.normal(0, 0.1), 0.2), 0, 1)
        images.append((patient, (np.floor(probability * (levels - 1)).astype(np.uint16), truth)))
    return images


def pooled(images: list[tuple[str, Pixels]]) -> Pixels:
    levels, truths = zip(*(pixels for _, pixels in images), strict=True)
    return np.concatenate([level.ravel() for level in levels]), np.concatenate([truth.ravel() for truth in truths])


# ---- one curve ----------------------------------------------------------------------------------


def test_four_pixels_by_hand() -> None:
    # Lesion at 20 and 30, others at 10 and 20: of four pairs three are won and one is tied.
    counts = counted([10, 20, 20, 30], [0, 0, 1, 1])
    corners = roc.curve(counts)
    assert corners is not None
    assert corners.fpr.tolist() == [0, 0, 0.5, 1]
    assert corners.tpr.tolist() == [0, 0.5, 1, 1]
    assert corners.threshold.tolist() == [np.inf, 30, 20, 10]
    assert roc.area(counts) == 3.5 / 4
    found = dict(zip(FPR.tolist(), zip(*roc.roc(counts)[1:], strict=True), strict=True))
    at_30, at_20, at_10 = (level / 65535 for level in (30, 20, 10))
    assert found[0] == (0.5, at_30)  # the upper end of the line that goes straight up
    assert found[0.25] == (0.75, at_30)  # halfway to the next corner, which has more than 0.25
    assert found[0.5] == (1, at_20)
    assert found[0.75] == (1, at_20)
    assert found[1] == (1, at_10)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60), st.sampled_from([1, 7281]))
@settings(max_examples=150, deadline=None)
def test_curve_and_area_are_scikit_learns(pixels: list[tuple[int, bool]], step: int) -> None:
    levels, truth = (
        np.array([level for level, _ in pixels], np.uint16) * step,
        np.array([lesion for _, lesion in pixels]),
    )
    counts = count_levels(levels.astype(np.uint16), truth)
    found = roc.roc(counts)
    if truth.all() or not truth.any():
        assert roc.curve(counts) is None
        assert np.isnan(found.auc)
        assert np.isnan(found.tpr).all()
        assert np.isnan(found.threshold).all()
        return
    fpr, tpr, threshold = roc_curve(truth, levels, drop_intermediate=False)
    corners = roc.curve(counts)
    assert corners is not None
    np.testing.assert_allclose(corners.fpr, fpr, rtol=1e-14)
    np.testing.assert_allclose(corners.tpr, tpr, rtol=1e-14)
    assert corners.threshold.tolist() == threshold.tolist()
    assert found.auc == pytest.approx(roc_auc_score(truth, levels), abs=1e-14)
    assert found.auc == image_metrics.auc(levels, truth)
    # On every straight piece that covers a rate; the highest, where one goes straight up.
    for rate, value in zip(FPR[::10], found.tpr[::10], strict=True):
        pieces = [place for place in range(len(fpr) - 1) if fpr[place] <= rate <= fpr[place + 1]]
        highest = max(np.interp(rate, fpr[k : k + 2], tpr[k : k + 2]) for k in pieces)
        vertical = max([tpr[k + 1] for k in pieces if fpr[k] == fpr[k + 1]], default=0.0)
        assert value == pytest.approx(max(highest, vertical), abs=1e-12)


def test_thresholds_keep_the_false_positive_rate() -> None:
    ((_, (levels, truth)),) = made_up(3, ["A"])
    found = roc.roc(count_levels(levels, truth))
    for rate, threshold in zip(FPR[::20], found.threshold[::20], strict=True):
        assert (levels[~truth] / 65535 >= threshold).mean() <= rate
        lower = levels[levels / 65535 < threshold]
        if lower.size:  # the next lower threshold exceeds it, or this would not be the lowest
            assert (levels[~truth] >= lower.max()).mean() > rate


def test_areas_of_more_pairs_than_64_bits_count() -> None:
    # 6 of 12 pairs (in 1e20) are won, 2.5 are half of the ties.
    billions = 10**10
    counts = LevelCounts(np.array([0, 1], np.uint16), np.array([1, 2]) * billions, np.array([3, 1]) * billions)
    assert roc.area(counts) == 8.5 / 12


def test_what_is_no_map_of_levels() -> None:
    with pytest.raises(ValueError, match="levels must be uint16"):
        count_levels(np.zeros((2, 2), np.uint8), np.zeros((2, 2), bool))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="of one shape"):
        count_levels(np.zeros((2, 2), np.uint16), np.zeros((2, 3), bool))


# ---- a fold -------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [5, 65536])
def test_a_fold_is_pooled_pixel_by_pixel(levels: int) -> None:
    images = made_up(0, ["B", "A", "B", "C"], levels)
    found = fold_of(images, fold=3)
    assert (found.fold, found.patients, found.num_images, found.num_undefined) == (3, ("A", "B", "C"), 4, 0)
    every_level, every_truth = pooled(images)
    assert found.pooled.auc == image_metrics.auc(every_level, every_truth)
    assert found.pooled.auc == pytest.approx(roc_auc_score(every_truth, every_level), abs=1e-14)
    assert found.wins is not None
    for row, one in enumerate(found.patients):
        for column, other in enumerate(found.patients):
            of_one, of_other = (pooled([image for image in images if image[0] == name]) for name in (one, other))
            lesion, rest = of_one[0][of_one[1]].astype(int)[:, None], of_other[0][~of_other[1]].astype(int)
            assert found.wins[row, column] == (lesion > rest).sum() + (lesion == rest).sum() / 2
    assert found.positives.tolist() == [pooled([i for i in images if i[0] == name])[1].sum() for name in "ABC"]
    assert (found.positives + found.negatives).tolist() == [120, 240, 120]


def test_the_mean_of_image_curves_covers_the_mean_of_their_areas() -> None:
    # Two levels: every curve has one corner, so that straight lines between the rates miss it by little.
    images = made_up(1, ["A", "B", "C"], levels=2)
    found = fold_of(images)
    areas = [roc_auc_score(truth.ravel(), levels.ravel()) for _, (levels, truth) in images]
    assert np.trapezoid(found.image_tpr, FPR) == pytest.approx(np.mean(areas), abs=2e-3)
    assert found.image_tpr[-1] == 1


def test_images_of_one_class_have_no_curve_but_count_in_the_fold() -> None:
    (first,), (second,) = made_up(4, ["A"]), made_up(5, ["B"])
    empty = ("B", (second[1][0], np.zeros((12, 10), bool)))
    found, alone = fold_of([first, empty]), fold_of([first])
    assert found.num_undefined == 1
    assert found.image_tpr.tolist() == alone.image_tpr.tolist()
    assert found.pooled.auc == image_metrics.auc(*pooled([first, empty])) != alone.pooled.auc
    nothing = fold_of([empty])
    assert np.isnan(nothing.image_tpr).all()
    assert np.isnan(nothing.pooled.auc)
    assert nothing.pooled.tpr.shape == FPR.shape


def test_drawing_patients_again_is_repeating_their_pixels() -> None:
    images = made_up(6, ["A", "A", "B", "C", "D"], levels=300)
    drawn = roc_tables.pooled_draws(fold_of(images, fold=2), draws=40, seed=7)
    weights = bootstrap.draw_patients(4, 2, draws=40, seed=7)
    for value, times in zip(drawn, weights.astype(int), strict=True):
        again = [image for image in images for _ in range(times["ABCD".index(image[0])])]
        levels, truth = pooled(again)
        assert value == pytest.approx(roc_auc_score(truth, levels), abs=1e-13)


def test_a_draw_of_one_class_is_not_defined() -> None:
    (lesion,), (other,) = made_up(4, ["A"]), made_up(5, ["B"])
    empty = ("B", (other[1][0], np.zeros((12, 10), bool)))
    drawn = roc_tables.pooled_draws(fold_of([lesion, empty]), draws=60)
    only_b = bootstrap.draw_patients(2, 0, draws=60)[:, 0] == 0
    assert only_b.any()
    assert (np.isnan(drawn) == only_b).all()


# ---- over folds ---------------------------------------------------------------------------------


def scores_of(model: str, folds: dict[int, list[tuple[str, Pixels]]]) -> pd.DataFrame:
    rows = []
    for fold, images in folds.items():
        for number, (patient, (levels, truth)) in enumerate(images):
            rows.append({"model": model, "image_id": f"{fold}-{number}", "patient_id": patient, "fold": fold})
            rows[-1]["auc"] = image_metrics.auc(levels, truth)
    return pd.DataFrame(rows)


def two_models() -> tuple[pd.DataFrame, dict[str, list[FoldRoc]], dict[str, dict[int, list[tuple[str, Pixels]]]]]:
    names = {0: ["A", "A", "B", "C"], 1: ["D", "E", "E"], 2: ["F", "G", "H", "H", "H"]}
    data = {
        model: {fold: made_up(10 * place + fold, who) for fold, who in names.items()}
        for place, model in enumerate(("one", "two"))
    }
    for fold, images in data["two"].items():  # the same truths
        data["two"][fold] = [
            (who, (levels, truth))
            for (who, (levels, _)), (_, (_, truth)) in zip(images, data["one"][fold], strict=True)
        ]
    frame = pd.concat([scores_of(model, folds) for model, folds in data.items()], ignore_index=True)
    rocs = {model: [fold_of(images, fold) for fold, images in folds.items()] for model, folds in data.items()}
    return frame, rocs, data


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    """The one row with these values; `fold=None` is the mean over folds."""
    keep = pd.Series(True, table.index)
    for column, value in where.items():
        keep &= table[column].isna() if value is None else (table[column] == value).fillna(False).astype(bool)
    (row,) = [row for _, row in table[keep].iterrows()]
    return row


def test_areas_of_images_are_those_of_table_2() -> None:
    frame, rocs, _ = two_models()
    for average in ("patients", "images"):
        table = roc_tables.areas(frame, rocs, average=average)
        expected = table2(frame, ["auc"], average).set_index("model")
        for model in ("one", "two"):
            row = only(table, model=model, minus="", pixels="image", fold=None)
            for column, theirs in (("auc", "auc"), ("low", "auc_low"), ("high", "auc_high")):
                assert row[column] == pytest.approx(expected.loc[model, theirs], abs=1e-15)
    for model in ("one", "two"):
        for fold in range(3):
            mean = frame.loc[(frame["model"] == model) & (frame["fold"] == fold), "auc"].mean()
            assert only(table, model=model, minus="", pixels="image", fold=fold)["auc"] == pytest.approx(mean)
    assert list(table.columns) == list(roc_tables.AREA_COLUMNS)
    assert len(table) == 3 * 2 * 4  # two models and their pair, two areas, three folds and their mean


def test_pooled_areas_are_averaged_over_folds() -> None:
    frame, rocs, data = two_models()
    table = roc_tables.areas(frame, rocs, average="images")
    by_fold = [image_metrics.auc(*pooled(images)) for images in data["one"].values()]
    row = only(table, model="one", minus="", pixels="fold", fold=None)
    assert row["auc"] == pytest.approx(np.mean(by_fold), abs=1e-15)
    assert [only(table, model="one", minus="", pixels="fold", fold=fold)["auc"] for fold in range(3)] == by_fold
    drawn = np.mean([roc_tables.pooled_draws(fold) for fold in rocs["one"]], axis=0)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=1e-15)


def test_differences_are_paired() -> None:
    frame, rocs, _ = two_models()
    table = roc_tables.areas(frame, rocs, average="images")
    one, two = (frame[frame["model"] == model].reset_index() for model in ("one", "two"))
    expected = patient_bootstrap(one["auc"] - two["auc"], one["patient_id"], one["fold"])
    row = only(table, model="one", minus="two", pixels="image", fold=None)
    assert (row["auc"], row["low"], row["high"]) == pytest.approx(
        (expected.value, expected.low, expected.high), abs=1e-14
    )
    drawn = np.mean(
        [roc_tables.pooled_draws(a) - roc_tables.pooled_draws(b) for a, b in zip(*rocs.values(), strict=True)], axis=0
    )
    row = only(table, model="one", minus="two", pixels="fold", fold=None)
    alone = [only(table, model=model, minus="", pixels="fold", fold=None)["auc"] for model in ("one", "two")]
    assert row["auc"] == pytest.approx(alone[0] - alone[1], abs=1e-15)
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=1e-15)
    same = roc_tables.areas(frame, {"one": rocs["one"], "two": rocs["one"]}, average="images")
    row = only(same, model="one", minus="two", pixels="fold", fold=None)
    assert row["auc"] == row["low"] == row["high"] == 0  # not drawn alike, they would differ


def test_differences_of_images_are_those_of_the_claims() -> None:
    frame, rocs, _ = two_models()
    frame["diagonal"] = 100.0
    (pair,) = compare_pairs(align(frame, ["auc"]), Training({0: 3, 1: 3, 2: 3}, {}))
    table = roc_tables.areas(frame, rocs, {("one", "two"): pair.mean})
    row = only(table, model="one", minus="two", pixels="image", fold=None)
    assert row["auc"] == pair.difference
    if math.isfinite(pair.mean.low):
        assert (row["low"], row["high"]) == (pair.mean.low, pair.mean.high)
    else:
        assert np.isnan([row["low"], row["high"]]).all()


def test_models_are_compared_where_both_are() -> None:
    frame, rocs, _ = two_models()
    part = frame[(frame["model"] == "one") | (frame["fold"] != 1)]
    table = roc_tables.areas(part, {"one": rocs["one"], "two": [rocs["two"][0], rocs["two"][2]]}, average="images")
    assert table[(table["minus"] == "two")].groupby("pixels")["fold"].apply(
        lambda fold: fold.dropna().tolist()
    ).to_dict() == {
        "image": [0, 2],
        "fold": [0, 2],
    }
    apart = roc_tables.areas(frame[(frame["model"] == "one") == (frame["fold"] == 0)], {}, average="images")
    assert (apart["minus"] == "").all()  # no image in common: nothing to compare
    images = roc_tables.areas(frame, {}, average="images")
    assert set(images["pixels"]) == {"image"}  # a table of scores has no pixels


def test_too_many_patients_have_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roc, "MOST_PATIENTS", 2)
    frame, rocs, data = two_models()
    assert [fold.wins is None for fold in rocs["one"]] == [True, False, True]
    row = only(roc_tables.areas(frame, rocs), model="one", minus="", pixels="fold", fold=None)
    assert row["auc"] == pytest.approx(np.mean([image_metrics.auc(*pooled(images)) for images in data["one"].values()]))
    assert np.isnan(row["low"])
    assert np.isnan(row["high"])


def test_a_fold_without_lesions_is_left_out_of_the_mean() -> None:
    frame, rocs, data = two_models()
    blank = [(who, (levels, np.zeros_like(truth))) for who, (levels, truth) in data["one"][1]]
    folds = [rocs["one"][0], fold_of(blank, 1), rocs["one"][2]]
    table = roc_tables.areas(frame[frame["model"] == "one"], {"one": folds}, average="images")
    assert np.isnan(only(table, model="one", minus="", pixels="fold", fold=1)["auc"])
    row = only(table, model="one", minus="", pixels="fold", fold=None)
    assert row["auc"] == pytest.approx((folds[0].pooled.auc + folds[2].pooled.auc) / 2)
    assert row["low"] < row["high"]
    points = roc_tables.curves({"one": folds})
    assert set(points["fold"].dropna()) == {0, 2}


def test_curves_of_folds_and_their_mean() -> None:
    _, rocs, _ = two_models()
    points = roc_tables.curves(rocs)
    assert list(points.columns) == list(roc_tables.CURVE_COLUMNS)
    assert len(points) == 2 * 2 * 4 * len(FPR)
    mine = points[(points["model"] == "two") & (points["pixels"] == "fold")]
    folds = np.stack([mine.loc[mine["fold"] == fold, "tpr"] for fold in range(3)])
    mean = mine[mine["fold"].isna()]
    np.testing.assert_allclose(mean["tpr"], folds.mean(axis=0), atol=1e-15)
    np.testing.assert_allclose(mean["sd"], folds.std(axis=0, ddof=1), atol=1e-15)
    assert mean["fpr"].tolist() == FPR.tolist()
    assert mean["threshold"].isna().all()
    assert mine.loc[mine["fold"] == 0, "threshold"].tolist() == rocs["two"][0].pooled.threshold.tolist()
    one_fold = roc_tables.curves({"two": rocs["two"][:1]})
    assert one_fold["sd"].isna().all()
    assert len(one_fold) == 2 * 2 * len(FPR)
    assert roc_tables.curves({}).empty


# ---- from a study -------------------------------------------------------------------------------


def test_one_pass_over_a_study_counts_every_pixel(make_study: MakeStudy, example: Example) -> None:
    manifest, truths, probabilities = example
    study = make_study()
    found = read_study_images(study, read_cases(study))
    assert set(found.rocs) == {(model, "fixed", fold) for model in ("unet", "daf_net") for fold in range(3)}
    for (model, _, fold), of in found.rocs.items():
        images = manifest.loc[manifest["fold"] == fold, "image_id"]
        levels = np.stack([metrics.quantise(probabilities[model, image]) for image in images])
        truth = np.stack([truths[image] for image in images])
        assert of.pooled.auc == pytest.approx(roc_auc_score(truth.ravel(), levels.ravel()), abs=1e-14)
        assert of.num_images == len(images)
        assert of.num_undefined == sum(not truths[image].any() for image in images)
        assert list(of.patients) == sorted(set(manifest.loc[manifest["fold"] == fold, "patient_id"]))
    by_image = found.frame.set_index(["model", "image_id"])["auc"]
    for (model, image), probability in probabilities.items():
        if truths[image].any():
            expected = roc_auc_score(truths[image].ravel(), metrics.quantise(probability).ravel())
            assert by_image[model, image] == pytest.approx(expected, abs=1e-14)


def test_more_processes_give_the_same_curves(make_study: MakeStudy) -> None:
    study = make_study()
    one, two = (read_study_images(study, read_cases(study), processes).rocs for processes in (1, 2))
    assert list(one) == list(two)
    for key in one:
        np.testing.assert_equal(one[key].pooled, two[key].pooled)
        np.testing.assert_equal(one[key].image_tpr, two[key].image_tpr)
        np.testing.assert_equal(one[key].wins, two[key].wins)


def test_a_fold_whose_counts_are_not_written_yet_has_no_curve(make_study: MakeStudy) -> None:
    study = make_study(state="running", whole=[])
    study.delete(store.part_name("scores", PartKey("unet", 0, 0, 1)))
    found = read_study_images(study, read_cases(study))
    assert [key for key in found.rocs if key[0] == "unet"] == [("unet", "fixed", 0), ("unet", "fixed", 2)]
    assert set(found.frame.loc[found.frame["model"] == "unet", "fold"]) == {0, 2}


def test_rows_of_a_fold_that_are_apart_are_refused(make_study: MakeStudy) -> None:
    study = make_study()
    name = store.whole_name("predictions", TrialKey("unet", 0))
    rows = study.read_table(name)
    order = np.argsort(np.arange(len(rows)) % 2, kind="stable")
    study.write_table(name, rows.take(order), 16)
    with pytest.raises(UserError, match=r"unet, trial 0: rows of fold \d are apart"):
        read_study_images(study, read_cases(study))
