"""Two models, images clustered in patients: in how many studies does a verdict say that they differ?

If they are equal, in 5 % at most; if they differ, the more the better.

python -m tests.benchmarks.false_positives [--repeats 4000]
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import pandas as pd

from eus_ray.analysis.comparison.pairwise import Training, compare_pairs
from eus_ray.analysis.comparison.score_matrix import Aligned
from eus_ray.analysis.comparison.verdicts import LEVEL, SUPPORTED, verdict

ICCS = (0.1, 0.3, 0.5)
PATIENTS = (30, 50)
TAILS = ("normal", "heavy")
IMAGES = (10, 30)
FOLDS = 5
PATIENT_SD, IMAGE_SD, MODEL_SD = 0.08, 0.06, 0.05
"""Standard deviations: of a patient's and an image's difficulty, for both models and for one of them."""
DIFFERENCE = 0.015
"""Of the models that differ, in DSC."""
_TESTS = ("verdict", "Wilcoxon", "image-level Wilcoxon")


def run(repeats: int = 4000, seed: int = 0) -> pd.DataFrame:
    """Print and return the shares of studies in which the verdict, and the Wilcoxon tests, say `differs`.

    Equal models: both are drawn from one distribution. The ICC is that of the difference of the two on images of one
    patient: what a test that takes images for independent overlooks. Heavy tails are those of Student's t with three
    degrees of freedom.
    """
    rows = []
    for number, icc, tails in product(PATIENTS, ICCS, TAILS):
        row = {"patients": number, "ICC": icc, "tails": tails}
        for name, difference in (("equal", 0.0), ("different", DIFFERENCE)):
            said = [
                differ(draw(np.random.default_rng((seed, number, int(10 * icc), k)), number, icc, difference, tails))
                for k in range(repeats)
            ]
            row |= {f"{name}: {test}": share for test, share in zip(_TESTS, np.mean(said, axis=0), strict=True)}
        rows.append(row)
    table = pd.DataFrame(rows).drop(columns=f"different: {_TESTS[-1]}")
    number = f"{IMAGES[0]} to {IMAGES[1]} images a patient"
    print(f"\nTwo models, {number}, {repeats} studies a row: share that says 'differs' (different: by {DIFFERENCE})")
    shares = [name for name in table if ":" in name]
    print(table.assign(**{name: table[name].map("{:.1%}".format) for name in shares}).to_string(index=False))
    error = np.sqrt(LEVEL * (1 - LEVEL) / repeats)
    print(f"all: {', '.join(f'{name} {table[name].mean():.1%}' for name in shares)}")
    print(f"nominal {LEVEL:.0%}, standard error of a row {error:.1%}")
    return table


def draw(
    rng: np.random.Generator, patients: int, icc: float, difference: float = 0.0, tails: str = "normal"
) -> Aligned:
    """Draw a study of two models; the first is better by the difference."""
    number = rng.integers(IMAGES[0], IMAGES[1] + 1, patients)
    patient = np.repeat(np.arange(patients), number)
    hard = 0.75 + rng.normal(0, PATIENT_SD, patients)[patient] + rng.normal(0, IMAGE_SD, len(patient))
    of_patient = _noise(rng, (patients, 2), tails)[patient] * np.sqrt(icc) * MODEL_SD
    of_image = _noise(rng, (len(patient), 2), tails) * np.sqrt(1 - icc) * MODEL_SD
    dsc = hard[:, None] + of_patient + of_image + np.array([difference, 0])
    images = np.arange(len(patient)).astype(str)
    known = np.ones((len(patient), 2), np.bool_)
    return Aligned(
        ("a", "b"), ("dsc",), images, patient.astype(str), patient % FOLDS, known, dsc[..., None], dsc[..., None]
    )


def _noise(rng: np.random.Generator, shape: tuple[int, int], tails: str) -> np.ndarray:
    """Draw noise with variance 1."""
    return rng.normal(size=shape) if tails == "normal" else rng.standard_t(3, shape) / np.sqrt(3)


def differ(study: Aligned) -> tuple[bool, bool, bool]:
    """Return whether the verdict, Wilcoxon over patients and Wilcoxon over images say that two models differ."""
    number, counts = np.unique(study.patient_folds(), return_counts=True)
    training = Training(dict(zip(number.tolist(), counts.tolist(), strict=True)), {})
    (pair,) = compare_pairs(study, training)
    return verdict(pair) == SUPPORTED, pair.ranks.p_value < LEVEL, pair.images.p_value < LEVEL


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000)
    run(parser.parse_args().repeats)
