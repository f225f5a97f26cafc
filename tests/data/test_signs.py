"""Signs that data may not be what they are taken for."""

from __future__ import annotations

import numpy as np
import pytest

from eus_ray.data.signs import equal_signs, mask_facts

LESION = mask_facts(np.array([[0, 1], [0, 0]], np.uint8))
NOTHING = mask_facts(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(
    ("truths", "is_equal", "lines"),
    [
        ([LESION, NOTHING], [True, True], ["all 2 predictions equal their truths pixel by pixel: see that they are"]),
        ([LESION, NOTHING], [True, False], []),
        ([NOTHING, NOTHING], [True, True], []),  # nothing to find, and nothing found
        ([], [], []),
    ],
)
def test_predictions_that_equal_their_truths_are_told(truths: list, is_equal: list[bool], lines: list[str]) -> None:
    found = equal_signs(truths, is_equal)
    assert [line[: len(lines[0])] for line in found] == lines if lines else not found
