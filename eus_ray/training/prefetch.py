"""The augmented images of a fold's batches; beside a GPU, threads prefetch the next batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

Index = npt.NDArray[np.int64]
Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""An image and its mask, `(S, S)` each."""


def cut_batches(rows: Index, size: int) -> list[Index]:
    """Return batches of `size` rows.

    A single row left over joins the batch before it, because batch normalisation cannot normalise one value.

    >>> [batch.tolist() for batch in cut_batches(np.arange(7), 3)]
    [[0, 1, 2], [3, 4, 5, 6]]
    """
    batches = [rows[first : first + size] for first in range(0, len(rows), size)]
    if len(batches) > 1 and len(batches[-1]) == 1 and size > 1:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def loader_threads(device: torch.device) -> ThreadPoolExecutor | None:
    """Return a thread for each CPU of this process; none on a CPU, where they would take turns with the arithmetic."""
    if device.type == "cpu":
        return None
    given = os.environ.get("OMP_NUM_THREADS")  # Ray sets it to what the worker was given
    return ThreadPoolExecutor(max(1, int(given or os.cpu_count() or 1)))


class Batches:
    """The loaded images and masks of each batch, in order: `for pairs in batches`.

    Args:
        batches: The rows of each batch.
        load: Gives the image and mask of a row.
        pool: Threads that load the next batch after `prefetch()`; without, each batch is loaded at its turn.
    """

    def __init__(self, batches: Sequence[Index], load: Callable[[int], Pair], pool: Executor | None = None) -> None:
        self._batches, self._load = batches, load
        self._map: Callable[..., Iterator[Pair]] = pool.map if pool else map  # `map` loads a row when it is asked for
        self._loading: dict[int, Iterator[Pair]] = {}
        self._turn = 0

    def __iter__(self) -> Iterator[list[Pair]]:
        """Give the batches in turn."""
        for turn in range(len(self._batches)):
            self._turn = turn
            self._begin(turn)
            yield list(self._loading.pop(turn))

    def prefetch(self) -> None:
        """Begin to load the next batch if there are threads and a next batch.

        To be called before the backward pass, in which PyTorch releases the GIL once. In the forward pass it releases
        it at every operation, and would wait for the threads each time.
        """
        self._begin(self._turn + 1)

    def _begin(self, turn: int) -> None:
        if turn < len(self._batches) and turn not in self._loading:
            self._loading[turn] = self._map(self._load, self._batches[turn].tolist())
