"""The settings of a study that say how its predictions are measured."""

from __future__ import annotations

import tomllib

from eus_ray import store as layout
from eus_ray.config import Study
from eus_ray.config_file import build_study
from eus_ray.store import Store

_SECTIONS = ("data", "evaluate", "analysis")


def measuring_settings(store: Store) -> Study:
    """Read `data`, `evaluate` and `analysis` of a study folder; all other sections have their defaults.

    What an older study's file lacks has its default, too.

    Raises:
        UserError: If one of them is none that it may be.
    """
    written = tomllib.loads(store.read_text(layout.STUDY))
    return build_study({name: written[name] for name in _SECTIONS if name in written}, store.path(layout.STUDY))
