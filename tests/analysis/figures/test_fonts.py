"""Letters that DejaVu Sans lacks: another font draws them, or boxes do; no library says a word."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from eus_ray.analysis.figures import fonts, style

NAMES = ["中文", "نموذج", "מודל", "😀 a", "ü $x$", "a\u200bb"]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget which fonts are installed, before and after."""
    fonts._chosen.cache_clear()
    yield
    fonts._chosen.cache_clear()


@pytest.fixture
def chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a font of one weight with a square for 中 and nothing for 文, and return its family."""
    pen = TTGlyphPen(None)
    for go, point in zip([pen.moveTo, *[pen.lineTo] * 3], [(0, 0), (0, 900), (900, 900), (900, 0)], strict=True):
        go(point)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "middle"])
    builder.setupCharacterMap({ord("中"): "middle"})
    builder.setupGlyf({".notdef": square, "middle": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "middle": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    return "Squares"


def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [entry for entry in font_manager.fontManager.ttflist if entry.name == fonts.FAMILY]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", mine)


def drawn(names: list[str]) -> dict[str, bytes]:
    with style.fonts_for(names):
        with style.styled():
            figure = style.new_figure(2.0)
            axes = figure.subplots()
            axes.set_xticks(range(len(names)), names)
            axes.set_title(" ".join(names))
        return style.files("names", figure)


def test_names_in_latin_letters_need_no_other_font() -> None:
    assert fonts.families(["unet", "Größe, mm", "Δ–×"]) == (fonts.FAMILY,)
    assert fonts.letters_without_font(["unet", "Größe, mm", "a\u200bb\n"]) == ""


def test_a_font_that_has_the_letters_is_taken(chinese: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = [entry for entry in font_manager.fontManager.ttflist if entry.name in (fonts.FAMILY, chinese)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", mine)
    assert fonts.families(["x", "中文"]) == (fonts.FAMILY, chinese)
    assert fonts.letters_without_font(["文中", "文"]) == "文"


def test_letters_that_no_font_has_are_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    only_dejavu(monkeypatch)
    assert fonts.families(NAMES) == (fonts.FAMILY,)
    assert fonts.letters_without_font(NAMES) == "中文"


@pytest.mark.parametrize("is_installed", [False, True])
def test_figures_of_any_name_are_drawn_without_a_word(
    is_installed: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if is_installed:
        request.getfixturevalue("chinese")
    else:
        only_dejavu(monkeypatch)
    with warnings.catch_warnings(action="error"):
        svg, png = drawn(NAMES).values()
    assert svg.startswith(b"<?xml")
    assert png.startswith(b"\x89PNG")
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_other_names_give_the_same_file_whether_a_font_is_there_or_not(request: pytest.FixtureRequest) -> None:
    before = drawn(["unet", "Größe"])
    request.getfixturevalue("chinese")
    assert drawn(["unet", "Größe"]) == before
