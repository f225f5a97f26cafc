"""One fold: its schedule, its gradients, its state, and that it learns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from eus_ray.config import Study
from eus_ray.config_file import load_study
from eus_ray.metrics import counts, from_counts, predicted_mask
from eus_ray.training.determinism import derive_seed
from eus_ray.training.fold import DivergedError, Fold, FoldData, train_fold
from eus_ray.training.records import Record

CPU = torch.device("cpu")


def discs(count: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Dark discs on a noisy gray ground, and their masks; the last image has none."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    centres = random.uniform(size * 0.3, size * 0.7, (count, 2, 1, 1))
    masks = ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2 < (size / 5) ** 2).astype(np.uint8)
    masks[-1] = 0
    images = np.clip(random.normal(150, 25, masks.shape) - 90 * masks, 0, 255).astype(np.uint8)
    return images, masks


def fold_data(count: int = 24, train: int = 17) -> FoldData:
    images, masks = discs(count)
    return FoldData(
        fold=0,
        images=images,
        masks=masks,
        train=np.arange(train),
        test=np.arange(train, count),
        image_ids=[f"i{index}" for index in range(count)],
        patient_ids=[f"p{index // 2}" for index in range(count)],
    )


def study(*overrides: str, arch: str = "unet") -> Study:
    light = ["data.image_size=32", "model.width=4", "train.epochs=2", "train.batch_size=4"]
    return load_study(None, overrides=[*light, *overrides]).for_model(arch)


def without_seconds(record: Record) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in record.epochs]


def test_a_fold_learns() -> None:
    record = train_fold(study("train.epochs=12", "optim.lr=0.01", "model.width=8"), fold_data())
    assert record.epochs[-1]["split"] == "test"
    assert record.epochs[-1]["dsc"] > 0.7
    assert record.epochs[0]["loss"] > record.epochs[11]["loss"]


def test_rows_of_a_finished_fold() -> None:
    data = fold_data()
    record = train_fold(study(), data)
    assert [(row["epoch"], row["split"]) for row in record.epochs] == [(0, "train"), (1, "train"), (1, "test")]
    assert [row["image_id"] for row in record.scores] == [data.image_ids[row] for row in data.test]
    for row, score, prediction in zip(data.test, record.scores, record.predictions, strict=True):
        stored = prediction["probability"].reshape(prediction["height"], prediction["width"])
        expected = counts(stored >= 32768, data.masks[row] > 0)
        assert [score[name] for name in ("tp", "fp", "fn", "tn")] == expected.tolist()
    all_counts = [[score[name] for name in ("tp", "fp", "fn", "tn")] for score in record.scores]
    assert record.epochs[-1]["dsc"] == pytest.approx(from_counts("dsc", all_counts).mean())


SMOOTHED = ("evaluate.threshold=0.4", "evaluate.keep=largest", "evaluate.fill_holes=true")
"""Masks are made in another way than by default."""


def test_counts_are_of_the_masks_that_the_study_asks_for_and_nothing_else_changes() -> None:
    data, learnt = validated(), ("train.epochs=3", "optim.lr=0.02", "model.width=8")
    plain, other = train_fold(study(*learnt), data), train_fold(study(*learnt, *SMOOTHED), data)
    assert [row["loss"] for row in other.epochs[:6]] == [row["loss"] for row in plain.epochs[:6]]
    scored = {row["image_id"]: row for row in other.scores if row["split"] == "test"}
    changed = 0
    for prediction in other.predictions:
        levels = prediction["probability"].reshape(32, 32)
        truth = data.masks[data.image_ids.index(prediction["image_id"])] > 0
        expected = counts(predicted_mask(levels, 0.4, "largest", True), truth).tolist()
        assert [scored[prediction["image_id"]][name] for name in ("tp", "fp", "fn", "tn")] == expected
        changed += expected != counts(levels >= 32768, truth).tolist()
    assert changed
    validation = [[row["tp"] for row in record.scores if row["split"] == "validation"] for record in (plain, other)]
    assert validation[0] != validation[1], "epochs are chosen by the same masks"


def validated() -> FoldData:
    """12 images to train on, 4 to choose the epoch by, 8 to test."""
    return replace(fold_data(), train=np.arange(12), validation=np.arange(12, 16), test=np.arange(16, 24))


RISE_AND_FALL = (
    "train.epochs=6",
    "optim.lr=0.02",
    "model.width=8",
    "optim.schedule=steps",
    "optim.milestones=[3]",
    "optim.gamma=50",
)
"""It learns for three epochs and then forgets."""


def patients_mean(record: Record, split: str, epoch: int) -> float:
    """By hand: the mean over patients of the mean DSC of their images."""
    by_patient: dict[str, list[float]] = {}
    for row in record.scores:
        if (row["split"], row["epoch"]) == (split, epoch):
            dsc = 2 * row["tp"] / max(1, 2 * row["tp"] + row["fp"] + row["fn"])
            by_patient.setdefault(row["patient_id"], []).append(dsc)
    return float(np.mean([np.mean(values) for values in by_patient.values()]))


def test_the_epoch_that_validation_patients_choose_is_tested() -> None:
    data = validated()
    record = train_fold(study(*RISE_AND_FALL), data)
    splits = [(row["epoch"], row["split"]) for row in record.epochs]
    assert splits[:12] == [(epoch, split) for epoch in range(6) for split in ("train", "validation")]
    values = [patients_mean(record, "validation", epoch) for epoch in range(6)]
    best = int(np.argmax(values))
    assert splits[12:] == [(best, "test")]
    assert best < 5, f"the last epoch would be no choice: {values}"
    tested = [row for row in record.scores if row["split"] == "test"]
    assert {row["epoch"] for row in tested} == {best}
    assert [row["image_id"] for row in tested] == [data.image_ids[row] for row in data.test]


def test_a_validated_fold_goes_on_from_its_state_bit_for_bit() -> None:
    data, settings = validated(), study(*RISE_AND_FALL)
    whole = train_fold(settings, data)
    record, state = Record(), None
    fold = Fold(settings, data, CPU)
    while not fold.is_finished:
        fold = Fold(settings, data, CPU, state)
        record.epochs.append(fold.train_epoch())
        record.epochs.append(fold.validate(record))
        if fold.is_finished:
            record.epochs.append(fold.evaluate(record))
        state = fold.state()
    assert without_seconds(record) == without_seconds(whole)
    assert record.scores == whole.scores
    assert Fold(settings, data, CPU, state).best_epoch == record.epochs[-1]["epoch"]


def test_what_test_patients_look_like_changes_nothing_before_they_are_tested() -> None:
    data, settings = validated(), study("train.epochs=4", "optim.lr=0.03")
    images, masks = data.images.copy(), data.masks.copy()
    images[data.test], masks[data.test] = 255 - images[data.test], 1 - masks[data.test]
    one, other = train_fold(settings, data), train_fold(settings, replace(data, images=images, masks=masks))
    assert without_seconds(one)[:-1] == without_seconds(other)[:-1]
    assert one.epochs[-1]["epoch"] == other.epochs[-1]["epoch"]
    assert one.epochs[-1]["dsc"] != other.epochs[-1]["dsc"]


def test_stopping_after_some_epochs_leaves_the_schedule_as_it_is() -> None:
    whole = train_fold(study("train.epochs=5"), fold_data())
    short = train_fold(study("train.epochs=5", "train.stop_after=3"), fold_data())
    assert [row["split"] for row in short.epochs] == ["train"] * 3 + ["test"]
    assert [row["lr"] for row in short.epochs[:3]] == [row["lr"] for row in whole.epochs[:3]]


@pytest.mark.parametrize("arch", ["unet", "daf_net"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_fold_goes_on_from_its_state_bit_for_bit(arch: str, optimizer: str) -> None:
    data = fold_data()
    settings = study(
        f"optim.optimizer={optimizer}", "train.epochs=3", "model.encoder=resnet10t", "model.decoder_width=8", arch=arch
    )
    whole = train_fold(settings, data)
    first, record = Fold(settings, data, CPU), Record()
    record.epochs.append(first.train_epoch())
    state = first.state()
    first.train_epoch()  # what was done after the save is lost and done again
    second = Fold(settings, data, CPU, state)
    while not second.is_finished:
        record.epochs.append(second.train_epoch())
    record.epochs.append(second.evaluate(record))
    assert without_seconds(record) == without_seconds(whole)
    assert record.scores == whole.scores
    assert len(second.state()) < len(state), "a finished fold keeps its weights alone"


def test_a_fold_does_not_depend_on_what_ran_before_it() -> None:
    data = fold_data()
    alone = train_fold(study(), data)
    torch.manual_seed(123)
    np.random.seed(5)
    train_fold(study("optim.lr=0.1"), data)
    assert without_seconds(train_fold(study(), data)) == without_seconds(alone)


@pytest.mark.parametrize("damage", ["cut", "settings", "empty"])
def test_a_state_that_does_not_fit_is_refused(damage: str) -> None:
    data = fold_data()
    state = Fold(study(), data, CPU).state()
    wanted = study("optim.lr=0.5") if damage == "settings" else study()
    state = {"cut": state[: len(state) // 2], "settings": state, "empty": b""}[damage]
    with pytest.raises(ValueError, match="a checkpoint of other settings" if damage == "settings" else "damaged"):
        Fold(wanted, data, CPU, state)


def test_accumulated_batches_give_the_gradient_of_one_large_batch() -> None:
    """Without batch statistics a step over 2 batches of 4 is a step over 1 batch of 8, uneven last ones included."""
    data = fold_data()

    def weights(*overrides: str) -> list[torch.Tensor]:
        fold = Fold(study("optim.optimizer=sgd", "train.channels_last=false", *overrides), data, CPU)
        for module in fold.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.track_running_stats, module.running_mean, module.running_var = False, None, None
                module.forward = lambda features: features  # type: ignore[method-assign]
        fold._seed = lambda *parts: derive_seed(*parts)  # type: ignore[method-assign]  # the settings differ on purpose
        torch.manual_seed(0)
        for parameter in fold.model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        fold.train_epoch()
        return [parameter.detach() for parameter in fold.model.parameters()]

    for one, two in zip(weights("train.batch_size=8"), weights("train.accumulate=2"), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_the_norm() -> None:
    data = fold_data(train=4)
    free = Fold(study("optim.optimizer=sgd", "optim.lr=1", "optim.weight_decay=0", "optim.momentum=0"), data, CPU)
    clipped = Fold(
        study("optim.optimizer=sgd", "optim.lr=1", "optim.weight_decay=0", "optim.momentum=0", "train.clip_norm=1e-3"),
        data,
        CPU,
    )
    for fold, longest in ((free, None), (clipped, 1e-3)):
        before = torch.cat([parameter.detach().flatten().clone() for parameter in fold.model.parameters()])
        row = fold.train_epoch()
        after = torch.cat([parameter.detach().flatten() for parameter in fold.model.parameters()])
        step = float((after - before).norm()) / row["lr"]
        assert step > 1e-2 if longest is None else step == pytest.approx(longest, rel=0.02)


def test_a_loss_that_is_no_number_says_where() -> None:
    settings = study("optim.optimizer=sgd", "optim.lr=1e30", "train.epochs=3")
    with pytest.raises(DivergedError, match=r"the loss is nan in fold 0, epoch \d, learning rate .*optim.lr"):
        train_fold(settings, fold_data())


def test_a_single_image_left_over_joins_the_batch_before() -> None:
    sizes: list[int] = []
    fold = Fold(study(), fold_data(), CPU)  # 17 images by 4
    fold.model.register_forward_hook(lambda _module, given, _output: sizes.append(len(given[0])))
    fold.train_epoch()
    assert sizes == [4, 4, 4, 5]


@pytest.mark.parametrize("preset", ["standard", "strong"])
def test_threads_that_load_change_no_number(preset: str) -> None:
    settings, data = study("train.epochs=3", f"augment.preset={preset}"), fold_data()
    alone, threaded = Fold(settings, data, CPU), Fold(settings, data, CPU)
    with ThreadPoolExecutor(3) as threaded._loaders:
        for _ in range(3):
            one, other = alone.train_epoch(), threaded.train_epoch()
            assert {**one, "seconds": 0} == {**other, "seconds": 0}
    weights = threaded.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in alone.model.state_dict().items())


def test_the_order_of_the_manifests_rows_changes_nothing() -> None:
    data = fold_data()
    turned = np.arange(len(data.image_ids))[::-1]
    place = np.argsort(turned)
    other = FoldData(
        fold=0,
        images=data.images[turned],
        masks=data.masks[turned],
        train=np.sort(place[data.train]),
        test=np.sort(place[data.test]),
        image_ids=[data.image_ids[row] for row in turned],
        patient_ids=[data.patient_ids[row] for row in turned],
    )
    first, second = train_fold(study(), data), train_fold(study(), other)
    assert without_seconds(first) == without_seconds(second)
    assert first.scores == second.scores
