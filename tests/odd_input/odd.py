"""A row of the table of odd inputs, and the check that all rows share."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, NoReturn

import pytest

from eus_ray.errors import UserError
from tests.helpers import exit_code

PASSED = "stopped before work"
"""What a run says that has passed its checks and told what is odd, see `stop_before_work`."""
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


def stop_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `cv`, `tune` and `predict` end after their checks, before Ray is started or weights are read."""

    def stop(*_: object, **__: object) -> NoReturn:
        raise UserError(PASSED)

    @contextmanager
    def session(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(machines=None)

    study = "eus_ray.study"
    monkeypatch.setattr(f"{study}.cross_validate.session", session)
    for name in ("probe_cluster", "plan_fixed", "load_of"):
        monkeypatch.setattr(f"{study}.cross_validate.{name}", lambda *_: None)
    monkeypatch.setattr(f"{study}.cross_validate.tell_plan", stop)
    monkeypatch.setattr(f"{study}.tune.session", stop)
    monkeypatch.setattr("eus_ray.inference.predict.load_ensemble", stop)


def leave_reports_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `analyze` draw nothing, which takes its time: it has read all and told what is odd before."""
    monkeypatch.setattr("eus_ray.analysis.report.report.build_sections", lambda *_, **__: [])
    monkeypatch.setattr("eus_ray.analysis.report.report.report_html", lambda *_, **__: "")


def run(
    odd: Odd,
    here: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    words: Sequence[str] | None = None,
) -> str:
    """Make a row's input, run its command in this process, and check all that the row says; return the output.

    `words` are those of the command line, if some hold blanks.
    """
    odd.make(here)
    before = below(here)
    words = [word.replace("~", str(here)) for word in words or odd.command.split(" ")]
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
