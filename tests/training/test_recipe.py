"""The encoder that is frozen at first or learns slowly, and the mean over mirror images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eus_ray.config import OptimSettings, Study
from eus_ray.metrics import counts, quantise
from eus_ray.models import Outputs, as_input, build_model, forward, predict, probability
from eus_ray.training.checkpoint import unpack
from eus_ray.training.fold import Fold, train_fold
from eus_ray.training.optim import (
    FreezableEncoder,
    learning_rate,
    load_optim_state,
    optim_state,
    optimizer_for,
    set_learning_rate,
)
from eus_ray.training.records import Record
from tests.training.test_fold import CPU, fold_data, study, validated, without_seconds

LIGHT = ("model.encoder=resnet10t", "model.decoder_width=8")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As a fold has it; more would wait for each other in so small a network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def daf_net(*overrides: str) -> Study:
    return study(*LIGHT, *overrides, arch="daf_net")


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    """Weights and batch statistics."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def is_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Parts(nn.Module):
    """A weight in the encoder, one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Parameter(torch.ones(2))
        self.encoder = nn.Linear(2, 1, bias=False)
        nn.init.ones_(self.encoder.weight)


# ---- the encoder's learning rate --------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["unet", "daf_net"])
def test_by_default_all_parameters_are_one_group_in_the_models_order(arch: str) -> None:
    model = build_model(study(*LIGHT, arch=arch).model, seed=0)
    (group,) = optimizer_for(OptimSettings(), model).param_groups
    assert [id(weight) for weight in group["params"]] == [id(weight) for weight in model.parameters()]


def test_a_network_without_an_encoder_has_one_group_whatever_the_factor() -> None:
    model = build_model(study().model, seed=0)
    assert len(optimizer_for(OptimSettings(encoder_lr_factor=0.1), model, is_encoder_late=True).param_groups) == 1


@pytest.mark.parametrize(("optimizer", "step"), [("sgd", 3.0), ("adamw", 1.0)])
def test_the_encoder_steps_by_its_share_of_the_learning_rate(optimizer: str, step: float) -> None:
    """Without momentum SGD steps by lr times the gradient, 3; AdamW's first step is lr long, whatever the gradient."""
    model = Parts()
    settings = OptimSettings(optimizer=optimizer, momentum=0.0, weight_decay=0.0, encoder_lr_factor=0.25)
    steps = optimizer_for(settings, model)
    model.head.grad, model.encoder.weight.grad = torch.full((2,), 3.0), torch.full((1, 2), 3.0)
    set_learning_rate(steps, 0.1)
    steps.step()
    torch.testing.assert_close(model.head.detach(), torch.full((2,), 1 - 0.1 * step))
    torch.testing.assert_close(model.encoder.weight.detach(), torch.full((1, 2), 1 - 0.025 * step))


def test_every_step_has_the_encoders_share_and_the_table_has_the_main_rate() -> None:
    settings = daf_net("optim.encoder_lr_factor=0.1", "train.epochs=3")
    fold, rates = Fold(settings, fold_data(), CPU), []
    fold.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append([group["lr"] for group in optimizer.param_groups])
    )
    rows = [fold.train_epoch() for _ in range(2)]
    main = [learning_rate(settings.optim, epoch, step, 4, 3) for epoch in range(2) for step in range(4)]
    assert [row["lr"] for row in rows] == main[::4]
    assert rates == [[rate, rate * 0.1] for rate in main]


def test_a_factor_of_0_keeps_the_encoders_weights() -> None:
    fold = Fold(daf_net("optim.encoder_lr_factor=0"), fold_data(), CPU)
    before = [weight.detach().clone() for weight in fold.model.encoder.parameters()]
    fold.train_epoch()
    assert all(map(torch.equal, before, fold.model.encoder.parameters()))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_state_of_groups_and_of_parameters_without_a_step_round_trips(optimizer: str) -> None:
    settings = OptimSettings(optimizer=optimizer, encoder_lr_factor=0.5)
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def step(model: Parts, steps: torch.optim.Optimizer, *, has_encoder: bool) -> None:
        model.head.grad = torch.tensor([1.0, -2.0])
        model.encoder.weight.grad = torch.tensor([[0.5, 4.0]]) if has_encoder else None
        steps.step()

    one, other = Parts(), Parts()
    first, second = (optimizer_for(settings, model, is_encoder_late=True) for model in (one, other))
    step(one, first, has_encoder=False)
    state = optim_state(first, scaler)
    assert state
    assert all(name.startswith("optimizer/0/") for name in state), "the encoder has had no step"
    other.load_state_dict(one.state_dict())
    load_optim_state({name: value.clone() for name, value in state.items()}, second, scaler)
    for has_encoder in (False, True, True):
        step(one, first, has_encoder=has_encoder)
        load_optim_state(optim_state(second, scaler), second, scaler)
        step(other, second, has_encoder=has_encoder)
    assert is_equal(one.state_dict(), other.state_dict())
    assert not torch.equal(one.encoder.weight, torch.ones(1, 2))


# ---- freezing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_frozen_encoder_stays_as_it_is_and_then_learns(optimizer: str) -> None:
    options = ("train.freeze_encoder_epochs=2", "train.epochs=4", "optim.weight_decay=0.1", "train.clip_norm=1")
    fold = Fold(daf_net(f"optim.optimizer={optimizer}", *options), fold_data(), CPU)
    start, head = copy_of(fold.model.encoder), copy_of(fold.model.si_heads)
    for epoch in range(4):
        is_training: list[bool] = []
        hook = fold.model.encoder.register_forward_hook(lambda encoder, *_: is_training.append(encoder.training))  # noqa: B023
        fold.train_epoch()
        hook.remove()
        assert set(is_training) == {epoch >= 2}
        assert is_equal(start, fold.model.encoder.state_dict()) == (epoch < 2)
        assert not is_equal(head, fold.model.si_heads.state_dict())
    learnt = copy_of(fold.model.encoder)
    moved = [name for name, value in learnt.items() if not torch.equal(value, start[name])]
    assert any("running_mean" in name for name in moved)
    assert any(name.endswith("weight") for name in moved)


def test_parameters_that_need_no_gradient_stay_so() -> None:
    model = Parts()
    model.encoder.bias = nn.Parameter(torch.zeros(1), requires_grad=False)
    encoder = FreezableEncoder(model)
    encoder.freeze(True)
    assert [weight.requires_grad for weight in model.parameters()] == [True, False, False]
    assert (model.training, model.encoder.training) == (True, False)
    encoder.freeze(False)
    assert [(name, weight.requires_grad) for name, weight in model.named_parameters()] == [
        ("head", True),
        ("encoder.weight", True),
        ("encoder.bias", False),
    ]


EVERYTHING = (
    "augment.preset=strong",
    "augment.noise_probability=1",
    "train.freeze_encoder_epochs=2",
    "optim.encoder_lr_factor=0.3",
    "optim.lr=0.01",
    "train.accumulate=2",
    "train.epochs=4",
    "evaluate.tta=flip",
)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_fold_goes_on_bit_for_bit_before_at_and_after_the_thaw(optimizer: str) -> None:
    data, settings = validated(), daf_net(*EVERYTHING, f"optim.optimizer={optimizer}")
    whole = train_fold(settings, data)
    first, begun, states = Fold(settings, data, CPU), Record(), {}
    while first.epoch < 3:
        begun.epochs.append(first.train_epoch())
        begun.epochs.append(first.validate(begun))
        states[first.epoch] = first.state(begun)
    for epochs_done, state in states.items():
        fold = Fold(settings, data, CPU, state)
        record = fold.restored
        assert fold.epoch == epochs_done
        while not fold.is_finished:
            record.epochs.append(fold.train_epoch())
            record.epochs.append(fold.validate(record))
        record.epochs.append(fold.evaluate(record))
        assert without_seconds(record) == without_seconds(whole)
        assert record.scores == whole.scores
        for one, other in zip(record.predictions, whole.predictions, strict=True):
            assert np.array_equal(one["probability"], other["probability"])


def test_a_checkpoint_of_a_frozen_encoder_has_no_state_of_it() -> None:
    fold = Fold(daf_net("train.freeze_encoder_epochs=1"), fold_data(), CPU)
    rest = len(list(fold.model.parameters())) - len(list(fold.model.encoder.parameters()))
    fold.train_epoch()
    tensors, _ = unpack(fold.state())
    assert {int(name.split("/")[1]) for name in tensors if name.startswith("optimizer/")} == set(range(rest))


# ---- mirror images ----------------------------------------------------------------------------------


class Slanted(nn.Module):
    """Logits are the gray value times the column: no mirror image gives the mirrored answer."""

    def forward(self, image: Tensor) -> Outputs:
        return Outputs(image * torch.arange(image.shape[-1]))


def test_the_mean_of_an_image_and_its_mirror_image_worked_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    outputs, plain = predict(Slanted(), image, torch.float32, "none")
    same_outputs, mean = predict(Slanted(), image, torch.float32, "flip")
    sigmoid = {value: 1 / (1 + np.exp(-value)) for value in (0, 2, 3, 6)}
    # the image's logits are 1 x 0, 2 x 1, 3 x 2; its mirror image's, mirrored back, 1 x 2, 2 x 1, 3 x 0
    np.testing.assert_allclose(plain, [[[0.5, sigmoid[2], sigmoid[6]]]], rtol=1e-6)
    np.testing.assert_allclose(mean, [[[(0.5 + sigmoid[2]) / 2, sigmoid[2], (sigmoid[6] + 0.5) / 2]]], rtol=1e-6)
    assert torch.equal(outputs.logits, same_outputs.logits)
    assert mean.dtype == torch.float32


def test_a_fold_scores_the_mean_and_its_losses_are_the_images_own() -> None:
    data, options = validated(), ("train.epochs=3", "optim.lr=0.02", "model.width=8")
    plain, mirrored = train_fold(study(*options), data), Record()
    fold = Fold(study(*options, "evaluate.tta=flip"), data, CPU)
    while not fold.is_finished:
        mirrored.epochs.append(fold.train_epoch())
        mirrored.epochs.append(fold.validate(mirrored))
    mirrored.epochs.append(fold.evaluate(mirrored))
    assert [row["loss"] for row in mirrored.epochs[:6]] == [row["loss"] for row in plain.epochs[:6]]

    def mean_of_both(rows: np.ndarray) -> np.ndarray:
        answers = []
        for images in (data.images[rows], np.ascontiguousarray(data.images[rows][:, :, ::-1])):
            with torch.inference_mode():
                image = as_input(images, CPU, channels_last=True)
                answers.append(probability(forward(fold.model, image, torch.float32)).numpy())
        return (answers[0] + answers[1][:, :, ::-1]) / 2

    first, second = data.test[:4], data.test[4:]
    expected = quantise(np.concatenate([mean_of_both(first), mean_of_both(second)]))
    scored = {row["image_id"]: row for row in mirrored.scores if row["split"] == "test"}
    for row, levels, prediction in zip(data.test, expected, mirrored.predictions, strict=True):
        assert np.abs(prediction["probability"].astype(int) - levels.ravel()).max() <= 1
        found = counts(prediction["probability"].reshape(32, 32) >= 32768, data.masks[row] > 0)
        assert [scored[prediction["image_id"]][name] for name in ("tp", "fp", "fn", "tn")] == found.tolist()
    both = [[row["tp"] for row in record.scores if row["split"] == "validation"] for record in (plain, mirrored)]
    assert both[0] != both[1], "epochs are chosen by the same probabilities"
