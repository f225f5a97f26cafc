"""The patients of a phantom: clinical columns and numbers of images.

The paper's Table 1 holds exactly at 150 patients: 96 men and 54 women; T1/T2/T3 33/99/18; age with mean 71.2 and range
40-94; size with mean 31.0 mm and range 10-130 mm. Its locations (body 37, head 60, neck 18, tail 33,
uncinate 6) sum to 154, not 150: they are taken as proportions and scaled by largest remainder, which at 150
patients gives 36/58/18/32/6. Any other number of patients is scaled in the same way.

Size and T stage agree: T1 is 10-20 mm, T2 21-40 mm, T3 41-130 mm.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import ndtri

SEX = {"male": 96, "female": 54}
T_STAGE = {"T1": 33, "T2": 99, "T3": 18}
LOCATION = {"body": 37, "head": 60, "neck": 18, "tail": 33, "uncinate": 6}

AGE_MEAN, AGE_RANGE = 71.2, (40, 94)
SIZE_MEAN_MM, SIZE_RANGE_MM = 31.0, (10, 130)
STAGE_RANGE_MM = {"T1": (10, 20), "T2": (21, 40), "T3": (41, 130)}

_PLAN = 1
"""A random stream apart from every patient's own."""


def largest_remainder(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Return whole numbers in proportion to `shares` with sum `total`; ties: the first.

    >>> largest_remainder({"body": 37, "head": 60, "neck": 18, "tail": 33, "uncinate": 6}, 150)
    {'body': 36, 'head': 58, 'neck': 18, 'tail': 32, 'uncinate': 6}
    """
    scale = total / sum(shares.values())
    counts = {name: int(share * scale + 1e-9) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * scale)
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def plan_cohort(patients: int, images: int, seed: int, cancer_free: int = 0) -> pd.DataFrame:
    """Draw a cohort; the same arguments give the same.

    Every patient has at least one of the `images`. The rest fall at random, at most three more a patient if there are
    no more than 2.5 images a patient. The `cancer_free` frames are spread evenly. Clinical columns are independent of
    each other except size and stage.

    Returns:
        One row a patient: patient_id, age, sex, size_mm, t_stage, location, num_images, num_cancer_free.
    """
    rng = np.random.default_rng([seed, 0, _PLAN])
    stages = largest_remainder(T_STAGE, patients)
    size_mm = _sizes(stages)
    stage = np.repeat(list(stages), list(stages.values()))
    together = rng.permutation(patients)
    sexes, locations = largest_remainder(SEX, patients), largest_remainder(LOCATION, patients)
    digits = max(3, len(str(patients)))
    frame = pd.DataFrame(
        {
            "patient_id": [f"synthetic_{number:0{digits}d}" for number in range(1, patients + 1)],
            "age": rng.permutation(_ages(patients)),
            "sex": rng.permutation(np.repeat(list(sexes), list(sexes.values()))),
            "size_mm": size_mm[together],
            "t_stage": stage[together],
            "location": rng.permutation(np.repeat(list(locations), list(locations.values()))),
        }
    )
    per_patient = images / patients
    room = 3 if per_patient <= 2.5 else 2 * int(np.ceil(per_patient - 1))
    slots = rng.choice(patients * room, size=images - patients, replace=False) % patients
    frame["num_images"] = 1 + np.bincount(slots, minlength=patients)
    everyone, some = divmod(cancer_free, patients)
    frame["num_cancer_free"] = everyone + (rng.permutation(patients) < some).astype(int)
    return frame


def _ages(patients: int) -> np.ndarray:
    low, high = np.full(patients, AGE_RANGE[0]), np.full(patients, AGE_RANGE[1])
    start = AGE_MEAN + 10.5 * ndtri((np.arange(patients) + 0.5) / patients)
    if patients >= 3:
        high[0], low[-1] = AGE_RANGE
    return _shift_to_mean(start, low, high, AGE_MEAN)


def _sizes(stages: Mapping[str, int]) -> np.ndarray:
    """Return sizes in whole mm, stage by stage, each within its stage's range.

    Mean and range are those of Table 1 as far as possible.
    """
    counts = list(stages.values())
    low, high = np.repeat([STAGE_RANGE_MM[stage] for stage in stages], counts, axis=0).T
    quantile = np.concatenate([((np.arange(count) + 0.5) / max(count, 1)) for count in counts])
    start = low + (high - low) * quantile ** np.repeat([1.0, 1.0, 3.0], counts)
    pinned_low, pinned_high = low.copy(), high.copy()
    if stages["T1"]:
        pinned_high[0] = SIZE_RANGE_MM[0]
    if stages["T3"]:
        pinned_low[-1] = SIZE_RANGE_MM[1]
    target = round(SIZE_MEAN_MM * len(start))
    if pinned_low.sum() <= target <= pinned_high.sum():
        low, high = pinned_low, pinned_high
    return _shift_to_mean(start, low, high, SIZE_MEAN_MM)


def _shift_to_mean(start: np.ndarray, low: np.ndarray, high: np.ndarray, mean: float) -> np.ndarray:
    """Return whole numbers near `start + constant`, within [low, high].

    Their sum is as near to n * mean as possible.
    """

    def shifted(by: float) -> np.ndarray:
        return np.clip(np.floor(start + by), low, high).astype(int)

    target = int(np.clip(round(mean * len(start)), low.sum(), high.sum()))
    below, above = -1000.0, 1000.0
    while above - below > 1e-6:
        middle = (below + above) / 2
        below, above = (middle, above) if shifted(middle).sum() <= target else (below, middle)
    values = shifted(below)
    missing = target - values.sum()
    values[np.flatnonzero(values < high)[:missing]] += 1
    return values
