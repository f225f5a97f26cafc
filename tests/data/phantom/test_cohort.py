"""The phantom's patients: Table 1's counts at any size of the cohort, and the paper's folds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from eus_ray.data.phantom.cohort import STAGE_RANGE_MM, largest_remainder, plan_cohort


@pytest.mark.parametrize("seed", [0, 1])
def test_150_patients_are_table_1(seed: int) -> None:
    cohort = plan_cohort(150, 330, seed)
    assert cohort.sex.value_counts().to_dict() == {"male": 96, "female": 54}
    assert cohort.t_stage.value_counts().to_dict() == {"T2": 99, "T1": 33, "T3": 18}
    # 37/60/18/33/6 sum to 154; scaled by 150/154 by largest remainder
    assert cohort.location.value_counts().to_dict() == {"head": 58, "body": 36, "tail": 32, "neck": 18, "uncinate": 6}
    assert (cohort.age.sum(), cohort.age.min(), cohort.age.max()) == (10680, 40, 94)  # mean 71.2
    assert (cohort.size_mm.sum(), cohort.size_mm.min(), cohort.size_mm.max()) == (4650, 10, 130)  # mean 31.0
    assert cohort.patient_id.is_unique
    assert (cohort.num_images.sum(), cohort.num_images.min(), cohort.num_images.max()) == (330, 1, 4)


@pytest.mark.parametrize(
    ("patients", "images", "free"), [(1, 1, 0), (2, 5, 3), (7, 7, 0), (20, 200, 41), (151, 300, 9)]
)
def test_any_number_of_patients(patients: int, images: int, free: int) -> None:
    cohort = plan_cohort(patients, images, 0, free)
    assert len(cohort) == patients
    assert cohort.num_images.sum() == images
    assert cohort.num_images.min() >= 1
    assert cohort.num_cancer_free.sum() == free
    assert np.ptp(cohort.num_cancer_free) <= 1
    for stage, limits in STAGE_RANGE_MM.items():
        assert cohort.size_mm[cohort.t_stage == stage].between(*limits).all()
    assert cohort.age.between(40, 94).all()
    if patients > 4:
        assert abs(cohort.size_mm.mean() - 31.0) <= 0.5 / patients + 1e-9
        assert abs(cohort.age.mean() - 71.2) <= 0.5 / patients + 1e-9


def test_largest_remainder_by_hand() -> None:
    # 10 * 1/6 = 1.67, 10 * 2/6 = 3.33, 10 * 3/6 = 5: the one that is left goes to the first
    assert largest_remainder({"a": 1, "b": 2, "c": 3}, 10) == {"a": 2, "b": 3, "c": 5}
    assert largest_remainder({"a": 1, "b": 1}, 1) == {"a": 1, "b": 0}


def test_the_papers_folds_exist() -> None:
    """5 folds of 30 patients and 66 images, every stage and location within one patient of its share."""
    cohort = plan_cohort(150, 330, 0)
    groups = pd.get_dummies(cohort[["t_stage", "location"]]).to_numpy(float).T  # (G, 150)
    per_fold = np.vstack([np.ones(150), cohort.num_images, groups])
    share = groups.sum(1) / 5
    low, high = np.concatenate([[30, 66], np.ceil(share - 1)]), np.concatenate([[30, 66], np.floor(share + 1)])
    constraints = [
        LinearConstraint(np.kron(np.eye(5), per_fold), np.tile(low, 5), np.tile(high, 5)),
        LinearConstraint(np.kron(np.ones(5), np.eye(150)), 1, 1),
    ]
    answer = milp(np.zeros(750), integrality=np.ones(750), bounds=Bounds(0, 1), constraints=constraints)
    assert answer.status == 0, answer.message
