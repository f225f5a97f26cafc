from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eus_ray.config import LossSettings
from eus_ray.models import Outputs
from eus_ray.models.adapter import OutputError
from eus_ray.models.others import CallableNetwork
from eus_ray.training.losses import segmentation_loss
from tests.models.tester import images


class Returns(nn.Module):
    """Returns what it was given, whatever the images."""

    def __init__(self, returned: object) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, _: Tensor) -> object:
        return self.returned


def test_a_tensor_becomes_outputs_without_auxiliary() -> None:
    logits = torch.rand(2, 1, 4, 4)
    outputs = CallableNetwork(Returns(logits))(images(2, 4, 4))
    assert outputs.logits is logits
    assert outputs.auxiliary is None
    assert CallableNetwork(Returns(Outputs(logits, [])))(images(2, 4, 4)).auxiliary is None  # type: ignore[arg-type]


def test_auxiliary_maps_of_other_sizes_are_resized_and_concatenated() -> None:
    constant = torch.full((2, 3, 2, 2), 5.0)
    ramp = torch.tensor([0.0, 4.0]).expand(2, 1, 1, 2)
    returned = Outputs(torch.rand(2, 1, 4, 4), (constant, ramp))  # type: ignore[arg-type]
    auxiliary = CallableNetwork(Returns(returned))(images(2, 4, 4)).auxiliary
    assert auxiliary.shape == (2, 4, 4, 4)
    assert (auxiliary[:, :3] == 5).all()
    # two pixels 0 and 4 have their centres at 1/4 and 3/4; four have theirs at 1/8, 3/8, 5/8, 7/8
    assert auxiliary[0, 3, 0].tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ((torch.rand(2, 1, 4, 4),), r"returns type tuple; return logits \(2, 1, 4, 4\)"),
        ({"out": torch.rand(2, 1, 4, 4)}, "returns type dict"),
        (torch.rand(2, 2, 4, 4), r"returns logits \(2, 2, 4, 4\) of images \(2, 1, 4, 4\), not \(2, 1, 4, 4\)"),
        (torch.rand(2, 1, 2, 2), r"returns logits \(2, 1, 2, 2\)"),
        (torch.rand(2, 4, 4), r"returns logits \(2, 4, 4\)"),
        (torch.ones(2, 1, 4, 4, dtype=torch.int64), r"returns logits \(2, 1, 4, 4\) of int64"),
        (Outputs(torch.rand(2, 1, 4, 4), torch.rand(1, 1, 4, 4)), r"auxiliary \(1, 1, 4, 4\), not logits \(2, M, h, w"),
        (Outputs(torch.rand(2, 1, 4, 4), ["x"]), "returns auxiliary type str, not logits"),  # type: ignore[arg-type]
    ],
)
def test_other_outputs_are_told_with_their_shape(returned: object, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        CallableNetwork(Returns(returned))(images(2, 4, 4))


def test_deep_supervision_adds_the_mean_of_the_auxiliary_losses() -> None:
    # cross-entropy of a logit x with an empty truth is log(1 + e^x): ln 2 at 0, and ln 4 at ln 3
    auxiliary = [torch.zeros(1, 1, 4, 4), torch.full((1, 2, 2, 2), 3.0).log()]
    outputs = CallableNetwork(Returns(Outputs(torch.zeros(1, 1, 4, 4), auxiliary)))(images(1, 4, 4))  # type: ignore[arg-type]
    settings = LossSettings(dice_weight=0, bce_weight=1, auxiliary_weight=0.3, si_weight=2)
    loss = segmentation_loss(outputs, torch.zeros(1, 1, 4, 4), settings)
    ln2, ln4 = 0.693147, 1.386294
    assert loss.item() == pytest.approx(2 * ln2 + 0.3 * (ln2 + 2 * ln4) / 3, abs=1e-5)
    without = settings.model_copy(update={"auxiliary_weight": 0.0})
    assert segmentation_loss(outputs, torch.zeros(1, 1, 4, 4), without).item() == pytest.approx(2 * ln2, abs=1e-5)


class Tied(nn.Module):
    """Has one convolution under two names, and one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(1, 1, 3, padding=1)
        self.again = nn.Sequential(self.encoder)
        self.last = nn.Conv2d(1, 1, 3, padding=1)
        self.last.weight = self.encoder.weight

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.again(image))


def test_a_tensor_with_several_names_is_in_a_checkpoint_once(tmp_path: Path) -> None:
    model, other = CallableNetwork(Tied()), CallableNetwork(Tied())
    state = model.state_dict()
    assert list(state) == ["body.encoder.weight", "body.encoder.bias", "body.last.bias"]
    save_file(state, tmp_path / "weights.safetensors")  # refuses tensors that share memory
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    image = images(1, 8, 8)
    assert torch.equal(model(image).logits, other(image).logits)
    with pytest.raises(RuntimeError, match=r"Missing key.*body.encoder.bias"):
        other.load_state_dict({name: state[name] for name in state if name != "body.encoder.bias"})


def test_the_statistics_are_of_no_checkpoint() -> None:
    body = nn.Conv2d(3, 1, 1)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    model, image = CallableNetwork(body, {"mean": mean, "std": std}), images(2, 4, 4, channels=3)
    assert set(model.state_dict()) == {"body.weight", "body.bias"}
    torch.testing.assert_close(model(image).logits, body((image - mean) / std))
    assert model.encoder is None
