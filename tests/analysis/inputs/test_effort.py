"""The effort behind a model is what was trained, whatever the study file of the first run says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eus_ray import store as layout
from eus_ray.analysis.comparison.selection_bias import write_selection
from eus_ray.analysis.inputs.effort import Effort, differences
from eus_ray.analysis.report.results import Results, read_study, read_table
from eus_ray.config import ModelSettings, Study
from eus_ray.models import build_model
from eus_ray.store import Store, TrialKey
from eus_ray.training.checkpoint import pack
from tests.analysis.retraining import change_rows, write_epochs
from tests.analysis.search_example import example_search

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]
ONLY = Study.model_validate(
    {"models": ["unet", "daf_net"], "only": {"unet": {"model.width": 16, "optim.optimizer": "sgd"}}}
)


def test_a_cross_validation_tries_one_setting(make_study: MakeStudy) -> None:
    results = read_study(make_study(settings=ONLY))
    assert list(results.efforts) == ["unet", "daf_net"]
    unet, daf_net = results.efforts.values()
    assert (unet.kind, unet.settings_tried, unet.folds, unet.trials) == ("fixed", 1, (0, 1, 2), (0, 0, 0))
    assert unet.epochs == daf_net.epochs == (6, 6, 6)
    assert unet.fold_epochs == 18
    assert unet.hours == pytest.approx(18 / 3600)
    assert (unet.gpu_hours, unet.cpu_hours, unet.devices, unet.parameters) == (None, None, (), ())


def test_settings_are_those_that_change_the_model(make_study: MakeStudy) -> None:
    unet, daf_net = read_study(make_study(settings=ONLY)).efforts.values()
    assert unet.values("model.width") == [16]
    assert unet.values("optim.momentum") == [0.9]
    assert daf_net.values("model.width") == daf_net.values("optim.momentum") == []
    assert unet.values("model.encoder") == unet.values("optim.milestones") == unet.values("loss.slf_weight") == []
    assert daf_net.values("augment.rotations_degrees") == [[-5, -2.5, 0, 2.5, 5]]


@pytest.mark.parametrize(
    ("given", "starts", "is_pretrained"),
    [
        ({}, "random", False),
        ({"pretrained": True}, "published", True),
        ({"weights": "encoder.pth"}, "file", True),
        ({"pretrained": True, "weights": "encoder.pth"}, "file", True),
    ],
)
def test_only_a_network_with_an_encoder_is_pretrained(
    make_study: MakeStudy, given: dict[str, Any], starts: str, is_pretrained: bool
) -> None:
    study = Study.model_validate({"models": ["unet", "daf_net"], "model": given})
    unet, daf_net = read_study(make_study(settings=study)).efforts.values()
    assert (unet.starts, unet.pretrained) == ((), False)
    assert (daf_net.starts, daf_net.pretrained) == ((starts,) * 3, is_pretrained)


def test_each_fold_of_a_nested_search_has_its_own(make_study: MakeStudy, example: Example) -> None:
    study = make_study(whole=[])
    example_search(study, example[0], example[1])
    write_selection(study)
    trials = layout.read_trials(study)
    layout.write_trials(study, trials.assign(parameters=100 + trials["trial"]).to_dict("records"))
    write_epochs(study, "unet", 2, {0: 5, 2: 1})
    write_epochs(study, "unet", 4, {1: 3})
    results = read_study(study)
    nested = results.efforts["unet"]
    assert (nested.kind, nested.settings_tried) == ("nested", 4)
    assert (nested.folds, nested.trials) == ((0, 1, 2), (2, 4, 2))
    assert nested.epochs == nested.chosen_epochs == (6, 4, 2)
    assert nested.parameters == (102, 104, 102)
    assert nested.values("optim.lr") == [0.01, 0.001]
    assert nested.values("train.batch_size") == [12, 8]
    # 3 folds of 6 epochs of the fixed trial, and 6 + 4 + 2 of the search
    assert nested.fold_epochs == 18 + 12
    winner = results.all_efforts["unet", "winner"]
    assert (winner.settings_tried, winner.trials, winner.values("optim.lr")) == (4, (5, 5, 5), [0.01])
    assert results.all_efforts["unet", "fixed"].settings_tried == 1


def test_hours_are_those_of_all_trials_on_their_share_of_a_gpu(make_study: MakeStudy, example: Example) -> None:
    study = make_study(whole=[])
    example_search(study, example[0], example[1])
    write_epochs(study, "unet", 1, {0: 0, 1: 0}, seconds=900.0)  # 2 folds of one epoch and a test: 1 hour
    change_rows(study, "unet", device="H200", gpus=0.5, threads=4, precision="bfloat16")
    change_rows(study, "daf_net", device="EPYC; Xeon", gpus=0.0, threads=4, precision="float32")
    unet, daf_net = read_study(study).efforts.values()
    assert unet.hours == pytest.approx(1 + 18 / 3600)
    assert unet.gpu_hours == pytest.approx(unet.hours / 2)
    assert unet.cpu_hours == 0
    assert (unet.devices, unet.precisions) == (("H200",), ("bfloat16",))
    assert daf_net.cpu_hours == pytest.approx(4 * 18 / 3600)
    assert daf_net.gpu_hours == 0
    assert daf_net.devices == ("EPYC", "Xeon")


def test_hours_of_a_trial_on_unknown_hardware_are_of_neither_kind(make_study: MakeStudy, example: Example) -> None:
    study = make_study(whole=[])
    change_rows(study, "unet", device="H200", gpus=1.0, threads=1)
    example_search(study, example[0], example[1])
    write_epochs(study, "unet", 1, {0: 0})
    unet = read_study(study).efforts["unet"]
    assert (unet.gpu_hours, unet.cpu_hours) == (None, None)
    assert unet.hours == pytest.approx((18 + 2) / 3600)


def test_an_older_study_tells_parameters_by_its_checkpoint(make_study: MakeStudy) -> None:
    study = make_study()
    network = build_model(ModelSettings(arch="unet", width=2), seed=0)
    tensors = {f"model/{name}": tensor for name, tensor in network.state_dict().items()}
    for fold in range(3):
        study.write_bytes(layout.checkpoint_name("unet", 0, fold), pack(tensors, {}))
        study.write_bytes(layout.checkpoint_name("daf_net", 0, fold), b"\xff" * 20)
    drop_new_columns(study)
    unet, daf_net = read_study(study).efforts.values()
    assert unet.parameters == (sum(weight.numel() for weight in network.parameters()),) * 3
    assert daf_net.parameters == ()


def drop_new_columns(study: Store) -> None:
    """Make `trials.parquet` that of a study before these columns."""
    table = study.read_table(layout.TRIALS_FILE)
    study.write_table(layout.TRIALS_FILE, table.drop_columns(["parameters", "device", "gpus", "threads", "precision"]))


def test_settings_that_a_table_lacks_are_not_made_up(make_study: MakeStudy) -> None:
    study = make_study()
    kept = [*layout.TRIALS.names[:7], "optim.lr"]
    study.write_table(layout.TRIALS_FILE, study.read_table(layout.TRIALS_FILE).select(kept))
    for effort in read_study(study).efforts.values():
        assert effort.settings == ({"optim.lr": 0.001},) * 3
        assert effort.epochs == (6, 6, 6)  # its learning curve has them


def test_a_value_that_is_refused_now_is_told_as_it_was(make_study: MakeStudy) -> None:
    study = make_study()
    change_rows(study, "unet", train__batch_size=0)
    assert read_study(study).efforts["unet"].values("train.batch_size") == [0]


def test_epochs_without_a_curve_are_those_that_were_set(make_study: MakeStudy) -> None:
    study = make_study(whole=[])
    for name in study.part_names("epochs"):
        study.delete(name)
    change_rows(study, "unet", train__stop_after=4)
    unet, daf_net = read_study(study).efforts.values()
    assert (unet.epochs, daf_net.epochs) == ((4, 4, 4), (6, 6, 6))
    assert unet.fold_epochs == 0
    assert np.isnan(unet.hours)


def test_folds_that_are_not_predicted_do_not_count(make_study: MakeStudy) -> None:
    study = make_study(without=[("unet", 1)], whole=[])
    write_epochs(study, "unet", 0, {1: 0})
    assert read_study(study).efforts["unet"].epochs == (6, 6)


def test_a_table_of_scores_has_no_efforts(tmp_path: Any) -> None:
    (tmp_path / "scores.csv").write_text("model,image_id,patient_id,dsc\na,1,p,0.5\n")
    assert read_table(Store(tmp_path), "scores.csv").efforts == {}


def test_a_whole_trial_is_read_like_its_parts(make_study: MakeStudy) -> None:
    study = make_study(whole=[])
    before = read_study(study).efforts
    study.finish_trial(TrialKey("unet", 0), 3)
    assert read_study(study).efforts == before


# ---- differences --------------------------------------------------------------------------------


@pytest.fixture
def both(make_study: MakeStudy) -> tuple[Effort, Effort]:
    unet, daf_net = read_study(make_study()).efforts.values()
    return unet, daf_net


def test_equal_efforts_do_not_differ(both: tuple[Effort, Effort]) -> None:
    assert differences(*both) == []
    assert differences(both[0], dataclasses.replace(both[1], epochs=(6, 6))) == []


def test_differences_have_their_numbers(both: tuple[Effort, Effort]) -> None:
    unet, daf_net = both
    tuned = dataclasses.replace(unet, settings_tried=4, epochs=(12, 9, 12))
    begun = dataclasses.replace(daf_net, settings=({"model.encoder": "resnet18", "model.pretrained": True},))
    assert differences(tuned, begun) == [
        "settings tried: 4 and 1",
        "epochs: 9 to 12 and 6",
        "pretrained: DAF-Net alone",
    ]
    assert differences(begun, tuned) == [
        "settings tried: 1 and 4",
        "epochs: 6 and 9 to 12",
        "pretrained: DAF-Net alone",
    ]


def test_unknown_epochs_are_no_difference(both: tuple[Effort, Effort]) -> None:
    assert differences(both[0], dataclasses.replace(both[1], epochs=())) == []


def test_results_without_efforts_have_none() -> None:
    assert Results("nothing", pd.DataFrame(), pd.DataFrame()).all_efforts == {}
