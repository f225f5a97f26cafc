"""Every setting of a study: frozen pydantic models that refuse unknown names and impossible values.

A field's dotted name (`optim.lr`) is its only name: in the study file, in `--set optim.lr=1e-4`, in a search space, in
error messages and in the tables. `config_file.load_study` reads a study; `Study.for_model` returns one architecture's
settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from eus_ray.architectures import architectures
from eus_ray.errors import UserError

ARCHITECTURES = tuple(architectures())
if TYPE_CHECKING:
    Architecture = str
else:
    Architecture = Literal[ARCHITECTURES]
    """The name of an architecture; pydantic refuses any other."""

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Order(StrEnum):
    """The order in which a cross-validation trains its folds and epochs."""

    ABREAST = "abreast"
    """All folds advance in step, epoch by epoch."""
    BY_FOLD = "by_fold"
    """Each worker finishes a fold before it starts the next."""


class Settings(BaseModel):
    """A section of the study file: frozen, without unknown fields, NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class DataSettings(Settings):
    """The manifest, and how its images become arrays."""

    manifest: str = ""
    """Path of the manifest (CSV or Parquet), relative to the study file."""
    image_size: Annotated[int, Field(ge=32, multiple_of=16)] = 256
    """Side of the square training images, in pixels; a multiple of 16, since U-Net halves it four times."""
    resize: Literal["stretch", "pad"] = "stretch"
    """`stretch` changes the aspect ratio (the paper); `pad` keeps it and fills with black."""
    intensity: Literal["auto"] | tuple[float, float] = "auto"
    """Gray values that become 0 and 255. `auto`: 8-bit images stay, deeper ones use their own minimum and maximum."""
    duplicates: Literal["stop", "warn"] = "stop"
    """Whether the same image under two patients stops the study, or only warns."""

    @field_validator("intensity")
    @classmethod
    def _rising(cls, value: Any) -> Any:
        if value != "auto" and value[0] >= value[1]:
            raise ValueError(f"[low, high] must rise, not {list(value)}")
        return value


class FoldSettings(Settings):
    """The split of the patients into folds."""

    count: Annotated[int, Field(ge=2)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    stratify: tuple[str, ...] = ()
    """Columns of the manifest, or `lesion_size`, that are spread evenly over the folds; the most important first."""


class ModelSettings(Settings):
    """The network."""

    arch: Architecture = "daf_net"
    """`Study.for_model` sets it; in a study file it stands for `models` with this one name."""
    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels of the first level of U-Net and Attention U-Net; each level doubles them."""
    encoder: str = "resnext101_32x8d.tv_in1k"
    """Any timm encoder (DAF-Net). Its tag names the weights: `tv_in1k` is ImageNet alone, as in the paper."""
    pretrained: bool = False
    """Start the encoder from timm's weights (DAF-Net)."""
    weights: str = ""
    """A local file with the encoder's weights, used instead of a download."""
    decoder_width: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 64
    """Channels of the single-layer, multi-layer and attentional features (DAF-Net)."""
    decoder_init: Literal["default", "uniform"] = "default"
    """`uniform`: decoder weights are drawn from [0, 1], as in the paper (DAF-Net)."""


class AugmentSettings(Settings):
    """Random changes of the training images."""

    rotations_degrees: tuple[float, ...] = (-5.0, -2.5, 0.0, 2.5, 5.0)
    scales: tuple[Positive, ...] = (0.9, 1.0, 1.1)
    flip_probability: Fraction = 0.5
    elastic_probability: Fraction = 0.0
    """Off by default: with the paper's values it moves pixels by hundredths and takes most of the time."""
    elastic_alpha: NonNegative = 2.048
    """Largest random displacement before smoothing, in pixels."""
    elastic_sigma: Positive = 20.48
    """Standard deviation of the Gaussian smoothing, in pixels."""

    @field_validator("rotations_degrees", "scales")
    @classmethod
    def _not_empty(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value:
            raise ValueError("needs one value at least; [0.0] rotations or [1.0] scales change nothing")
        return value


class OptimSettings(Settings):
    """The optimizer and the learning rate's schedule."""

    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD's momentum."""
    weight_decay: NonNegative = 0.01
    schedule: Literal["steps", "cosine", "one_cycle"] = "one_cycle"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = (5, 20)
    """Epochs, counted from 0, at which `steps` multiplies the learning rate by `gamma`."""
    gamma: Positive = 0.02

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"epochs must rise, not {list(value)}")
        return value


class LossSettings(Settings):
    """The loss: a prediction's own, and the weights of DAF-Net's deep supervision."""

    slf_weight: NonNegative = 1.0
    """Weight of the losses of DAF-Net's single-layer features."""
    si_weight: NonNegative = 1.0
    """Weight of the losses of the single images, or of the one output of other networks."""
    level_weights: tuple[NonNegative, NonNegative, NonNegative, NonNegative] = (1.0, 1.0, 1.0, 1.0)
    """Weight of each encoder level within both sums, the finest first (DAF-Net)."""
    dice_weight: NonNegative = 1.0
    bce_weight: NonNegative = 0.0
    smooth: NonNegative = 1.0
    """Smooth factor of the Dice loss (equation 1)."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossSettings:
        if self.dice_weight + self.bce_weight == 0:
            raise ValueError("dice_weight and bce_weight are both 0: nothing would be learnt")
        if self.si_weight == 0:
            raise ValueError("si_weight is 0: the output itself would not be learnt")
        return self


class TrainSettings(Settings):
    """The training of one fold."""

    epochs: Annotated[int, Field(ge=1)] = 50
    stop_after: Annotated[int, Field(ge=0)] = 0
    """Stop after so many epochs, the schedule unchanged; 0: train all `epochs`."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: bfloat16 on GPUs that have it, float16 with loss scaling on others, float32 on CPUs."""
    channels_last: bool = True
    clip_norm: NonNegative = 0.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients make one step."""
    deterministic: bool = False
    """On GPUs: every run gives the same bits, but is somewhat slower."""

    @property
    def epochs_to_train(self) -> int:
        """How many epochs a fold trains: `stop_after` if it is set, else `epochs`."""
        return self.stop_after or self.epochs


class RunSettings(Settings):
    """Where and in which order the folds train."""

    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Folds of one cross-validation that train at once, each in its own worker process, or in a team of them (see
    `gpus_per_fold`). Worker `rank` trains the folds f with f % workers == rank."""
    min_workers: Annotated[int, Field(ge=0)] = 0
    """The run may go on with so few workers if nodes leave; 0: it waits for all."""
    gpus_per_fold: Literal["auto"] | NonNegative = "auto"
    """GPUs of a fold: a fraction shares a GPU, 2 and more train a fold together. `auto`: one if the cluster has GPUs,
    or a part of one if folds outnumber the GPUs and would leave them idle; else 0."""
    threads_per_fold: Annotated[int, Field(ge=1)] = 1
    """CPU threads of a fold's arithmetic. Floating-point sums depend on it: the same bits need the same number."""
    order: Literal["auto", "abreast", "by_fold"] = "auto"
    """See `Order`. `auto`: abreast, but by fold in a search that judges finished folds."""
    checkpoint_interval_s: NonNegative = 60.0
    """A fold writes a checkpoint after an epoch if it has trained for so many seconds since the last one. A killed
    process loses at most that time and an epoch."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """How often a cross-validation starts again from its checkpoints after a worker or node died."""
    dashboard: bool = False
    """Whether a run that starts Ray also starts its dashboard, on 127.0.0.1: ten more processes."""

    def order_of(self, otherwise: Order) -> Order:
        """Return the order that the study asks for; `otherwise` if it leaves that open."""
        return otherwise if self.order == "auto" else Order(self.order)

    @model_validator(mode="after")
    def _elastic(self) -> RunSettings:
        if self.workers != "auto" and self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, more than workers, {self.workers}")
        if self.gpus_per_fold != "auto" and self.gpus_per_fold > 1 and self.gpus_per_fold % 1:
            raise ValueError(f"gpus_per_fold is {self.gpus_per_fold:g}; above 1 it must be a whole number")
        return self


class SearchSettings(Settings):
    """The hyperparameter search."""

    trials: Annotated[int, Field(ge=1)] = 20
    """Settings to try, for each architecture."""
    space: str = ""
    """File with the ranges to search, relative to the study file; empty: the architecture's own in `search_spaces`."""
    sampler: Literal["tpe", "gp", "random", "grid"] = "tpe"
    grid_points: Annotated[int, Field(ge=2)] = 3
    """Values of each range that `grid` takes."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    scheduler: Literal["racing", "asha", "none"] = "racing"
    racing_alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Level of racing's one-sided test that a trial is worse."""
    asha_reduction: Annotated[int, Field(ge=2)] = 3
    """One in so many of the trials that reach a rung goes on."""
    asha_grace: Annotated[int, Field(ge=1)] = 3
    """Epochs of the first rung."""
    protocol: Literal["nested", "paper"] = "nested"
    """`nested`: epochs and settings are chosen on validation patients within each fold's training patients.
    `paper`: on the test folds themselves."""
    inner_folds: Annotated[int, Field(ge=2)] = 5
    """Each fold's training patients are split in so many parts; one of them validates (`nested`)."""
    metric: Literal["dsc", "iou", "sen", "sp", "pc", "acc"] = "dsc"
    """The search maximizes the mean over folds of this metric's mean over patients."""
    concurrent: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Trials that run at once; `auto`: as many as fit on the cluster."""

    @model_validator(mode="after")
    def _judged_by_epoch(self) -> SearchSettings:
        if self.scheduler == "asha" and self.protocol == "paper":
            raise ValueError(
                'scheduler "asha" judges by epoch, and protocol "paper" has no score before the last; '
                'take scheduler "racing" or "none", or protocol "nested"'
            )
        return self


class EvaluateSettings(Settings):
    """How probabilities become masks, and the pixels on which metrics are taken."""

    grid: Literal["resized", "original"] = "resized"
    """The training grid (the paper), or each image's own pixels."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """A pixel is predicted if its probability is at least this."""
    keep: Literal["all", "largest"] = "all"
    """Which connected pieces of a predicted mask stay; pixels that touch at a corner belong together."""
    fill_holes: bool = False
    """Whether background that a predicted mask encloses becomes part of it."""


class AnalysisSettings(Settings):
    """How a report averages, compares and calls what was measured."""

    average: Literal["patients", "images"] = "patients"
    """The mean over folds of the mean over a fold's patients of the patient's mean; or over a fold's images (the
    paper)."""
    margin: Positive = 0.02
    """The smallest difference between models that matters, of ratios such as DSC."""
    distance_margin: Positive = 2.0
    """The same of distances, in their unit: mm if the spacing is known, else px."""
    tolerance: NonNegative = 2.0
    """Two contours agree within this distance (NSD), in the unit of distances."""
    clinical: Literal["auto"] | tuple[str, ...] = "auto"
    """Columns of the manifest that are tested. `auto`: those with 2 to 10 levels that are a patient's own, no ids and
    no numbers of folds."""
    target: Annotated[str, Field(min_length=1, max_length=60)] = "lesion"
    """What the masks show, in the report's words: one noun in the singular."""


class LogSettings(Settings):
    """The loggers besides the study folder's own logs."""

    tensorboard: bool = False
    """Write TensorBoard's event files to `logs/tensorboard` in a study folder on a disk, one folder a fold."""
    mlflow: str = ""
    """Tracking URI of an MLflow server: a parent run for each trial, a child run for each fold. Needs `mlflow`."""
    mlflow_experiment: str = "eus-ray"


class Study(Settings):
    """A whole study; `for_model` applies `model.arch` and `[only.ARCH]`."""

    models: tuple[Architecture, ...] = ARCHITECTURES
    data: DataSettings = DataSettings()
    folds: FoldSettings = FoldSettings()
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    optim: OptimSettings = OptimSettings()
    loss: LossSettings = LossSettings()
    train: TrainSettings = TrainSettings()
    search: SearchSettings = SearchSettings()
    run: RunSettings = RunSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    analysis: AnalysisSettings = AnalysisSettings()
    log: LogSettings = LogSettings()
    only: dict[Architecture, dict[str, Any]] = Field(default_factory=dict)
    """Settings of one architecture alone, by dotted name: `[only.unet]`."""

    @field_validator("models")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"must name one architecture at least, and each once, not {list(value)}")
        return value

    def for_model(self, arch: str) -> Study:
        """Return the settings of one architecture, with `[only.ARCH]` applied and dropped."""
        tree = self.model_dump(exclude={"only"})
        for name, value in {**self.only.get(arch, {}), "model.arch": arch, "models": [arch]}.items():
            set_dotted(tree, name, value)
        return Study.model_validate(tree)


def dotted_names(model: type[BaseModel] = Study, prefix: str = "") -> list[str]:
    """Return every field's dotted name, such as `optim.lr`, in the order of this file."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += dotted_names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def unused_fields(arch: str) -> list[str]:
    """Return the fields that only other architectures use: settings that differ in them alone are the same to it."""
    spec = architectures()[arch]
    all_fields = (f"model.{field}" for field in ModelSettings.model_fields if field != "arch")
    others = [name for name in all_fields if name not in spec.settings]
    return others + ([] if spec.deep_supervision else list(_DEEP_SUPERVISION))


_DEEP_SUPERVISION = ("loss.slf_weight", "loss.level_weights")


def to_dotted(study: Study, sections: Iterable[str] = ("model", "augment", "optim", "loss", "train")) -> dict[str, Any]:
    """Return the fields of some sections by dotted name, tuples as lists."""
    tree = study.model_dump(mode="json")
    return {f"{section}.{name}": value for section in sections for name, value in tree[section].items()}


def set_dotted(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a field of a tree of settings by its dotted name.

    Raises:
        UserError: If a part of the name is a value, not a section.
    """
    *sections, name = dotted.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            raise UserError(f"{dotted}: no such field; {section} holds a value, not a section")
        tree = below
    tree[name] = value
