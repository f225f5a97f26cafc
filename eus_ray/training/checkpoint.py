"""Checkpoints as files: safetensors with a checksum, so that damage is found before it is believed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors


def pack(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of tensors of any device, and what is said of them."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    said = dict(metadata)
    return save_tensors(plain, said | {"checksum": _checksum(said, plain)})


def unpack(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a packed file. Raises `ValueError` where it is not as it was written."""
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        tensors = load_tensors(data)
        sound = metadata.pop("checksum", "") == _checksum(metadata, tensors)
    except Exception as error:  # the library raises its own types for each kind of damage
        raise ValueError(f"a damaged checkpoint: {error}") from error
    if not sound:
        raise ValueError("a damaged checkpoint: its checksum does not fit")
    return tensors, metadata


def below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> str:
    """CRC-32 of all that is said and held; the order of names does not matter."""
    checksum = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        head = f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}"
        checksum = zlib.crc32(head.encode(), checksum)
        checksum = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"
