"""Box plots: what stands for many values outside the whiskers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eus_ray.analysis.comparison.score_matrix import align
from eus_ray.analysis.comparison.subgroups import Division
from eus_ray.analysis.figures import style
from eus_ray.analysis.figures.box_plots import boxes_by_level


def boxes_of(num_images: int, outliers: int, middle: float) -> Figure:
    """Draw boxes of two models and two levels; in each box `outliers` DSC are 0.5 to 0.7, all others near `middle`."""
    half = num_images // 2
    dsc = np.concatenate([np.linspace(0.5, 0.7, outliers), np.linspace(middle - 0.01, middle + 0.01, half - outliers)])
    rows = pd.DataFrame(
        {
            "model": np.repeat(["a", "b"], num_images),
            "kind": "fixed",
            "fold": 0,
            "image_id": [f"i{number:06d}" for number in range(num_images)] * 2,
            "patient_id": [f"p{number:06d}" for number in range(num_images)] * 2,
            "dsc": np.tile(dsc, 4),
        }
    )
    level = np.repeat([0, 1], half).astype(np.int64)
    return boxes_by_level(align(rows, ["dsc"]), Division("t_stage", "T-stage", ("T1", "T2"), level, True))


@pytest.mark.parametrize(("num_images", "outliers", "is_image"), [(2_000, 20, False), (40_000, 1_000, True)])
def test_many_values_outside_the_whiskers_are_an_image(num_images: int, outliers: int, is_image: bool) -> None:
    svg = style.files("x", boxes_of(num_images, outliers, middle=0.78))["figures/x.svg"]
    assert (4 * outliers > style.MOST_VECTOR_DOTS) == is_image
    assert (b"<image" in svg) == is_image
    assert len(svg) < 100_000


def test_values_beyond_the_axis_are_one_triangle_a_box() -> None:
    """DSC near 0.9 alone: the axis begins above 0.8, and 20 values a box lie below it."""
    (axes,) = boxes_of(2_000, 20, middle=0.9).axes
    foot = axes.get_ylim()[0]
    triangles = [line.get_ydata() for line in axes.get_lines() if line.get_marker() == "v"]
    assert [list(heights) for heights in triangles] == [[foot, foot]] * 2  # two levels of two models
