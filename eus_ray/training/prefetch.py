"""The augmented images of a fold's batches; beside a GPU, threads prepare the next batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future

import numpy as np
import numpy.typing as npt

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""An image and its mask, `(S, S)` each."""


class Batches:
    """What `load` makes of each row of each batch, in order: `for pairs in batches`.

    Without a pool of threads, each batch at its turn. With one, they prepare the next from `ahead()` on. Call that
    before the backward pass, for which PyTorch leaves the interpreter to others. In the forward pass it lets go of it
    at every operation, and would wait for it behind the threads each time.
    """

    def __init__(
        self, batches: Sequence[npt.NDArray[np.int64]], load: Callable[[int], Pair], pool: Executor | None = None
    ) -> None:
        self._batches, self._load, self._pool = batches, load, pool
        self._under_way: dict[int, list[Future[Pair]]] = {}
        self._turn = 0

    def __iter__(self) -> Iterator[list[Pair]]:
        for turn, rows in enumerate(self._batches):
            self._turn = turn
            self._begin(turn)
            if turn in self._under_way:
                yield [future.result() for future in self._under_way.pop(turn)]
            else:
                yield [self._load(int(row)) for row in rows]

    def ahead(self) -> None:
        """Have the next batch prepared, where there are threads and a next batch."""
        if self._turn + 1 < len(self._batches):
            self._begin(self._turn + 1)

    def _begin(self, turn: int) -> None:
        if self._pool is not None and turn not in self._under_way:
            self._under_way[turn] = [self._pool.submit(self._load, int(row)) for row in self._batches[turn]]
