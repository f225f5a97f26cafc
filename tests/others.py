"""A network of a package that is not eus-ray's, and a study that is trained with it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from eus_ray.config import Study
from tests.helpers import light_study

NETS = """
from pathlib import Path

from torch import nn

from {package}.layers import conv

Path(__file__).with_name("imported").touch()


class Net(nn.Module):
    def __init__(self, in_channels, depth=1):
        super().__init__()
        inner = [part for _ in range(depth) for part in (conv(4, 4), nn.ReLU())]
        self.body = nn.Sequential(conv(in_channels, 4), nn.ReLU(), *inner, nn.Conv2d(4, 1, 1))

    def forward(self, image):
        return self.body(image)
"""
LAYERS = """
from torch import nn


def conv(inside, outside):
    return nn.Conv2d(inside, outside, 3, padding=1)
"""


class Package:
    """A package with the modules `nets` and `layers` in a folder of its own.

    Args:
        folder: Where it is written.
        name: Its name, which no other test's has.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.files = {"__init__.py": f"from {name}.nets import Net\n", "nets.py": NETS, "layers.py": LAYERS}
        self.write()

    def write(self, **changed: str) -> None:
        """Write its files as they were at first, but for some, by name without suffix."""
        shutil.rmtree(self.folder / self.name, ignore_errors=True)  # also what Python has compiled in this second
        (self.folder / self.name).mkdir(parents=True)
        for file, text in self.files.items():
            text = changed.get(file.removesuffix(".py"), text)
            (self.folder / self.name / file).write_text(text.replace("{package}", self.name))
        self.forget()

    def forget(self) -> None:
        """Let this process be one that has not imported it."""
        for module in [module for module in sys.modules if module.partition(".")[0] == self.name]:
            del sys.modules[module]
        self.mark.unlink(missing_ok=True)

    @property
    def mark(self) -> Path:
        """A file that is there as soon as the package's code has run."""
        return self.folder / self.name / "imported"

    def study(self, manifest: Path, *overrides: str) -> Study:
        """A light study of the network, as the model `ours`."""
        named = f'only.ours={{"model.arch" = "{self.name}.nets:Net", "model.args" = {{depth = 2}}}}'
        return light_study(manifest, named, "folds.count=2", "train.epochs=1", *overrides, models=("ours",))

    def put_on_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process find it."""
        monkeypatch.syspath_prepend(str(self.folder))
