import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eus_ray.errors import UserError
from eus_ray.models.adapter import AdaptedNetwork
from eus_ray.models.dry_run import check_by_running
from eus_ray.models.others import CallableNetwork


class Conv(nn.Module):
    """One convolution: nothing is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Any:
        return self.conv(image)


class Unseeded(Conv):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.conv.bias, random.random())


class NaNAtBuild(Conv):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.conv.weight, float("nan"))


class InfiniteInTraining(Conv):
    def forward(self, image: Tensor) -> Any:
        return self.conv(image) / (0 if self.training else 1)


class InfiniteGradient(Conv):
    def forward(self, image: Tensor) -> Any:
        return (self.conv(image) * 0).sqrt()


class Frozen(Conv):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class Detached(Conv):
    def forward(self, image: Tensor) -> Any:
        return self.conv(image).detach()


class Lazy(Conv):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.LazyConv2d(1, 3, padding=1)


class InPlace(Conv):
    def forward(self, image: Tensor) -> Any:
        hidden = self.conv(image).sigmoid()
        hidden += hidden.detach()
        return hidden


class ChangesImages(Conv):
    def forward(self, image: Tensor) -> Any:
        return self.conv(image.sub_(0.5))


class Views(Conv):
    def __init__(self) -> None:
        super().__init__()
        both = torch.zeros(4)
        self.register_buffer("first", both[:2])
        self.register_buffer("second", both[2:])


class ExtraState(Conv):
    def get_extra_state(self) -> Any:
        return {"a": 1}

    def set_extra_state(self, state: Any) -> None: ...


class TupleInTraining(Conv):
    def forward(self, image: Tensor) -> Any:
        logits = self.conv(image)
        return (logits, logits) if self.training else logits


class Smaller(Conv):
    def forward(self, image: Tensor) -> Any:
        return functional.max_pool2d(self.conv(image), 2)


class Raises(Conv):
    def forward(self, image: Tensor) -> Any:
        print(f"about to fail at {len(image)}")
        raise KeyError("level")


class OnlyOf(Conv):
    """Insists on one size, as a network does that was made for it."""

    size = 96

    def forward(self, image: Tensor) -> Any:
        if image.shape[-1] != self.size:
            raise ValueError(f"made for {self.size} pixels")
        return self.conv(image)


def try_out(body: type[nn.Module], image_size: int = 64) -> AdaptedNetwork:
    def build() -> AdaptedNetwork:
        torch.manual_seed(0)
        return CallableNetwork(body())

    with torch.random.fork_rng(devices=[]):
        return check_by_running("lab:Net", build, 1, image_size)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Unseeded, "its initial weights differ between two builds with the same seed (in conv.bias); draw them with"),
        (NaNAtBuild, "its initial weights are no numbers (NaN or infinity in conv.weight)"),
        (InfiniteInTraining, "trained on two images of 64 pixels, it returns logits that are no numbers"),
        (InfiniteGradient, "a gradient is no number (NaN or infinity at conv.weight)"),
        (Frozen, "has no parameters to train"),
        (nn.Identity, "has no parameters to train"),
        (Detached, "its logits depend on no parameter that is trained"),
        (Lazy, "conv.weight has no shape yet; use no lazy layers"),
        (InPlace, "its backward pass raises RuntimeError: one of the variables needed for gradient computation"),
        (ChangesImages, "changes the images that it is given; clone them first"),
        (Views, "first and second are parts of one tensor"),
        (ExtraState, "its state has _extra_state, which is no tensor"),
        (TupleInTraining, "trained on two images of 64 pixels, it returns type tuple; return logits (2, 1, 64, 64)"),
        (Smaller, "evaluated on an image of 64 pixels (data.image_size), it returns logits (1, 1, 32, 32)"),
        (Raises, "evaluated on an image of 64 pixels (data.image_size), it raises KeyError: 'level'"),
    ],
)
def test_what_is_wrong_is_one_line(body: type[nn.Module], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as caught:
        try_out(body)
    (line,) = caught.value.lines
    assert line.startswith(f"model.arch: lab:Net: {message}")
    assert not capsys.readouterr().out


def test_a_network_that_is_returned_twice_would_train_all_folds_in_one() -> None:
    body = Conv()
    with pytest.raises(UserError, match="returns the same network each time; build a new one in every call"):
        check_by_running("lab:Net", lambda: CallableNetwork(body), 1, 64)


def test_it_is_run_at_the_size_of_the_study() -> None:
    assert try_out(OnlyOf, image_size=96).body.size == 96
    with pytest.raises(UserError, match=r"128 pixels \(data.image_size\), it raises ValueError: made for 96 pixels"):
        try_out(OnlyOf, image_size=128)


@pytest.mark.parametrize(("image_size", "trained_at"), [(256, 64), (32, 32), (48, 48), (80, 80), (144, 80), (224, 96)])
def test_training_is_tried_at_a_small_size_that_is_divided_alike(image_size: int, trained_at: int) -> None:
    seen = []

    class Seen(Conv):
        def forward(self, image: Tensor) -> Any:
            seen.append((self.training, image.shape[-1]))
            return self.conv(image)

    states = torch.get_rng_state()
    try_out(Seen, image_size)
    assert seen == [(False, image_size), (True, trained_at)]
    assert torch.equal(torch.get_rng_state(), states)
