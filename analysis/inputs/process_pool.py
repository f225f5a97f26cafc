"""Work shared out over processes: threads would wait for one another's GIL."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2

_MIN_IMAGES_FOR_POOL = 2000
"""With fewer images, one process is done before others have started."""

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], processes: int | None, num_images: int
) -> Iterator[Result]:
    """Yield `function(job)` of every job, in the order of the jobs.

    Everything runs in this process if `processes` is 1, or if others cannot start. An error of `function` is raised
    here.

    Args:
        function: Can be pickled, to few bytes: it is sent once to each process as that starts, and more than a pipe
            holds waits for ever if the process has died.
        jobs: Its arguments.
        processes: How many processes share the jobs; by default one, or one on each core if there are many images.
        num_images: The images of all jobs.
    """
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if num_images >= _MIN_IMAGES_FOR_POOL else 1
    done = 0
    if processes > 1:
        try:
            # Spawned, not forked: pyarrow and OpenCV may have threads by now.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(processes, context, _start, (function,)) as pool:
                for result in pool.map(_call, jobs):
                    done += 1
                    yield result
                return
        except BrokenProcessPool:  # such as a calling script without `if __name__ == "__main__"`
            pass
    yield from map(function, jobs[done:])


_function: Callable[[Any], Any]
"""This process's own copy."""


def _start(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells of an interruption, and ends the others


def _call(job: Any) -> Any:
    return _function(job)
