"""A group of workers that finds itself: where it meets is held from the moment its address is known."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from eus_ray.distributed.torch_process_group import ProcessGroup


@ray.remote(num_cpus=0)
class Worker:
    def run(self, work: Callable[..., Any], *values: Any) -> Any:
        return work(*values)


class Group:
    """A group of workers with what of Ray Train's a backend uses."""

    def __init__(self, size: int) -> None:
        self.workers = [Worker.remote() for _ in range(size)]
        self.meets_at: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self.workers)

    def execute_single_async(self, rank: int, work: Callable[..., Any], *values: Any) -> Any:
        return self.workers[rank].run.remote(work, *values)

    def execute_single(self, rank: int, work: Callable[..., Any], *values: Any) -> Any:
        address = ray.get(self.execute_single_async(rank, work, *values))
        with pytest.raises(OSError, match="in use"), socket.socket() as thief:
            thief.bind(address)
        self.meets_at.append(address)
        return address


def rank_times_sum(rank: int) -> float:
    import torch

    values = torch.tensor([float(rank + 1)])
    torch.distributed.all_reduce(values)
    return rank * float(values)


@pytest.fixture
def group(ray_session: object) -> Iterator[Group]:
    del ray_session  # needed, but never read
    made = Group(3)
    yield made
    for worker in made.workers:
        ray.kill(worker)


@pytest.mark.ray
def test_workers_join_at_an_address_that_nobody_else_can_take(group: Group) -> None:
    config = ProcessGroup()
    config.backend_cls().on_start(group, config)
    assert len(group.meets_at) == 1
    sums = ray.get([group.execute_single_async(rank, rank_times_sum, rank) for rank in range(3)])
    assert sums == [0.0, 6.0, 12.0]
