"""Helpers for tests of report.html in a browser: a study with markup in names, and an opened page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from playwright.sync_api import Browser, Locator, Page

from eus_ray.analysis.comparison.selection_bias import write_selection
from eus_ray.store import Store
from tests.analysis.conftest import HEIGHT, MODELS, PROVENANCE, WIDTH, disc, write_study
from tests.analysis.search_example import example_search

EVIL = "<script>alert(1)</script>"
EVIL_IMAGE = "<b>i29</b>"


def manifest_of_thirty() -> pd.DataFrame:
    """Return 30 images of 10 patients in 3 folds; the names of one patient and one image are markup."""
    patients = [EVIL if number == 4 else f"P{number}" for number in range(10)]
    return pd.DataFrame(
        {
            "image_id": [f"i{index:02d}" for index in range(29)] + [EVIL_IMAGE],
            "patient_id": np.repeat(patients, 3),
            "fold": np.repeat(np.arange(10) % 3, 3),
            "t_stage": np.repeat(["T1", "T2", "T2", None, EVIL, "T1", "T3", "T3", "T2", "T1"], 3),
            "age": np.repeat(np.arange(40.0, 90.0, 5.0), 3),
        }
    )


def write_thirty(folder: Path) -> Store:
    """Write a study in which unet misses the lesion of i03, finds one in i06 without lesion, and two in i08.

    There is a search for unet as well.
    """
    manifest = manifest_of_thirty()
    truths = {
        image: disc(20 + place % 5, 24 + 2 * (place % 7), 6 + place % 6)
        for place, image in enumerate(manifest["image_id"])
    }
    truths["i06"] = np.zeros((HEIGHT, WIDTH), np.bool_)
    wrong = {"i03": truths["i06"], "i06": disc(10, 10, 3), "i08": truths["i08"] | disc(42, 4, 2)}
    rng = np.random.default_rng(0)
    probabilities = {}
    for place, model in enumerate(MODELS):
        for image, truth in truths.items():
            found = np.roll(truth, tuple((3 - 2 * place) * rng.choice([-1, 1], 2)), (0, 1))
            if model == "unet":
                found = wrong.get(image, found)
            probabilities[model, image] = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 0.6)
    images = {image: rng.integers(20, 180, truth.shape).astype(np.uint8) for image, truth in truths.items()}
    study = write_study(
        folder, manifest, truths, images, probabilities, models=MODELS, provenance=PROVENANCE, spacing=(0.2, 0.3)
    )
    example_search(study, manifest, truths)
    write_selection(study)
    return study


class Opened:
    """A report in a browser, with a record of console messages, dialogs and requests."""

    def __init__(self, browser: Browser, report: Path, **context: Any) -> None:
        self.report = report
        self.page: Page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | context))
        self.page.set_default_timeout(10_000)
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())

    @property
    def loaded(self) -> list[str]:
        """Return the requests for anything outside the page."""
        return [url for url in self.asked if not url.startswith("data:") and url != self.report.as_uri()]

    def finish(self) -> None:
        """Close the page; it must have been silent."""
        self.page.wait_for_timeout(50)  # for late messages
        assert self.said == []
        assert self.loaded == []
        self.page.close()

    @property
    def filters(self) -> Locator:
        return self.page.get_by_role("search")

    @property
    def layers(self) -> Locator:
        """Return the switches of outlines and probabilities, wherever they are."""
        return self.page.locator("#layers")

    def names(self) -> list[str]:
        """Return the images that the gallery shows, in their order."""
        return self.page.locator("#cards .name").all_inner_texts()


def cells(table: Locator, column: int) -> list[str]:
    """Return a column's cells (columns count from 1) without the lines below a number."""
    return [text.split("\n")[0] for text in table.locator(f"tbody tr > :nth-child({column})").all_inner_texts()]


STRUCTURE = """() => {
  const bad = [];
  const all = (what) => [...document.querySelectorAll(what)];
  const name = (part) => (part.getAttribute("aria-label") || part.textContent || "").trim()
    || [...(part.labels ?? [])].map((label) => label.textContent.trim()).join("");
  for (const part of all("button, input, select, summary, [role=region], nav, a, th"))
    if (!name(part)) bad.push(`no name: ${part.outerHTML.slice(0, 90)}`);
  for (const part of all("img")) if (!part.alt) bad.push(`no alt: ${part.outerHTML.slice(0, 60)}`);
  for (const part of all("th")) if (!part.scope) bad.push(`no scope: ${part.textContent}`);
  for (const part of all("table"))
    if (!part.closest("[role=region][aria-label]")) bad.push(`no region: ${part.textContent.slice(0, 60)}`);
  let level = 0;
  for (const part of all("h1, h2, h3, h4")) {
    const next = Number(part.tagName[1]);
    if (next > level + 1) bad.push(`a heading skips a level: ${part.textContent}`);
    level = next;
  }
  const ids = all("[id]").map((part) => part.id);
  if (new Set(ids).size < ids.length) bad.push("an id is there twice");
  return bad;
}"""
"""Finds elements without name, alternative text, scope, region or correct heading level."""

PALE = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const style = (part) => getComputedStyle(part);
  const ground = (part) => {
    const layers = [];
    for (let each = part; each; each = each.parentElement) layers.push(parse(style(each).backgroundColor));
    const over = (below, top) => below.map((value, i) => top[i] * top[3] + value * (1 - top[3]));
    return layers.reverse().reduce(over, [255, 255, 255]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  for (const each of document.querySelectorAll("details")) each.open = true;
  const pale = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (texts.nextNode()) {
    const part = texts.currentNode.parentElement;
    const text = texts.currentNode.data.trim();
    if (!text || !part.checkVisibility() || part.closest("[aria-disabled=true], svg")) continue;
    seen += 1;
    const [ink, paper] = [parse(style(part).color).slice(0, 3), ground(part)].map(light);
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (ratio < 4.5) pale.add(`${ratio.toFixed(2)} ${part.className || part.tagName}: ${text}`);
  }
  return { seen, pale: [...pale] };
}"""
"""Finds texts with a contrast below 4.5 (WCAG 2.2, 1.4.3), and counts all texts."""

WIDE = """() => [...document.querySelectorAll("table, img, pre, svg, .card")]
  .filter((part) => part.checkVisibility() && part.getBoundingClientRect().right > innerWidth)
  .map((part) => part.outerHTML.slice(0, 200))"""
"""Finds elements that reach beyond the page."""
