"""Progress for a person: bars on a terminal; elsewhere plain lines, at the begin, at intervals and at the end."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 30.0
"""A log of a long run stays readable at this interval."""


class Bars:
    """Show how much of several things is done; a context.

    Args:
        unit: What is counted, such as `images`.
        console: Where to print.
        transient: Whether the display of a short command is gone at its end: bars are cleared, and plain lines begin
            after an interval only.
    """

    def __init__(self, unit: str, console: Console, *, transient: bool = False) -> None:
        self._unit, self._console = unit, console
        self._begun_s = time.monotonic() if transient else -math.inf
        self._said: dict[str, float] = {}
        """When the last plain line on a thing was printed; infinity after its end."""
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} " + unit),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=transient,
            disable=not console.is_terminal or console.quiet,
        )

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self._console.print(text, highlight=False, markup=False)

    def add(self, name: str, total: int, text: str = "") -> None:
        """Show a thing whose work has not begun; do nothing if it is shown already."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, text=text, start=False)

    def update(self, name: str, done: int, total: int, text: str, plain: str = "") -> None:
        """Show how much of a thing is done.

        Args:
            name: Of the thing.
            done: How much of it.
            total: How much there is.
            text: What to show beside the bar.
            plain: What a plain line says besides.
        """
        if self._console.is_terminal:
            self.add(name, total)
            self._bars.start_task(self._tasks[name])
            self._bars.update(self._tasks[name], completed=done, total=total, text=text)
        elif self._is_due(name, is_end=done >= total):
            self._said[name] = math.inf if done >= total else time.monotonic()
            self.say(f"{name}: {done}/{total} {self._unit}" + "".join(f", {part}" for part in (text, plain) if part))

    def _is_due(self, name: str, *, is_end: bool) -> bool:
        """Tell whether a plain line is to be printed: each interval, and at the end if there was one before."""
        last = self._said.get(name, self._begun_s)
        is_first = name not in self._said
        return time.monotonic() - last >= PLAIN_INTERVAL_S or (is_end and last != math.inf and not is_first)
