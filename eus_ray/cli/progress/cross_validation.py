"""What a person sees while cross-validations run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_INTERVAL_S = 15.0


class LiveProgress:
    """Follows cross-validations of one setting each; a context. Counts folds × epochs, and shows the DSC so far."""

    def __init__(self, models: Sequence[str], folds: int, epochs: dict[str, int], console: Console) -> None:
        self._console = console
        self._folds, self._epochs = folds, epochs
        self._done: dict[str, dict[int, int]] = {model: {} for model in models}
        self._tested: dict[str, dict[int, float]] = {model: {} for model in models}
        self._said = dict.fromkeys(models, 0.0)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<16}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} fold-epochs"),
                TextColumn("{task.fields[score]:<28}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            for model in models:
                total = folds * epochs[model]
                self._tasks[model] = self._bars.add_task(model, total=total, score="waiting", start=False)

    def __enter__(self) -> LiveProgress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def expect(self, epochs: Mapping[str, int]) -> None:
        """Some models are trained for another number of epochs."""
        self._epochs = self._epochs | dict(epochs)
        if self._bars is not None:
            for model, task in self._tasks.items():
                self._bars.update(task, total=self._folds * self._epochs[model])

    def plan(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    def cells(self, model: str, trial: int, cells: Sequence[dict[str, Any]], note: str) -> None:
        for text in [note, *(cell["note"] for cell in cells)]:
            if text:
                self._console.print(f"{model}: {text}", highlight=False, markup=False)
        for cell in cells:
            self._done[model][cell["fold"]] = cell["epoch"] + 1
            if cell["judged_dsc"] is not None:
                self._tested[model][cell["fold"]] = cell["judged_dsc"]
        if not cells:
            return
        score = self._score(model, cells)
        if self._bars is not None:
            task = self._tasks[model]
            self._bars.start_task(task)
            self._bars.update(task, completed=sum(self._done[model].values()), score=score)
        elif time.monotonic() - self._said[model] >= PLAIN_INTERVAL_S:
            self._said[model] = time.monotonic()
            done, total = sum(self._done[model].values()), self._folds * self._epochs[model]
            self._console.print(f"{model}: {done}/{total} fold-epochs, {score}", highlight=False)

    def ended(self, model: str, trial: int, state: str, reason: str) -> None:
        tested = self._tested[model].values()
        score = f", mean test DSC {sum(tested) / len(tested):.3f} over {len(tested)} folds" if tested else ""
        self._console.print(f"{model}: {state}{score}{': ' + reason if reason else ''}", highlight=False, markup=False)

    def _score(self, model: str, cells: Sequence[dict[str, Any]]) -> str:
        tested = self._tested[model].values()
        if tested:
            return f"test DSC {sum(tested) / len(tested):.3f} ({len(tested)}/{self._folds} folds)"
        return f"training DSC {sum(cell['dsc'] for cell in cells) / len(cells):.3f}"
