"""The sections of a study file."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from eus_ray.architectures import check_architecture

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
    channels: Literal["gray", "rgb"] = "gray"
    """Whether the networks see colour: `gray` takes the mean of the three, weighted as the eye does."""
    resize: Literal["stretch", "pad"] = "stretch"
    """`stretch` changes the aspect ratio (the paper); `pad` keeps it and fills with black."""
    intensity: Literal["auto"] | tuple[float, float] = "auto"
    """Gray values that become 0 and 255. `auto`: 8-bit images stay, deeper ones use their own minimum and maximum."""
    duplicates: Literal["stop", "warn"] = "stop"
    """Whether the same image under two patients stops the study, or only warns."""

    @property
    def num_channels(self) -> int:
        """Return how many channels an image has: 1 or 3."""
        return 3 if self.channels == "rgb" else 1

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

    arch: str = "daf_net"
    """An architecture of eus-ray; `smp:NAME`, a decoder of segmentation_models_pytorch; `module:callable`; or an entry
    point of the group `eus_ray.models`. `[only.NAME]` says it of a model NAME; in `[model]` it stands for `models` with
    this one network."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of a network that is not eus-ray's own."""
    label: Annotated[str, Field(max_length=60)] = ""
    """The model's name in tables and figures; empty: the architecture's, or the variant's own name."""
    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Channels of the first level of U-Net and Attention U-Net; each level doubles them."""
    encoder: str = "resnext101_32x8d.tv_in1k"
    """Any timm encoder. Its tag names the weights: `tv_in1k` is ImageNet alone, as in the paper."""
    pretrained: bool = False
    """Start the encoder from timm's weights."""
    weights: str = ""
    """A local file with the encoder's weights, used instead of a download."""
    decoder_width: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 64
    """Channels of the single-layer, multi-layer and attentional features (DAF-Net)."""
    decoder_init: Literal["default", "uniform"] = "default"
    """`uniform`: decoder weights are drawn from [0, 1], as in the paper (DAF-Net)."""

    @field_validator("arch")
    @classmethod
    def _known(cls, value: str) -> str:
        check_architecture(value)
        return value

    @field_validator("label")
    @classmethod
    def _printable(cls, value: str) -> str:
        if value != value.strip() or not value.isprintable():
            raise ValueError(f"must be a line of text without spaces around it, not {value!r}")
        return value

    @field_validator("args")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"takes numbers, text, lists and tables ({error})") from None
        if odd := [name for name in value if not name.isidentifier()]:
            raise ValueError(f"{odd[0]!r} is no name of an argument")
        return value


class OptimSettings(Settings):
    """The optimizer and the learning rate's schedule."""

    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: Positive = 1e-3
    encoder_lr_factor: NonNegative = 1.0
    """The encoder's learning rate, as a multiple of `lr`: below 1, pretrained weights change slowly."""
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
    auxiliary_weight: NonNegative = 0.4
    """Weight of the mean loss of a network's auxiliary outputs (networks that are not eus-ray's own)."""
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
    freeze_encoder_epochs: Annotated[int, Field(ge=0)] = 0
    """The encoder stays as it is for so many epochs at first, its batch statistics too."""
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
    tta: Literal["none", "flip"] = "none"
    """`flip`: a probability is the mean of those of the image and of its mirror image (test-time augmentation)."""
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
