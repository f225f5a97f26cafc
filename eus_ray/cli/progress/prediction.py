"""What a person sees while images are predicted: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eus_ray.cli.progress.cross_validation import PLAIN_INTERVAL_S


class PredictProgress:
    """Counts images and frames; a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._done, self._total = 0, 0
        self._said = time.monotonic()
        self._task: TaskID | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} images"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> PredictProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def begin(self, total: int) -> None:
        """So many images and frames are to come; of videos it is what their files say."""
        self._total = total
        if self._console.is_terminal:
            self._bar.start()
            self._task = self._bar.add_task("predicting", total=total)

    def done(self, number: int) -> None:
        """So many more are predicted and written."""
        self._done += number
        self._total = max(self._total, self._done)
        if self._task is not None:
            self._bar.update(self._task, completed=self._done, total=self._total)
        elif time.monotonic() - self._said >= PLAIN_INTERVAL_S:
            self._said = time.monotonic()
            self.say(f"{self._done}/{self._total} images")
