"""report.html in a browser: it loads nothing, sorts, prints, and is accessible."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.report.page import verbatim
from eus_ray.store import Store
from tests.analysis.browsing import EVIL, EVIL_IMAGE, PALE, STRUCTURE, WIDE, Opened, cells
from tests.analysis.conftest import MODELS

MakeStudy = Callable[..., Store]
pytestmark = [pytest.mark.usefixtures("undrawn"), pytest.mark.slow]

A4_PIXELS = 687
"""The width inside 14 mm margins at 96 pixels per inch."""


# ---- nothing from outside -----------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_no_other_script(browser: Browser, thirty: Path) -> None:
    opened = Opened(browser, thirty / "report/report.html")
    page = opened.page
    assert opened.said == []  # what follows is refused aloud
    assert page.evaluate("fetch('data:text/plain,x').then(() => 'loaded', () => 'refused')") == "refused"
    page.evaluate(
        """() => {
          document.body.append(Object.assign(document.createElement("script"), { textContent: "window.ran = true" }));
          document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.ran = true">');
          document.body.insertAdjacentHTML("beforeend", '<img src="https://example.org/a.png">');
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran ?? null") is None
    assert sum("Content Security Policy" in line for line in opened.said) >= 3
    page.close()


def test_markup_in_names_is_text(opened: Opened) -> None:
    page = opened.page
    expect(page.locator(".card", has_text=f"patient {EVIL}, fold 1")).to_have_count(3)
    expect(page.locator("#strata")).to_contain_text(EVIL)
    expect(opened.filters.get_by_label("T-stage").locator("option", has_text=EVIL)).to_have_count(1)
    opened.filters.get_by_label("Image or patient").fill("<b>")
    assert opened.names() == [EVIL_IMAGE]
    page.locator("#cards .enlarge").click()
    expect(page.locator("#large-title")).to_have_text(f"Image {EVIL_IMAGE}, 1 of 1")
    assert page.locator("script").count() == 1
    assert page.locator("b", has_text="i29").count() == 0


# ---- tables -------------------------------------------------------------------------------------


def test_a_table_sorts_by_click_and_by_key(opened: Opened) -> None:
    table = opened.page.locator("#performance table.sortable")
    heading = table.locator("th", has_text=re.compile("^DSC"))
    button = heading.get_by_role("button")

    def found(column: int) -> list[float]:
        return [float(text) for text in cells(table, column)]

    values = found(2)
    assert len(values) == 4  # nested, fixed and winner of the models, and the baseline
    button.click()
    assert found(2) == sorted(values, reverse=True)
    expect(heading).to_have_attribute("aria-sort", "descending")
    button.focus()
    opened.page.keyboard.press("Enter")
    assert found(2) == sorted(values)
    expect(heading).to_have_attribute("aria-sort", "ascending")
    distance = table.locator("th", has_text=re.compile(r"^HD\b"))
    distance.get_by_role("button").focus()
    opened.page.keyboard.press("Space")
    expect(distance).to_have_attribute("aria-sort", "ascending")  # the lower is the better one
    assert heading.get_attribute("aria-sort") is None
    assert found(5) == sorted(found(5))


def test_settings_that_play_no_part_come_last(opened: Opened) -> None:
    opened.page.locator("summary", has_text="All trials").click()
    table = opened.page.get_by_label("Trials of U-Net").locator("table")
    gamma = table.locator("th", has_text="optim.gamma")
    for direction in ("ascending", "descending"):
        gamma.get_by_role("button").click()
        expect(gamma).to_have_attribute("aria-sort", direction)
        assert cells(table, 7) == ["0.1", "0.1", "–", "–"]
    table.locator("th", has_text="train.batch_size").get_by_role("button").click()
    assert cells(table, 9) == ["4", "8", "8", "12"]
    table.locator("th", has_text="optim.schedule").get_by_role("button").click()
    assert cells(table, 6) == ["one_cycle", "one_cycle", "steps", "steps"]


@pytest.mark.parametrize(
    ("printed", "ascending", "unknown"),
    [
        (["10", "9", "–", "−1.5", ""], ["−1.5", "9", "10"], ["–", ""]),
        (["0.2", "∞", "<0.001", "0.03 (0.01–0.2)"], ["<0.001", "0.03 (0.01–0.2)", "0.2", "∞"], []),
        (["1e-3", "0.5 %", "2e-5", "nan"], ["2e-5", "1e-3", "0.5 %"], ["nan"]),
        (["T10", "T2", "—", "T1"], ["T1", "T2", "T10"], ["—"]),
        (["2026-03-01", "2026-01-20", "2025-12-31"], ["2025-12-31", "2026-01-20", "2026-03-01"], []),
    ],
)
def test_what_is_printed_sorts_as_what_it_means(
    browser: Browser, printed: list[str], ascending: list[str], unknown: list[str]
) -> None:
    page = browser.new_page()
    rows = "".join(f"<tr><td>1</td><td>{text.replace('<', '&lt;')}</td></tr>" for text in printed)
    head = "<thead><tr><th>Row</th><th>Value</th></tr></thead>"
    script = f"<script>{verbatim('report.js')}</script>"
    page.set_content(f"<table class='sortable'>{head}<tbody>{rows}</tbody></table>{script}")
    page.get_by_role("button", name="Value").click()
    assert cells(page.locator("table"), 2) == ascending + unknown
    page.get_by_role("button", name="Value").click()
    assert cells(page.locator("table"), 2) == ascending[::-1] + unknown
    page.close()


# ---- for everybody ------------------------------------------------------------------------------


def test_everything_has_a_name_and_a_place(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate(STRUCTURE) == []
    for role in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)  # type: ignore[arg-type]
    contents = page.get_by_role("navigation", name="Sections")
    titles = page.locator("main h2").all_inner_texts()
    assert contents.get_by_role("link").all_inner_texts() == titles
    assert len(titles) > 5
    for title in titles:
        expect(page.get_by_role("region", name=title, exact=True)).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(browser: Browser, thirty: Path, scheme: Any) -> None:
    opened = Opened(browser, thirty / "report/report.html", color_scheme=scheme)
    found = opened.page.evaluate(PALE)
    assert found["pale"] == []
    assert found["seen"] > 300
    channels = re.findall(r"\d+", opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (int(channels[0]) < 60) == (scheme == "dark")
    opened.finish()


def test_a_narrow_screen_scrolls_down_only(browser: Browser, thirty: Path) -> None:
    opened = Opened(browser, thirty / "report/report.html", viewport={"width": 420, "height": 800})
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 420
    opened.page.locator("#cards .enlarge").first.click()
    box = opened.page.locator("#large-picture").bounding_box()
    assert box is not None
    assert box["width"] <= 420
    opened.finish()


def test_paper_has_no_controls_and_cuts_no_table(browser: Browser, thirty: Path) -> None:
    # dark: paper is white all the same
    screen = {"viewport": {"width": A4_PIXELS, "height": 1000}, "color_scheme": "dark"}
    opened = Opened(browser, thirty / "report/report.html", **screen)
    page = opened.page
    page.emulate_media(media="print")
    for control in ("nav", "form", "select", "input", "#pages", ".skip"):
        expect(page.locator(f"{control}:visible")).to_have_count(0)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.locator("pre", has_text="[optim]")).to_be_visible()  # what the screen folds away
    assert page.evaluate(PALE)["pale"] == []
    assert page.evaluate(WIDE) == []
    expect(page.locator(".card:visible")).to_have_count(24)
    expect(page.get_by_text("At most 24 images are printed")).to_be_visible()
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="screen")
    expect(page.get_by_text("At most 24 images are printed")).to_be_hidden()
    opened.finish()


def test_without_script_everything_is_there(browser: Browser, thirty: Path) -> None:
    opened = Opened(browser, thirty / "report/report.html", java_script_enabled=False)
    page = opened.page
    expect(page.locator(".card:visible")).to_have_count(30)
    expect(page.locator("#performance tbody tr")).not_to_have_count(0)
    for control in ("select", "input", "button"):
        expect(page.locator(f"{control}:visible")).to_have_count(0)
    expect(page.locator("#layers")).to_contain_text("DAF-Net")  # which is the legend
    page.emulate_media(media="print")
    expect(page.locator(".card:visible")).to_have_count(24)
    opened.finish()


def test_methods_are_copied(opened: Opened) -> None:
    page = opened.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy text").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    text = page.evaluate("navigator.clipboard.readText()")
    assert "Wilcoxon signed rank test of patients' means (Wilcoxon, 1945)" in text
    assert "Copy" not in text
    assert "  " not in text
    page.get_by_role("button", name="Copy list").click()
    expect(page.get_by_text("Copied.")).to_have_count(2)
    assert "Scandinavian Journal of Statistics 1979; 6(2):65–70." in page.evaluate("navigator.clipboard.readText()")


# ---- other studies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"models": ["daf_net"]},
        {"state": "running", "whole": [], "without": [("unet", 1), ("daf_net", 1), ("daf_net", 2)]},
        {"state": "running", "whole": [], "without": [(model, fold) for model in MODELS for fold in range(3)]},
    ],
    ids=["one model", "in progress", "nothing finished"],
)
def test_small_studies_open(browser: Browser, make_study: MakeStudy, changes: dict[str, Any]) -> None:
    opened = Opened(browser, Path(analyze(make_study(**changes).location)))
    expect(opened.page.locator(".card")).to_have_count(12)
    opened.filters.get_by_label("Image or patient").fill("i03")
    assert opened.names() == ["i03"]
    assert opened.page.evaluate(STRUCTURE) == []
    opened.finish()


def test_a_table_of_scores_has_no_gallery(browser: Browser, tmp_path: Path) -> None:
    rows = [f"{model},{image},p{image // 2},{0.5 + image / 40}" for model in "ab" for image in range(12)]
    (tmp_path / "scores.csv").write_text("\n".join(["model,image_id,patient_id,dsc", *rows]))
    opened = Opened(browser, Path(analyze(tmp_path / "scores.csv")))
    expect(opened.page.locator(".card")).to_have_count(0)
    opened.page.locator("#performance").get_by_role("button", name="DSC").click()
    assert opened.page.evaluate(STRUCTURE) == []
    opened.finish()
