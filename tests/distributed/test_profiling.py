"""A probe is a few real steps."""

from __future__ import annotations

import torch

from eus_ray.config_file import load_study
from eus_ray.distributed.profiling import measure


def test_a_probe_of_a_small_network_on_a_cpu() -> None:
    light = ["data.image_size=32", "model.width=4", "train.batch_size=4", "train.epochs=1"]
    threads = torch.get_num_threads()
    small = measure(load_study(None, overrides=light).for_model("unet"), torch.device("cpu"))
    large = measure(
        load_study(None, overrides=[*light, "data.image_size=64", "model.width=16"]).for_model("unet"),
        torch.device("cpu"),
    )
    assert torch.get_num_threads() == threads
    assert 0 < small.score_s < large.score_s
    assert small.step_s < large.step_s, "sixteen times the arithmetic takes longer"
    assert (small.busy_share, small.peak_bytes, small.total_bytes) == (1.0, 0, 0)


def test_a_probe_of_a_network_in_colour() -> None:
    light = ["data.image_size=32", "model.width=4", "train.batch_size=4", "data.channels=rgb"]
    probe = measure(load_study(None, overrides=light).for_model("unet"), torch.device("cpu"))
    assert probe.step_s > 0
    assert probe.score_s > 0
