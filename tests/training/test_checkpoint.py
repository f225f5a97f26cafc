"""Checkpoints of finished folds hold weights and settings, and nothing of any patient."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from eus_ray.cli import main
from eus_ray.config_file import study_toml
from eus_ray.models import as_input, forward
from eus_ray.store import Store, read_manifest, read_trials
from eus_ray.training.checkpoint import load_model, unpack
from eus_ray.training.fold import Fold
from eus_ray.training.records import Record
from tests.helpers import light_study
from tests.training.test_fold import CPU, fold_data, study

SPACE = '[search."optim.lr"]\nkind = "log_float"\nlow = 1e-3\nhigh = 3e-2\n'


def everything_in(checkpoint: bytes) -> bytes:
    """A file's bytes, and those of every tensor that was compressed before it was stored."""
    found = [checkpoint]
    for tensor in unpack(checkpoint)[0].values():
        stored = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        for codec in ("zstd", "gzip"):
            try:
                found.append(pa.CompressedInputStream(pa.BufferReader(stored), codec).read())
            except OSError:
                continue
        try:
            found.append(zlib.decompress(stored))
        except zlib.error:
            continue
    return b"".join(found)


def test_an_unfinished_checkpoint_holds_rows_and_a_finished_one_does_not() -> None:
    fold, record = Fold(study("train.epochs=2"), fold_data(), CPU), Record()
    record.epochs.append(fold.train_epoch())
    record.scores.append({"patient_id": "p7", "image_id": "i15"})
    assert b'"patient_id": "p7"' in everything_in(fold.state(record))
    fold.train_epoch()
    assert b'"patient_id"' not in everything_in(fold.state(record))
    tensors, metadata = unpack(fold.state(record))
    assert all(name.startswith("model/") for name in tensors)
    assert set(metadata) == {"epoch", "settings", "best_epoch", "best_value"}
    settings = json.loads(metadata["settings"])
    assert (settings["model.arch"], settings["model.width"], settings["data.image_size"]) == ("unet", 4, 32)


def test_a_model_is_loaded_as_its_fold_evaluated_it() -> None:
    settings = study("train.epochs=1", "data.resize=pad")
    fold = Fold(settings, fold_data(), CPU)
    with pytest.raises(ValueError, match="a checkpoint of 0 of 1 epochs"):
        load_model(fold.state(), settings, CPU)
    fold.train_epoch()
    model = load_model(fold.state(), settings, CPU)
    assert not model.training
    image = as_input(fold.data.images[:4], CPU, settings.train.channels_last)
    with torch.inference_mode():
        outputs, expected = (forward(each, image, fold.precision).logits for each in (model, fold.model.eval()))
    assert torch.equal(outputs, expected)
    with pytest.raises(ValueError, match="a checkpoint of other settings"):
        load_model(fold.state(), study("train.epochs=1"), CPU)
    with pytest.raises(ValueError, match="a damaged checkpoint"):
        load_model(fold.state()[:-1], settings, CPU)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_no_checkpoint_of_a_finished_study_names_a_patient_or_a_place(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    options = ("folds.count=2", "run.workers=1", "search.inner_folds=2", f"search.space={tmp_path / 'space.toml'}")
    (tmp_path / "study.toml").write_text(study_toml(light_study(phantom, *options)))
    for command in (["cv"], ["tune", "--trials", "2"]):
        out = tmp_path / command[0]
        assert main([*command, str(tmp_path / "study.toml"), "--out", str(out)]) == 0
        store = Store(out)
        assert set(read_trials(store)["state"]) <= {"complete", "pruned"}
        manifest = read_manifest(store)
        ids = {str(name).encode() for column in ("patient_id", "image_id") for name in manifest[column]}
        assert len(ids) == 30
        files = store.names("checkpoints")
        assert len(files) == (2 if command == ["cv"] else 4)
        for file in files:
            content = everything_in(store.read_bytes(file))
            assert not [name for name in ids if name in content], file
            assert not [place for place in (phantom, tmp_path, Path.home()) if str(place).encode() in content], file
