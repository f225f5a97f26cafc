"""Results of a study or a score table, shared by all sections of the report."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup

from eus_ray import store as layout
from eus_ray.analysis.comparison.pairwise import Comparison, compare_pairs, read_training
from eus_ray.analysis.comparison.paper_tables import TABLE2_METRICS, has_same_images, shown_metrics, table2
from eus_ray.analysis.comparison.score_matrix import align
from eus_ray.analysis.comparison.subgroups import Division, divide
from eus_ray.analysis.comparison.verdicts import Background
from eus_ray.analysis.inputs.cases import Case, case_images, read_cases
from eus_ray.analysis.inputs.effort import Effort, read_efforts
from eus_ray.analysis.inputs.score_table import read_score_table
from eus_ray.analysis.inputs.searches import Search, read_searches
from eus_ray.analysis.inputs.settings import read_labels
from eus_ray.analysis.inputs.study_images import (
    clinical_columns,
    of_models,
    read_study_images,
    reported_folds,
    unfinished,
)
from eus_ray.analysis.labels import Labels, ReportKind
from eus_ray.analysis.measures.image_metrics import DISTANCES, METRICS, OVERLAPS
from eus_ray.analysis.measures.outlines import Outline
from eus_ray.analysis.measures.roc import FoldRoc
from eus_ray.analysis.statistics import bootstrap
from eus_ray.config import AnalysisSettings
from eus_ray.config_file import build_study
from eus_ray.errors import UserError
from eus_ray.metrics import FixedMask
from eus_ray.store import Store

HEADLINE_KINDS = (ReportKind.NESTED, ReportKind.FIXED, ReportKind.WINNER)
"""A model's first kind here is its headline. A winner comes last, because its own scores chose it."""


@dataclass(frozen=True)
class Section:
    """One section of the report.

    `order` sorts the sections. `files` go beside report.html; their names are relative to its folder.
    """

    order: int
    anchor: str
    title: str
    body: Markup
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """A study or a table of scores, as the sections of the report read it."""

    source: str
    """The name of the folder or table."""
    images: pd.DataFrame
    """The columns of `images.parquet`."""
    patients: pd.DataFrame
    """One row per image with `image_id`, `patient_id` and clinical columns: all of the data, predicted or not."""
    labels: Labels = field(default_factory=Labels)
    """The models' names for print."""
    unfinished: tuple[str, ...] = ()
    store: Store | None = None
    """The study folder; None for a table of scores."""
    cases: Mapping[str, Case] = field(default_factory=dict)
    outlines: Mapping[tuple[str, str, str], Outline] = field(default_factory=dict)
    """By model, kind and image_id."""
    pictures: Mapping[tuple[str, str, str], bytes] = field(default_factory=dict)
    """Probability maps as small JPEGs, by model, kind and image_id."""
    bins: Mapping[tuple[str, str, str], npt.NDArray[np.float64]] = field(default_factory=dict)
    """How well probabilities are calibrated, by model, kind and image_id; see `Calibration`."""
    baseline: Mapping[int, FixedMask] = field(default_factory=dict)
    """The baseline's mask of each fold, with its threshold and its score on the patients that it is made of; none for a
    table of scores, and for a study of one fold."""
    rocs: Mapping[tuple[str, str, int], FoldRoc] = field(default_factory=dict)
    """By model, kind and fold; none for a table of scores."""
    epochs: pd.DataFrame = field(default_factory=layout.EPOCHS.empty_table().to_pandas)
    """Learning curves of the reported folds, with their `kind`."""
    searches: Mapping[str, Search] = field(default_factory=dict)
    """By model."""
    all_efforts: Mapping[tuple[str, str], Effort] = field(default_factory=dict)
    """By model and kind; none for a table of scores."""
    settings_text: str = ""
    """study.toml; empty for a table of scores."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    data_warnings: tuple[str, ...] | None = None
    """What was odd when the data were read, without the table's path; None for a study that is older than this."""

    @cached_property
    def headline(self) -> pd.DataFrame:
        """Return the rows of `images` that tables and figures show.

        They are each model's first kind of `HEADLINE_KINDS`; the baseline is no model.
        """
        if self.images.empty:
            return self.images
        images = self.images[self.images["kind"] != ReportKind.BASELINE]
        rank = images["kind"].map(HEADLINE_KINDS.index)
        return images[rank == rank.groupby(images["model"]).transform("min")].reset_index(drop=True)

    @cached_property
    def compared(self) -> pd.DataFrame:
        """Return the headline's rows, then those of the baseline, if it has any."""
        if self.images.empty:
            return self.images
        baseline = self.images[self.images["kind"] == ReportKind.BASELINE]
        return pd.concat([self.headline, baseline], ignore_index=True) if len(baseline) else self.headline

    @cached_property
    def table2(self) -> pd.DataFrame:
        """Return Table 2 with the paper's metrics, the baseline last.

        A score table without any of them is shown with its own.
        """
        known = [name for name in (*OVERLAPS, *DISTANCES, "nsd", "auc") if name in self.headline]
        metrics = TABLE2_METRICS if set(known) & set(TABLE2_METRICS) else known
        return table2(self.compared, metrics, self.analysis.average)

    @cached_property
    def background(self) -> Background:
        """Return what claims must say besides scores."""
        kinds = dict(zip(self.compared["model"], self.compared["kind"], strict=True))
        return Background(kinds, self.unit, self.efforts, self.unit_long, self.labels)

    @cached_property
    def pairs(self) -> tuple[Comparison, ...]:
        """Return the comparisons of all pairs of models, the baseline among them, in each metric of Table 2."""
        if self.headline.empty:
            return ()
        training = read_training(self.patients, self.background.kinds, self.settings)
        return compare_pairs(align(self.compared, shown_metrics(self.table2)), training, self.analysis)

    @cached_property
    def uneven(self) -> tuple[str, ...]:
        """Return the metrics of Table 2 that models have of different images: their means are not to be compared."""
        shown = [] if self.headline.empty else shown_metrics(self.table2)
        return tuple(metric for metric in shown if not has_same_images(self.headline, metric))

    @cached_property
    def models(self) -> list[str]:
        """Return the models of the headline, in their order, without the baseline."""
        return list(dict.fromkeys(self.headline["model"]))

    def kind(self, model: str) -> str:
        """Return the kind of a model's headline, or of the baseline."""
        return str(self.compared.loc[self.compared["model"] == model, "kind"].iloc[0])

    @cached_property
    def efforts(self) -> dict[str, Effort]:
        """Return the effort behind each model's headline, by model; none for a table of scores."""
        kinds = {model: self.kind(model) for model in self.models}
        return {model: self.all_efforts[model, kind] for model, kind in kinds.items() if self.all_efforts}

    @cached_property
    def interval_note(self) -> str:
        """Return a warning about intervals if patients are few; else an empty text."""
        tested = [] if self.headline.empty else [mine for _, mine in self.headline.groupby("model")]
        numbers = [bootstrap.patients_in_folds(mine["patient_id"], mine["fold"]) for mine in tested]
        if any(number.min() == 1 for number in numbers):
            of_fold = " of a fold" if any(len(number) > 1 for number in numbers) else ""
            return f"A model that was tested on a single patient{of_fold} has no interval."
        if any(number.sum() < bootstrap.FEWEST_PATIENTS for number in numbers):
            return f"With fewer than {bootstrap.FEWEST_PATIENTS} patients intervals are too short."
        if any(number.min() < bootstrap.FEWEST_IN_A_FOLD for number in numbers):
            return f"With fewer than {bootstrap.FEWEST_IN_A_FOLD} patients in a fold intervals are too short."
        return ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return the study's settings; empty for a table of scores."""
        return tomllib.loads(self.settings_text)

    @cached_property
    def analysis(self) -> AnalysisSettings:
        """Return the study's settings of the analysis; the defaults for a table of scores, or an older study.

        Raises:
            UserError: If one of them is none that it may be.
        """
        tree = {"analysis": self.settings.get("analysis", {})}
        return build_study(tree, layout.STUDY).analysis

    @property
    def target(self) -> str:
        """Return what the masks show, as one noun."""
        return self.analysis.target

    @property
    def synthetic(self) -> bool:
        """Return whether a phantom made the data."""
        return self.provenance.get("data", {}).get("synthetic") is True

    @cached_property
    def unit(self) -> str:
        """Return the unit of distances: px, mm, or both; empty if it is not known."""
        units = {"mm" if case.in_mm else "px" for case in self.cases.values()} or set(self.images.get("unit", ()))
        return " and ".join(sorted(units, reverse=True))

    @cached_property
    def unit_long(self) -> str:
        """Return the unit with the grid of its pixels, such as `px of the 128 × 128 grid`; empty if it is not known."""
        if self.settings.get("evaluate", {}).get("grid") == "original":
            return self.unit.replace("px", "px of the original pictures")
        grids = {f"{case.height} × {case.width}" for case in self.cases.values()}
        grids = grids or {str(grid).replace(" x ", " × ") for grid in self.images.get("grid", ())}
        if not grids:
            return self.unit
        return self.unit.replace(
            "px", f"px of the {grids.pop()} grid" if len(grids) == 1 else "px of each mask's own grid"
        )

    @cached_property
    def average_words(self) -> str:
        """Return what a model's number is the mean of, such as `mean over patients`.

        A patient of a table may be no more than an image's name; the words are of images then.
        """
        by_image = self.analysis.average == "images" or self.patients["patient_id"].equals(self.patients["image_id"])
        what = "images" if by_image else "patients"
        has_folds = self.headline["fold"].nunique() > 1
        return f"mean over folds of the mean over their {what}" if has_folds else f"mean over {what}"

    @cached_property
    def divided(self) -> tuple[tuple[Division, ...], tuple[str, ...]]:
        """Return the divisions of the headline's images, and the columns left out, as `divide` does."""
        return divide(self.headline, self.analysis.clinical, self.target)

    def case_images(self, wanted: Collection[str]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
        """Yield image_id and pixels of images, as `cases.case_images` does, in the order of the cases.

        A table of scores has none.
        """
        return case_images(self.store, wanted) if self.store is not None and self.cases else iter(())


def read_study(store: Store) -> Results:
    """Read a study folder in any state.

    Raises:
        UserError: If it is not a study folder, or if its parts contradict each other.
    """
    if not store.exists(layout.STUDY):
        found = "is not a study folder" if store.exists() else "no such folder"
        raise UserError(
            f"{store.location}: {found} (no {layout.STUDY}); give the folder that `eus-ray cv` or `tune` wrote, "
            "or a .csv or .parquet table of per-image scores"
        )
    settings_text = store.read_text(layout.STUDY)
    try:
        settings = tomllib.loads(settings_text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{store.path(layout.STUDY)}: is not TOML: {error}") from None
    provenance = store.read_json(layout.PROVENANCE) if store.exists(layout.PROVENANCE) else {}
    told = provenance.get("data", {}).get("warnings")
    cases = read_cases(store)
    measured = read_study_images(store, cases)
    trials = layout.read_trials(store)
    labels = read_labels(store, trials)
    searches = read_searches(store, trials)
    if store.exists(layout.MANIFEST):
        manifest = layout.read_manifest(store)
        missing = unfinished(manifest, trials, measured.frame, settings.get("models", []), searches, labels)
    else:
        manifest = pd.DataFrame({"image_id": [], "patient_id": [], "fold": []})
        missing = ["the data are not prepared yet"]
    reported = reported_folds(trials, searches, manifest["fold"].unique())[["model", "kind", "trial", "fold"]]
    epochs = store.read_parts("epochs").to_pandas()
    return Results(
        source=store.location.rstrip("/").rsplit("/", 1)[-1],
        images=measured.frame,
        patients=manifest,
        labels=labels,
        unfinished=tuple(missing),
        store=store,
        cases=cases,
        outlines=measured.outlines,
        pictures=measured.pictures,
        bins=measured.bins,
        baseline=measured.baseline,
        rocs=measured.rocs,
        epochs=reported.merge(epochs),
        searches=searches,
        all_efforts=read_efforts(store, trials, reported, measured.frame[["model", "kind", "fold"]], epochs),
        settings_text=settings_text,
        provenance=provenance,
        data_warnings=None if told is None else tuple(told),
    )


def read_table(store: Store, name: str) -> Results:
    """Read a table of per-image scores from any tool.

    Raises:
        UserError: If something is wrong with it.
    """
    images = read_score_table(store, name)
    where = f"{store.path(name)}: "
    warnings = tuple(line.removeprefix(where) for line in images.attrs.pop("warnings", ()))
    scores = [column for column in (*METRICS, *of_models(images)) if column in images]
    patients = images.drop(columns=scores).drop_duplicates("image_id")
    for column in clinical_columns(patients):  # which only some models' rows may have
        if patients[column].isna().any():
            known = images.dropna(subset=column).drop_duplicates("image_id").set_index("image_id")[column]
            patients[column] = patients["image_id"].map(known).astype(images[column].dtype)
            images[column] = images["image_id"].map(known).astype(images[column].dtype)
    return Results(
        source=name,
        images=images,
        patients=patients,
        data_warnings=warnings,
    )
