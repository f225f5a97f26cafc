"""A row of the table of odd inputs, and the check that all rows share."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import exit_code

PREFIXES = ("eus-ray: ", "warning: ", "note: ")
"""Of each line on standard error: no line is a library's."""


class Odd(NamedTuple):
    """One bad or odd input."""

    name: str
    make: Callable[[Path], object]
    """Writes the input below a new folder."""
    command: str
    """The command line; `~` stands for that folder."""
    code: int
    said: tuple[str, ...]
    """Phrases that the output holds."""
    check: Callable[[Path, str], object] | None = None
    """Checks the result, given the folder and the output."""


def below(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of everything below a folder, by path."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            facts = Path(place, name).lstat()
            found[f"{place}/{name}"] = (facts.st_size, facts.st_mtime_ns)
    return found


def run(
    odd: Odd, here: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, make: bool = True
) -> str:
    """Make a row's input, run its command in this process, and check all that the row says; return the output."""
    if make:
        odd.make(here)
    before = below(here)
    words = [word.replace("~", str(here)) for word in odd.command.split(" ")]
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for kind in (DeprecationWarning, FutureWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as `data.io.image_formats` does
        code = exit_code(words)
    out, err = capfd.readouterr()
    said = out + err
    assert code == odd.code, said
    assert "Traceback" not in said
    assert not [str(one.message) for one in caught]
    assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    stray = [line for line in err.splitlines() if not line.startswith(PREFIXES)]
    assert not stray, stray
    assert len(err.splitlines()) <= 8, err
    for phrase in odd.said:
        assert phrase in said.replace(str(here), "~"), said
    if code == 2:
        assert below(here) == before
    if odd.check is not None:
        odd.check(here, said)
    return said
