"""One process of a team on a CPU: in each case trains two epochs of a fold and saves its weights and rows.

python -m tests.training.ddp_worker RANK SIZE RENDEZVOUS OUT CASES, which are settings in JSON: [["a.b=c", …], …]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import save_file
from torch import nn

from eus_ray.config import ModelSettings
from eus_ray.models import build_model
from eus_ray.training import fold as fold_module
from eus_ray.training.ddp import Team
from eus_ray.training.fold import Fold
from tests.training.test_fold import fold_data, study


def without_batch_statistics(settings: ModelSettings, seed: int, in_channels: int) -> nn.Module:
    """The model with each batch normalisation replaced: on CPUs none spans the processes."""
    model = build_model(settings, seed, in_channels)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features))
    return model


def main(rank: int, size: int, rendezvous: str, out: Path, cases: list[list[str]]) -> None:
    fold_module.build_model = without_batch_statistics
    torch.set_num_threads(1)
    team = None
    if size > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
        team = Team(rank, size, torch.distributed.new_group(list(range(size))))
    for case, overrides in enumerate(cases):
        arch = "daf_net" if any("slf_weight" in override for override in overrides) else "unet"
        fold = Fold(study(*overrides, arch=arch), fold_data(), torch.device("cpu"), team=team)
        rows = [fold.train_epoch(), fold.train_epoch()]
        save_file(
            {name: value.contiguous() for name, value in fold.model.state_dict().items()},
            out / f"{case}_{size}_{rank}.safetensors",
        )
        (out / f"{case}_{size}_{rank}.json").write_text(json.dumps(rows))
    if size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), json.loads(sys.argv[5]))
