"""The cost and the loss of stopping rules: simulated searches, replayed with several trials at once.

python -m tests.benchmarks.racing [--searches 600] [--processes 2]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd

from eus_ray.config import Order, SearchSettings
from eus_ray.metrics import criterion
from eus_ray.search.pruners import Never, Pruner, make_pruner, parse_rule
from eus_ray.search.replay import replay
from eus_ray.search.standings import Standing
from eus_ray.store import TrialState
from tests.benchmarks.score_tables import Generator

PATIENTS = (50, 150)
SLOTS = (1, 2, 8)


class HalvingOnFolds:
    """Asynchronous successive halving as in Ray Tune, by fold instead of epoch: the best third goes on."""

    order = Order.BY_FOLD

    def __init__(self, folds: int) -> None:
        self._folds = folds
        self._rungs: list[list[float]] = [[] for _ in range(folds)]
        self._stopped: set[int] = set()
        self._done: dict[int, int] = {}

    def hear(self, trial: int, standing: Standing) -> None:
        done = int(standing.finished.sum())
        if done == self._done.get(trial, 0) or done == self._folds:
            return
        self._done[trial] = done
        score = criterion(standing.scores[standing.finished])
        rung = self._rungs[done - 1]
        if rung and score < np.percentile(rung, 100 * 2 / 3):
            self._stopped.add(trial)
        rung.append(score)

    def stops(self, trial: int) -> str | None:
        return "not in the best third" if trial in self._stopped else None

    def end(self, *_: object) -> None:
        return None


class OptunaWilcoxon:
    """Optuna's own WilcoxonPruner, with its defaults, on the means of finished folds."""

    order = Order.BY_FOLD

    def __init__(self) -> None:
        self._pruner = optuna.pruners.WilcoxonPruner()
        self._study = SimpleNamespace(direction=optuna.study.StudyDirection.MAXIMIZE)
        self._trials: dict[int, Any] = {}
        self._new: set[int] = set()

    def hear(self, trial: int, standing: Standing) -> None:
        done = int(np.count_nonzero(standing.finished))
        if done > len(getattr(self._trials.get(trial), "intermediate_values", {})):
            means = {int(fold): float(np.nanmean(standing.scores[fold])) for fold in np.flatnonzero(standing.finished)}
            self._trials[trial] = SimpleNamespace(number=trial, intermediate_values=means)
            self._new.add(trial)

    def stops(self, trial: int) -> str | None:
        if trial not in self._new or not hasattr(self._study, "best_trial"):
            return None
        self._new.discard(trial)
        return "pruned" if self._pruner.prune(self._study, self._trials[trial]) else None  # type: ignore[arg-type]

    def end(self, trial: int, state: TrialState) -> None:
        if state is TrialState.COMPLETE:
            best, mine = getattr(self._study, "best_trial", None), self._trials[trial]
            if best is None or _mean(mine) > _mean(best):
                self._study.best_trial = mine


def _mean(trial: Any) -> float:
    return float(np.mean(list(trial.intermediate_values.values())))


RULES: dict[str, Callable[[int, int], Pruner]] = {
    "none": lambda *_: Never(),
    "racing (default)": lambda _, epochs: make_pruner(SearchSettings(), epochs),
    "asha:3:3, epochs": lambda _, epochs: parse_rule("asha:3:3", epochs),
    "halving on folds": lambda folds, _: HalvingOnFolds(folds),
    "Optuna WilcoxonPruner": lambda *_: OptunaWilcoxon(),
}


def one_search(seed: int, patients: int) -> dict[tuple[str, int], tuple[float, float]]:
    """Return the share of fold-epochs spent, and the regret in true score, by rule and trials at once."""
    curves, truth = Generator(patients=patients).draw(np.random.default_rng([seed, patients]))
    settings, folds, epochs, _ = curves.scores.shape
    found = {}
    for name, rule in RULES.items():
        for slots in SLOTS if name != "none" else SLOTS[:1]:
            outcome = replay(curves, rule(folds, epochs), slots)
            chosen = -np.inf if outcome.chosen is None else truth[outcome.chosen]
            spent = outcome.fold_epochs.sum() / (settings * folds * epochs)
            found[name, slots] = (float(spent), float(truth.max() - chosen))
    return found


def run(searches: int = 600, processes: int | None = None) -> pd.DataFrame:
    """Print and return one row per number of patients, rule and trials at once; ± is one standard error."""
    rows = []
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        for patients in PATIENTS:
            found = list(pool.map(partial(one_search, patients=patients), range(searches), chunksize=4))
            everything = np.array([each["none", 1][1] for each in found])
            for name, slots in found[0]:
                spent, regret = np.array([each[name, slots] for each in found]).T
                lost = regret - everything
                rows.append(
                    {
                        "patients": patients,
                        "rule": name,
                        "at once": slots if name != "none" else "any",
                        "fold-epochs": f"{spent.mean():.1%}",
                        "regret": f"{regret.mean():.4f} ± {_error(regret):.4f}",
                        "more than none": f"{lost.mean():+.4f} ± {_error(lost):.4f}",
                    }
                )
    table = pd.DataFrame(rows)
    print(f"\n{searches} simulated searches of {Generator().settings} settings, {Generator().folds} folds:")
    print("fold-epochs spent, and regret of the chosen setting in true Dice")
    print(table.to_string(index=False))
    return table


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=600)
    parser.add_argument("--processes", type=int)
    args = parser.parse_args()
    run(args.searches, args.processes)
