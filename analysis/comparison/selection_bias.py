"""Selection bias of a search: its score as found, nested, and corrected by BBC-CV.

The best of many settings looks better than it is, because the choice favours luck as well as quality. For the nested
estimate, each fold chooses by its own validation patients, and its test patients give the score. BBC-CV (Tsamardinos,
Greasidou, Borboudakis 2018) resamples patients many times, chooses on the drawn ones and scores on the others. Neither
trains anything. Choices go by the search's criterion, the mean over folds of the mean over their patients; what is
reported is averaged as the study says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from eus_ray import store as layout
from eus_ray.analysis.comparison.importances import importances
from eus_ray.analysis.comparison.score_matrix import Floats
from eus_ray.analysis.inputs.baseline import baseline_masks, measure_baseline
from eus_ray.analysis.inputs.cases import read_cases
from eus_ray.analysis.inputs.searches import Search, read_searches
from eus_ray.analysis.inputs.settings import measuring_settings
from eus_ray.analysis.statistics import bootstrap, sign_flip_test
from eus_ray.analysis.statistics.resampling import draw_patients
from eus_ray.config import Study
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
    images: npt.NDArray[np.int64] | None = None
    """Number of images `(P,)`; None if each patient has one."""
    baseline: Floats | None = None
    """Scores `(P,)` of the fixed mask on the same test images; None if there is none."""

    def weights(self, average: bootstrap.Average) -> npt.NDArray[np.int64]:
        """Return how often each patient counts `(P,)` in a fold's mean."""
        return np.ones_like(self.folds) if average == "patients" or self.images is None else self.images

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
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Choose the best trial on drawn patients.

    Patients are drawn from all folds together. A fold with no patient among the drawn ones is left out of the mean over
    folds. The first trial wins ties.

    Args:
        test: Scores `(C, P)`.
        folds: The fold `(P,)` of each patient.
        draws: Number of bootstrap samples of patients.
        seed: Seed of these samples.

    Returns:
        The winner of each draw `(draws,)`, and which patients it left out `(draws, P)`: to score the winner on.

    Raises:
        ValueError: If there are fewer than two patients.
    """
    drawn = draw_patients(test.shape[1], draws, np.random.default_rng(seed))
    inside = weighted_scores(test, folds, drawn.astype(np.float64))
    return (inside >= inside.max(axis=1, keepdims=True) - _TIE_TOLERANCE).argmax(axis=1), drawn == 0


def weighted_scores(test: Floats, folds: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return means over folds `(B, C)` of patients' scores `(C, P)` with weights `(B, P)`.

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
    scores: PatientScores,
    protocol: str,
    default_trial: int | None,
    average: bootstrap.Average = "patients",
    draws: int = bootstrap.DRAWS,
) -> list[dict[str, Any]]:
    """Estimate what a search has found.

    Under protocol `nested`, intervals of scores resample patients within folds, and those of differences are of the
    sign-flip test, as in a claim about two models. Under `paper` no patient was held out: there is no nested estimate,
    and differences are those of BBC-CV's winners on the patients not drawn.

    Args:
        scores: Scores of the complete trials.
        protocol: `nested` or `paper`.
        default_trial: The trial with the study's own settings, if any.
        average: What a fold's mean is taken over in what is reported.
        draws: Number of bootstrap samples of patients.

    Returns:
        Rows of `selection.parquet` without importances, `model` and `metric`; none without complete trials.
    """
    if not scores.trials:
        return []
    weights, tested = scores.weights(average), scores.tested()
    searched = scores.validation if protocol == "nested" else tested
    best, best_on_test = (int(np.argmax(list(map(criterion, each)))) for each in (searched, tested))
    as_found, on_test = (criterion(np.repeat(each, weights, axis=1)) for each in (searched[best], tested[best_on_test]))
    winners, left_out = bbc_cv(scores.test, scores.folds, draws)
    judges = (left_out * weights).astype(np.float64)
    outside = weighted_scores(scores.test, scores.folds, judges)
    chosen = outside[np.arange(draws), winners]
    corrected = float(chosen.mean())

    rows: list[dict[str, Any]] = [{"estimate": "naive", "value": as_found, "trial": scores.trials[best]}]
    nested = None
    if protocol == "nested":
        won = fold_winners(scores.validation)
        nested = scores.test[won[scores.folds], np.arange(len(scores.folds))]
        rows.append({"estimate": "nested"} | _with_interval(nested, scores, weights, draws))
        values = np.nanmean(scores.validation, axis=2)[won, np.arange(len(won))]
        rows += [
            {"estimate": "fold_winner", "value": float(value), "fold": fold, "trial": scores.trials[place]}
            for fold, (place, value) in enumerate(zip(won, values, strict=True))
        ]
    rows += [
        {"estimate": "naive_test", "value": on_test, "trial": scores.trials[best_on_test]},
        {"estimate": "bbc", "value": corrected} | _limits(chosen),
        {"estimate": "bias", "value": on_test - corrected},
    ]
    rivals: list[tuple[str, str, Floats]] = []
    if default_trial in scores.trials:
        rivals.append(("default", "gain", scores.test[scores.trials.index(default_trial)]))
    if scores.baseline is not None:
        rivals.append(("baseline", "over_baseline", scores.baseline))
    for name, difference, theirs in rivals:
        rows.append({"estimate": name} | _with_interval(theirs, scores, weights, draws))
        if nested is not None:
            rows.append({"estimate": difference} | _difference(nested - theirs, scores, weights))
        else:
            gains = chosen - weighted_scores(theirs[None], scores.folds, judges)[:, 0]
            rows.append({"estimate": difference, "value": float(gains.mean())} | _limits(gains))
        if name == "default":
            rows[-2]["trial"] = default_trial
    return [row | {"trials": len(scores.trials)} for row in rows]


def _with_interval(values: Floats, scores: PatientScores, weights: npt.NDArray[np.int64], draws: int) -> dict[str, Any]:
    """Return the average of one value per patient `(P,)`, and its interval.

    Patients are resampled within their folds. Limits are NaN if a fold has a single patient.
    """
    repeated = np.repeat(values, weights)
    patients, folds = np.repeat(scores.patients, weights), np.repeat(scores.folds, weights)
    drawn = bootstrap.bootstrap(repeated[:, None], patients, folds, draws)
    value = bootstrap.mean_of_fold_means(bootstrap.fold_means(repeated[:, None], folds))
    has_interval = bootstrap.has_interval(patients, folds)
    return {"value": float(value[0])} | _limits(drawn[:, 0] if has_interval else np.full(draws, np.nan))


def _difference(values: Floats, scores: PatientScores, weights: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the average of patients' differences `(P,)`, and the interval that the sign-flip test does not reject.

    Limits are NaN with fewer than six patients, unless none of them differs.
    """
    shares = weights / np.bincount(scores.folds, weights)[scores.folds]
    found = sign_flip_test(values, shares)
    limits = (found.low, found.high) if np.isfinite(found.low) else (np.nan, np.nan)
    if not values.any():
        limits = 0.0, 0.0  # the same predictions
    return {"value": found.effect_size, "low": limits[0], "high": limits[1]}


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
    manifest, settings = layout.read_manifest(store), measuring_settings(store)
    baseline = _baseline_counts(store, manifest, settings)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for search in read_searches(store, layout.read_trials(store)).values():
        scores, lines = read_patient_scores(store, search, manifest, baseline)
        problems += lines
        if lines:
            continue
        found = estimates(scores, search.protocol, search.default_trial, settings.analysis.average)
        found += [
            {"estimate": "importance", "name": name, "value": value} for name, value in importances(search).items()
        ]
        rows += [{"model": search.model, "metric": search.metric} | row for row in found]
    if problems:
        raise UserError(*problems)
    table = pa.Table.from_pylist(rows, layout.SELECTION)
    store.write_table(layout.SELECTION_FILE, table)
    return table.to_pandas()


def _baseline_counts(store: Store, manifest: pd.DataFrame, settings: Study) -> pd.DataFrame:
    """Return `patient_id` and the fixed mask's counts on each test image; no rows without a fixed mask."""
    cases = read_cases(store)
    masks = baseline_masks(manifest, cases, manifest["fold"].unique().tolist(), settings)
    rows = pd.DataFrame(measure_baseline(store, manifest, cases, masks, settings), columns=["image_id", *_COUNTS])
    return rows.merge(manifest[["image_id", "patient_id"]], "left", "image_id")


def read_patient_scores(
    store: Store, search: Search, manifest: pd.DataFrame, baseline: pd.DataFrame | None = None
) -> tuple[PatientScores, list[str]]:
    """Read patients' scores of a search's complete trials.

    A fold's chosen epoch is that of its test rows.

    Args:
        store: The study folder.
        search: The search.
        manifest: All images, with `image_id, patient_id, fold`.
        baseline: The fixed mask's counts on the same images, with `patient_id`.

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
    images = np.bincount(np.searchsorted(patients, manifest["patient_id"].to_numpy(str)), minlength=len(patients))
    fixed_mask = None
    if baseline is not None and len(baseline) == len(manifest):
        places = np.searchsorted(patients, baseline["patient_id"].to_numpy(str))
        fixed_mask = patient_scores(search.metric, baseline[_COUNTS].to_numpy(), places, len(patients))
    scores = PatientScores(complete, validation, test, folds, patients, images, fixed_mask)
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
