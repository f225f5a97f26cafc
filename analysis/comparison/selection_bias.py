"""How good what a search has found is: as found, nested, and corrected for the choosing (BBC-CV).

The best of many settings looks better than it is, because luck was chosen along with quality. The nested estimate lets
each fold choose by its own validation patients and be judged by its test patients; BBC-CV (Tsamardinos, Greasidou,
Borboudakis 2018) chooses again and again on drawn patients, and judges by those not drawn. Neither trains anything.
A score of several patients is always the search's criterion: the mean over folds of the mean over their patients.
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
from eus_ray.analysis.inputs.searches import Search, read_searches
from eus_ray.analysis.labels import DASH, METRIC_LABELS, model_label
from eus_ray.analysis.statistics import bootstrap
from eus_ray.analysis.statistics.resampling import draw_patients
from eus_ray.errors import UserError
from eus_ray.metrics import criterion, patient_scores
from eus_ray.store import Store, TrialKey

Floats = npt.NDArray[np.float64]

_TIE = 1e-12
"""Scores this near are equal: sums of the same numbers differ by rounding, and the first of equal trials wins."""
_COUNTS = ["tp", "fp", "fn", "tn"]


@dataclass(frozen=True)
class Judged:
    """Patients' scores at each fold's chosen epoch: C complete trials, K folds, P patients; NaN = not judged there."""

    trials: tuple[int, ...]
    validation: Floats
    """`(C, K, P)`; all NaN under protocol `paper`, which has no validation patients."""
    test: Floats
    """`(C, P)`: each patient is tested in one fold."""
    folds: npt.NDArray[np.int64]
    """`(P,)`: in which one."""
    patients: npt.NDArray[np.str_]
    """`(P,)`, sorted."""

    def tested(self) -> Floats:
        """The test scores by fold, `(C, K, P)`."""
        here = self.folds == np.arange(self.validation.shape[1])[:, None]
        return np.where(here, self.test[:, None, :], np.nan)


# ---- from scores to estimates -------------------------------------------------------------------


def fold_winners(validation: Floats) -> npt.NDArray[np.int64]:
    """Each fold's own best trial `(K,)` by its validation patients' mean, scores `(C, K, P)`; the first on ties."""
    return np.nanmean(validation, axis=2).argmax(axis=0)


def choose_again(
    test: Floats, folds: npt.NDArray[np.int64], draws: int = bootstrap.DRAWS, seed: int = bootstrap.SEED
) -> tuple[npt.NDArray[np.int64], Floats]:
    """BBC-CV: who wins each draw of patients `(draws,)`, and every trial's score over the others `(draws, C)`.

    Scores are `(C, P)`. Patients are drawn from all folds together; a fold of which none is drawn, or none is left,
    is left out of the mean over folds. Among equals the first wins. Raises `ValueError` as `draw_patients` does.
    """
    drawn = draw_patients(test.shape[1], draws, np.random.default_rng(seed))
    inside = _criteria(test, folds, drawn.astype(np.float64))
    outside = _criteria(test, folds, (drawn == 0).astype(np.float64))
    return (inside >= inside.max(axis=1, keepdims=True) - _TIE).argmax(axis=1), outside


def _criteria(test: Floats, folds: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """The criterion `(B, C)` of scores `(C, P)` with patients weighted `(B, P)`, over the folds that have weight."""
    sums, number = np.zeros((len(weights), len(test))), np.zeros((len(weights), 1))
    for fold in np.unique(folds):
        mine = weights[:, folds == fold]
        total = mine.sum(axis=1, keepdims=True)
        sums += np.divide(mine @ test[:, folds == fold].T, total, out=np.zeros_like(sums), where=total > 0)
        number += total > 0
    return sums / number


def estimates(
    judged: Judged, protocol: str, default_trial: int | None, draws: int = bootstrap.DRAWS
) -> list[dict[str, Any]]:
    """The rows of `selection.parquet` but importances, without `model` and `metric`; none without complete trials.

    nested: intervals draw patients within folds. paper: nothing was held out, so there is no nested estimate, and the
    gain over the default is that of BBC-CV's winners on the patients not drawn.
    """
    if not judged.trials:
        return []
    tested = judged.tested()
    searched = judged.validation if protocol == "nested" else tested
    as_found = [criterion(scores) for scores in searched]
    on_test = [criterion(scores) for scores in tested]
    best, best_on_test = int(np.argmax(as_found)), int(np.argmax(on_test))
    winners, outside = choose_again(judged.test, judged.folds, draws)
    chosen = outside[np.arange(draws), winners]
    corrected = float(chosen.mean())

    rows: list[dict[str, Any]] = [{"estimate": "naive", "value": as_found[best], "trial": judged.trials[best]}]
    nested = None
    if protocol == "nested":
        won = fold_winners(judged.validation)
        nested = judged.test[won[judged.folds], np.arange(len(judged.folds))]
        rows.append({"estimate": "nested"} | _with_interval(nested, judged, draws))
        values = np.nanmean(judged.validation, axis=2)[won, np.arange(len(won))]
        rows += [
            {"estimate": "fold_winner", "value": float(value), "fold": fold, "trial": judged.trials[place]}
            for fold, (place, value) in enumerate(zip(won, values, strict=True))
        ]
    rows.append({"estimate": "naive_test", "value": on_test[best_on_test], "trial": judged.trials[best_on_test]})
    rows.append({"estimate": "bbc", "value": corrected} | _limits(chosen))
    rows.append({"estimate": "bias", "value": on_test[best_on_test] - corrected})
    if default_trial in judged.trials:
        default = judged.trials.index(default_trial)
        mine = judged.test[default]
        rows.append({"estimate": "default", "trial": default_trial} | _with_interval(mine, judged, draws))
        if nested is not None:
            rows.append({"estimate": "gain"} | _with_interval(nested - mine, judged, draws))
        else:
            gains = chosen - outside[:, default]
            rows.append({"estimate": "gain", "value": float(gains.mean())} | _limits(gains))
    return [row | {"trials": len(judged.trials)} for row in rows]


def _with_interval(values: Floats, judged: Judged, draws: int) -> dict[str, Any]:
    """The criterion of one value a patient `(P,)`, and its interval with patients drawn within their folds.

    NaN limits where a fold has a single patient.
    """
    drawn = bootstrap.bootstrap(values[:, None], judged.patients, judged.folds, draws)
    value = bootstrap.mean_of_fold_means(bootstrap.fold_means(values[:, None], judged.folds))
    enough = bootstrap.has_interval(judged.patients, judged.folds)
    return {"value": float(value[0])} | _limits(drawn[:, 0] if enough else np.full(draws, np.nan))


def _limits(drawn: Floats) -> dict[str, Any]:
    low, high = bootstrap.interval(drawn[:, None])
    return {"low": float(low[0]), "high": float(high[0])}


# ---- from a study folder ------------------------------------------------------------------------


def write_selection(store: Store) -> pd.DataFrame:
    """Estimate what every search of the study has found, and replace `selection.parquet`; its rows.

    A search without a complete trial has no estimates. Raises `UserError` for each complete trial whose scores are
    not all there.
    """
    manifest = layout.read_manifest(store)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for search in read_searches(store, layout.read_trials(store)).values():
        judged, lines = read_judged(store, search, manifest)
        problems += lines
        if lines:
            continue
        found = estimates(judged, search.protocol, search.default_trial)
        found += [
            {"estimate": "importance", "name": name, "value": value} for name, value in importances(search).items()
        ]
        rows += [{"model": search.model, "metric": search.metric} | row for row in found]
    if problems:
        raise UserError(*problems)
    table = pa.Table.from_pylist([{name: row.get(name) for name in layout.SELECTION.names} for row in rows])
    table = table.cast(layout.SELECTION) if rows else layout.SELECTION.empty_table()
    store.write_table(layout.SELECTION_FILE, table)
    return table.to_pandas()


def read_judged(store: Store, search: Search, manifest: pd.DataFrame) -> tuple[Judged, list[str]]:
    """Patients' scores of a search's complete trials, and a line for each trial of which some are missing.

    manifest: `image_id, patient_id, fold`. A fold's chosen epoch is that of its test rows.
    """
    by_patient = manifest.drop_duplicates("patient_id").sort_values("patient_id")
    patients, folds = by_patient["patient_id"].to_numpy(str), by_patient["fold"].to_numpy(np.int64)
    complete = tuple(search.trials.loc[search.trials["state"] == "complete", "trial"].tolist())
    test = np.full((len(complete), len(patients)), np.nan)
    validation = np.full((len(complete), int(folds.max(initial=-1)) + 1, len(patients)), np.nan)
    columns = ["fold", "epoch", "patient_id", "split", *_COUNTS]
    for row, trial in enumerate(complete):
        rows = store.read_trial("scores", TrialKey(search.model, trial), columns).to_pandas()
        chosen = rows[rows["split"] == "test"].groupby("fold")["epoch"].max().rename("chosen")
        rows = rows.join(chosen, "fold", "inner").query("epoch == chosen")
        for (fold, split), mine in rows.groupby(["fold", "split"]):
            places = np.searchsorted(patients, mine["patient_id"].to_numpy(str))
            scores = patient_scores(search.metric, mine[_COUNTS].to_numpy(), places, len(patients))
            if split == "validation":
                validation[row, fold] = scores
            else:
                test[row] = np.where(folds == fold, scores, test[row])
    judged = Judged(complete, validation, test, folds, patients)
    return judged, [
        f"{store.location}: {search.model}, trial {trial}: is complete, but its scores lack {lacks}; "
        "run the search again with --resume"
        for trial, lacks in _lacking(judged, search.protocol)
    ]


def _lacking(judged: Judged, protocol: str) -> list[tuple[int, str]]:
    lacking = []
    for row, trial in enumerate(judged.trials):
        untested = np.isnan(judged.test[row])
        unjudged = np.isnan(judged.validation[row]).all(axis=1) & (protocol == "nested")
        if untested.any():
            folds = ", ".join(map(str, np.unique(judged.folds[untested])))
            lacking.append((trial, f"{int(untested.sum())} test patients (fold {folds})"))
        if unjudged.any():
            lacking.append((trial, f"the validation patients of fold {', '.join(map(str, np.flatnonzero(unjudged)))}"))
    return lacking


# ---- in words -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement:
    """An estimate and what it means."""

    label: str
    value: str
    interval: str
    """Empty where it has none."""
    meaning: str
    believe: bool = False
    """The headline."""


def statements(selection: pd.DataFrame) -> list[Statement]:
    """What one model's rows of `selection.parquet` say, the number to believe first; nothing for no rows."""
    rows: dict[str, Mapping[Any, Any]] = {row["estimate"]: row for row in selection.to_dict("records")}
    if "naive" not in rows:
        return []
    naive, bbc, bias = rows["naive"], rows["bbc"], rows["bias"]["value"]
    number = int(naive["trials"])

    def best(row: Mapping[Any, Any]) -> str:
        return f"{'the best of ' + str(number) if number > 1 else 'the only one'}, trial {int(row['trial'])}"

    if "nested" in rows:
        nested, best_test = rows["nested"], rows["naive_test"]
        difference = naive["value"] - nested["value"]
        said = [
            _statement(
                "Nested estimate",
                nested,
                "Believe this one: each fold's setting and epochs were chosen without its test patients.",
                believe=True,
            ),
            _statement(
                "As found",
                naive,
                f"Validation score of {best(naive)}. Do not report it: "
                f"{'it' if number > 1 else 'its epoch'} was chosen for being high, and it is "
                f"{abs(difference):.3f} {'above' if difference > 0 else 'below'} the nested estimate.",
            ),
            _statement(
                "BBC-CV",
                bbc,
                f"A second opinion, had settings been chosen on test scores: {best_test['value']:.3f} "
                f"({best(best_test)}) less a selection bias of {bias:z.3f}.",
            ),
        ]
    else:
        said = [
            _statement(
                "BBC-CV",
                bbc,
                "Believe this one: the score as found, corrected for having been chosen on the patients it is of.",
                believe=True,
            ),
            _statement(
                "As found",
                naive,
                f"Test score of {best(naive)}. Do not report it: settings were chosen on these very folds, which is "
                f"worth {bias:z.3f} (the selection bias).",
            ),
        ]
    if "gain" in rows:
        said.append(
            _statement(
                "Study's own settings", rows["default"], f"Trial {int(rows['default']['trial'])}, same test patients."
            )
        )
        said.append(_gain(rows["gain"]))
    return said


def _statement(label: str, row: Mapping[Any, Any], meaning: str, believe: bool = False) -> Statement:
    known = pd.notna(row["low"])
    interval = f"{row['low']:.3f}{DASH}{row['high']:.3f}" if known else ""
    return Statement(label, f"{row['value']:.3f}", interval, meaning, believe)


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
    """What searches have found in plain lines: a line a model, and beneath it one an estimate."""
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
