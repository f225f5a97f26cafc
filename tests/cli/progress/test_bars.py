"""Progress as it is printed: bars on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from eus_ray.cli.progress.bars import Bars


def test_plain_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr("eus_ray.cli.progress.bars.PLAIN_INTERVAL_S", 0.0)
    with Bars("images", Console(file=text, width=100)) as bars:
        bars.say("unet, fixed trial 0")
        bars.update("predicting", 4, 6, "")
        bars.update("predicting", 8, 8, "")  # a video that has more frames than it says
    assert text.getvalue().splitlines() == ["unet, fixed trial 0", "predicting: 4/6 images", "predicting: 8/8 images"]


def test_lines_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    text, now = io.StringIO(), 0.0
    monkeypatch.setattr("eus_ray.cli.progress.bars.time.monotonic", lambda: now)
    with Bars("images", Console(file=text, width=100)) as bars:
        for done in range(40):
            bars.update("predicting", done, 100, "")
            now += 1.0
    assert text.getvalue().splitlines() == [f"predicting: {done}/100 images" for done in (0, 30)]


def test_the_end_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr("eus_ray.cli.progress.bars.time.monotonic", lambda: 0.0)
    with Bars("images", Console(file=text, width=100)) as bars:
        for done in (1, 2, 6, 6):
            bars.update("predicting", done, 6, "")
    assert text.getvalue().splitlines() == ["predicting: 1/6 images", "predicting: 6/6 images"]


def test_a_short_command_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    text, now = io.StringIO(), 0.0
    monkeypatch.setattr("eus_ray.cli.progress.bars.time.monotonic", lambda: now)
    with Bars("images", Console(file=text, width=100), transient=True) as bars:
        bars.update("measuring", 6, 6, "")
    assert text.getvalue() == ""
    with Bars("images", Console(file=text, width=100), transient=True) as bars:
        for done in range(0, 51, 10):
            bars.update("measuring", done, 50, "")
            now += 10.0
    assert text.getvalue().splitlines() == ["measuring: 30/50 images", "measuring: 50/50 images"]


def test_a_quiet_console_shows_nothing() -> None:
    for is_terminal in (False, True):
        text = io.StringIO()
        with Bars("images", Console(file=text, width=100, quiet=True, force_terminal=is_terminal)) as bars:
            bars.say("unet, fixed trial 0")
            bars.update("predicting", 6, 6, "")
        assert text.getvalue() == ""


def test_a_bar_on_a_terminal() -> None:
    text = io.StringIO()
    with Bars("images", Console(file=text, width=100, force_terminal=True)) as bars:
        bars.update("predicting", 6, 6, "")
    assert "6/6 images" in text.getvalue()
