"""What a study may call an architecture, and the facts of each that are known without building it.

eus-ray's own come from the table `[architecture]` of their files in `search_spaces/`: a new one is two files,
`models/NAME.py`, which registers the network, and `search_spaces/NAME.toml`, which says what it is and what a search
may vary. Others' networks are `smp:NAME`, `module:callable`, or an entry point of the group `eus_ray.models`. Nothing
here needs PyTorch, and nothing imports others' code.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path

from eus_ray.errors import UserError, did_you_mean

SPACES = Path(__file__).parent / "search_spaces"
SMP_PREFIX = "smp:"
ENTRY_POINTS = "eus_ray.models"
"""The group in which installed packages offer networks by name."""

_SMP = {
    "Unet": ("ronneberger",),
    "UnetPlusPlus": ("unetpp",),
    "MAnet": ("manet",),
    "Linknet": ("linknet",),
    "FPN": ("fpn",),
    "PSPNet": ("pspnet",),
    "PAN": ("pan",),
    "DeepLabV3": ("deeplabv3",),
    "DeepLabV3Plus": ("deeplabv3plus",),
    "UPerNet": ("upernet",),
    "Segformer": ("segformer",),
    "DPT": ("dpt",),
}
"""Works that describe a decoder of segmentation_models_pytorch."""
_IMPORTABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


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
    """The fields that change it, by dotted name: of `[model]`, and those that not every network has a use for."""

    @property
    def is_own(self) -> bool:
        """Whether eus-ray has its code."""
        return self.name in architectures()

    @property
    def space_path(self) -> Path:
        """The file with its search space."""
        return SPACES / f"{self.name if self.is_own else 'others'}.toml"


@functools.cache
def architectures() -> Mapping[str, ArchitectureSpec]:
    """Return all architectures by name, in their order.

    A file without the table is a search space of somebody's own, or a preset.

    Raises:
        UserError: If a file is not TOML, or a table lacks an entry or has one too many.
    """
    found = [spec for path in sorted(SPACES.glob("*.toml")) if (spec := _read(path)) is not None]
    return {spec.name: spec for spec in sorted(found, key=lambda spec: spec.order)}


def is_architecture(name: str) -> bool:
    """Whether a name alone says which network is meant: one of eus-ray, or an entry point."""
    return name in architectures() or name in entry_points()


@functools.cache
def entry_points() -> Mapping[str, str]:
    """Return the networks that installed packages offer, as `module:callable` by name."""
    return {point.name: point.value for point in metadata.entry_points(group=ENTRY_POINTS)}


def may_be_architecture(arch: str) -> bool:
    """Whether a text may name an architecture; whether the network can be had is not asked."""
    return is_architecture(arch) or _IMPORTABLE.fullmatch(arch) is not None


def check_architecture(arch: str) -> None:
    """Raise `ValueError` for a text that may not name an architecture."""
    if not may_be_architecture(arch):
        others = "; others' networks are smp:NAME or module:callable" if not arch.isidentifier() else ""
        raise ValueError(f"{arch!r} is not a choice{did_you_mean(arch, [*architectures(), *entry_points()])}{others}")


def is_of_smp(arch: str) -> bool:
    """Whether an architecture is a decoder of segmentation_models_pytorch."""
    return arch.startswith(SMP_PREFIX)


def path_of(arch: str) -> str | None:
    """Return `module:callable` of another's network; None for eus-ray's own and for those of SMP."""
    if arch in architectures() or is_of_smp(arch):
        return None
    # an entry point may name extras of its package in brackets
    return entry_points().get(arch, arch).partition("[")[0].strip()


def module_of(arch: str) -> str | None:
    """Return the module that holds another's network; None for eus-ray's own and for those of SMP.

    It imports nothing, so it tells a module that is not here, too.

    >>> module_of("ourlab.nets:BoundaryNet"), module_of("unet"), module_of("smp:FPN")
    ('ourlab.nets', None, None)
    """
    path = path_of(arch)
    return None if path is None else path.partition(":")[0]


@functools.cache
def spec_of(arch: str) -> ArchitectureSpec:
    """Return the facts of eus-ray's own architecture, or what can be said of others' networks unseen.

    >>> spec_of("smp:UnetPlusPlus").citations
    ('smp', 'unetpp')
    """
    if (spec := architectures().get(arch)) is not None:
        return spec
    encoder = ("model.encoder", "model.pretrained", "model.weights", "model.args")
    steps = ("train.freeze_encoder_epochs", "optim.encoder_lr_factor")
    label, order = arch.rpartition(":")[2], len(architectures()) + 1
    if is_of_smp(arch):
        return ArchitectureSpec(arch, label, order, ("smp", *_SMP.get(label, ())), (*encoder, *steps))
    widths = ("model.width", "model.decoder_width", "model.decoder_init")  # a callable takes the ones that it names
    return ArchitectureSpec(arch, label, order, (), (*encoder, *widths, "loss.auxiliary_weight", *steps))


def name_of(arch: str) -> str:
    """Return what a model is called of which only the architecture is known.

    >>> name_of("daf_net"), name_of("smp:UnetPlusPlus"), name_of("smp:Unet")
    ('daf_net', 'unetplusplus', 'smp_unet')
    """
    source, _, last = arch.lower().rpartition(":")
    if source and is_architecture(last):  # of others, and called as one of ours
        last = f"{source}_{last}"
    name = re.sub(r"[^a-z0-9]+", "_", last).strip("_")
    return name if name[:1].isalpha() else f"model_{name}"


def printed_name(model: str, label: str = "") -> str:
    """Return a model's name in print.

    Args:
        model: Its name.
        label: Its `model.label`; if that is empty, an architecture has its own and a variant keeps its name.
    """
    spec = architectures().get(model)
    return label or (model if spec is None else spec.label)


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
