"""Figures: what is drawn, and that the same numbers give the same files."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eus_ray.analysis import figures, style
from eus_ray.analysis.outlines import MOST_POLYGONS, outline, svg_path


def epochs(models: tuple[str, ...], folds: int = 3, number: int = 4) -> pd.DataFrame:
    rows = [
        {
            "model": model,
            "fold": fold,
            "epoch": epoch,
            "split": split,
            "loss": (1 + fold) / (1 + epoch) + (split != "train"),
        }
        for model in models
        for fold in range(folds)
        for epoch in range(number)
        for split in ("train", "validation")
    ]
    return pd.DataFrame(rows)


def example() -> figures.Example:
    truth = np.zeros((20, 30), bool)
    truth[5:12, 6:15] = True
    found = {"unet": (outline(truth), 1.0), "daf_net": (outline(np.roll(truth, 3)), 0.8)}
    return figures.Example("Best: a", np.full((20, 30), 90, np.uint8), outline(truth), found)


def scores() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"model": np.repeat(["unet", "daf_net"], 40), "dsc": rng.random(80)})


DRAWINGS = {
    "learning": lambda: figures.learning_curves(epochs(("unet", "attention_unet", "daf_net", "other"))),
    "scores": lambda: figures.score_by_model(scores()),
    "examples": lambda: figures.examples_strip([example(), example()], ["unet", "daf_net", "absent"]),
}


def visible(figure: Figure) -> list[mpl.axes.Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_numbers_give_the_same_files(name: str) -> None:
    first, second = (style.files(name, DRAWINGS[name]()) for _ in range(2))
    assert list(first) == [f"figures/{name}.svg", f"figures/{name}.png"]
    assert first == second
    assert b"<dc:date>" not in first[f"figures/{name}.svg"] and first[f"figures/{name}.png"].startswith(b"\x89PNG")


def test_the_callers_settings_neither_count_nor_change() -> None:
    expected = style.files("x", DRAWINGS["scores"]())
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        before = dict(mpl.rcParams)
        assert style.files("x", DRAWINGS["scores"]()) == expected
        assert dict(mpl.rcParams) == before


def test_learning_curves_are_the_training_losses_fold_by_fold() -> None:
    figure = figures.learning_curves(epochs(("unet", "daf_net")))
    panels = visible(figure)
    assert [panel.get_title(loc="left") for panel in panels] == ["U-Net", "DAF-Net"]
    lines = panels[0].get_lines()
    assert len(lines) == 3
    assert lines[1].get_xdata().tolist() == [1, 2, 3, 4]
    assert lines[1].get_ydata().tolist() == [2, 1, 2 / 3, 0.5]
    # Told apart by colour, and by dashes where there is none.
    assert len({line.get_color() for line in lines}) == len({str(line._dash_pattern) for line in lines}) == 3


def test_learning_curves_of_one_model_one_fold_one_epoch() -> None:
    (panel,) = visible(figures.learning_curves(epochs(("unet",), folds=1, number=1)))
    (line,) = panel.get_lines()
    assert line.get_marker() == "o"  # a line of one point would not show


def test_every_image_is_a_dot_and_boxes_are_tukeys() -> None:
    values = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, np.nan]
    (panel,) = figures.score_by_model(pd.DataFrame({"model": "unet", "dsc": values})).axes
    dots = next(line for line in panel.get_lines() if line.get_marker() == "o")
    assert sorted(dots.get_ydata().tolist()) == values[:-1]
    heights = sorted({round(float(y), 6) for line in panel.get_lines() if line is not dots for y in line.get_ydata()})
    # Quartiles .525 and .775, IQR .25: whiskers at .5 (0 lies beyond .15) and .9; median .65.
    assert heights == [0.5, 0.525, 0.65, 0.775, 0.9]


def test_examples_show_truth_and_every_model_beside_it() -> None:
    figure = figures.examples_strip([example()], ["unet", "daf_net", "absent"])
    image, truth, unet, _, absent = visible(figure)
    assert [len(axes.get_lines()) for axes in (image, truth, unet, absent)] == [0, 1, 2, 1]
    assert unet.get_title(loc="left") == "U-Net 1.00" and absent.get_title(loc="left") == "absent \N{EN DASH}"
    assert {line.get_color() for line in unet.get_lines()} == {style.TRUTH_COLOUR, style.outline_colour(0)}
    assert not any(axes.patches or axes.collections for axes in visible(figure))  # outlines, nothing filled


def test_outlines_follow_the_pixels() -> None:
    mask = np.zeros((40, 50), bool)
    mask[10:20, 5:25] = True
    mask[13:16, 10:15] = False
    outer, rim = outline(mask)
    assert outer.min(axis=0).tolist() == [5.25, 10.25] and outer.max(axis=0).tolist() == [24.75, 19.75]
    assert rim.min(axis=0) == pytest.approx([10, 13], abs=0.3) and rim.max(axis=0) == pytest.approx([15, 16], abs=0.3)
    assert outline(np.zeros((4, 4), bool)) == ()
    assert svg_path((outer,), scale=2.0) == "M10.5 20.5V39.5H49.5V20.5Z"


def test_a_single_pixel_has_an_outline() -> None:
    pixel = np.zeros((5, 5), bool)
    pixel[2, 3] = True
    (points,) = outline(pixel)
    assert points.min(axis=0).tolist() == [3.25, 2.25] and points.max(axis=0).tolist() == [3.75, 2.75]


def test_outlines_of_noise_stay_small() -> None:
    noise = np.random.default_rng(0).random((256, 256)) < 0.5
    polygons = outline(noise)
    assert len(polygons) == MOST_POLYGONS and sum(map(len, polygons)) <= 500
    assert len(svg_path(polygons)) < 6000
