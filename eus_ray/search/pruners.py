"""Pruners: which trial of a search is stopped before its end.

A pruner hears each trial's `Standing` after every step and is asked whether to stop that trial. It knows no files and
no clock, so that a search that runs, one that is resumed and one that is replayed from its tables decide alike.
"""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from pydantic import ValidationError

from eus_ray.config import Order, SearchSettings
from eus_ray.errors import UserError, did_you_mean
from eus_ray.metrics import criterion
from eus_ray.search.standings import Scores, Standing, patient_means
from eus_ray.store import TrialState


class Pruner(Protocol):
    """Decide which trials of one search are stopped. A trial that must not be stopped is not asked about."""

    order: Order
    """How trials train under this pruner."""

    def hear(self, trial: int, standing: Standing) -> None:
        """Take in how a trial stands, after each of its steps."""

    def stops(self, trial: int) -> str | None:
        """Return the reason to stop a running trial now; None to let it go on. Never raises."""

    def end(self, trial: int, state: TrialState) -> None:
        """Take in that a trial is over."""


def make_pruner(settings: SearchSettings, num_epochs: int) -> Pruner:
    """Return the pruner of a search whose folds train so many epochs."""
    if settings.scheduler == "racing":
        return Racing(settings.racing_alpha)
    if settings.scheduler == "asha":
        return Asha(settings.asha_reduction, min(settings.asha_grace, num_epochs), num_epochs)
    return Never()


ARGUMENTS = {"racing": ("racing_alpha",), "asha": ("asha_reduction", "asha_grace"), "none": ()}
"""The arguments of a rule, separated by colons, as fields of `[search]`."""


def parse_rule(text: str, num_epochs: int) -> Pruner:
    """Return the pruner of a rule as a person writes it: `racing:0.05`, `asha:3`, `asha:3:5`, `none`.

    Arguments that are left out have the defaults of `[search]`.

    Raises:
        UserError: If there is no such rule, or it takes no such arguments.
    """
    name, *given = text.split(":")
    if name not in ARGUMENTS:
        raise UserError(f"rule {text}: no such rule{did_you_mean(name, ARGUMENTS)}")
    fields = ARGUMENTS[name]
    if len(given) > len(fields):
        takes = "nothing" if not fields else " and ".join(f"search.{field}" for field in fields)
        raise UserError(f"rule {text}: {name} takes {takes} after its name")
    try:
        settings = SearchSettings(scheduler=name, **dict(zip(fields, given, strict=False)))
    except ValidationError as error:
        raise UserError(
            *(
                f"rule {text}: search.{problem['loc'][-1]}: {problem['msg']}, not {problem['input']!r}"
                for problem in error.errors()
            )
        ) from None
    return make_pruner(settings, num_epochs)


class Never:
    """Stop nothing."""

    order = Order.BY_FOLD

    def hear(self, trial: int, standing: Standing) -> None:
        """Take in nothing."""

    def stops(self, trial: int) -> str | None:
        """Let it go on."""
        return None

    def end(self, trial: int, state: TrialState) -> None:
        """Take in nothing."""


class Racing:
    """Stop a trial that is plainly worse than the leader on the patients of the folds that both have finished.

    The leader is the running or complete trial that is furthest ahead over the folds in common, of those with the most
    of them. Plainly worse: behind in the criterion, and a one-sided Wilcoxon signed rank test of the patients'
    differences is below `alpha`. A patient who is judged in several folds counts once, by their mean.

    A finished fold shows the final score, and the patients pair up; an unfinished one says little, since settings that
    learn slowly may end best.

    Args:
        alpha: The level of the test.
    """

    order = Order.BY_FOLD

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._standings: dict[int, Standing] = {}
        self._out: set[int] = set()
        self._answered: set[int] = set()
        """Trials whose answer has not changed since it was given."""

    def hear(self, trial: int, standing: Standing) -> None:
        """Take in how a trial stands."""
        before = self._standings.get(trial)
        self._standings[trial] = standing
        if before is None or (before.finished != standing.finished).any():
            self._answered.clear()

    def end(self, trial: int, state: TrialState) -> None:
        """Take in that a trial is over."""
        if state is not TrialState.COMPLETE:
            self._out.add(trial)
            self._answered.clear()

    def stops(self, trial: int) -> str | None:
        """Return the reason to stop a trial now, if there is one."""
        if trial in self._answered or trial not in self._standings:
            return None
        self._answered.add(trial)
        leader = self._leader(trial)
        if leader is None:
            return None
        mine, best = self._standings[trial], self._standings[leader]
        common = best.finished & mine.finished
        differences = patient_means(mine.scores[common]) - patient_means(best.scores[common])
        differences = differences[~np.isnan(differences)]
        p_value = wilcoxon_less(differences)
        if not p_value < self._alpha:
            return None
        number = int(common.sum())
        folds = "1 fold" if number == 1 else f"{number} folds"
        return f"plainly worse than trial {leader} on {len(differences)} patients of {folds} (p {_short(p_value)})"

    def _leader(self, trial: int) -> int | None:
        """Return the trial that is furthest ahead of this one over the folds in common; None if none is ahead."""
        mine = self._standings[trial]
        common = {
            other: standing.finished & mine.finished
            for other, standing in self._standings.items()
            if other != trial and other not in self._out
        }
        most = max((folds.sum() for folds in common.values()), default=0)
        leads = {
            other: criterion(self._standings[other].scores[folds]) - criterion(mine.scores[folds])
            for other, folds in common.items()
            if folds.sum() == most > 0
        }
        leader = max(leads, key=leads.__getitem__, default=None)
        return None if leader is None or leads[leader] <= 0 else leader


class Asha:
    """Asynchronous successive halving (ASHA) on epochs, all folds abreast: Ray Tune's own, fed with the criterion.

    At each rung, `grace * reduction ** n` epochs, a trial goes on only among the best 1 / `reduction` of those that
    have come there so far.

    Args:
        reduction: Of so many trials that reach a rung, one goes on.
        grace: Epochs of the first rung.
        epochs: Epochs of a whole trial.
    """

    order = Order.ABREAST

    def __init__(self, reduction: int, grace: int, epochs: int) -> None:
        # Ray outside of `distributed`, since the algorithm is Ray's; it takes a second, and only this pruner needs it
        from ray.tune.schedulers import AsyncHyperBandScheduler

        self._epochs = epochs
        self._scheduler = AsyncHyperBandScheduler(
            "epoch", "score", "max", max_t=epochs, grace_period=grace, reduction_factor=reduction
        )
        self._trials: dict[int, Any] = {}
        self._heard: dict[int, dict[str, float]] = {}
        self._stopped: dict[int, str] = {}

    def hear(self, trial: int, standing: Standing) -> None:
        """Take in how a trial stands."""
        epoch = int(standing.epochs.min())
        if epoch <= self._heard.get(trial, {"epoch": 0})["epoch"]:
            return
        if trial not in self._trials:
            self._trials[trial] = SimpleNamespace(trial_id=str(trial))
            self._scheduler.on_trial_add(None, self._trials[trial])  # type: ignore[arg-type]
        result = {"epoch": epoch, "score": criterion(standing.scores)}
        self._heard[trial] = result
        decision = self._scheduler.on_trial_result(None, self._trials[trial], result)  # type: ignore[arg-type]
        if decision == self._scheduler.STOP and epoch < self._epochs:
            self._stopped[trial] = f"behind the best at epoch {epoch} (score {result['score']:.4f})"

    def stops(self, trial: int) -> str | None:
        """Return the reason to stop a trial now, if there is one."""
        return self._stopped.get(trial)

    def end(self, trial: int, state: TrialState) -> None:
        """Take in that a trial is over."""
        if state is TrialState.COMPLETE and trial in self._trials:
            self._scheduler.on_trial_complete(None, self._trials[trial], self._heard[trial])  # type: ignore[arg-type]


def wilcoxon_less(differences: Scores) -> float:
    """Return the p-value of a one-sided Wilcoxon signed rank test that differences `(N,)` lie below 0.

    It is exact up to 50 differences without ties and zeros, else the normal approximation without continuity
    correction. Differences are rounded to 10 decimals, so that float noise does not break ties. The same as
    `scipy.stats.wilcoxon(differences, alternative="less")`, which is called if there are ties or zeros: without them
    this takes a twentieth of its time.

    Returns:
        NaN for no differences, 1 if all are 0.
    """
    rounded = np.round(differences, 10)
    number = len(rounded)
    if number == 0 or not rounded.any():
        return 1.0 if number else float("nan")
    order = np.argsort(np.abs(rounded))
    sizes = np.abs(rounded)[order]
    if sizes[0] == 0 or (np.diff(sizes) == 0).any():
        from scipy.stats import wilcoxon

        return float(wilcoxon(rounded, alternative="less").pvalue)
    positive = int((np.flatnonzero(rounded[order] > 0) + 1).sum())
    if number <= 50:
        return float(_signed_rank_cdf(number)[positive])
    mean, variance = number * (number + 1) / 4, number * (number + 1) * (2 * number + 1) / 24
    return 0.5 * math.erfc((mean - positive) / math.sqrt(2 * variance))


@cache
def _signed_rank_cdf(number: int) -> Scores:
    """P(W+ <= w) of the signed rank statistic under the null hypothesis, for w from 0 to N (N + 1) / 2."""
    ways = np.ones(1)
    for rank in range(1, number + 1):
        ways = (np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))) / 2
    return np.cumsum(ways)


def _short(p_value: float) -> str:
    """A p-value as it is printed: `= .012`, `< .001`."""
    return "< .001" if p_value < 0.0005 else f"= {p_value:.3f}".replace(" 0.", " .")
