"""Batches come in order, from threads or without, and threads begin when they are told to."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eus_ray.training.prefetch import Batches, Pair

BATCHES = [np.array(rows) for rows in ([3, 1], [4, 1, 5], [9])]


class Loader:
    """Makes a row's number an image; remembers which rows were asked for, and by which thread."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.threads: set[int] = set()
        self.one_more = threading.Semaphore(0)

    def __call__(self, row: int) -> Pair:
        self.asked.append(row)
        self.threads.add(threading.get_ident())
        self.one_more.release()
        return np.full((1, 1), row, np.uint8), np.zeros((1, 1), np.uint8)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_come_whole_and_in_order(threads: int, ahead: bool) -> None:
    load, pool = Loader(), ThreadPoolExecutor(threads) if threads else None
    batches = Batches(BATCHES, load, pool)
    seen = []
    for pairs in batches:
        seen.append([int(image[0, 0]) for image, _ in pairs])
        if ahead:
            batches.prefetch()
    assert seen == [batch.tolist() for batch in BATCHES]
    assert sorted(load.asked) == sorted(np.concatenate(BATCHES).tolist()), "nothing is loaded twice"
    assert (threading.get_ident() in load.threads) == (threads == 0)


def test_threads_wait_until_they_are_told() -> None:
    load = Loader()
    with ThreadPoolExecutor(2) as pool:
        turns = iter(batches := Batches(BATCHES, load, pool))
        next(turns)
        assert sorted(load.asked) == [1, 3], "the second batch is not begun in the forward pass of the first"
        batches.prefetch()
        assert all(load.one_more.acquire(timeout=10) for _ in range(5))
        assert sorted(load.asked[2:]) == [1, 4, 5]


def test_what_goes_wrong_in_a_thread_is_raised_where_its_batch_is_due() -> None:
    def broken(row: int) -> Pair:
        raise OSError(f"row {row}")

    with ThreadPoolExecutor(1) as pool, pytest.raises(OSError, match="row 3"):
        next(iter(Batches(BATCHES, broken, pool)))
