"""The model to use: which one it is, that its weights are sound, and that it predicts what its folds predicted."""

from __future__ import annotations

import itertools
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tomli_w
import torch

from eus_ray.config import Study
from eus_ray.data.dataset import check_data
from eus_ray.errors import UserError
from eus_ray.inference.ensemble import Ensemble, headline_dsc, segmented, trained_model
from eus_ray.metrics import quantise
from eus_ray.store import MANIFEST, STUDY, PartKey, Store, checkpoint_name, read_manifest, read_trials, write_trials
from eus_ray.training.fold import Fold, FoldData
from tests.helpers import light_study
from tests.trained import CPU, train_study, trial_row, write_images

MODELS = ("unet", "attention_unet")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Study:
    manifest = write_images(tmp_path_factory.mktemp("images"))
    return light_study(manifest, "folds.count=2", "data.resize=pad", "train.epochs=1", models=MODELS)


@pytest.fixture(scope="module")
def original(settings: Study, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return train_study(tmp_path_factory.mktemp("study") / "study", settings)


@pytest.fixture
def store(original: Store, tmp_path: Path) -> Store:
    """A copy that a test may spoil."""
    shutil.copytree(original.root, tmp_path / "study")
    return Store(tmp_path / "study")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the folds had it: sums depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("model", MODELS)
def test_a_folds_weights_alone_give_its_stored_predictions_bit_for_bit(
    original: Store, settings: Study, model: str
) -> None:
    dataset = check_data(settings)
    images = dataset.arrays().images
    whole = trained_model(original, model)
    for fold in whole.folds:
        ensemble = Ensemble(replace(whole, folds=(fold,)), CPU)
        test = np.flatnonzero(dataset.folds == fold)
        size = settings.train.batch_size
        maps = [ensemble(images[rows])[0] for rows in np.array_split(test, range(size, len(test), size))]
        stored = original.read_part("predictions", PartKey(model, 0, 0, fold)).to_pandas()
        assert stored["image_id"].tolist() == dataset.frame["image_id"].iloc[test].tolist()
        for map_, level in zip(np.concatenate(maps), stored["probability"], strict=True):
            np.testing.assert_array_equal(quantise(map_).ravel(), level)


def test_an_ensemble_gives_what_each_of_its_folds_says(original: Store, settings: Study) -> None:
    images = check_data(settings).arrays().images[:4]
    whole = trained_model(original, "unet")
    (first,), (second,) = (Ensemble(replace(whole, folds=(fold,)), CPU)(images) for fold in whole.folds)
    assert not np.array_equal(first, second)
    three = Ensemble(replace(whole, folds=(0, 1, 1)), CPU)(images)
    np.testing.assert_array_equal(three, [first, second, second])


def test_an_ensemble_takes_the_mean_over_the_mirror_image_if_the_study_does(original: Store, settings: Study) -> None:
    images = check_data(settings).arrays().images[:4]
    whole = trained_model(original, "unet")
    how = whole.study.evaluate.model_copy(update={"tta": "flip"})
    mirroring = replace(whole, study=whole.study.model_copy(update={"evaluate": how}))
    plain = Ensemble(whole, CPU)
    itself, mirrored = plain(images), plain(np.ascontiguousarray(images[:, :, ::-1]))[..., ::-1]
    assert not np.array_equal(itself, mirrored)
    np.testing.assert_allclose(Ensemble(mirroring, CPU)(images), (itself + mirrored) / 2, rtol=1e-5)


@pytest.mark.parametrize("members", [2, 3, 10])
def test_the_mean_of_the_networks_is_taken_in_float64(settings: Study, members: int) -> None:
    maps = np.random.default_rng(0).random((members, 32, 32), np.float32)
    total = np.zeros((32, 32), np.float64)
    for map_ in maps:
        total += map_
    expected = (total / members).astype(np.float32)
    np.testing.assert_array_equal(segmented(maps, 32, 32, settings).levels, quantise(expected))


def test_masks_of_the_mean_and_of_each_network_are_made_as_the_study_says(settings: Study) -> None:
    """A ring around a hole and a speck: the first network sees both, the second the ring at a lower probability."""
    maps = np.zeros((2, 32, 32), np.float32)
    maps[:, 4:11, 4:11] = np.array([0.9, 0.3], np.float32)[:, None, None]
    maps[:, 6:9, 6:9] = 0
    maps[0, 20:22, 20:22] = 1
    ring = maps[1] > 0
    found = segmented(maps, 32, 32, settings)
    np.testing.assert_array_equal(found.mask, maps.mean(axis=0) >= 0.5)
    assert found.mask.sum() == ring.sum() + 4
    np.testing.assert_array_equal(found.members, maps >= 0.5)
    how = settings.evaluate.model_copy(update={"threshold": 0.25, "keep": "largest", "fill_holes": True})
    found = segmented(maps, 32, 32, settings.model_copy(update={"evaluate": how}))
    square = np.zeros((32, 32), bool)
    square[4:11, 4:11] = True
    for mask in (found.mask, *found.members):
        np.testing.assert_array_equal(mask, square)


def make_patients_uneven(store: Store) -> None:
    """Give all images of a fold but the first to one patient."""
    manifest = read_manifest(store)
    in_fold = manifest.groupby("fold").cumcount()
    manifest["patient_id"] = manifest["patient_id"].where(in_fold < 1, "rest" + manifest["fold"].astype(str))
    store.write_frame(MANIFEST, manifest)
    patient = manifest.set_index("image_id")["patient_id"]
    for model, fold in itertools.product(MODELS, range(2)):
        key = PartKey(model, 0, 0, fold)
        rows = store.read_part("scores", key)
        other = rows.to_pandas().assign(patient_id=lambda frame: frame["image_id"].map(patient))
        store.write_part("scores", key, pa.Table.from_pandas(other, rows.schema))


def set_average(store: Store, average: str) -> None:
    settings = tomllib.loads(store.read_text(STUDY)) | {"analysis": {"average": average}}
    store.write_text(STUDY, tomli_w.dumps(settings))


@pytest.mark.parametrize(("average", "other_average"), [("patients", "images"), ("images", "patients")])
def test_of_several_models_the_best_headline_is_taken(store: Store, average: str, other_average: str) -> None:
    from eus_ray.analysis.report.results import read_study

    make_patients_uneven(store)
    set_average(store, other_average)
    otherwise = trained_model(store).compared
    set_average(store, average)
    table = read_study(store).table2.set_index("model")["dsc"].drop("baseline", errors="ignore")
    chosen = trained_model(store)
    assert chosen.compared == pytest.approx(table.to_dict(), rel=1e-12)
    assert otherwise != pytest.approx(chosen.compared, rel=1e-6)
    assert chosen.model == table.idxmax()
    other = next(model for model in MODELS if model != chosen.model)
    named = trained_model(store, other)
    assert (named.model, named.place, named.compared) == (other, MODELS.index(other), {})


def test_only_test_images_make_the_headline(store: Store) -> None:
    before = headline_dsc(store, read_trials(store))
    assert max(before.values()) < 0.99
    for model in MODELS:
        rows = store.read_part("scores", PartKey(model, 0, 0, 0))
        perfect = rows.to_pandas().assign(split="validation", tp=100, fp=0, fn=0)
        store.write_part(
            "scores", PartKey(model, 0, 0, 0), pa.concat_tables([rows, pa.Table.from_pandas(perfect, rows.schema)])
        )
    assert headline_dsc(store, read_trials(store)) == before


def test_one_model_needs_no_comparison(store: Store, settings: Study) -> None:
    write_trials(store, [trial_row("unet", "fixed", 0, settings.for_model("unet"))])
    assert trained_model(store).model == "unet"
    assert trained_model(store).compared == {}


def test_what_a_model_scored_nowhere_does_not_make_it_the_best(store: Store) -> None:
    best = trained_model(store).model
    other = next(model for model in MODELS if model != best)
    for table in ("scores", "predictions"):
        shutil.rmtree(Path(store.root) / table / f"model={best}")
    assert np.isnan(headline_dsc(store, read_trials(store))[best])
    assert trained_model(store).model == other


def add_winner(store: Store, settings: Study, state: str) -> None:
    """Trial 1 of unet searched, trial 2 its winner, with the weights of trial 0."""
    unet = settings.for_model("unet")
    slow = unet.model_copy(update={"optim": unet.optim.model_copy(update={"lr": 0.5})})
    rows = [
        trial_row("unet", "fixed", 0, unet),
        trial_row("unet", "trial", 1, slow),
        trial_row("unet", "winner", 2, unet, state),
    ]
    write_trials(store, rows)
    for fold in range(2):
        store.write_bytes(checkpoint_name("unet", 2, fold), store.read_bytes(checkpoint_name("unet", 0, fold)))


@pytest.mark.parametrize(("state", "trial", "kind"), [("complete", 2, "winner"), ("running", 0, "fixed")])
def test_a_winner_that_is_trained_to_its_end_goes_first(
    store: Store, settings: Study, state: str, trial: int, kind: str
) -> None:
    add_winner(store, settings, state)
    chosen = trained_model(store)
    assert (chosen.trial, chosen.kind) == (trial, kind)
    assert chosen.study.optim.lr == settings.optim.lr
    Ensemble(chosen, CPU)


def lines_of(store: Store, model: str | None = None) -> tuple[str, ...]:
    with pytest.raises(UserError) as refused:
        Ensemble(trained_model(store, model), CPU)
    return refused.value.lines


def test_the_nearest_name_is_told(store: Store) -> None:
    (line,) = lines_of(store, "unett")
    assert line == f"model unett: {store.location} has no such model; did you mean unet?"


def test_what_is_no_study(tmp_path: Path) -> None:
    (line,) = lines_of(Store(tmp_path))
    assert f"{tmp_path}: is not a study folder" in line
    (line,) = lines_of(Store(tmp_path / "nowhere"))
    assert "no such folder" in line


def test_a_study_that_is_not_trained_to_its_end(store: Store, settings: Study) -> None:
    unet = settings.for_model("unet")
    write_trials(store, [trial_row("unet", "fixed", 0, unet, "running"), trial_row("unet", "trial", 1, unet)])
    (line,) = lines_of(store)
    assert "no model is trained to its end; `eus-ray status" in line
    (line,) = lines_of(store, "unet")
    assert "unet is not trained to its end" in line
    store.delete("trials.parquet")
    (line,) = lines_of(store)
    assert "no model is trained to its end" in line
    (line,) = lines_of(store, "unet")
    assert line.startswith("model unet:")
    assert line.endswith("nothing is trained there yet")


def test_each_fold_whose_weights_are_missing_is_named(store: Store) -> None:
    for fold in range(2):
        store.delete(checkpoint_name("unet", 0, fold))
    lines = lines_of(store, "unet")
    assert [checkpoint_name("unet", 0, fold) in line for fold, line in enumerate(lines)] == [True, True]
    assert "the ensemble needs all 2 folds" in lines[0]


def test_damaged_weights_are_named_all_at_once(store: Store) -> None:
    first, second = (checkpoint_name("unet", 0, fold) for fold in range(2))
    store.write_bytes(first, store.read_bytes(first)[:-100])
    changed = bytearray(store.read_bytes(second))
    changed[-5] ^= 1
    store.write_bytes(second, bytes(changed))
    lines = lines_of(store, "unet")
    assert [name in line for name, line in zip((first, second), lines, strict=True)] == [True, True]
    assert all("damaged" in line for line in lines)


def test_weights_of_other_settings_or_unfinished_folds_are_refused(store: Store, settings: Study) -> None:
    unet = settings.for_model("unet")
    dataset = check_data(settings)
    arrays, rows = dataset.arrays(), np.arange(4)
    data = FoldData(0, arrays.images, arrays.masks, rows, rows, [f"i{row}" for row in range(10)], ["p"] * 10)
    store.write_bytes(checkpoint_name("unet", 0, 0), Fold(unet, data, CPU).state())
    (line,) = lines_of(store, "unet")
    assert "fold_0.safetensors is a checkpoint of 0 of 1 epochs" in line
    other = unet.model_copy(update={"optim": unet.optim.model_copy(update={"lr": 0.5})})
    write_trials(store, [trial_row("unet", "fixed", 0, other)])
    lines = lines_of(store, "unet")
    assert len(lines) == 2
    assert all("a checkpoint of other settings" in line for line in lines)


def test_an_answer_that_is_no_number_is_refused(original: Store) -> None:
    ensemble = Ensemble(trained_model(original, "unet"), CPU)
    with torch.no_grad():
        next(ensemble._models[1].parameters())[0] = float("nan")
    with pytest.raises(UserError, match=r"unet/0/fold_1\.safetensors gives probabilities that are not numbers"):
        ensemble(np.zeros((1, 32, 32), np.uint8))
