"""Two equal models, images clustered in patients: in how many studies does a verdict say that they differ?

python -m tests.benchmarks.false_positives [--repeats 1000]
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison.claims import LEVEL, SUPPORTED, verdict
from eus_ray.analysis.comparison.pairwise import Training, compare_pairs
from eus_ray.analysis.comparison.score_matrix import Aligned

ICCS = (0.1, 0.3, 0.5)
PATIENTS = (30, 50)
IMAGES = (10, 30)
FOLDS = 5
PATIENT_SD, IMAGE_SD, MODEL_SD = 0.08, 0.06, 0.05
"""Standard deviations: of a patient's and an image's difficulty, for both models and for one of them."""


def run(repeats: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Print and return the share of studies in which the verdict and the image-level test say `differs`.

    Equal models: both are drawn from one distribution. The ICC is that of the difference of the two on images of one
    patient: what a test that takes images for independent overlooks.
    """
    rows = []
    for number in PATIENTS:
        for icc in ICCS:
            said = np.array(
                [
                    differ(draw(np.random.default_rng((seed, number, int(10 * icc), k)), number, icc))
                    for k in range(repeats)
                ]
            )
            rows.append({"patients": number, "ICC": icc, "verdict": said[:, 0].mean(), "images": said[:, 1].mean()})
    table = pd.DataFrame(rows)
    number = f"{IMAGES[0]} to {IMAGES[1]} images a patient"
    print(f"\nTwo equal models, {number}, {repeats} studies a row: share that says 'differs'")
    shown = table.assign(**{name: table[name].map("{:.1%}".format) for name in ("verdict", "images")})
    print(shown.rename(columns={"images": "image-level Wilcoxon"}).to_string(index=False))
    whole = " and ".join(f"{table[name].mean():.1%}" for name in ("verdict", "images"))
    error = np.sqrt(LEVEL * (1 - LEVEL) / repeats)
    print(f"all: {whole}; nominal {LEVEL:.0%}, standard error of a row {error:.1%}")
    return table


def draw(rng: np.random.Generator, patients: int, icc: float) -> Aligned:
    """Draw a study of two models."""
    number = rng.integers(IMAGES[0], IMAGES[1] + 1, patients)
    patient = np.repeat(np.arange(patients), number)
    hard = 0.75 + rng.normal(0, PATIENT_SD, patients)[patient] + rng.normal(0, IMAGE_SD, len(patient))
    of_patient = rng.normal(0, np.sqrt(icc) * MODEL_SD, (patients, 2))[patient]
    of_image = rng.normal(0, np.sqrt(1 - icc) * MODEL_SD, (len(patient), 2))
    dsc = np.clip(hard[:, None] + of_patient + of_image, 0, 1)[:, :, None]
    images = np.arange(len(patient)).astype(str)
    known = np.ones((len(patient), 2), np.bool_)
    return Aligned(("a", "b"), ("dsc",), images, patient.astype(str), patient % FOLDS, known, dsc, dsc)


def differ(study: Aligned) -> tuple[bool, bool]:
    """Return whether our verdict says that the two models differ, and whether the image-level test does."""
    number, counts = np.unique(study.patient_folds(), return_counts=True)
    training = Training(dict(zip(number.tolist(), counts.tolist(), strict=True)), {})
    # the interval takes no part in the verdict
    (pair,) = compare_pairs(study, training, draws=20)
    return verdict(pair) == SUPPORTED, pair.images.p_value < LEVEL


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    run(parser.parse_args().repeats)
