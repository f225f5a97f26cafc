"""Every setting of a study: frozen pydantic models that refuse unknown names and impossible values.

A field's dotted name (`optim.lr`) is its only name: in the study file, in `--set optim.lr=1e-4`, in a search space, in
error messages and in the tables. `config_file.load_study` reads a study; `Study.for_model` returns one model's
settings.
"""

from eus_ray.architectures import is_of_smp, module_of
from eus_ray.config.augment import AugmentSettings
from eus_ray.config.sections import (
    AnalysisSettings,
    DataSettings,
    EvaluateSettings,
    FoldSettings,
    LogSettings,
    LossSettings,
    ModelSettings,
    OptimSettings,
    Order,
    RunSettings,
    SearchSettings,
    TrainSettings,
)
from eus_ray.config.study import (
    ARCHITECTURES,
    LATER,
    Study,
    dotted_names,
    field_of,
    set_dotted,
    to_dotted,
    unused_fields,
)

__all__ = [
    "ARCHITECTURES",
    "LATER",
    "AnalysisSettings",
    "AugmentSettings",
    "DataSettings",
    "EvaluateSettings",
    "FoldSettings",
    "LogSettings",
    "LossSettings",
    "ModelSettings",
    "OptimSettings",
    "Order",
    "RunSettings",
    "SearchSettings",
    "Study",
    "TrainSettings",
    "dotted_names",
    "field_of",
    "is_of_smp",
    "module_of",
    "set_dotted",
    "to_dotted",
    "unused_fields",
]
