"""Processes that a test started, and waiting for what they do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import psutil


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that a command started with this mark in its environment, and all below it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("EUS_RAY_TEST") == mark:
                found.append(process)
    return found


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_until(condition: Callable[[], bool], say: Callable[[], object] = lambda: "", seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited in vain {say()}"
        time.sleep(0.1)
