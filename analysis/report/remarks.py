"""What is odd about the data of a report: names that look alike, signs in the counts, letters without a font."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from eus_ray.analysis.figures import fonts
from eus_ray.analysis.inputs.study_images import clinical_columns
from eus_ray.analysis.inputs.videos import VIDEO
from eus_ray.analysis.labels import Labels
from eus_ray.analysis.measures.image_metrics import COUNTS
from eus_ray.analysis.report.results import Results
from eus_ray.data.io.tables import names_alike
from eus_ray.data.names import alike, shown
from eus_ray.data.signs import MaskFacts, equal_signs, mask_signs
from eus_ray.errors import collapsed

_MAX_LETTERS_TOLD = 20


def remarks(results: Results) -> list[str]:
    """Return what was odd when the data were read, and what is odd about names and counts; no line twice.

    Names and masks of a study are judged here only if the study is older than their warnings.
    """
    told = results.data_warnings
    is_study, is_judged = results.store is not None, told is not None
    found = [] if is_judged else names_alike(results.patients, clinical_columns(results.patients))
    found += alike("model", results.models) if is_study else _images_as_patients(results.images)
    if not results.headline.empty and set(COUNTS) <= set(results.headline):
        judges_truths = not (is_study and is_judged)
        found += _signs(
            results.headline, results.target, results.labels, truths=judges_truths, predictions=not is_study
        )
    if letters := fonts.letters_without_font(names_in_figures(results)):
        more = "…" if len(letters) > _MAX_LETTERS_TOLD else ""
        found.append(
            f"no installed font has {letters[:_MAX_LETTERS_TOLD]}{more}: figures show boxes instead; install a font "
            "that has, such as one of Noto, and analyze again"
        )
    return list(dict.fromkeys([*(told or ()), *collapsed(found)]))


def names_in_figures(results: Results) -> list[str]:
    """Return the names that figures may show: of models, columns, categories, images and videos."""
    names = [results.labels[model] for model in (*results.models, *results.searches)]
    if not results.headline.empty:
        names += [text for each in results.divided[0] for text in (each.label, *each.levels)]
    names += results.cases
    if VIDEO in results.patients:
        names += map(str, results.patients[VIDEO].dropna().unique())
    return names


def _images_as_patients(images: pd.DataFrame) -> list[str]:
    """Return a line if each image of a table is a patient of its own, by the same name."""
    if not images["patient_id"].equals(images["image_id"]):
        return []
    return [
        "patients are named as their images, so each image counts as a patient of its own: if images share a patient, "
        "intervals are too narrow and p-values too small"
    ]


def _signs(headline: pd.DataFrame, target: str, labels: Labels, *, truths: bool, predictions: bool) -> list[str]:
    """Return the signs of masks as far as pixel counts show them.

    Args:
        headline: One row per model and image, with counts.
        target: What the masks show, in print.
        labels: The models' names, in print.
        truths: Whether the truths are judged.
        predictions: Whether predictions are judged by themselves; those of a study are a network's own.
    """
    lines = []
    if truths:
        images = headline.drop_duplicates("image_id")
        lines += mask_signs([*map(shown, images["image_id"])], [*_facts(images, "fn")], "truths", target)
    for model, mine in headline.groupby("model", sort=False):
        what = f"predictions of {shown(labels[str(model)])}"
        if predictions:
            lines += mask_signs([*map(shown, mine["image_id"])], [*_facts(mine, "fp")], what, target)
        is_equal = (mine["fp"] == 0) & (mine["fn"] == 0)
        lines += equal_signs([*_facts(mine, "fn")], [*is_equal], what)
    return lines


def _facts(images: pd.DataFrame, missed: str) -> Iterator[MaskFacts]:
    """Yield the facts of the truths (`fn`) or predictions (`fp`); counts do not show corners."""
    pixels = images[list(COUNTS)].sum(axis=1).to_numpy(np.float64)
    lesion = (images["tp"] + images[missed]).to_numpy(np.float64)
    for share in np.divide(lesion, pixels, out=np.zeros(len(images)), where=pixels > 0):
        yield MaskFacts(float(share), has_corners=False, digest=b"")
