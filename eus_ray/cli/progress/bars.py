"""Progress for a person: bars on a terminal, plain lines at intervals elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 15.0
"""A log of a long run stays readable at this interval."""


class Bars:
    """Show how much of several things is done; a context.

    Args:
        unit: What is counted, such as `images`.
        console: Where to print.
    """

    def __init__(self, unit: str, console: Console) -> None:
        self._unit, self._console = unit, console
        self._said: dict[str, float] = {}
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
            disable=not console.is_terminal,
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
        elif time.monotonic() - self._said.get(name, -PLAIN_INTERVAL_S) >= PLAIN_INTERVAL_S:
            self._said[name] = time.monotonic()
            self.say(f"{name}: {done}/{total} {self._unit}" + "".join(f", {part}" for part in (text, plain) if part))
