"""Checkpoints as files: safetensors with a checksum, so that damage is found before it is believed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from eus_ray.config import Study
from eus_ray.models import SegmentationNetwork, build_model, without_pretraining
from eus_ray.training.determinism import settings_digest, settings_text


def pack(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return tensors of any device and their metadata as a safetensors file."""
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save_tensors(on_cpu, {**metadata, "checksum": _checksum(metadata, on_cpu)})


def unpack(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a packed file.

    Raises:
        ValueError: If the file is not as it was written.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
        tensors = load_tensors(data)
        is_sound = metadata.pop("checksum", "") == _checksum(metadata, tensors)
    except Exception as error:  # the library raises its own types for each kind of damage
        raise ValueError(f"a damaged checkpoint: {error}") from error
    if not is_sound:
        raise ValueError("a damaged checkpoint: its checksum does not fit")
    return tensors, metadata


def unpack_for(study: Study, data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Unpack a checkpoint of a fold with the settings of one architecture's study.

    Raises:
        ValueError: If the file is damaged, or a checkpoint of other settings.
    """
    tensors, metadata = unpack(data)
    if metadata.get("settings") not in (settings_text(study), settings_digest(study)):  # older files hold the digest
        raise ValueError("a checkpoint of other settings")
    return tensors, metadata


def load_model(data: bytes, study: Study, device: torch.device) -> SegmentationNetwork:
    """Return a finished fold's network in evaluation mode, without the fold around it.

    Args:
        data: The checkpoint.
        study: One architecture's settings, those that the fold had.
        device: Where to put the network. `precision_for` gives the precision in which the fold evaluated it.

    Raises:
        ValueError: If the file is damaged, or a checkpoint of other settings, of an unfinished fold or of another
            network.
    """
    tensors, metadata = unpack_for(study, data)
    if int(metadata["epoch"]) < study.train.epochs_to_train:
        raise ValueError(f"a checkpoint of {metadata['epoch']} of {study.train.epochs_to_train} epochs")
    model = place_model(build_model(without_pretraining(study.model), 0, study.data.num_channels), study, device)
    try:
        model.load_state_dict(below("model/", tensors))
    except RuntimeError as error:  # of others' networks: their code may have changed since
        reason = " ".join(line.strip() for line in str(error).splitlines()[1:2])
        raise ValueError(f"a checkpoint of another network ({reason})") from None
    return model.eval()


def place_model(model: SegmentationNetwork, study: Study, device: torch.device) -> SegmentationNetwork:
    """Return a network on a device, in the memory format of the study."""
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if study.train.channels_last else model


def below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> str:
    """CRC-32 of metadata and tensors in the order of their names: safetensors shuffles its metadata."""
    checksum = zlib.crc32(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        head = f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}"
        checksum = zlib.crc32(head.encode(), checksum)
        checksum = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"
