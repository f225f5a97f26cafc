"""ROC curves and areas of models over folds, with intervals and differences.

The area of each image, averaged as in Table 2, and the area of all pixels of a fold are different numbers: the latter
also requires that a probability means the same in every image.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd

from eus_ray.analysis.measures.roc import FPR, Floats, FoldRoc
from eus_ray.analysis.statistics import Test, bootstrap

AREA_COLUMNS = ("model", "minus", "pixels", "fold", "auc", "low", "high")
CURVE_COLUMNS = ("model", "pixels", "fold", "fpr", "tpr", "sd", "threshold")

Row = tuple[str, str, str, float, float, float, float]


def over_folds(curves: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return mean and sample SD (ddof 1) `(G,)` of the folds' curves `(G,)`.

    Curves that are NaN are left out. Both are NaN without curves; the SD is NaN for a single one.
    """
    known = [curve for curve in curves if not np.isnan(curve).any()]
    unknown = np.full(len(FPR), np.nan)
    mean = np.mean(known, axis=0) if known else unknown
    return mean, np.std(known, axis=0, ddof=1) if len(known) > 1 else unknown


def curves(rocs: Mapping[str, Sequence[FoldRoc]]) -> pd.DataFrame:
    """Return the curves of each model at `FPR` as one table.

    Returns:
        `CURVE_COLUMNS`, one row per point. `pixels` says which pixels are ranked together, as in `areas`. Rows with a
        `fold` are its curve; `threshold` is, for pooled pixels, the lowest probability whose false positive rate is at
        most `fpr`. Rows without a fold are the mean over folds and its `sd` (ddof 1). A fold without a curve has no
        rows.
    """
    unknown = np.full(len(FPR), np.nan)
    parts = []
    for model, folds in rocs.items():
        for pixels in ("image", "fold"):
            pooled = pixels == "fold"
            of = [fold.pooled.tpr if pooled else fold.image_tpr for fold in folds]
            drawn = [(np.nan, *over_folds(of), unknown)]
            drawn += [
                (fold.fold, tpr, unknown, fold.pooled.threshold if pooled else unknown)
                for fold, tpr in zip(folds, of, strict=True)
            ]
            parts += [(model, pixels, *part) for part in drawn if not np.isnan(part[1]).any()]
    names = [np.repeat([part[place] for part in parts], len(FPR)) for place in range(3)]
    numbers = [np.concatenate([unknown[:0], *(part[place] for part in parts)]) for place in range(3, 6)]
    columns = [*names, np.tile(FPR, len(parts)), *numbers]
    return pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True))).astype({"fold": "Int64"})


def pooled_draws(fold: FoldRoc, draws: int = bootstrap.DRAWS, seed: int = bootstrap.SEED) -> Floats:
    """Resample the fold's patients and return the pooled area `(draws,)`.

    The draws are those of `bootstrap.bootstrap`.

    A patient who is drawn twice counts twice, with all their pixels. A draw whose pixels have one class gives NaN; so
    do all draws if the fold has too many patients (no `wins`).
    """
    if fold.wins is None:
        return np.full(draws, np.nan)
    weights = bootstrap.draw_patients(len(fold.patients), fold.fold, draws, seed)
    pairs = (weights @ fold.positives.astype(np.float64)) * (weights @ fold.negatives.astype(np.float64))
    wins = ((weights @ fold.wins) * weights).sum(axis=1)
    return np.divide(wins, pairs, out=np.full(draws, np.nan), where=pairs > 0)


def areas(
    images: pd.DataFrame,
    rocs: Mapping[str, Sequence[FoldRoc]],
    tests: Mapping[tuple[str, str], Test] = MappingProxyType({}),
    average: bootstrap.Average = "patients",
    draws: int = bootstrap.DRAWS,
    seed: int = bootstrap.SEED,
) -> pd.DataFrame:
    """Compute the areas under the curves of each model, and pairwise differences.

    Args:
        images: One row per model and image with `model, image_id, patient_id, fold, auc`.
        rocs: The folds of each model; a model may be missing.
        tests: Of two models, the test of the difference of their averages, as the claims have it.
        average: What a fold's mean is taken over.
        draws: Number of bootstrap samples of patients.
        seed: Seed of these samples.

    Returns:
        `AREA_COLUMNS`. `pixels` says which pixels are ranked together: `image`, those of one image (areas are averaged
        as in Table 2), or `fold`, all pixels of a fold (areas are averaged over folds). A
        row with a `fold` has that fold's area. The row without one has the mean over folds and its 95 % interval:
        patients are resampled within folds; NaN if a fold has a single patient. In a row with `minus` the areas are
        differences, `model` minus `minus`, on the images or folds that both share. The interval of an `image`'s is that
        of the claim; that of a `fold`'s takes the same bootstrap samples for both. An undefined area is NaN.
    """
    models = list(dict.fromkeys(images["model"]))
    by_model = {model: images[images["model"] == model].set_index("image_id") for model in models}
    by_fold = {model: {fold.fold: fold for fold in rocs.get(model, ())} for model in models}
    drawn = {
        model: {fold: pooled_draws(by_fold[model][fold], draws, seed) for fold in by_fold[model]} for model in models
    }
    rows = []
    for model in models:
        mine, folds = by_model[model], by_fold[model]
        rows += _of_images((model, ""), mine, average, draws, seed)
        rows += _of_folds((model, ""), folds, {fold: folds[fold].pooled.auc for fold in folds}, drawn[model])
    for pair in itertools.combinations(models, 2):
        first, second = (by_model[model] for model in pair)
        both = first.index.intersection(second.index, sort=False)
        differences = first.loc[both].assign(auc=first.loc[both, "auc"] - second.loc[both, "auc"])
        of_pair = _of_images(pair, differences, average, draws, seed)
        if of_pair and pair in tests:
            test = tests[pair]
            limits = (test.low, test.high) if np.isfinite(test.low) else (np.nan, np.nan)
            of_pair[0] = (*of_pair[0][:4], test.effect_size, *limits)
        rows += of_pair
        one, other = (by_fold[model] for model in pair)
        # the draws are shared only if the patients are the same
        same = [fold for fold in one if fold in other and one[fold].patients == other[fold].patients]
        rows += _of_folds(
            pair,
            one,
            {fold: one[fold].pooled.auc - other[fold].pooled.auc for fold in same},
            {fold: drawn[pair[0]][fold] - drawn[pair[1]][fold] for fold in same},
        )
    return pd.DataFrame(rows, columns=list(AREA_COLUMNS)).astype({"fold": "Int64"})


def _of_images(
    names: tuple[str, str], images: pd.DataFrame, average: bootstrap.Average, draws: int, seed: int
) -> list[Row]:
    if images.empty:
        return []
    rows = bootstrap.rows_to_average(images, ["auc"], average)
    column, folds = rows[["auc"]].to_numpy(np.float64), rows["fold"].to_numpy()
    means = bootstrap.fold_means(column, folds)[:, 0]
    drawn = bootstrap.bootstrap(column, rows["patient_id"], folds, draws, seed)
    enough = bootstrap.has_interval(rows["patient_id"], folds)
    return _rows(names, "image", dict(zip(np.unique(folds).tolist(), means.tolist(), strict=True)), drawn, enough)


def _of_folds(
    names: tuple[str, str], folds: Mapping[int, FoldRoc], by_fold: Mapping[int, float], drawn: Mapping[int, Floats]
) -> list[Row]:
    if not by_fold:
        return []
    patients = [(patient, fold) for fold in by_fold for patient in folds[fold].patients]
    together = np.stack([drawn[fold] for fold in by_fold], axis=1)[:, :, None]
    lacking = np.isnan(together).all(axis=(0, 2)) & ~np.isnan(list(by_fold.values()))
    means = bootstrap.mean_of_fold_means(together)
    enough = not lacking.any() and bootstrap.has_interval(*zip(*patients, strict=True))
    return _rows(names, "fold", by_fold, means, enough)


def _rows(
    names: tuple[str, str], pixels: str, by_fold: Mapping[int, float], drawn: Floats, has_interval: bool
) -> list[Row]:
    """Return the mean over folds with its interval, then each fold."""
    unknown = float("nan")
    mean = bootstrap.mean_of_fold_means(np.array(list(by_fold.values()))[:, None])
    low, high = bootstrap.interval(drawn if has_interval else np.full_like(drawn, np.nan))
    each = [(*names, pixels, float(fold), value, unknown, unknown) for fold, value in by_fold.items()]
    return [(*names, pixels, unknown, float(mean[0]), float(low[0]), float(high[0])), *each]
