"""A Ray Train backend that makes PyTorch's process group in the workers alone.

Ray's own backend also loads PyTorch in the processes of the trial and of Ray Train's controller, which do not use it.
That takes seconds of a core each.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import ray
from ray.train.backend import Backend, BackendConfig

if TYPE_CHECKING:
    from torch.distributed import TCPStore

_TIMEOUT = timedelta(days=7)
"""Folds of unequal length end at different times, and workers wait for one another."""


@dataclass
class ProcessGroup(BackendConfig):
    """The process group of a worker group."""

    backend: str = "gloo"
    """A backend of `torch.distributed.init_process_group`."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that Ray Train calls."""
        return _ProcessGroupBackend


class _ProcessGroupBackend(Backend):
    share_cuda_visible_devices = True  # each worker sees its machine's GPUs and takes its own

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        size = len(worker_group)
        loading = [worker_group.execute_single_async(rank, _load) for rank in range(1, size)]
        address = worker_group.execute_single(0, _open_rendezvous)
        joining = [
            worker_group.execute_single_async(rank, _join, backend_config.backend, address, rank, size)
            for rank in range(size)
        ]
        ray.get(loading + joining)


_rendezvous: TCPStore | None = None
"""The rendezvous of the workers, in the process of rank 0."""


def _load() -> None:
    """Load PyTorch while rank 0 does."""
    import torch.distributed  # noqa: F401


def _open_rendezvous() -> tuple[str, int]:
    """Open the rendezvous in the process of rank 0, and return its host and port.

    The operating system chooses the port while opening it: a port that was found free before may belong to another
    program by the time PyTorch has loaded.
    """
    global _rendezvous
    from torch.distributed import TCPStore

    host = ray.util.get_node_ip_address()
    _rendezvous = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=_TIMEOUT)
    return host, _rendezvous.port


def _join(backend: str, address: tuple[str, int], rank: int, size: int) -> None:
    import torch.distributed

    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(size)
    store = _rendezvous if rank == 0 else torch.distributed.TCPStore(*address, is_master=False, timeout=_TIMEOUT)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_TIMEOUT)
