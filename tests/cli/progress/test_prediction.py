"""What is printed while images are predicted."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from eus_ray.cli.progress.prediction import PredictProgress


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr("eus_ray.cli.progress.prediction.PLAIN_INTERVAL_S", 0.0)
    with PredictProgress(Console(file=text, width=100)) as progress:
        progress.say("unet, fixed trial 0")
        progress.begin(6)
        progress.done(4)
        progress.done(4)  # a video that has more frames than it says
    assert text.getvalue().splitlines() == ["unet, fixed trial 0", "4/6 images", "8/8 images"]


def test_lines_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    text, now = io.StringIO(), 0.0
    monkeypatch.setattr("eus_ray.cli.progress.prediction.time.monotonic", lambda: now)
    with PredictProgress(Console(file=text, width=100)) as progress:
        progress.begin(100)
        for _ in range(40):
            now += 1.0
            progress.done(1)
    assert text.getvalue().splitlines() == ["15/100 images", "30/100 images"]


def test_a_bar_on_a_terminal() -> None:
    text = io.StringIO()
    with PredictProgress(Console(file=text, width=100, force_terminal=True)) as progress:
        progress.begin(6)
        progress.done(6)
    assert "6/6 images" in text.getvalue()
