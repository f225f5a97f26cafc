"""Distributed data parallel: several processes train one fold, each on its share of every batch.

That is so if `run.gpus_per_fold` is above 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from eus_ray.training.prefetch import Index


@dataclass(frozen=True)
class Team:
    """This process among those that train its fold; the first one alone validates, evaluates and saves."""

    rank: int
    """Counts from 0 in the team."""
    size: int
    group: torch.distributed.ProcessGroup

    @property
    def is_leader(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def parallel(self, model: torch.nn.Module, *, has_unused: bool) -> DistributedDataParallel:
        """Return the model as the team trains it; its gradients become the mean over the team's processes.

        On GPUs batch statistics are those of the whole batch: the layers are changed in place, their names and weights
        stay. On CPUs, which have no such layer, they are those of each share.

        Args:
            model: The network, on this process's device.
            has_unused: Whether parameters can be without a gradient.
        """
        if next(model.parameters()).device.type == "cuda":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(model, self.group)
        return DistributedDataParallel(model, process_group=self.group, find_unused_parameters=has_unused)

    def shares(self, batches: Sequence[Index]) -> tuple[list[Index], list[int]]:
        """Return this process's rows of each batch, and how many of them count.

        A process must take part in every exchange of gradients: if a batch has fewer images than the team has
        processes, it computes one that does not count.
        """
        mine = [batch[self.rank :: self.size] for batch in batches]
        counted = [len(share) for share in mine]
        return [share if len(share) else batch[:1] for share, batch in zip(mine, batches, strict=True)], counted

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of the processes' values."""
        torch.distributed.all_reduce(values, group=self.group)
        return values


def gradient_exchange(model: torch.nn.Module, *, is_last: bool) -> AbstractContextManager[None]:
    """Return the context of a backward pass: a team exchanges gradients at the last batch of a step only."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not is_last else nullcontext()
