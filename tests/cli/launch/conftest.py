"""A study to launch, and stand-ins for the programs that would run it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.launch.commands import NASTY


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file beside its manifest, in a folder with an awkward name that is the current one."""
    folder = tmp_path / NASTY
    folder.mkdir()
    (folder / "manifest.csv").write_text("image,mask,patient_id\n")
    (folder / "study.toml").write_text('models = ["unet"]\n[data]\nmanifest = "manifest.csv"\n')
    monkeypatch.chdir(folder)
    return folder / "study.toml"


@pytest.fixture
def remote(study: Path) -> Path:
    """The study file for machines that do not see this one's folders."""
    study.write_text('# α "β" \'γ\'\nmodels = ["unet"]\n\n  [data]\n  manifest = "/data/manifest.csv"\n')
    return study


@pytest.fixture
def stubs(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that replaces a program by a shell script; `calls` says how it was called."""
    folder = tmp_path / "stubs"
    folder.mkdir()

    def stub(name: str, body: str = "") -> Path:
        path = folder / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >>{shlex.quote(str(tmp_path / "calls"))}\n{body}\n')
        path.chmod(0o755)
        return folder

    return stub
