"""Several processes that train one fold together, each on its share of every batch (`run.gpus_per_fold` above 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Team:
    """This process in its fold's team; `rank` counts from 0 in the team. The first one leads: it alone validates,
    evaluates and saves."""

    rank: int
    size: int
    group: torch.distributed.ProcessGroup

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def parallel(self, model: torch.nn.Module, *, has_unused: bool) -> DistributedDataParallel:
        """The model as the team trains it; its gradients become the mean over the team's processes.

        On GPUs batch statistics are those of the whole batch (the layers are changed in place, their names and
        weights stay); on CPUs, where no such layer exists, those of each share.
        """
        if next(model.parameters()).device.type == "cuda":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(model, self.group)
        return DistributedDataParallel(model, process_group=self.group, find_unused_parameters=has_unused)

    def shares(self, batches: Sequence[Index]) -> tuple[list[Index], list[int]]:
        """This process's rows of each batch, and how many of them count.

        A process must take part in every exchange of gradients: where a batch has fewer images than the team has
        processes, it computes one that does not count.
        """
        mine = [batch[self.rank :: self.size] for batch in batches]
        counted = [len(share) for share in mine]
        return [share if len(share) else batch[:1] for share, batch in zip(mine, batches, strict=True)], counted

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of the processes' values."""
        torch.distributed.all_reduce(values, group=self.group)
        return values
