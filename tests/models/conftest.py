"""Modules of others, as tests need them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

WriteModule = Callable[[str, str], None]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Write a module, by name and code, that can be imported until the test ends."""
    written: list[str] = []
    folder = tmp_path / "modules"
    folder.mkdir()

    def write(name: str, code: str) -> None:
        (folder / f"{name}.py").write_text(code)
        written.append(name)
        monkeypatch.syspath_prepend(folder)

    yield write
    for name in written:
        sys.modules.pop(name, None)
