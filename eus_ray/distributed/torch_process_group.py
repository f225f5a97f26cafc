"""PyTorch's process group for a group of workers, made by the workers alone.

Ray's own backend loads PyTorch in the trial's and the controller's processes too, each seconds of a core, and they
only pass it on.
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

_A_WEEK = timedelta(days=7)


@dataclass
class ProcessGroup(BackendConfig):
    """`backend` as `torch.distributed.init_process_group` takes it. Workers may wait a week for one another: folds of
    unequal length end at different times."""

    backend: str = "gloo"

    @property
    def backend_cls(self) -> type[Backend]:
        return _Made


class _Made(Backend):
    share_cuda_visible_devices = True  # each worker sees its machine's GPUs and takes its own

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, ProcessGroup)
        size = len(worker_group)
        loading = [worker_group.execute_single_async(rank, _load) for rank in range(1, size)]
        address = worker_group.execute_single(0, _meet)
        joining = [
            worker_group.execute_single_async(rank, _join, backend_config.backend, address, rank, size)
            for rank in range(size)
        ]
        ray.get(loading + joining)


_meeting: TCPStore | None = None
"""Where the workers find one another; the first of them keeps it."""


def _load() -> None:
    """Load PyTorch while the first worker does."""
    import torch.distributed  # noqa: F401


def _meet() -> tuple[str, int]:
    """Open the meeting place; its node's address and port.

    The system chooses the port as it is opened: one that was only seen to be free is another program's by the time
    PyTorch has loaded.
    """
    global _meeting
    from torch.distributed import TCPStore

    host = ray.util.get_node_ip_address()
    _meeting = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=_A_WEEK)
    return host, _meeting.port


def _join(backend: str, address: tuple[str, int], rank: int, size: int) -> None:
    import torch.distributed

    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(size)
    store = _meeting if rank == 0 else torch.distributed.TCPStore(*address, is_master=False, timeout=_A_WEEK)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_A_WEEK)
