"""PyTorch's process group for a group of workers, made by the workers alone.

Ray's own backend loads PyTorch in the trial's and the controller's processes too, each seconds of a core, and they
only pass it on.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

_A_WEEK_S = 7 * 24 * 3600


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
        host, port = worker_group.execute_single(0, _free_address)
        size = len(worker_group)
        ray.get([
            worker_group.execute_single_async(rank, _join, backend_config.backend, f"tcp://{host}:{port}", rank, size)
            for rank in range(size)
        ])  # fmt: skip


def _free_address() -> tuple[str, int]:
    """This node's address, for URLs, and a port that nobody listens on."""
    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return (f"[{host}]" if ":" in host else host), probe.getsockname()[1]


def _join(backend: str, url: str, rank: int, size: int) -> None:
    import torch.distributed

    os.environ["RANK"], os.environ["WORLD_SIZE"] = str(rank), str(size)
    torch.distributed.init_process_group(
        backend, init_method=url, rank=rank, world_size=size, timeout=timedelta(seconds=_A_WEEK_S)
    )
