"""Learning curves in the report: which are shown, in which order, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from eus_ray.analysis.report.results import Results
from eus_ray.analysis.report.sections import learning
from tests.analysis.test_analyze import Page

pytestmark = pytest.mark.usefixtures("undrawn")


def results(losses: dict[str, list[float]], predicted: list[str], kind: str = "fixed", settings: str = "") -> Results:
    """Return training losses by epoch in one fold; models in `predicted` have an image each."""
    rows = [
        {"model": model, "kind": kind, "fold": 0, "epoch": epoch, "split": "train", "loss": loss}
        for model, mine in losses.items()
        for epoch, loss in enumerate(mine)
    ]
    images = pd.DataFrame(
        {"model": predicted, "kind": kind, "fold": 0, "image_id": "i", "patient_id": "p", "dsc": 0.5},
        columns=["model", "kind", "fold", "image_id", "patient_id", "dsc"],
    )
    return Results("study", images, images, epochs=pd.DataFrame(rows), settings_text=settings)


def told(found: Results) -> tuple[str, str]:
    """Return the alternative text and the caption."""
    section = learning.build(found)
    assert section is not None
    page = Page(str(section.body))
    return page.values("alt")[0], page.text


def test_models_are_in_the_order_of_the_tables_then_of_the_study() -> None:
    losses = {name: [2.0, 1.0] for name in ("attention_unet", "daf_net", "other", "unet")}  # as they are read
    alt, _ = told(results(losses, ["unet", "daf_net"], settings='models = ["other", "unet", "attention_unet"]'))
    named = [part.split(": from")[0] for part in alt.split("epoch. ")[1].rstrip(".").split("; ")]
    assert named == ["U-Net", "DAF-Net", "other", "Att-U-Net"]


def test_one_epoch_has_no_first_and_last() -> None:
    alt, _ = told(results({"unet": [0.5]}, ["unet"]))
    assert alt.endswith("U-Net: 0.50.")


@pytest.mark.parametrize("huge", [10_000.0, float("inf")])
def test_a_loss_beyond_the_axis_is_said(huge: float) -> None:
    usual = {"unet": [1.0, 0.9, 0.8, 0.8, 0.7, 0.7, 0.7]}
    assert "Triangles" not in told(results(usual, ["unet"]))[1]
    far = {"unet": [1.0, 0.9, huge, 0.8, 0.7, 0.7, 0.7]}
    assert "Triangles: losses far above all others, which lie beyond the axis." in told(results(far, ["unet"]))[1]


def test_a_figure_has_its_own_width() -> None:
    one, three = (
        learning.build(results({name: [2.0, 1.0] for name in names}, names)) for names in (["a"], ["a", "b", "c"])
    )
    assert one is not None
    assert three is not None
    assert 'style="--inches: 4"' in one.body  # 1.4 beside a panel of 2.6
    assert 'style="--inches: 7.1"' in three.body  # the page


def test_without_training_there_is_no_section() -> None:
    found = results({"unet": [1.0]}, ["unet"])
    assert learning.build(replace(found, epochs=found.epochs.iloc[:0])) is None
    assert learning.build(replace(found, epochs=found.epochs.assign(split="test"))) is None
    assert learning.build(Results("table", found.images, found.images)) is None
