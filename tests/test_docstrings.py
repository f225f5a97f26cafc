"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import eus_ray

PACKAGE = Path(eus_ray.__file__).parent
FOLDERS = (PACKAGE, PACKAGE / "analysis")  # the second is a link, which a walk does not follow
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*.py") if ">>> " in path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_examples(path: Path) -> None:
    name = ".".join(("eus_ray", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


def test_there_are_examples() -> None:
    assert {"store/location.py"} <= {path.relative_to(PACKAGE).as_posix() for path in FILES}
