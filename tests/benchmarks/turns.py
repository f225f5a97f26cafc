"""Commands that take turns of a minute, one frozen while the other runs.

A shared machine is slower in some minutes than in others, by more than what is compared differs.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time

import psutil

from tests.benchmarks.data import ROOT

TURN_S = 60.0


class Command:
    """A command that runs in its turns only; between them it is frozen with all its processes."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self.seconds, self.said = 0.0, ""
        """The length of its turns together, and what it printed."""

    def turn(self, seconds: float | None) -> bool:
        """Run for so long, or to the end; return whether it still runs."""
        started = time.perf_counter()
        if self._process is None:
            self._process = subprocess.Popen(self._arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        else:
            self._signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.said, _ = self._process.communicate(timeout=seconds)
        ended = self._process.returncode is not None
        if not ended:
            self._signal(signal.SIGSTOP)
        self.seconds += time.perf_counter() - started
        assert not ended or self._process.returncode == 0, self._arguments
        return not ended

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            driver = psutil.Process(self._process.pid)
            for process in (*driver.children(recursive=True), driver):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)


def in_turns(*commands: Command) -> None:
    """Run commands to their ends in turns; a single one without interruption."""
    going = list(commands)
    try:
        while going:
            seconds = TURN_S if len(going) > 1 else None
            going = [command for command in going if command.turn(seconds)]
    finally:
        for command in going:
            command.kill()
