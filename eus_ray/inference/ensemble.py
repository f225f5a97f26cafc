"""The trained model of a study: which trial it is, and its folds' networks as one ensemble."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from eus_ray import store as layout
from eus_ray.config import Study
from eus_ray.config_file import build_study
from eus_ray.data.names import did_you_mean
from eus_ray.data.resizing import to_original_grid
from eus_ray.errors import UserError
from eus_ray.metrics import from_counts, predicted_mask, quantise
from eus_ray.store import Store, TrialKey, TrialKind, TrialState, read_manifest, read_trials
from eus_ray.study.networks import check_allowed, check_entry_points
from eus_ray.study.trials import study_of

if TYPE_CHECKING:
    import torch

KINDS = (TrialKind.WINNER, TrialKind.FIXED)
"""Kinds of trials that keep the weights of all folds, the preferred one first."""


@dataclass(frozen=True)
class Trained:
    """A complete trial of one of a study's models."""

    store: Store
    model: str
    trial: int
    kind: str
    study: Study
    """The trial's settings."""
    folds: tuple[int, ...]
    place: int
    """Place of the model among the study's, from 0: it gives the model its colour in figures."""
    compared: Mapping[str, float] = field(default_factory=dict)
    """Headline DSC of the models among which this one was the best; empty if there was no choice."""

    @property
    def weights(self) -> list[str]:
        """The names of the folds' checkpoints in the study folder."""
        return [layout.checkpoint_name(self.model, self.trial, fold) for fold in self.folds]


def trained_model(store: Store, model: str | None = None, allow_modules: Collection[str] = ()) -> Trained:
    """Return a model's complete trial: the winner of its search, else its last cross-validation.

    Args:
        store: The study folder.
        model: One of the study's; by default the one with the best headline DSC.
        allow_modules: Others' modules that may be imported to build its networks.

    Raises:
        UserError: If the folder is no study, has no such model that is trained to its end, or lacks the weights of one
            of its folds; or if its networks need a module that is not allowed, is not here, or has changed.
    """
    if not store.exists(layout.STUDY):
        found = "is not a study folder" if store.exists() else "no such folder"
        raise UserError(
            f"{store.location}: {found} (no {layout.STUDY}); give the folder that `eus-ray cv` or `tune` wrote"
        )
    check_entry_points(store)
    trials = read_trials(store)
    models = list(dict.fromkeys(trials["model"]))
    usable = _usable(trials)
    if model is not None and model not in models:
        known = did_you_mean(model, models) if models else "; nothing is trained there yet"
        raise UserError(f"model {model}: {store.location} has no such model{known}")
    if not usable or (model is not None and model not in usable):
        raise UserError(
            f"{store.location}: {model or 'no model'} is {'not ' if model else ''}trained to its end; `eus-ray status "
            f"{store.location}` says what is missing"
        )
    compared = headline_dsc(store, trials) if model is None and len(usable) > 1 else {}
    compared = {name: compared.get(name, math.nan) for name in usable} if compared else {}
    chosen = model or max(usable, key=lambda name: np.nan_to_num(compared.get(name, math.nan), nan=-1.0))
    row = usable[chosen]
    base = _settings(store).for_model(chosen)
    trained = Trained(
        store=store,
        model=chosen,
        trial=int(row["trial"]),
        kind=row["kind"],
        study=study_of(row, base, f"{store.location}, trial {row['trial']}"),
        folds=tuple(range(base.folds.count)),
        place=models.index(chosen),
        compared=compared,
    )
    check_allowed(store, trained.study, allow_modules)
    if missing := [name for name in trained.weights if not store.exists(name)]:
        raise UserError(
            *(
                f"{store.location}: {name} is missing, and the ensemble needs all {len(trained.folds)} folds; bring it "
                "back, or train the model again"
                for name in missing
            )
        )
    return trained


def _usable(trials: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The row of each model's trial to use; models in the order of the trials."""
    usable = {}
    for model, mine in trials[trials["state"] == TrialState.COMPLETE].groupby("model", sort=False):
        latest = mine.sort_values("trial", ascending=False).to_dict("records")
        if preferred := [row for kind in KINDS for row in latest if row["kind"] == kind]:
            usable[str(model)] = {str(name): value for name, value in preferred[0].items()}
    return usable


def _settings(store: Store) -> Study:
    try:
        return build_study(tomllib.loads(store.read_text(layout.STUDY)), store.path(layout.STUDY))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{store.path(layout.STUDY)}: is not TOML: {error}") from None


def headline_dsc(store: Store, trials: pd.DataFrame) -> dict[str, float]:
    """Return each model's DSC as the report's headline has it, from the stored counts.

    It is the mean over folds of the mean that `analysis.average` names; for a winner that test scores chose it is
    BBC-CV's estimate. NaN if nothing was scored.
    """
    from eus_ray.analysis.inputs.searches import read_searches
    from eus_ray.analysis.inputs.study_images import reported_folds
    from eus_ray.analysis.labels import ReportKind
    from eus_ray.analysis.report.results import HEADLINE_KINDS
    from eus_ray.analysis.statistics import bootstrap

    average = _settings(store).analysis.average
    searches = read_searches(store, trials)
    reported = reported_folds(trials, searches, read_manifest(store)["fold"].unique())
    counts = ["tp", "fp", "fn", "tn"]
    headline = {}
    for model, kinds in reported.groupby("model", sort=False):
        first = min(kinds["kind"], key=HEADLINE_KINDS.index)
        scored = []
        for trial, folds in kinds[kinds["kind"] == first].groupby("trial")["fold"]:
            key = TrialKey(str(model), int(trial))
            rows = store.read_trial("scores", key, ["fold", "patient_id", "split", *counts]).to_pandas()
            scored.append(rows[(rows["split"] == "test") & rows["fold"].isin(folds)])
        images = pd.concat(scored, ignore_index=True)
        images["dsc"] = from_counts("dsc", images[counts].to_numpy())
        values = bootstrap.rows_to_average(images, ["dsc"], average)
        means = bootstrap.fold_means(values[["dsc"]].to_numpy(), values["fold"])
        headline[str(model)] = float(bootstrap.mean_of_fold_means(means)[0])
        search = searches.get(str(model))
        if first == ReportKind.WINNER and search is not None and search.metric == "dsc":
            corrected = search.estimate("bbc")
            headline[str(model)] = headline[str(model)] if corrected is None else float(corrected["value"])
    return headline


class Segmented(NamedTuple):
    """What an ensemble says of an image, on the image's own pixels."""

    levels: npt.NDArray[np.uint16]
    """The mean probability `(H, W)` over the networks, as `metrics.quantise` has it."""
    mask: npt.NDArray[np.bool_]
    """`(H, W)`, of the mean probability."""
    members: npt.NDArray[np.bool_]
    """Each network's own mask, `(M, H, W)`."""


def segmented(maps: npt.NDArray[np.float32], height: int, width: int, study: Study) -> Segmented:
    """Bring an image's probabilities to its own pixels, and make masks of them as the study does.

    Args:
        maps: The probabilities of each network `(M, S, S)`; their mean is taken in float64.
        height: Of the image, in pixels.
        width: Likewise.
        study: The settings that the networks were trained with.
    """
    mean = maps.mean(axis=0, dtype=np.float64).astype(np.float32)
    levels = [quantise(to_original_grid(map_, height, width, study.data.resize)) for map_ in (mean, *maps)]
    how = study.evaluate
    mask, *members = (predicted_mask(level, how.threshold, how.keep, how.fill_holes) for level in levels)
    return Segmented(levels[0], mask, np.stack(members))


class Ensemble:
    """The networks of a trial's folds, each run exactly as on its own test images.

    Args:
        trained: Whose weights to load.
        device: What to compute on.

    Raises:
        UserError: With a line for each checkpoint that is damaged, unfinished or of other settings.
    """

    def __init__(self, trained: Trained, device: torch.device) -> None:
        from eus_ray.training.checkpoint import load_model
        from eus_ray.training.optim import precision_for

        self._trained, self._device = trained, device
        self._precision = precision_for(trained.study.train.precision, device)
        self._models: list[torch.nn.Module] = []
        lines = []
        for name in trained.weights:
            try:
                self._models.append(load_model(trained.store.read_bytes(name), trained.study, device))
            except ValueError as error:
                lines.append(f"{trained.store.location}: {name} is {error}; bring it back, or train the model again")
        if lines:
            raise UserError(*lines)

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities in [0, 1] of each network.

        Args:
            images: Gray `(B, S, S)` or colour `(B, S, S, 3)`, as the study's are; S is its `data.image_size`.

        Returns:
            `(M, B, S, S)`, networks in the order of their folds.

        Raises:
            UserError: If a network's answer is not a number.
        """
        import torch

        from eus_ray.models import as_input, predict

        study = self._trained.study
        image, tta = as_input(images, self._device, study.train.channels_last), study.evaluate.tta
        answers = []
        for model, name in zip(self._models, self._trained.weights, strict=True):
            with torch.inference_mode():
                maps = predict(model, image, self._precision, tta)[1].cpu().numpy()
            if not np.isfinite(maps).all():
                raise UserError(
                    f"{self._trained.store.location}: {name} gives probabilities that are not numbers; "
                    "train the model again"
                )
            answers.append(maps)
        return np.stack(answers)


def load_ensemble(trained: Trained) -> tuple[Ensemble, str]:
    """Return the ensemble on a GPU, or on all cores of the CPU if there is none, and in words what it runs on."""
    import torch

    from eus_ray.training.determinism import prepare_process

    cores = len(os.sched_getaffinity(0))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = trained.study.run.model_copy(update={"threads_per_fold": cores})
    prepare_process(trained.study.model_copy(update={"run": run}), device)
    where = f"{torch.cuda.get_device_name()}" if device.type == "cuda" else f"CPU, {cores} threads"
    return Ensemble(trained, device), where
