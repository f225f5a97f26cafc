"""Files with an encoder's weights: read, fitted to timm's network, and converted to timm's names.

Other libraries' names for the same tensors differ from timm's by what stands before them, or altogether. In the first
case the tensors are found by name. In the second they can be taken by order, which `import_weights` does and a study
never does by itself. timm takes seconds to import, so the functions that need it import it themselves.
"""

from __future__ import annotations

import argparse
import pickle
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from eus_ray.errors import UserError, did_you_mean

SUFFIX = ".safetensors"
NUM_EXAMPLES = 3
MAX_PREFIX_PARTS = 6
"""As in `state_dict.module.model.encoder.model.`, and one more."""

_COUNTER = "num_batches_tracked"
"""Older files have none, and nothing reads it."""
_ROLES = ("weight", "bias", "running_mean", "running_var")
"""Last parts of names that mean the same everywhere; tensors of different roles may have the same shape."""


@dataclass(frozen=True)
class ImportedWeights:
    """What `import_weights` has written, and how it was found."""

    out: Path
    encoder: str
    """timm's name."""
    num_tensors: int
    is_by_order: bool
    """Whether the tensors were taken by order, since their names differ from timm's."""
    prefix: str
    """What stands before the names in the file; may be empty."""
    left_out: tuple[str, ...]
    """Names of the file's tensors that the encoder does not have, such as those of the classifier."""
    was_gray: bool
    """Whether the first convolution was for gray images; then each colour has a third of it."""

    def describe(self) -> list[str]:
        """Return lines that say what was done."""
        how = "by name" + (f" (after {self.prefix})" if self.prefix else "")
        if self.is_by_order:
            how = "by order: the names differ from timm's, and the shapes agree one by one"
        lines = [f"{self.out}: {self.num_tensors} tensors of {self.encoder}, taken {how}"]
        if self.left_out:
            lines.append(f"left out: {len(self.left_out)} tensors ({_examples(self.left_out)})")
        if self.was_gray:
            lines.append("the first convolution was for gray images; each of three colours has a third of it")
        if self.is_by_order:
            lines.append(f"check that the file is of {self.encoder}: the same shapes in the same order do not prove it")
        return lines


def import_weights(source: str | Path, encoder: str, out: str | Path) -> ImportedWeights:
    """Convert weights of torchvision, timm or segmentation_models_pytorch to a file for `model.weights`.

    Tensors are found by name, whatever stands before the names (`state_dict`, `module.`, `encoder.`); if not all of
    them are, by order, if the shapes then agree one by one, but for dimensions of 1. Batch counters are passed over.
    Code in a file is not run.

    Args:
        source: A safetensors file, or a PyTorch file with a state dictionary, which other dictionaries may hold.
        encoder: timm's name of the network, `model.encoder`.
        out: The new file; its name ends in `.safetensors`.

    Returns:
        What was written, and how.

    Raises:
        UserError: If timm does not know the encoder, the file cannot be read or does not fit, or `out` exists or cannot
            be written. Then nothing is written.
    """
    source, out = Path(source), Path(out)
    if out.suffix != SUFFIX:
        raise UserError(f"{out}: the output file's name must end in {SUFFIX}")
    if out.exists():
        raise UserError(f"{out}: already exists; nothing is overwritten, choose another output file")
    wanted = _wanted_of(encoder)
    tensors = read_weights(source)
    match = named = _match_by_name(tensors, wanted)
    if named.faults:
        both = (named, _match_by_order(tensors, wanted))
        match = min(both if named.names else reversed(both), key=_num_faults)  # of two misfits, the one that says more
    if match.faults:
        raise UserError(
            f"{source}: {len(match.faults)} of {encoder}'s {len(wanted.needed)} tensors do not fit, neither by name "
            f"nor by order: {_examples(match.faults)}; give weights of {encoder}, or the encoder that they are of"
        )
    fitted = {key: wanted.fitted(key, tensors[name]) for key, name in match.names.items()}
    if odd := [name for key, name in match.names.items() if not fitted[key].isfinite().all()]:
        raise UserError(f"{source}: {len(odd)} tensors hold values that are no numbers ({_examples(odd)})")
    _write(out, save(fitted))
    used = set(match.names.values())
    return ImportedWeights(
        out=out,
        encoder=encoder,
        num_tensors=len(fitted),
        is_by_order=match is not named,
        prefix=match.prefix,
        left_out=tuple(name for name in tensors if name not in used and not name.endswith(_COUNTER)),
        was_gray=any(wanted.is_gray(key, tensors[name]) for key, name in match.names.items()),
    )


def load_weights(body: Any, name: str, path: Path, in_channels: int) -> None:
    """Copy a file's tensors into a network by name; others in it, as of its classifier, are ignored.

    timm ignores names that differ without a word, so every tensor is checked here.

    Args:
        body: timm's network, whole or of features only.
        name: What messages call it.
        path: The file.
        in_channels: The network's: the first convolution is summed over colours if it is 1.

    Raises:
        UserError: If the file cannot be read or does not fit.
    """
    try:
        given = read_weights(path)
    except UserError as error:
        raise UserError(*(f"model.weights: {line}" for line in error.lines)) from None
    own_state = body.state_dict()
    _, found = _find_by_name(given, {_flat(key) for key in own_state})
    first_convs, colours = _input_of(body)
    faults: dict[str, list[str]] = {"are missing": [], "have another shape": []}
    for key, own in own_state.items():
        if _flat(key) not in found:
            if not key.endswith(_COUNTER):
                faults["are missing"].append(key)
            continue
        tensor = given[found[_flat(key)]]
        if _flat(key) in first_convs:
            tensor = _adapted(tensor, own.shape, in_channels, colours)
        if tensor.shape == own.shape:
            own.copy_(tensor)
        else:
            faults["have another shape"].append(f"{key} is {tuple(tensor.shape)}, not {tuple(own.shape)}")
    lines = [
        f"model.weights: {path}: {len(keys)} of {name}'s {len(own_state)} tensors {what} ({_examples(keys)}); "
        f"give timm's file for {name}, or one that `eus-ray model import-weights` has written"
        for what, keys in faults.items()
        if keys
    ]
    if lines:
        raise UserError(*lines)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file by name; names of dictionaries in dictionaries are joined by dots.

    Raises:
        UserError: If the file cannot be read, holds code, or holds no tensor.
    """
    try:
        if path.suffix == SUFFIX:
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # timm's own files of training have one
                content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as weights ({error.strerror or first_line(error)})") from None
    except (EOFError, RuntimeError, AttributeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be read as weights ({first_line(error)}); it must "
            "be a safetensors file or a PyTorch state dictionary without code"
        ) from None
    tensors = dict(_tensors_in(content))
    if not tensors:
        raise UserError(f"{path}: cannot be read as weights (no tensor in it); give a state dictionary")
    return tensors


# ---- the encoder's tensors --------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """Tensors of timm's whole network for colour, in its order, up to the last one that its features need."""

    shapes: dict[str, torch.Size]
    needed: tuple[str, ...]
    first_convs: set[str]
    """Flat names, as of `_flat`."""
    colours: int

    def is_gray(self, key: str, tensor: Tensor) -> bool:
        """Whether a tensor is a first convolution for gray images, where the network has one for colour."""
        shape = self.shapes[key]
        expected = (shape[0], shape[1] // self.colours, *shape[2:]) if len(shape) == 4 else shape
        return _flat(key) in self.first_convs and tensor.shape != shape and tensor.shape == expected

    def fits(self, key: str, tensor: Tensor) -> bool:
        """Whether a tensor can take the place of a tensor of the network."""
        return _without_ones(tensor.shape) == _without_ones(self.shapes[key]) or self.is_gray(key, tensor)

    def fitted(self, key: str, tensor: Tensor) -> Tensor:
        """Return a tensor that fits as the network has it."""
        if self.is_gray(key, tensor):
            tensor = tensor.repeat_interleave(self.colours, dim=1) / self.colours
        return (
            (tensor.float() if tensor.is_floating_point() else tensor)
            .reshape(self.shapes[key])
            .clone(memory_format=torch.contiguous_format)
        )


def _wanted_of(encoder: str) -> _Wanted:
    import timm

    if not timm.is_model(encoder):
        names = timm.list_models()
        raise UserError(f"{encoder}: timm has no such network{did_you_mean(encoder, names, 'see timm.list_models()')}")
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes without numbers
            whole: Any = timm.create_model(encoder)
            features = timm.create_model(encoder, features_only=True).state_dict()
    except Exception as error:  # timm's 1,400 networks refuse in as many ways
        raise UserError(f"{encoder}: gives no feature maps ({first_line(error)}); take one such as resnet18") from None
    of_features = {_flat(key) for key in features}
    shapes = {key: tensor.shape for key, tensor in whole.state_dict().items() if not key.endswith(_COUNTER)}
    needed = tuple(key for key in shapes if _flat(key) in of_features)
    keys = list(shapes)
    last = max((keys.index(key) for key in needed[-1:]), default=-1)
    return _Wanted({key: shapes[key] for key in keys[: last + 1]}, needed, *_input_of(whole))


def _input_of(network: Any) -> tuple[set[str], int]:
    """Return the flat names of a network's first convolutions, and for how many colours timm's weights are."""
    first = network.pretrained_cfg.get("first_conv") or ()
    names = (first,) if isinstance(first, str) else first
    return {_flat(f"{name}.weight") for name in names}, (network.pretrained_cfg.get("input_size") or (3,))[0]


def _adapted(tensor: Tensor, shape: torch.Size, in_channels: int, colours: int) -> Tensor:
    """Return a first convolution for other channels, if it is one for colour."""
    from timm.models import adapt_input_conv

    if tensor.shape == shape or tensor.ndim != 4 or tensor.shape[1] % colours:
        return tensor
    return adapt_input_conv(in_channels, tensor, base_chans=colours)


# ---- finding them in a file -------------------------------------------------------------------------


class _Match(NamedTuple):
    prefix: str
    names: dict[str, str]
    """The file's names by timm's; only those that fit."""
    faults: list[str]
    """A line for each tensor that does not fit."""


def _match_by_name(tensors: Mapping[str, Tensor], wanted: _Wanted) -> _Match:
    prefix, found = _find_by_name(tensors, {_flat(key) for key in wanted.needed})
    match = _Match(prefix, {}, [])
    for key in wanted.needed:
        name = found.get(_flat(key))
        if name is None:
            match.faults.append(f"{key} is missing")
        elif wanted.fits(key, tensors[name]):
            match.names[key] = name
        else:
            match.faults.append(f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted.shapes[key])}")
    return match


def _match_by_order(tensors: Mapping[str, Tensor], wanted: _Wanted) -> _Match:
    """Return the best match over the parts of the file that begin with one prefix."""
    return min((_in_order(tensors, prefix, names, wanted) for prefix, names in _parts(tensors)), key=_num_faults)


def _in_order(tensors: Mapping[str, Tensor], prefix: str, names: Mapping[str, str], wanted: _Wanted) -> _Match:
    match = _Match(prefix, {}, [])
    in_file = [name for name in names.values() if not name.endswith(_COUNTER)]
    for key, name in zip_longest(wanted.shapes, in_file[: len(wanted.shapes)]):
        if name is None:
            match.faults.append(f"{key} is missing")
        elif not _may_be(name, key) or not wanted.fits(key, tensors[name]):
            shape = tuple(tensors[name].shape)
            match.faults.append(f"{name} {shape} in the place of {key} {tuple(wanted.shapes[key])}")
        elif key in wanted.needed:
            match.names[key] = name
    return match


def _find_by_name(tensors: Mapping[str, Tensor], wanted: set[str]) -> tuple[str, dict[str, str]]:
    """Return the prefix after which a file has most of these flat names, and its own names by them.

    Of equals, that of a moving average (`state_dict_ema`) goes first, then the one that the file has first.
    """
    matches = (
        (prefix, {flat: name for rest, name in names.items() if (flat := rest.replace(".", "_")) in wanted})
        for prefix, names in _parts(tensors)
    )
    return max(matches, key=lambda match: (len(match[1]), "ema" in re.split(r"[._]", match[0])))


def _parts(tensors: Mapping[str, Tensor]) -> list[tuple[str, dict[str, str]]]:
    """Return the file's names under each prefix that it has, by what follows the prefix; the empty prefix first."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for name in tensors:
        words = name.split(".")
        for num in range(min(len(words), MAX_PREFIX_PARTS + 1)):
            prefix = "".join(f"{word}." for word in words[:num])
            parts[prefix][name.removeprefix(prefix)] = name
    return list(parts.items())


def _tensors_in(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix.removesuffix("."), content.detach()
    elif isinstance(content, Mapping):
        for name, below in content.items():
            yield from _tensors_in(below, f"{prefix}{name}.")


def _may_be(name: str, key: str) -> bool:
    """Whether the last words of two names do not contradict each other, as `weight` and `bias` do."""
    ours, theirs = key.rpartition(".")[2], name.rpartition(".")[2]
    return ours == theirs or theirs not in _ROLES or ours not in _ROLES


def _without_ones(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]


def _flat(key: str) -> str:
    """A tensor's name, alike in timm's classifiers (`stages.0.`) and feature networks (`stages_0.`, `model.stages.0.`).

    >>> _flat("model.stages.0.weight") == _flat("stages_0.weight")
    True
    """
    return key.removeprefix("model.").replace(".", "_")


# ---- text and files ---------------------------------------------------------------------------------


def _examples(lines: Sequence[str]) -> str:
    return ", ".join(lines[:NUM_EXAMPLES]) + ", ..." * (len(lines) > NUM_EXAMPLES)


def _num_faults(match: _Match) -> int:
    return len(match.faults)


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message; its type if it has none."""
    return str(error).partition("\n")[0] or type(error).__name__


def _write(out: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); choose another output file") from None
