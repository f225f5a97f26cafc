"""The gallery of the report: it filters, sorts, pages and enlarges, and its size is limited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, expect

from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.report.results import read_study
from eus_ray.analysis.report.sections import gallery
from eus_ray.store import Store
from tests.analysis.browsing import Opened, manifest_of_thirty, write_thirty
from tests.analysis.conftest import MODELS, PROVENANCE, disc, write_study
from tests.analysis.test_analyze import Page

pytestmark = pytest.mark.slow

MakeStudy = Callable[..., Store]


@pytest.fixture(scope="module")
def scores(thirty: Path) -> pd.DataFrame:
    """Return the headline's DSC by image, one column per model."""
    images = pd.read_parquet(thirty / "report/images.parquet")
    shown = images[images["kind"] == images["model"].map({"unet": "nested", "daf_net": "fixed"})]
    return shown.pivot(index="image_id", columns="model", values="dsc").loc[manifest_of_thirty()["image_id"]]


def test_filters_by_what_is_known_of_an_image(opened: Opened) -> None:
    manifest = manifest_of_thirty()
    count = opened.page.locator("#count")
    everything = opened.filters.get_by_role("button", name="Show all")
    expect(count).to_have_text("1 to 24 of 30 images")
    opened.filters.get_by_label("Fold").select_option("2")
    assert opened.names() == manifest.loc[manifest["fold"] == 2, "image_id"].tolist()
    expect(count).to_have_text("1 to 9 of 9 images, chosen from 30")
    opened.filters.get_by_label("T-stage").select_option("T3")
    assert opened.names() == []
    opened.filters.get_by_label("T-stage").select_option("T2")
    chosen = manifest[(manifest["fold"] == 2) & (manifest["t_stage"] == "T2")]
    assert opened.names() == chosen["image_id"].tolist()
    assert len(chosen) == 6
    everything.click()
    expect(count).to_have_text("1 to 24 of 30 images")
    opened.filters.get_by_label("T-stage").select_option("not known")
    assert opened.names() == ["i09", "i10", "i11"]
    everything.click()
    expect(count).to_have_text("1 to 24 of 30 images")
    opened.filters.get_by_label("Image or patient").fill(" p7 ")
    assert opened.names() == ["i21", "i22", "i23"]
    everything.click()
    expect(count).to_have_text("1 to 24 of 30 images")
    opened.filters.get_by_label("Age, years").select_option(index=1)
    assert opened.names() == manifest["image_id"][manifest["age"] <= manifest["age"].quantile(1 / 3)].tolist()
    everything.click()
    expect(count).to_have_text("1 to 24 of 30 images")
    opened.filters.get_by_label("Lesion area").select_option("no lesion")
    assert opened.names() == ["i06"]


def test_filters_by_model_and_score(opened: Opened, scores: pd.DataFrame) -> None:
    middle = round(float(scores["daf_net"].median()), 2)
    opened.filters.get_by_label("Model").select_option("DAF-Net")
    opened.filters.get_by_label("DSC from").fill(str(middle))
    assert opened.names() == scores.index[scores["daf_net"] >= middle].tolist()[:24]
    opened.filters.get_by_label("DSC from").fill("0")
    opened.filters.get_by_label("to", exact=True).fill(str(middle))
    assert opened.names() == scores.index[scores["daf_net"] <= middle].tolist()[:24]
    card = opened.page.locator(".card").first
    expect(card.locator(".score:visible")).to_have_count(1)
    expect(card.locator("path:visible")).to_have_count(2)
    opened.filters.get_by_label("Model").select_option("")
    lowest = scores.mean(axis=1)
    opened.filters.get_by_label("to", exact=True).fill(f"{lowest.min() + 1e-9:.9f}")
    assert opened.names() == lowest.index[lowest <= lowest.min() + 1e-9].tolist()


@pytest.mark.usefixtures("undrawn")
def test_filters_by_finding(browser: Browser, tmp_path: Path) -> None:
    study = write_thirty(tmp_path / "study")
    study.delete("selection.parquet")  # so that unet's headline is the fixed trial, which has findings
    opened = Opened(browser, Path(analyze(study.location)))
    for finding, images in {"missed": ["i03"], "false alarm": ["i06"], "several components": ["i08"]}.items():
        opened.filters.get_by_label("Findings").select_option(finding)
        opened.filters.get_by_label("Model").select_option("DAF-Net")
        assert opened.names() == []
        opened.filters.get_by_label("Model").select_option("")
        assert opened.names() == images
    expect(opened.page.locator(".card")).to_contain_text("2 components")
    opened.finish()


def test_sorts_by_score_and_pages(opened: Opened, scores: pd.DataFrame) -> None:
    page, means = opened.page, scores.mean(axis=1)
    opened.filters.get_by_label("Order").select_option("worst first")
    expected = means.sort_values(kind="stable").index.tolist()
    assert opened.names() == expected[:24]
    pages = page.get_by_role("navigation", name="Pages of images")
    before, after = pages.get_by_role("button", name="Previous"), pages.get_by_role("button", name="Next")
    expect(before).to_have_attribute("aria-disabled", "true")
    before.click(force=True)
    assert opened.names() == expected[:24]
    after.focus()
    page.keyboard.press("Enter")
    assert opened.names() == expected[24:]
    expect(page.locator("#page")).to_have_text("Page 2 of 2")
    expect(after).to_be_focused()
    page.keyboard.press("Enter")
    assert opened.names() == expected[24:]
    opened.filters.get_by_label("Order").select_option("best first")
    assert opened.names() == means.sort_values(ascending=False, kind="stable").index.tolist()[:24]


def test_arrows_go_from_image_to_image_and_across_pages(opened: Opened) -> None:
    page, names = opened.page, manifest_of_thirty()["image_id"].tolist()
    page.get_by_role("button", name="Enlarge image i23").focus()
    page.keyboard.press("ArrowRight")
    assert opened.names() == names[24:]
    expect(page.get_by_role("button", name="Enlarge image i24")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="Enlarge image i23")).to_be_focused()


def test_the_larger_view(opened: Opened) -> None:
    page = opened.page
    page.get_by_role("button", name="Enlarge image i22").focus()
    page.keyboard.press("Enter")
    large = page.get_by_role("dialog")
    expect(large.get_by_role("heading")).to_have_text("Image i22, 23 of 30")
    expect(large.locator(".card")).to_contain_text("T-stage T3, Age, years 75")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(large.get_by_role("heading")).to_have_text("Image i24, 25 of 30")
    large.get_by_role("button", name="Previous").click()
    expect(large.get_by_role("heading")).to_have_text("Image i23, 24 of 30")
    large.get_by_role("button", name="Next").click()
    box = large.bounding_box()
    assert box is not None
    assert box["width"] > 900
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect(page.get_by_role("button", name="Enlarge image i24")).to_be_focused()
    expect(page.locator("#page")).to_have_text("Page 2 of 2")


def test_outlines_and_probabilities_are_switched(opened: Opened) -> None:
    page = opened.page
    card = page.locator(".card").first
    expect(card.locator("path:visible")).to_have_count(3)
    expect(card.locator(".heat:visible")).to_have_count(0)
    opened.layers.get_by_label("Truth").uncheck()
    expect(card.locator("path[data-layer=t]")).to_be_hidden()
    opened.layers.get_by_label("Probability of").select_option("DAF-Net")
    expect(card.locator(".heat:visible")).to_have_count(1)
    card.locator(".enlarge").click()
    large = page.get_by_role("dialog")
    expect(large.locator("path:visible")).to_have_count(2)
    expect(large.locator(".heat:visible")).to_have_count(1)
    opened.layers.get_by_label("DAF-Net", exact=True).uncheck()
    expect(large.locator("path:visible")).to_have_count(1)
    large.get_by_role("button", name="Close").click()
    expect(card.locator("path:visible")).to_have_count(1)
    expect(
        page.locator("#gallery > #layers-home").get_by_label("Truth")
    ).to_be_visible()  # the switches are back in their place


def test_probabilities_glow_where_they_are_high(opened: Opened) -> None:
    page = opened.page
    opened.layers.get_by_label("Probability of").select_option("DAF-Net")
    for layer in ("Truth", "U-Net", "DAF-Net"):
        opened.layers.get_by_label(layer, exact=True).uncheck()
    shown = page.locator(".card svg").nth(1).screenshot()
    pixels = cv2.imdecode(np.frombuffer(shown, np.uint8), cv2.IMREAD_COLOR).astype(np.int64)
    core, around = (  # of i01, whose lesion has radius 7
        cv2.resize(disc(21, 26, radius).astype(np.uint8), pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        for radius in (4, 12)
    )
    warmth = pixels[..., 2] + pixels[..., 1] - pixels[..., 0]  # red and green, less blue
    assert warmth[core].mean() > 250
    assert warmth[~around].mean() < 150


# ---- its size -----------------------------------------------------------------------------------


def test_pictures_shrink_then_maps_go_then_images(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    results = read_study(make_study())

    def built(budget: int) -> tuple[int, int, int, Page]:
        """Return the numbers of images and maps, the bytes of pictures, and the section."""
        monkeypatch.setattr(gallery, "_BUDGET_BYTES", budget)
        section = gallery.build(results)
        assert section is not None
        page = Page(str(section.body))
        pictures = [href for href in page.values("href") if href.startswith("data:image/jpeg")]
        images = len(page.values("data-name"))
        return images, len(pictures) - images, sum(map(len, pictures)), page

    images, maps, most, page = built(10**7)
    assert (images, maps) == (12, 24)
    assert "are left out" not in page.text
    stages = []
    for budget in range(most + 30_000, 10_000, -4_000):
        images, maps, size, page = built(budget)
        assert len(page.source) < budget + 8_000  # which does not count the filters
        assert ("Probability maps" in page.text) == (maps > 0)
        stages.append((images, maps > 0, size))
    assert stages == sorted(stages, reverse=True)
    assert {(images, maps) for images, maps, _ in stages} >= {(12, True), (12, False), (6, False)}
    assert len({size for images, maps, size in stages if maps}) > 2
    assert f"The {12 - images} images with the highest scores are left out" in page.text
    assert "i03 b" in page.values("data-name")  # the one that was missed


@pytest.mark.slow
@pytest.mark.long
def test_330_images_of_three_models_fit_in_15_megabytes(tmp_path: Path) -> None:
    """Speckle on 256 x 256 pixels, which compresses badly, figures and all."""
    side, models = 256, ("unet", "attention_unet", "daf_net")
    rng = np.random.default_rng(0)
    names = [f"image_{place:03d}" for place in range(330)]
    patients = [f"P{place // 2:03d}" for place in range(330)]
    manifest = pd.DataFrame({"image_id": names, "patient_id": patients, "fold": np.arange(330) // 2 % 5})
    manifest["t_stage"] = np.repeat(rng.choice(["T1", "T2", "T3", "T4"], 165), 2)
    manifest["location"] = np.repeat(rng.choice(["head", "body", "tail"], 165), 2)
    manifest["size_mm"] = np.repeat(rng.uniform(8, 60, 165).round(1), 2)
    truths, images, probabilities = {}, {}, {}
    for name in names:
        row, column, radius = rng.uniform(90, 160), rng.uniform(90, 160), rng.uniform(20, 60)
        truths[name] = disc(row, column, radius, (side, side))
        speckle = rng.rayleigh(55, (side, side)) * np.where(truths[name], 0.6, 1.0)
        images[name] = np.clip(cv2.GaussianBlur(speckle, (0, 0), 0.8), 0, 255).astype(np.uint8)
        for model in models:
            found = disc(*(rng.normal((row, column), 6)), radius * rng.uniform(0.8, 1.2), (side, side))
            edge = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 5)
            grain = cv2.GaussianBlur(rng.normal(0, 1, (side, side)), (0, 0), 3)
            probabilities[model, name] = np.clip(edge + 0.6 * grain, 0, 1)
    study = write_study(
        tmp_path / "study", manifest, truths, images, probabilities, models=models, provenance=PROVENANCE, whole=models
    )
    report = Path(analyze(study.location))
    page = Page(report.read_text())
    assert report.stat().st_size < 15_000_000
    assert len(page.values("data-name")) == 330
    assert len([href for href in page.values("href") if href.startswith("data:image/jpeg")]) == 330 * 4
    assert set(MODELS) < set(models)
