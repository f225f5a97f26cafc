"""Cross-validate and compare segmentation architectures on ultrasound images.

The names below are the Python interface. Importing the package loads neither PyTorch nor Ray: a name is imported when
it is first used.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eus_ray.analysis.analyze import analyze
    from eus_ray.analysis.inputs.evaluate import evaluate
    from eus_ray.api import StudyResults, compare, load_study, open_study, tune
    from eus_ray.config import Study
    from eus_ray.errors import UserError
    from eus_ray.inference.predict import predict
    from eus_ray.inference.predictor import Prediction, Predictor
    from eus_ray.store import TrialKey, TrialKind, TrialRecord, TrialState
    from eus_ray.store.event_log import FoldReport
    from eus_ray.study.callbacks import Callback, SearchUpdate
    from eus_ray.study.cross_validate import Outcome, cross_validate

__all__ = [
    "Callback",
    "FoldReport",
    "Outcome",
    "Prediction",
    "Predictor",
    "SearchUpdate",
    "Study",
    "StudyResults",
    "TrialKey",
    "TrialKind",
    "TrialRecord",
    "TrialState",
    "UserError",
    "analyze",
    "compare",
    "cross_validate",
    "evaluate",
    "load_study",
    "open_study",
    "predict",
    "tune",
]

_HOMES = {
    "analysis.analyze": ("analyze",),
    "analysis.inputs.evaluate": ("evaluate",),
    "api": ("StudyResults", "compare", "load_study", "open_study", "tune"),
    "config": ("Study",),
    "errors": ("UserError",),
    "inference.predict": ("predict",),
    "inference.predictor": ("Prediction", "Predictor"),
    "store": ("TrialKey", "TrialKind", "TrialRecord", "TrialState"),
    "store.event_log": ("FoldReport",),
    "study.callbacks": ("Callback", "SearchUpdate"),
    "study.cross_validate": ("Outcome", "cross_validate"),
}
"""The modules of the names."""


def __getattr__(name: str) -> Any:
    """Import a name of the interface when it is first used."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"eus_ray.{home}"), name)
    raise AttributeError(f"module 'eus_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the interface."""
    return __all__


_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())
if level := os.environ.get("EUS_RAY_LOG"):  # Ray's workers inherit it
    _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    _log.addHandler(_handler)
    _log.setLevel(level.upper())
