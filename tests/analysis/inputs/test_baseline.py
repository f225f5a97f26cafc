"""The baseline: each fold's fixed mask from the other folds' truths, worked by hand and by its definition."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from eus_ray.analysis.inputs.baseline import baseline_masks, measure_baseline
from eus_ray.analysis.inputs.cases import Case, read_cases
from eus_ray.analysis.inputs.study_images import StudyImages, read_study_images
from eus_ray.analysis.labels import ReportKind, model_label
from eus_ray.analysis.measures.image_metrics import METRICS, image_metrics
from eus_ray.config import AnalysisSettings, DataSettings, EvaluateSettings, Study
from eus_ray.data.resizing import resize_mask, to_original_grid
from eus_ray.errors import UserError
from eus_ray.metrics import from_counts, quantise
from eus_ray.store import Store
from tests.analysis.conftest import disc

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]


def read(study: Store, processes: int | None = None) -> StudyImages:
    return read_study_images(study, read_cases(study), processes)


def rows(found: StudyImages) -> pd.DataFrame:
    return found.frame[found.frame["kind"] == ReportKind.BASELINE]


def cases_of(truths: Mapping[str, np.ndarray], spacing: tuple[float, float] = (1.0, 1.0)) -> dict[str, Case]:
    return {
        name: Case(cv2.imencode(".png", truth.astype(np.uint8) * 255)[1].tobytes(), *truth.shape, spacing, False)
        for name, truth in truths.items()
    }


def by_definition(truths: Mapping[str, np.ndarray], training: pd.DataFrame) -> tuple[np.ndarray, float, float]:
    """Return mean, threshold and score of the training patients, patient by patient and cut by cut."""
    patients = [mine["image_id"].tolist() for _, mine in training.groupby("patient_id")]
    mean = np.mean([np.mean([truths[image] for image in mine], axis=0) for mine in patients], axis=0)
    scores = []
    for threshold in np.arange(1, 20) / 20:
        cut = mean >= threshold - 1e-9
        dsc = [np.mean([image_metrics(truths[image], cut)["dsc"] for image in mine]) for mine in patients]
        scores.append(np.mean(dsc))
    best = int(np.argmax(np.round(scores, 12)))
    return mean, (best + 1) / 20, scores[best]


def test_two_patients_by_hand() -> None:
    """Fold 0 is tested by patient b's mask, and fold 1 by patient a's, who has two images."""
    truths = {
        "a1": np.array([[1, 1, 0, 0]], bool),
        "a2": np.array([[1, 0, 0, 0]], bool),
        "b1": np.array([[0, 1, 1, 1]], bool),
    }
    manifest = pd.DataFrame({"image_id": [*truths], "patient_id": ["a", "a", "b"], "fold": [0, 0, 1]})
    masks = baseline_masks(manifest, cases_of(truths), [0, 1], Study())
    assert masks[0].mask.tolist() == [[False, True, True, True]]
    assert (masks[0].threshold, masks[0].training_score) == (0.05, 1.0)
    # a's mean is 1, 1/2: up to .50 both pixels are in, DSC 1 and 2/3; beyond, the first alone, DSC 2/3 and 1: a tie.
    assert masks[1].mean.tolist() == [[1, 0.5, 0, 0]]
    assert (masks[1].threshold, masks[1].training_score) == (0.05, pytest.approx(5 / 6))
    assert masks[1].mask.tolist() == [[True, True, False, False]]


def test_every_test_image_has_the_fold_s_mask_with_all_metrics(make_study: MakeStudy, example: Example) -> None:
    manifest, truths, _ = example
    settings = Study(models=("unet", "daf_net"), analysis=AnalysisSettings(tolerance=0.4))
    found = read(make_study(settings=settings, spacing=(0.5, 0.25)))
    baseline = rows(found)
    assert set(baseline["model"]) == {"baseline"}
    assert baseline["image_id"].tolist() == found.frame["image_id"][:12].tolist()
    assert baseline.index.tolist() == list(range(24, 36))  # after all models
    assert list(found.baseline) == [0, 1, 2]
    for fold, tested in baseline.groupby("fold"):
        mean, threshold, score = by_definition(truths, manifest[manifest["fold"] != fold])
        mask = found.baseline[int(fold)]
        np.testing.assert_allclose(mask.mean, mean, atol=1e-12)
        assert mask.threshold == threshold
        assert mask.training_score == pytest.approx(score, abs=1e-12)
        assert (mask.mask == (mean >= threshold - 1e-9)).all()
        level = quantise(np.round(mean, 12))
        for row in tested.to_dict("records"):
            expected = image_metrics(
                truths[row["image_id"]], mask.mask, scores=level, levels=level, spacing=(0.5, 0.25), tolerance=0.4
            )
            np.testing.assert_equal({name: row[name] for name in METRICS}, expected)
            assert (row["patient_id"], row["age"]) == tuple(
                manifest.set_index("image_id").loc[row["image_id"], ["patient_id", "age"]]
            )


def test_more_processes_measure_the_same_baseline(make_study: MakeStudy) -> None:
    study = make_study()
    pd.testing.assert_frame_equal(rows(read(study, processes=2)), rows(read(study, processes=1)))


def test_how_masks_are_made_does_not_touch_the_baseline(make_study: MakeStudy) -> None:
    """Its threshold is its own, and it is the one mask that its definition says, whatever the networks' masks are."""
    other = Study(models=("unet", "daf_net"), evaluate=EvaluateSettings(threshold=0.9, keep="largest"))
    pd.testing.assert_frame_equal(rows(read(make_study())), rows(read(make_study("other", settings=other))))


def test_only_folds_that_a_model_has_predicted_have_a_baseline(make_study: MakeStudy) -> None:
    left_out = [("unet", 2), ("daf_net", 2), ("daf_net", 1)]
    found = read(make_study(without=left_out, state="running", whole=[]))
    assert sorted(rows(found)["fold"].unique()) == [0, 1]
    assert list(found.baseline) == [0, 1]
    whole = read(make_study("whole"))
    assert found.baseline[0].threshold == whole.baseline[0].threshold  # of the truths of all other folds
    nothing = read(make_study("nothing", without=[(m, f) for m in ("unet", "daf_net") for f in range(3)], whole=[]))
    assert nothing.frame.empty
    assert not nothing.baseline


def test_one_fold_has_no_baseline(make_study: MakeStudy, example: Example) -> None:
    manifest, _, _ = example
    found = read(make_study(manifest=manifest.assign(fold=0), whole=[]))
    assert len(found.frame) == 24
    assert rows(found).empty
    assert not found.baseline
    assert found.frame["missed"].dtype == bool


def test_truths_of_different_sizes_meet_on_the_training_grid() -> None:
    """The mean of the truths on the grid, resized as a network's masks and maps are, then cut."""
    shapes = {"a": (40, 60), "b": (50, 50), "c": (32, 80), "d": (64, 48)}
    truths = {name: disc(0.4 * shape[0], 0.5 * shape[1], 0.2 * min(shape), shape) for name, shape in shapes.items()}
    manifest = pd.DataFrame({"image_id": [*truths], "patient_id": [*truths], "fold": [0, 1, 1, 1]})
    for resize in ("stretch", "pad"):
        settings = Study(data=DataSettings(image_size=32, resize=resize), evaluate=EvaluateSettings(grid="original"))
        cases = cases_of(truths)
        masks = baseline_masks(manifest, cases, [0], settings)
        grids = [resize_mask(truths[name].astype(np.uint8), 32, resize) for name in "bcd"]
        mean = np.mean(grids, axis=0)
        np.testing.assert_allclose(masks[0].mean, mean, atol=1e-12)
        (row,) = measure_baseline(Store("."), manifest, cases, masks, settings, processes=1)
        mapped = to_original_grid(mean.astype(np.float32), 40, 60, resize)
        cut = mapped >= masks[0].threshold - 1e-6
        assert cut.shape == (40, 60)
        assert 0.5 < row["dsc"] < 1
        assert row["dsc"] == image_metrics(truths["a"], cut)["dsc"]
        assert row["brier"] == image_metrics(truths["a"], cut, levels=quantise(mapped))["brier"]
        assert row["diagonal"] == np.hypot(40, 60)


def test_images_of_one_size_keep_their_own_pixels_on_the_original_grid() -> None:
    truths = {name: disc(20, 20 + place, 9, (40, 60)) for place, name in enumerate("abc")}
    manifest = pd.DataFrame({"image_id": [*truths], "patient_id": [*truths], "fold": [0, 1, 2]})
    settings = Study(data=DataSettings(image_size=32), evaluate=EvaluateSettings(grid="original"))
    masks = baseline_masks(manifest, cases_of(truths), [0], settings)
    assert masks[0].mask.shape == (40, 60)
    np.testing.assert_allclose(masks[0].mean, (truths["b"] + 0.0 + truths["c"]) / 2)


def test_a_truth_that_cannot_be_read_is_named(make_study: MakeStudy) -> None:
    """No network has predicted this image, so that only the baseline needs its truth."""
    study = make_study(without=[("unet", 2), ("daf_net", 2)], state="running", whole=[])
    cases = read_cases(study)
    cases["i09"] = Case(b"no picture", 48, 64, (1.0, 1.0), False)
    with pytest.raises(UserError, match="the truth of image i09 is not a readable PNG"):
        read_study_images(study, cases, processes=1)
    cases["i09"] = Case(cases["i08"].truth_png, 48, 63, (1.0, 1.0), False)
    with pytest.raises(UserError, match="the truth of image i09 is 48 x 64, not 48 x 63"):
        read_study_images(study, cases, processes=1)


def test_a_disc_that_hardly_moves_needs_no_network(tmp_path: Path) -> None:
    """Sixty images of thirty patients, each with a disc near the centre: the baseline scores above .9."""
    rng = np.random.default_rng(0)
    names = [f"i{place}" for place in range(60)]
    truths = {name: disc(*(32 + rng.normal(0, 1, 2)), 18, (64, 64)) for name in names}
    manifest = pd.DataFrame(
        {"image_id": names, "patient_id": [f"p{place // 2}" for place in range(60)], "fold": np.arange(60) // 2 % 5}
    )
    cases = cases_of(truths)
    masks = baseline_masks(manifest, cases, range(5), Study())
    found = pd.DataFrame(measure_baseline(Store(tmp_path), manifest, cases, masks, Study(), processes=1))
    assert len(found) == 60
    assert found["dsc"].mean() > 0.9
    assert found["dsc"].min() == from_counts("dsc", found[["tp", "fp", "fn", "tn"]].to_numpy()).min()
    assert all(0.9 < mask.training_score < 1 for mask in masks.values())


def test_its_name_in_print() -> None:
    assert model_label("baseline") == "Fixed mask (baseline)"


@pytest.mark.slow
def test_thousands_of_images_take_seconds() -> None:
    truths = {f"i{place}": disc(100 + place % 50, 128, 40, (256, 256)) for place in range(2000)}
    manifest = pd.DataFrame({"image_id": [*truths], "patient_id": [*truths], "fold": np.arange(2000) % 5})
    cases = cases_of(truths)
    started = time.process_time()
    assert len(baseline_masks(manifest, cases, range(5), Study())) == 5
    assert time.process_time() - started < 20
