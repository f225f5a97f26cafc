"""Work shared out over processes: threads would wait for one another's GIL."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(function: Callable[[Job], Result], jobs: Sequence[Job], processes: int) -> Iterator[Result]:
    """`function(job)` of every job, in order; with one process, and where processes cannot start, here.

    `function` must be importable by its name. What it raises is raised here.
    """
    done = 0
    if processes > 1:
        try:
            # Spawned, not forked: pyarrow and OpenCV may have threads by now.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, context, _start) as pool:
                for result in pool.map(function, jobs):
                    done += 1
                    yield result
                return
        except BrokenProcessPool:  # such as a calling script without `if __name__ == "__main__"`
            pass
    yield from map(function, jobs[done:])


def _start() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells of an interruption, and ends the others
