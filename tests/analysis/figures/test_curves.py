"""Figures: what is drawn, and that the same numbers give the same files."""

from __future__ import annotations

import dataclasses
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eus_ray.analysis.comparison import roc_tables
from eus_ray.analysis.figures import curves as figures
from eus_ray.analysis.figures import image_panels, roc_curves, style
from eus_ray.analysis.measures import roc
from eus_ray.analysis.measures.outlines import MOST_POLYGONS, outline, svg_path


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


def example() -> image_panels.Example:
    truth = np.zeros((20, 30), bool)
    truth[5:12, 6:15] = True
    found = {"unet": (outline(truth), 1.0), "daf_net": (outline(np.roll(truth, 3)), 0.8)}
    return image_panels.Example("Best", "a", np.full((20, 30), 90, np.uint8), outline(truth), found)


def scores() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"model": np.repeat(["unet", "daf_net"], 40), "dsc": rng.random(80)})


def curves(models: tuple[str, ...] = ("unet", "daf_net"), folds: int = 3) -> pd.DataFrame:
    rocs = {}
    for place, model in enumerate(models):
        rocs[model] = []
        for fold in range(folds):
            rng = np.random.default_rng([place, fold])
            counted = roc.FoldCounts(fold)
            for patient in "ABC":
                truth = rng.random((40, 40)) < 0.2
                levels = np.clip(rng.normal(15_000 + 35_000 * truth, 9_000), 0, 65_535).astype(np.uint16)
                counts = roc.count_levels(levels, truth)
                counted.add(patient, counts, roc.roc(counts).tpr)
            rocs[model].append(counted.finish())
    return roc_tables.curves(rocs)


DRAWINGS = {
    "learning": lambda: figures.learning_curves(epochs(("unet", "attention_unet", "daf_net", "other"))),
    "scores": lambda: figures.dsc_by_model(scores()),
    "roc": lambda: roc_curves.roc_curves(curves(), {"unet": "U-Net: 0.9", "daf_net": "DAF-Net: 0.8"}),
    "examples": lambda: image_panels.examples_strip([example(), example()], ["unet", "daf_net", "absent"]),
}


def visible(figure: Figure) -> list[mpl.axes.Axes]:
    return [axes for axes in figure.axes if axes.get_visible()]


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_numbers_give_the_same_files(name: str) -> None:
    first, second = (style.files(name, DRAWINGS[name]()) for _ in range(2))
    assert list(first) == [f"figures/{name}.svg", f"figures/{name}.png"]
    assert first == second
    assert b"<dc:date>" not in first[f"figures/{name}.svg"]
    assert first[f"figures/{name}.png"].startswith(b"\x89PNG")


def test_the_callers_settings_neither_count_nor_change() -> None:
    expected = style.files("x", DRAWINGS["scores"]())
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        before = dict(mpl.rcParams)
        assert style.files("x", DRAWINGS["scores"]()) == expected
        assert dict(mpl.rcParams) == before


def test_learning_curves_are_the_losses_fold_by_fold() -> None:
    figure = figures.learning_curves(epochs(("unet", "daf_net")))
    panels = visible(figure)
    assert [panel.get_title(loc="left") for panel in panels] == ["U-Net", "DAF-Net", "", ""]
    assert [panel.get_ylabel() for panel in panels] == ["Training loss", "", "Validation loss", ""]
    training, validation = panels[0].get_lines(), panels[2].get_lines()
    assert len(training) == len(validation) == 3
    assert training[1].get_xdata().tolist() == [1, 2, 3, 4]
    assert training[1].get_ydata().tolist() == [2, 1, 2 / 3, 0.5]
    assert validation[1].get_ydata().tolist() == pytest.approx([3, 2, 5 / 3, 1.5])
    assert panels[0].get_ylim() == panels[2].get_ylim()  # side by side they can be compared
    # Told apart by colour, and by dashes where there is none.
    assert len({line.get_color() for line in training}) == len({str(line._dash_pattern) for line in training}) == 3


def test_tests_are_diamonds_at_the_epoch_that_counts() -> None:
    trained = epochs(("unet", "daf_net"))
    tests = [{"model": model, "fold": 1, "epoch": 2, "split": "test", "loss": 0.7} for model in ("unet", "daf_net")]
    without = trained[(trained["model"] == "unet") | (trained["split"] == "train")]  # daf_net has no validation
    unet, daf_net, unet_below, daf_net_below = visible(
        figures.learning_curves(pd.concat([without, pd.DataFrame(tests)]))
    )
    diamonds = [
        [(*line.get_xdata(), *line.get_ydata()) for line in panel.get_lines() if line.get_marker() == "D"]
        for panel in (unet, daf_net, unet_below, daf_net_below)
    ]
    assert diamonds == [[], [(3, 0.7)], [(3, 0.7)], []]
    assert [text.get_text() for text in daf_net_below.texts] == ["no validation images"]


def test_one_epochs_huge_loss_does_not_flatten_the_others() -> None:
    trained = epochs(("unet", "daf_net"))  # losses from 0.25 to 4
    is_far = (trained["model"] == "unet") & (trained["fold"] == 1) & (trained["epoch"] == 2)
    far = trained.assign(loss=trained["loss"].where(~is_far, 10_000.0))
    unet, daf_net, unet_below, daf_net_below = visible(figures.learning_curves(far))
    triangles = [
        [(*line.get_xdata(), *line.get_ydata()) for line in panel.get_lines() if line.get_marker() == "^"]
        for panel in (unet, daf_net, unet_below, daf_net_below)
    ]
    top = unet.get_ylim()[1]
    assert top == pytest.approx(1.05 * 4)  # the largest of the others
    assert triangles == [[(3, top)], [], [(3, top)], []]  # in both splits, at the epoch's place
    assert daf_net.get_ylim()[1] == pytest.approx(1.05 * 4)


@pytest.mark.parametrize(
    ("train", "validation", "largest"),
    [
        ([4.0, 2.0, 1.0, 0.9, 0.8], [], 4.0),  # an ordinary start: below 5 times 2
        ([9.6, 2.0, 1.9, 1.0, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7], [], 2.0),  # above 5 times 1.9
        ([9.4, 2.0, 1.9, 1.0, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7], [], 9.4),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10_000.0], [], 1.0),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, np.inf], [], 1.0),
        ([1.2, 1.1, 1.0, 0.9, 0.8], [1.5, 900.0, 800.0, 700.0, 5.0], 5.0),  # many validation losses are far
        ([0.0, 0.0, 0.0], [], 1 / 1.05),
        ([np.nan, np.inf], [], 1 / 1.05),
        ([], [], 1 / 1.05),
    ],
)
def test_the_axis_ends_at_the_largest_loss_that_is_not_far_above_the_others(train, validation, largest) -> None:
    splits = ["train"] * len(train) + ["validation"] * len(validation)
    losses = np.array([*train, *validation], np.float64)
    assert figures.axis_top(pd.DataFrame({"split": splits, "loss": losses})) == pytest.approx(1.05 * largest)


@pytest.mark.parametrize("losses", [[np.nan], [np.inf], [0.0], [1.0, np.inf]])
def test_losses_without_a_scale_can_be_drawn(losses: list[float]) -> None:
    trained = pd.DataFrame({"model": "unet", "fold": 0, "epoch": range(len(losses)), "split": "train", "loss": losses})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.files("odd", figures.learning_curves(trained))


def test_learning_curves_of_one_model_one_fold_one_epoch() -> None:
    panels = visible(figures.learning_curves(epochs(("unet",), folds=1, number=1)))
    for panel in panels:
        (line,) = panel.get_lines()
        assert line.get_marker() == "o"  # a line of one point would not show


def test_roc_curves_are_means_with_a_band_and_an_enlarged_corner() -> None:
    points = curves()
    image, fold = roc_curves.roc_curves(points, {"unet": "first", "daf_net": "second"}).axes
    assert [axes.get_title(loc="left") for axes in (image, fold)] == ["Pixels of each image", "All pixels of a fold"]
    for axes, pixels in ((image, "image"), (fold, "fold")):
        mean = points[(points["model"] == "daf_net") & (points["pixels"] == pixels) & points["fold"].isna()]
        chance, _, line = axes.get_lines()
        assert list(chance.get_xdata()) == [0, 1] == list(chance.get_ydata())
        assert line.get_xdata()[0] == line.get_ydata()[0] == 0  # all curves begin there
        assert list(line.get_xdata())[1:] == mean["fpr"].tolist()
        assert list(line.get_ydata())[1:] == mean["tpr"].tolist()
        band = axes.collections[1].get_paths()[0].vertices
        at_tenth = mean[mean["fpr"] == 0.1].iloc[0]
        heights = band[np.isclose(band[:, 0], 0.1), 1]
        low, high = (np.clip(at_tenth["tpr"] + side * at_tenth["sd"], 0, 1) for side in (-1, 1))
        assert heights.min() == pytest.approx(low)
        assert heights.max() == pytest.approx(high)
        (corner,) = axes.child_axes
        assert len(corner.get_lines()) == 2
        right = corner.get_xlim()[1]
        assert np.interp(right, mean["fpr"], mean["tpr"]) >= 0.9


def test_roc_curves_of_one_fold_and_of_guesses() -> None:
    (panel, _) = roc_curves.roc_curves(curves(("unet",), folds=1), {"unet": "U-Net"}).axes
    assert not panel.collections  # no band
    guesses = pd.DataFrame({"model": "unet", "pixels": "fold", "fold": pd.array([None] * 221, "Int64"), "fpr": roc.FPR})
    (panel,) = roc_curves.roc_curves(guesses.assign(tpr=roc.FPR, sd=np.nan), {"unet": "U-Net"}).axes
    assert not panel.child_axes  # no corner that all would pass


def test_every_image_is_a_dot_and_boxes_are_tukeys() -> None:
    values = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, np.nan]
    (panel,) = figures.dsc_by_model(pd.DataFrame({"model": "unet", "dsc": values})).axes
    dots = next(line for line in panel.get_lines() if line.get_marker() == "o")
    assert sorted(dots.get_ydata().tolist()) == values[:-1]
    heights = sorted({round(float(y), 6) for line in panel.get_lines() if line is not dots for y in line.get_ydata()})
    # Quartiles .525 and .775, IQR .25: whiskers at .5 (0 lies beyond .15) and .9; median .65; DSC 2/3 is IoU 0.5.
    assert heights == [0.5, 0.525, 0.65, 0.666667, 0.775, 0.9]


def test_many_dots_are_an_image_and_few_are_not() -> None:
    sizes = {}
    for number in (1000, 1600, 50_000):
        rng = np.random.default_rng(0)
        images = pd.DataFrame({"model": np.repeat(["unet", "daf_net"], number), "dsc": rng.random(2 * number)})
        svg = style.files("x", figures.dsc_by_model(images))["figures/x.svg"]
        sizes[number] = len(svg)
        assert (b"<image" in svg) == (2 * number > style.MOST_VECTOR_DOTS)
    assert max(sizes.values()) < 600_000
    assert sizes[50_000] < 2 * sizes[1600]  # as an image they do not grow with the data


def test_examples_show_truth_and_every_model_beside_it() -> None:
    figure = image_panels.examples_strip([example()], ["unet", "daf_net", "absent"])
    image, truth, unet, _, absent = visible(figure)
    assert [len(axes.get_lines()) for axes in (image, truth, unet, absent)] == [0, 1, 2, 1]
    assert unet.get_title(loc="left") == "U-Net 1.00"
    assert absent.get_title(loc="left") == "absent \N{EN DASH}"
    assert {line.get_color() for line in unet.get_lines()} == {style.TRUTH_COLOUR, style.outline_colour(0)}
    assert not any(axes.patches or axes.collections for axes in visible(figure))  # outlines, nothing filled


def test_outlines_follow_the_pixels() -> None:
    mask = np.zeros((40, 50), bool)
    mask[10:20, 5:25] = True
    mask[13:16, 10:15] = False
    outer, rim = outline(mask)
    assert outer.min(axis=0).tolist() == [5.25, 10.25]
    assert outer.max(axis=0).tolist() == [24.75, 19.75]
    assert rim.min(axis=0) == pytest.approx([10, 13], abs=0.3)
    assert rim.max(axis=0) == pytest.approx([15, 16], abs=0.3)
    assert outline(np.zeros((4, 4), bool)) == ()
    assert svg_path((outer,), scale=2.0) == "M10.5 20.5V39.5H49.5V20.5Z"


def test_a_single_pixel_has_an_outline() -> None:
    pixel = np.zeros((5, 5), bool)
    pixel[2, 3] = True
    (points,) = outline(pixel)
    assert points.min(axis=0).tolist() == [3.25, 2.25]
    assert points.max(axis=0).tolist() == [3.75, 2.75]


def test_outlines_of_noise_stay_small() -> None:
    noise = np.random.default_rng(0).random((256, 256)) < 0.5
    polygons = outline(noise)
    assert len(polygons) == MOST_POLYGONS
    assert sum(map(len, polygons)) <= 500
    assert len(svg_path(polygons)) < 6000


def test_a_dollar_sign_in_a_name_is_one() -> None:
    with style.styled():
        figure = style.new_figure(2)
        axes = figure.add_subplot()
        axes.plot([1, 10], [1, 2], label="run_$lr_$wd")
        axes.set_xticks([1, 10], ["$5_$", "T$"])
        axes.set_title("$x_$0")
        axes.legend()
    assert all(style.files("money", figure).values())


def test_long_names_of_models_leave_room_and_keep_both_ends() -> None:
    models = ("m" * 290 + " of fold 1", "m" * 290 + " of fold 2")
    boxes = figures.dsc_by_model(scores().replace({"unet": models[0], "daf_net": models[1]}))
    labels = [text.get_text() for text in boxes.axes[0].get_xticklabels()]
    assert labels == ["m" * 19 + "… of fold 1", "m" * 19 + "… of fold 2"]
    found = dict(zip(models, example().found.values(), strict=True))
    strip = image_panels.examples_strip([dataclasses.replace(example(), found=found)], models)
    assert [text.get_text() for text in strip.legends[0].get_texts()] == ["Truth", *labels]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as one that axes collapsed
        for figure in (boxes, strip, figures.learning_curves(epochs(models))):
            style.files("long", figure)
