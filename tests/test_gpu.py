"""What only a GPU can show: the same bits where they are asked for, mixed precision, and folds that share a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eus_ray.distributed.profiling import measure
from eus_ray.study.cross_validate import cross_validate
from eus_ray.training.fold import Fold, train_fold
from eus_ray.training.records import Record
from tests.helpers import assert_same, light_study, tables
from tests.training.test_fold import fold_data, study, without_seconds

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
GPU = torch.device("cuda")
FIXED = ("train.deterministic=true", "model.encoder=resnet10t", "model.decoder_width=8")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("arch", ["unet", "attention_unet", "daf_net"])
def test_a_fold_on_a_gpu_repeats_and_goes_on_bit_for_bit(arch: str, precision: str) -> None:
    settings = study(*FIXED, f"train.precision={precision}", "train.epochs=3", arch=arch)
    whole = train_fold(settings, fold_data(), GPU)
    record, state = Record(), None
    fold = Fold(settings, fold_data(), GPU)
    while not fold.is_finished:
        fold = Fold(settings, fold_data(), GPU, state)
        record.epochs.append(fold.train_epoch())
        if fold.is_finished:
            record.epochs.append(fold.evaluate(record))
        state = fold.state()
    assert without_seconds(record) == without_seconds(whole)
    assert record.scores == whole.scores


@pytest.mark.parametrize("precision", ["auto", "float16"])
def test_mixed_precision_learns_what_single_precision_does(precision: str) -> None:
    options = (*FIXED, "train.epochs=12", "optim.lr=0.01", "model.width=8")
    single = train_fold(study(*options, "train.precision=float32"), fold_data(), GPU)
    mixed = train_fold(study(*options, f"train.precision={precision}"), fold_data(), GPU)
    assert single.epochs[-1]["dsc"] > 0.7
    assert mixed.epochs[-1]["dsc"] == pytest.approx(single.epochs[-1]["dsc"], abs=0.1)


def test_a_gpu_computes_what_a_cpu_does() -> None:
    options = (*FIXED, "train.precision=float32", "train.epochs=1")
    on_cpu, on_gpu = train_fold(study(*options), fold_data()), train_fold(study(*options), fold_data(), GPU)
    assert on_gpu.epochs[0]["loss"] == pytest.approx(on_cpu.epochs[0]["loss"], rel=0.01)


def test_a_probe_sees_the_gpus_memory_and_how_busy_it_is() -> None:
    threads = torch.get_num_threads()
    probe = measure(study("data.image_size=128", "model.width=16"))
    assert torch.get_num_threads() == threads
    assert 1 << 20 < probe.peak_bytes < probe.total_bytes
    assert 0 < probe.busy_share <= 1


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_folds_that_share_a_gpu_give_the_tables_of_one_after_another(phantom: Path, tmp_path: Path) -> None:
    options = ("train.deterministic=true", "folds.count=2", "run.threads_per_fold=1")
    for name, how in {
        "alone": ("run.workers=1", "run.gpus_per_fold=1"),
        "shared": ("run.workers=2", "run.gpus_per_fold=0.5"),
        "planned": (),
    }.items():
        outcome = cross_validate(light_study(phantom, *options, *how, models=("daf_net",)), tmp_path / name)
        assert outcome.states == {"daf_net": "complete"}
    assert_same(tables(tmp_path / "shared"), tables(tmp_path / "alone"))
    assert_same(tables(tmp_path / "planned"), tables(tmp_path / "alone"))
    assert np.isfinite(tables(tmp_path / "alone")["epochs"]["loss"]).all()
