"""Ray's private names that are used exist in the installed Ray: an upgrade fails here, and in one place."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from eus_ray.distributed.ray_private import PRIVATE_NAMES
from tests.architecture import ROOT, sources

USED = [(home, name) for home, names in PRIVATE_NAMES.items() for name in names]


def resolved(path: str) -> object:
    """A module, or a class of one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("home", "name"), USED)
def test_each_private_name_exists(home: str, name: str) -> None:
    assert hasattr(resolved(home), name)


def test_everything_that_the_file_overrides_is_listed() -> None:
    text = (ROOT / "eus_ray/distributed/ray_private.py").read_text()
    overridden = set(re.findall(r"^    def (_\w+)\(self", text, re.MULTILINE)) | {"worker_group_cls"}
    assert overridden <= {name for _, name in USED}


def test_private_modules_of_ray_are_imported_in_one_file() -> None:
    files = [path for path in sources() if "_internal" in path.read_text()]
    assert [path.name for path in files] == ["ray_private.py"]


def test_ray_is_imported_in_its_room_alone_and_elsewhere_with_a_reason() -> None:
    imported = re.compile(r"^( *)(?:import ray\b|from ray[ .])", re.MULTILINE)
    for path in sources():
        if path.parent.name == "distributed":
            continue
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if imported.match(line):
                assert "#" in line or lines[number - 1].lstrip().startswith("#"), f"{path}: {line}"


def test_the_version_of_ray_has_an_upper_bound() -> None:
    """The next minor version may rename what is private."""
    dependencies = tomllib.loads(Path(ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (ray,) = [line for line in dependencies if line.startswith("ray[")]
    assert re.search(r">=2\.60,<2\.61$", ray)
    assert metadata.version("ray").startswith("2.60.")
