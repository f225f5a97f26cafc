"""Importances of searched fields: PED-ANOVA over all trials that have a score."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd

from eus_ray.analysis.inputs.searches import Dimension, Search
from eus_ray.store import TrialState

MIN_TRIALS = 10
"""At least five best trials are compared with at least as many others."""
_MIN_BEST_TRIALS, _BEST_SHARE = 5, 0.1


def has_score(trials: pd.DataFrame) -> pd.Series:
    """Return which trials have a score: complete ones and pruned ones (fair value)."""
    return trials["state"].isin([TrialState.COMPLETE, TrialState.PRUNED]) & trials["value"].notna()


def importances(search: Search) -> dict[str, float]:
    """Compute the importance of each searched field by PED-ANOVA.

    It is the field's share in what separates the best trials from the rest.

    The best are a tenth of the trials, at least five. Pruned trials count with their fair value. A conditional field is
    judged by the trials that have it. Source: Watanabe, Bansal, Hutter, IJCAI 2023, as implemented in Optuna.

    Returns:
        Shares by field, which sum to 1, in the order of the space. Empty if fewer than `MIN_TRIALS` trials have a
        score, or if all scores are equal.
    """
    values = search.trials.loc[has_score(search.trials), "value"]
    if len(values) < MIN_TRIALS or values.nunique() == 1:
        return {}
    import optuna  # slow to load

    known = {dimension.name: _within(search, dimension).loc[values.index].dropna() for dimension in search.dimensions}
    searched = [dimension for dimension in search.dimensions if known[dimension.name].nunique() > 1]
    if not searched:
        return {}
    trials = []
    for index, value in values.items():
        mine = [dimension for dimension in searched if index in known[dimension.name]]
        trials.append(
            optuna.trial.create_trial(
                value=value,
                params={dimension.name: _plain(dimension, known[dimension.name][index]) for dimension in mine},
                distributions={dimension.name: _distribution(dimension) for dimension in mine},
            )
        )
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize")
        study.add_trials(trials)
        best = max(_BEST_SHARE, _MIN_BEST_TRIALS / len(trials))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about fields that few trials have: they weigh little
            # in a fixed order: rounding of the shares' sum depends on it
            names = [dimension.name for dimension in searched]
            found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=names)
            return {name: found[name] for name in names}
    finally:
        optuna.logging.set_verbosity(before)


def _within(search: Search, dimension: Dimension) -> pd.Series:
    """Return a field's settings; missing if they lie outside the space."""
    values = search.settings(dimension)
    if dimension.kind == "choice":
        return values.where(values.isin(dimension.choices))
    return values.where(values.between(dimension.low, dimension.high))


def _plain(dimension: Dimension, value: Any) -> str | int | float:
    return str(value) if dimension.kind == "choice" else int(value) if dimension.kind == "int" else float(value)


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    if dimension.kind == "choice":
        return distributions.CategoricalDistribution(dimension.choices)
    if dimension.kind == "int":
        return distributions.IntDistribution(int(dimension.low), int(dimension.high))
    return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.kind == "log_float")
