"""What a person sees while a search runs: a bar of trials for each architecture, and a line for each that ends."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eus_ray.cli.progress.cross_validation import PLAIN_INTERVAL_S, LiveProgress
from eus_ray.study.model_search import ModelSearch


class SearchProgress:
    """Follows searches, and after them the winners' cross-validations; a context."""

    def __init__(self, models: Sequence[str], winners: LiveProgress, console: Console) -> None:
        self._console, self._winners = console, winners
        self._running: dict[tuple[str, int], str] = {}
        self._searches: dict[str, ModelSearch] = {}
        self._said = 0.0
        self._over = False
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<16}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} trials"),
                TextColumn("{task.fields[score]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            self._tasks = {model: self._bars.add_task(model, total=None, score="") for model in models}

    def __enter__(self) -> SearchProgress:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._winners.__exit__()

    def plan(self, text: str) -> None:
        self._say(text)

    def searched(self, search: ModelSearch) -> None:
        """A trial of this search has begun or ended."""
        self._searches[search.model] = search
        self._show(search)

    def winners_begin(self, epochs: Mapping[str, int]) -> None:
        """The searches are over; what follows are their winners, for so many epochs a fold (else the study's)."""
        self._winners.expect(epochs)
        self._over = True
        if self._bars is not None:
            self._bars.stop()
        self._winners.__enter__()

    def cells(self, model: str, trial: int, cells: Sequence[dict[str, Any]], note: str) -> None:
        if self._over:
            self._winners.cells(model, trial, cells, note)
            return
        for text in [note, *(cell["note"] for cell in cells)]:
            if text:
                self._say(f"{model} trial {trial}: {text}")
        for cell in cells:
            self._running[model, trial] = f"fold {cell['fold']} epoch {cell['epoch']}"
        if model in self._searches:
            self._show(self._searches[model])

    def ended(self, model: str, trial: int, state: str, reason: str) -> None:
        if self._over:
            self._winners.ended(model, trial, state, reason)
            return
        self._running.pop((model, trial), None)
        search = self._searches[model]
        value = search.value(trial)
        score = f", {search.settings.metric} {value:.3f}" if value is not None and state == "complete" else ""
        self._say(f"{model} trial {trial}: {state}{score}{': ' + reason if reason else ''}")

    def _show(self, search: ModelSearch) -> None:
        states = search.states()
        done = sum(states.values()) - states["running"]
        best = search.best()
        score = "" if best is None else f"best {best['value']:.3f} (trial {best['trial']}), "
        stopped = f"{states['complete']} complete, {states['pruned']} stopped"
        stopped += f", {states['failed']} failed" if states["failed"] else ""
        where = "; ".join(
            f"{trial}: {at}" for (model, trial), at in sorted(self._running.items()) if model == search.model
        )
        if self._bars is not None:
            self._bars.update(
                self._tasks[search.model], total=search.settings.trials, completed=done, score=score + stopped
            )
        elif time.monotonic() - self._said >= PLAIN_INTERVAL_S:
            self._said = time.monotonic()
            running = f"; now trial {where}" if where else ""
            self._say(f"{search.model}: {done}/{search.settings.trials} trials, {score}{stopped}{running}")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)
