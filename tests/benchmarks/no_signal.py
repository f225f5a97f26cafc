"""Fifty settings that are all equally good: a search's estimate of its best, beside the truth.

python -m tests.benchmarks.no_signal [--repeats 200] [--rule racing:0.05 --rule none]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison.selection_bias import bbc_cv, fold_winners, weighted_scores
from eus_ray.metrics import criterion
from eus_ray.search.pruners import parse_rule
from eus_ray.search.replay import replay
from tests.benchmarks.score_tables import Generator, Nested

EQUAL = Generator(settings=50, quality_sd=0.0, tau_log_sd=0.0)
DRAWS = 1000


def run(repeats: int = 200, rules: Sequence[str] = ("none", "racing")) -> pd.DataFrame:
    """Print and return how far each estimate is above the truth: mean and standard error over the repeats."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(repeats):
        search = EQUAL.draw_nested(np.random.default_rng(seed))
        for rule in rules:
            for name, value in errors(search, rule).items():
                found[rule, name].append(value)
    rows = []
    for rule in rules:
        row = {"rule": rule}
        for name in ("naive", "nested", "bbc"):
            values = np.array(found[rule, name])
            row[name] = f"{values.mean():+.4f} ± {values.std(ddof=1) / np.sqrt(repeats):.4f}"
        rows.append(row | {"fold-epochs": f"{np.mean(found[rule, 'spent']):.0%}"})
    table = pd.DataFrame(rows)
    print(f"\n{EQUAL.settings} equal settings, {EQUAL.patients} patients, {repeats} repeats: estimate - truth (Dice)")
    print(table.to_string(index=False))
    return table


def errors(search: Nested, rule: str) -> dict[str, float]:
    """Return the estimates of a search's winner under a rule, minus the truth of its models; and its cost."""
    curves = search.validation
    settings, folds, epochs, _ = curves.scores.shape
    outcome = replay(curves, parse_rule(rule, epochs))
    complete = np.flatnonzero(np.array(outcome.states) == "complete")
    validation = curves.scores[complete, :, -1].astype(np.float64)
    test, models = search.test[complete], search.fold_models[complete]
    # the patients on whom the naive best was found are some; its truth is that of its models on all
    best = int(np.argmax([criterion(scores) for scores in validation]))
    won = fold_winners(validation)
    by_fold = [test[won[fold], search.fold_of == fold].mean() for fold in range(folds)]
    winners, left_out = bbc_cv(test, search.fold_of, DRAWS)
    outside = weighted_scores(test, search.fold_of, left_out.astype(np.float64))
    drawn = np.arange(DRAWS)
    return {
        "naive": criterion(validation[best]) - models[best].mean(),
        "nested": float(np.mean(by_fold) - models[won, np.arange(folds)].mean()),
        "bbc": float((outside[drawn, winners] - models[winners].mean(axis=1)).mean()),
        "spent": float(outcome.fold_epochs.sum() / (settings * folds * epochs)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rule", action="append", dest="rules")
    args = parser.parse_args()
    run(args.repeats, args.rules or ("none", "racing"))
