"""The facts of each architecture, from the table `[architecture]` of its file in `search_spaces/`.

A new architecture is two files: `models/NAME.py`, which registers the network, and `search_spaces/NAME.toml`, which
says what it is and what a search may vary. Nothing here needs PyTorch.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from eus_ray.errors import UserError

SPACES = Path(__file__).parent / "search_spaces"


@dataclass(frozen=True)
class ArchitectureSpec:
    """The facts of an architecture that are known without building it."""

    name: str
    """In study files, tables and file names."""
    label: str
    """In print."""
    order: int
    """Its place among all architectures, which is their order in a study that names no models."""
    citations: tuple[str, ...]
    """Works that describe it, by their keys in the report's references."""
    settings: tuple[str, ...]
    """The fields of `[model]` that change it, by dotted name."""
    deep_supervision: bool
    """Whether it has outputs for the loss alone, `Outputs.slf`; if `loss.slf_weight` is 0, they are unused."""

    @property
    def space_path(self) -> Path:
        """The file with its search space."""
        return SPACES / f"{self.name}.toml"


@functools.cache
def architectures() -> Mapping[str, ArchitectureSpec]:
    """Return all architectures by name, in their order.

    A file without the table is a search space of somebody's own, or a preset.

    Raises:
        UserError: If a file is not TOML, or a table lacks an entry or has one too many.
    """
    found = [spec for path in sorted(SPACES.glob("*.toml")) if (spec := _read(path)) is not None]
    return {spec.name: spec for spec in sorted(found, key=lambda spec: spec.order)}


def _read(path: Path) -> ArchitectureSpec | None:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("architecture")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not TOML: {error}") from None
    if table is None:
        return None
    if odd := sorted({"name", *table} ^ {field.name for field in fields(ArchitectureSpec)}):
        raise UserError(f"{path}: [architecture] lacks or does not know {', '.join(odd)}")
    lists = {key: tuple(table[key]) for key in ("citations", "settings")}
    return ArchitectureSpec(**{**table, **lists, "name": path.stem})
