"""Selection bias of a search: its score as found, nested, and corrected by BBC-CV.

The best of many settings looks better than it is, because the choice favours luck as well as quality. For the nested
estimate, each fold chooses by its own validation patients, and its test patients give the score. BBC-CV (Tsamardinos,
Greasidou, Borboudakis 2018) resamples patients many times, chooses on the drawn ones and scores on the others. Neither
trains anything. A score of several patients is always the search's criterion: the mean over folds of the mean over
their patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from eus_ray import store as layout
from eus_ray.analysis.comparison.importances import importances
from eus_ray.analysis.comparison.score_matrix import Floats
from eus_ray.analysis.inputs.searches import Search, read_searches
from eus_ray.analysis.labels import DASH, METRIC_LABELS, model_label
from eus_ray.analysis.statistics import bootstrap
from eus_ray.analysis.statistics.resampling import draw_patients
from eus_ray.errors import UserError
from eus_ray.metrics import criterion, patient_scores
from eus_ray.store import Store, TrialKey, TrialState

_TIE_TOLERANCE = 1e-12
"""Sums of the same numbers differ by rounding, and the first of equal trials wins."""
_COUNTS = ["tp", "fp", "fn", "tn"]


@dataclass(frozen=True)
class PatientScores:
    """Scores of P patients in C complete trials and K folds; NaN if there is none.

    They are those of each fold's chosen epoch.
    """

    trials: tuple[int, ...]
    validation: Floats
    """`(C, K, P)`; all NaN under protocol `paper`, which has no validation patients."""
    test: Floats
    """`(C, P)`: each patient is tested in one fold."""
    folds: npt.NDArray[np.int64]
    """`(P,)`: the fold that tests each patient."""
    patients: npt.NDArray[np.str_]
    """`(P,)`, sorted."""

    def tested(self) -> Floats:
        """Return the test scores by fold, `(C, K, P)`."""
        here = self.folds == np.arange(self.validation.shape[1])[:, None]
        return np.where(here, self.test[:, None, :], np.nan)


# ---- from scores to estimates -------------------------------------------------------------------


def fold_winners(validation: Floats) -> npt.NDArray[np.int64]:
    """Return each fold's best trial `(K,)` by its validation patients' mean.

    Args:
        validation: Scores `(C, K, P)`. The first trial wins ties.
    """
    return np.nanmean(validation, axis=2).argmax(axis=0)


def bbc_cv(
    test: Floats, folds: npt.NDArray[np.int64], draws: int = bootstrap.DRAWS, seed: int = bootstrap.SEED
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Choose the best trial on drawn patients, and score all trials on the others.

    Patients are drawn from all folds together. A fold with no patient among the drawn ones, or among the others, is
    left out of that mean over folds. The first trial wins ties.

    Args:
        test: Scores `(C, P)`.
        folds: The fold `(P,)` of each patient.
        draws: Number of bootstrap samples of patients.
        seed: Seed of these samples.

    Returns:
        The winner of each draw `(draws,)`, and each trial's score on the patients not drawn `(draws, C)`.

    Raises:
        ValueError: If there are fewer than two patients.
    """
    drawn = draw_patients(test.shape[1], draws, np.random.default_rng(seed))
    inside = _criteria(test, folds, drawn.astype(np.float64))
    outside = _criteria(test, folds, (drawn == 0).astype(np.float64))
    return (inside >= inside.max(axis=1, keepdims=True) - _TIE_TOLERANCE).argmax(axis=1), outside


def _criteria(test: Floats, folds: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return the criterion `(B, C)` of scores `(C, P)` with weights `(B, P)`.

    A fold without weight is left out.
    """
    sums, number = np.zeros((len(weights), len(test))), np.zeros((len(weights), 1))
    for fold in np.unique(folds):
        mine = weights[:, folds == fold]
        total = mine.sum(axis=1, keepdims=True)
        sums += np.divide(mine @ test[:, folds == fold].T, total, out=np.zeros_like(sums), where=total > 0)
        number += total > 0
    return sums / number


def estimates(
    scores: PatientScores, protocol: str, default_trial: int | None, draws: int = bootstrap.DRAWS
) -> list[dict[str, Any]]:
    """Estimate what a search has found.

    Under protocol `nested`, intervals resample patients within folds. Under `paper` no patient was held out: there is
    no nested estimate, and the gain over the default is that of BBC-CV's winners on the patients not drawn.

    Args:
        scores: Scores of the complete trials.
        protocol: `nested` or `paper`.
        default_trial: The trial with the study's own settings, if any.
        draws: Number of bootstrap samples of patients.

    Returns:
        Rows of `selection.parquet` without importances, `model` and `metric`; none without complete trials.
    """
    if not scores.trials:
        return []
    tested = scores.tested()
    searched = scores.validation if protocol == "nested" else tested
    as_found, on_test = list(map(criterion, searched)), list(map(criterion, tested))
    best, best_on_test = int(np.argmax(as_found)), int(np.argmax(on_test))
    winners, outside = bbc_cv(scores.test, scores.folds, draws)
    chosen = outside[np.arange(draws), winners]
    corrected = float(chosen.mean())

    rows: list[dict[str, Any]] = [{"estimate": "naive", "value": as_found[best], "trial": scores.trials[best]}]
    nested = None
    if protocol == "nested":
        won = fold_winners(scores.validation)
        nested = scores.test[won[scores.folds], np.arange(len(scores.folds))]
        rows.append({"estimate": "nested"} | _with_interval(nested, scores, draws))
        values = np.nanmean(scores.validation, axis=2)[won, np.arange(len(won))]
        rows += [
            {"estimate": "fold_winner", "value": float(value), "fold": fold, "trial": scores.trials[place]}
            for fold, (place, value) in enumerate(zip(won, values, strict=True))
        ]
    rows += [
        {"estimate": "naive_test", "value": on_test[best_on_test], "trial": scores.trials[best_on_test]},
        {"estimate": "bbc", "value": corrected} | _limits(chosen),
        {"estimate": "bias", "value": on_test[best_on_test] - corrected},
    ]
    if default_trial in scores.trials:
        default = scores.trials.index(default_trial)
        mine = scores.test[default]
        rows.append({"estimate": "default", "trial": default_trial} | _with_interval(mine, scores, draws))
        if nested is not None:
            rows.append({"estimate": "gain"} | _with_interval(nested - mine, scores, draws))
        else:
            gains = chosen - outside[:, default]
            rows.append({"estimate": "gain", "value": float(gains.mean())} | _limits(gains))
    return [row | {"trials": len(scores.trials)} for row in rows]


def _with_interval(values: Floats, scores: PatientScores, draws: int) -> dict[str, Any]:
    """Return the criterion of one value per patient `(P,)`, and its interval.

    Patients are resampled within their folds. Limits are NaN if a fold has a single patient.
    """
    drawn = bootstrap.bootstrap(values[:, None], scores.patients, scores.folds, draws)
    value = bootstrap.mean_of_fold_means(bootstrap.fold_means(values[:, None], scores.folds))
    has_interval = bootstrap.has_interval(scores.patients, scores.folds)
    return {"value": float(value[0])} | _limits(drawn[:, 0] if has_interval else np.full(draws, np.nan))


def _limits(drawn: Floats) -> dict[str, Any]:
    low, high = bootstrap.interval(drawn[:, None])
    return {"low": float(low[0]), "high": float(high[0])}


# ---- from a study folder ------------------------------------------------------------------------


def write_selection(store: Store) -> pd.DataFrame:
    """Estimate what every search has found, and replace `selection.parquet`.

    Returns:
        The rows of `selection.parquet`; a search without a complete trial has none.

    Raises:
        UserError: If scores of complete trials are missing; one line per trial.
    """
    manifest = layout.read_manifest(store)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for search in read_searches(store, layout.read_trials(store)).values():
        scores, lines = read_patient_scores(store, search, manifest)
        problems += lines
        if lines:
            continue
        found = estimates(scores, search.protocol, search.default_trial)
        found += [
            {"estimate": "importance", "name": name, "value": value} for name, value in importances(search).items()
        ]
        rows += [{"model": search.model, "metric": search.metric} | row for row in found]
    if problems:
        raise UserError(*problems)
    table = pa.Table.from_pylist(rows, layout.SELECTION)
    store.write_table(layout.SELECTION_FILE, table)
    return table.to_pandas()


def read_patient_scores(store: Store, search: Search, manifest: pd.DataFrame) -> tuple[PatientScores, list[str]]:
    """Read patients' scores of a search's complete trials.

    A fold's chosen epoch is that of its test rows.

    Args:
        store: The study folder.
        search: The search.
        manifest: All images, with `image_id, patient_id, fold`.

    Returns:
        The scores, and a line for each trial of which some are missing.
    """
    by_patient = manifest.drop_duplicates("patient_id").sort_values("patient_id")
    patients, folds = by_patient["patient_id"].to_numpy(str), by_patient["fold"].to_numpy(np.int64)
    complete = tuple(search.trials.loc[search.trials["state"] == TrialState.COMPLETE, "trial"].tolist())
    test = np.full((len(complete), len(patients)), np.nan)
    validation = np.full((len(complete), int(folds.max(initial=-1)) + 1, len(patients)), np.nan)
    columns = ["fold", "epoch", "patient_id", "split", *_COUNTS]
    for row, trial in enumerate(complete):
        rows = store.read_trial("scores", TrialKey(search.model, trial), columns).to_pandas()
        chosen = rows[rows["split"] == "test"].groupby("fold")["epoch"].max().rename("chosen")
        rows = rows.join(chosen, "fold", "inner").query("epoch == chosen")
        for (fold, split), mine in rows.groupby(["fold", "split"]):
            places = np.searchsorted(patients, mine["patient_id"].to_numpy(str))
            values = patient_scores(search.metric, mine[_COUNTS].to_numpy(), places, len(patients))
            if split == "validation":
                validation[row, fold] = values
            else:
                test[row] = np.where(folds == fold, values, test[row])
    scores = PatientScores(complete, validation, test, folds, patients)
    return scores, [
        f"{store.location}: {search.model}, trial {trial}: is complete, but its scores lack {missing}; "
        "run the search again to resume it"
        for trial, missing in _missing(scores, search.protocol)
    ]


def _missing(scores: PatientScores, protocol: str) -> list[tuple[int, str]]:
    """Return each trial that lacks scores, and which."""
    found = []
    for row, trial in enumerate(scores.trials):
        untested = np.isnan(scores.test[row])
        unvalidated = np.isnan(scores.validation[row]).all(axis=1) & (protocol == "nested")
        if untested.any():
            folds = ", ".join(map(str, np.unique(scores.folds[untested])))
            found.append((trial, f"{int(untested.sum())} test patients (fold {folds})"))
        if unvalidated.any():
            found.append((trial, f"the validation patients of fold {', '.join(map(str, np.flatnonzero(unvalidated)))}"))
    return found


# ---- in words -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """An estimate in print, and what it means."""

    label: str
    value: str
    interval: str
    """Empty if it has none."""
    meaning: str
    is_headline: bool = False
    """Whether this is the number to believe."""


def statements(selection: pd.DataFrame) -> list[Statement]:
    """Explain one model's rows of `selection.parquet`, the number to believe first."""
    rows: dict[str, Mapping[Any, Any]] = {row["estimate"]: row for row in selection.to_dict("records")}
    if "naive" not in rows:
        return []
    naive, bbc, bias = rows["naive"], rows["bbc"], rows["bias"]["value"]
    number = int(naive["trials"])

    def best(row: Mapping[Any, Any]) -> str:
        return f"{'the best of ' + str(number) if number > 1 else 'the only one'}, trial {int(row['trial'])}"

    if "nested" in rows:
        nested, best_test = rows["nested"], rows["naive_test"]
        said = [
            _statement(
                "Nested estimate",
                nested,
                "Believe this one: each fold's setting and epochs were chosen without its test patients.",
                is_headline=True,
            ),
            _statement(
                "As found",
                naive,
                f"Validation score of {best(naive)}. Do not report it: {'the trial' if number > 1 else 'its epoch'} "
                f"was chosen by this score. Its difference from the nested estimate is "
                f"{naive['value'] - nested['value']:+z.3f}.",
            ),
            _statement(
                "BBC-CV",
                bbc,
                f"A second opinion, as if test scores had chosen the setting: {best_test['value']:.3f} "
                f"({best(best_test)}) minus a selection bias of {bias:z.3f}.",
            ),
        ]
    else:
        said = [
            _statement(
                "BBC-CV",
                bbc,
                "Believe this one: the score as found, corrected because the same patients chose the setting.",
                is_headline=True,
            ),
            _statement(
                "As found",
                naive,
                f"Test score of {best(naive)}. Do not report it: the search compared settings on these test folds. "
                f"The selection bias is {bias:z.3f}.",
            ),
        ]
    if "gain" in rows:
        default = rows["default"]
        meaning = f"Trial {int(default['trial'])}, on the same test patients."
        said += [_statement("Study's own settings", default, meaning), _gain(rows["gain"])]
    return said


def _statement(label: str, row: Mapping[Any, Any], meaning: str, is_headline: bool = False) -> Statement:
    interval = f"{row['low']:.3f}{DASH}{row['high']:.3f}" if pd.notna(row["low"]) else ""
    return Statement(label, f"{row['value']:.3f}", interval, meaning, is_headline)


def _gain(row: Mapping[Any, Any]) -> Statement:
    if pd.isna(row["low"]):
        return Statement("Gain over them", f"{row['value']:+.3f}", "", "Too few patients to judge by.")
    if row["low"] == row["high"] == 0:
        meaning = "None: the study's own settings were chosen."
    elif row["low"] > 0:
        meaning = "The search found better settings: the interval lies above 0."
    elif row["high"] < 0:
        meaning = "The search found worse settings: the interval lies below 0."
    else:
        meaning = "Not shown to be better: the interval includes 0."
    return Statement("Gain over them", f"{row['value']:+.3f}", f"{row['low']:+.3f} to {row['high']:+.3f}", meaning)


def headline(selection: pd.DataFrame) -> list[str]:
    """Return lines of text on searches: one per model, then one per estimate."""
    lines = []
    for model, mine in selection.groupby("model", sort=False):
        said = statements(mine)
        if not said:
            continue
        number, metric = int(mine["trials"].max()), METRIC_LABELS[mine["metric"].iloc[0]]
        lines.append(
            f"{model_label(str(model))}: {metric}, mean over folds of patients' means (95 % interval); "
            f"{number} complete trial{'s' if number > 1 else ''}"
        )
        width = max(len(each.label) for each in said)
        lines += [
            f"  {each.label:<{width}}  {each.value}{f' ({each.interval})' if each.interval else ''}  {each.meaning}"
            for each in said
        ]
    return lines
