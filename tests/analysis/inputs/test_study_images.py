"""images.parquet from a study folder: finished, running, killed, and contradicting itself."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import tomli_w

from eus_ray import metrics, store
from eus_ray.analysis.inputs import study_images as module
from eus_ray.analysis.inputs.cases import read_cases
from eus_ray.analysis.inputs.predictions import MovedError
from eus_ray.analysis.inputs.study_images import IDENTITY, read_study_images, unfinished
from eus_ray.analysis.labels import Labels
from eus_ray.analysis.measures.calibration import CALIBRATION, calibration
from eus_ray.analysis.measures.image_metrics import METRICS, image_metrics
from eus_ray.config import AnalysisSettings, EvaluateSettings, Study
from eus_ray.errors import UserError
from eus_ray.store import PartKey, Store, TrialKey

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]


def read(study: Store, processes: int | None = None) -> pd.DataFrame:
    """Return the rows of the networks; test_baseline.py has those of the baseline."""
    frame = read_study_images(study, read_cases(study), processes).frame
    return frame[frame["kind"] != "baseline"]


def missing(study: Store, models: tuple[str, ...] = ("unet", "daf_net")) -> list[str]:
    return unfinished(store.read_manifest(study), store.read_trials(study), read(study), models, {}, Labels())


def test_every_prediction_is_measured_with_its_truth(make_study: MakeStudy, example: Example) -> None:
    manifest, truths, probabilities = example
    frame = read(make_study(spacing=(0.5, 0.25)))
    assert list(frame.columns) == [*IDENTITY, "t_stage", "age", "sex", *METRICS, "diagonal"]
    assert len(frame) == 24
    assert set(frame["kind"]) == {"fixed"}
    assert frame["model"].unique().tolist() == ["unet", "daf_net"]  # of the trials, not of the alphabet
    assert frame["image_id"][:12].tolist() == manifest.sort_values("fold", kind="stable")["image_id"].tolist()
    for row in frame.to_dict("records"):
        level = metrics.quantise(probabilities[row["model"], row["image_id"]])
        expected = image_metrics(
            truths[row["image_id"]], level >= 32768, scores=level, levels=level, spacing=(0.5, 0.25)
        )
        np.testing.assert_equal({name: row[name] for name in METRICS}, expected)
        assert row["diagonal"] == math.hypot(48 * 0.5, 64 * 0.25)
        described = manifest.set_index("image_id").loc[row["image_id"]]
        assert (row["patient_id"], row["fold"], row["age"]) == (described.patient_id, described.fold, described.age)


def test_the_tolerance_is_the_studys_own(make_study: MakeStudy, example: Example) -> None:
    _, truths, probabilities = example
    settings = Study(models=("unet", "daf_net"), analysis=AnalysisSettings(tolerance=0.5))
    frame = read(make_study(settings=settings)).set_index(["model", "image_id"])
    levels = metrics.quantise(probabilities["unet", "i00"])
    expected = image_metrics(truths["i00"], levels >= 32768, tolerance=0.5)["nsd"]
    assert frame.loc[("unet", "i00"), "nsd"] == expected
    assert expected < image_metrics(truths["i00"], levels >= 32768)["nsd"]


def test_bins_come_with_the_metrics(make_study: MakeStudy, example: Example) -> None:
    _, truths, probabilities = example
    study = make_study()
    found = read_study_images(study, read_cases(study))
    assert len(found.bins) == 24
    levels = metrics.quantise(probabilities["unet", "i04"])
    expected = calibration(levels, truths["i04"], levels >= 32768)
    assert (found.bins["unet", "fixed", "i04"] == expected.bins).all()
    row = found.frame.set_index(["model", "image_id"]).loc[("unet", "i04")]
    assert tuple(row[[*CALIBRATION]]) == expected[1:]
    assert math.isnan(found.frame.set_index(["model", "image_id"]).loc[("daf_net", "i11"), "brier_box"])


@pytest.mark.parametrize("processes", [1, 2])
def test_masks_are_made_as_the_study_says(make_study: MakeStudy, example: Example, processes: int) -> None:
    _, truths, probabilities = example
    how = EvaluateSettings(threshold=0.2, keep="largest", fill_holes=True)
    frame = read(make_study(settings=Study(models=("unet", "daf_net"), evaluate=how)), processes)
    changed = 0
    for row in frame.to_dict("records"):
        level = metrics.quantise(probabilities[row["model"], row["image_id"]])
        found = metrics.predicted_mask(level, 0.2, "largest", True)
        expected = image_metrics(truths[row["image_id"]], found, scores=level)
        assert (row["dsc"], row["hd"], row["components"]) == (expected["dsc"], expected["hd"], expected["components"])
        changed += bool((found != (level >= 32768)).any())
    assert changed


def test_an_older_study_without_these_settings_has_masks_from_one_half_on(make_study: MakeStudy) -> None:
    study = make_study()
    before = read(study)
    settings = tomllib.loads(study.read_text(store.STUDY))
    settings["evaluate"] = {"grid": "resized"}
    del settings["analysis"]
    study.write_text(store.STUDY, tomli_w.dumps(settings))
    pd.testing.assert_frame_equal(read(study), before)


def test_what_a_mean_would_hide_is_there(make_study: MakeStudy) -> None:
    frame = read(make_study()).set_index(["model", "image_id"])
    missed = frame.loc["unet", "i03"]
    assert missed["missed"]
    assert missed["hd"] == math.inf
    assert missed["dsc"] == 0
    assert frame.loc[("unet", "i06"), "false_alarm"]
    assert frame.loc[("unet", "i06"), "hd"] == math.inf
    both_empty = frame.loc["daf_net", "i06"]
    assert both_empty["dsc"] == 1
    assert both_empty["hd"] == 0
    assert math.isnan(both_empty["auc"])


def test_more_processes_give_the_same(make_study: MakeStudy) -> None:
    study = make_study()
    pd.testing.assert_frame_equal(read(study, processes=2), read(study, processes=1))


def test_outlines_come_with_the_metrics(make_study: MakeStudy) -> None:
    study = make_study()
    outlines = read_study_images(study, read_cases(study)).outlines
    assert len(outlines) == 24
    assert outlines["unet", "fixed", "i03"] == ()
    (found,) = outlines["daf_net", "fixed", "i00"]
    assert found.shape[1] == 2
    assert 10 < np.ptp(found[:, 0]) < 20


def test_a_running_study_gives_the_folds_that_are_there(make_study: MakeStudy) -> None:
    study = make_study(state="running", whole=[], without=[("unet", 1), ("daf_net", 0), ("daf_net", 2)])
    frame = read(study)
    assert frame.groupby("model")["fold"].unique().map(sorted).to_dict() == {"unet": [0, 2], "daf_net": [1]}
    assert missing(study, ("unet", "daf_net", "attention_unet")) == [
        "Att-U-Net: not started",
        "U-Net: 2 of 3 folds finished, running; missing fold 1",
        "DAF-Net: 1 of 3 folds finished, running; missing folds 0, 2",
    ]


def test_a_finished_study_lacks_nothing(make_study: MakeStudy) -> None:
    assert missing(make_study()) == []


def test_a_missing_prediction_is_named(make_study: MakeStudy, example: Example) -> None:
    _, _, probabilities = example
    del probabilities["daf_net", "i02"]
    study = make_study(probabilities=probabilities)
    assert len(read(study)) == 23
    assert missing(study) == ["DAF-Net: 2 of 3 folds finished, complete; missing 1 of the 4 images of fold 0"]


def test_a_fold_killed_before_its_counts_were_written_is_left_out(make_study: MakeStudy) -> None:
    study = make_study(state="running", whole=[])
    study.delete(store.part_name("scores", PartKey("unet", 0, 0, 2)))
    assert sorted(read(study).query("model == 'unet'")["fold"].unique()) == [0, 1]
    complete = make_study("complete", whole=[])
    complete.delete(store.part_name("scores", PartKey("unet", 0, 0, 2)))
    with pytest.raises(UserError, match="unet, trial 0, fold 2, image i08: predicted, but the scores"):
        read(complete)


def test_trials_of_a_search_are_not_reported(make_study: MakeStudy) -> None:
    study = make_study(kind="trial", state="running")
    frame = read(study)
    assert frame.empty
    assert list(frame.columns) == [*IDENTITY, *METRICS, "diagonal"]
    assert frame["tp"].dtype == "int64"
    assert missing(study) == [
        f"{model}: the search goes on; no setting is chosen yet" for model in ("U-Net", "DAF-Net")
    ]


def test_counts_that_contradict_the_prediction_stop_it(make_study: MakeStudy) -> None:
    study = make_study(whole=[])
    key = ("daf_net", 0, 0, 1)
    rows = study.read_part("scores", PartKey(*key))
    wrong = pc.if_else(pc.equal(rows["image_id"], "i04"), pc.add(rows["tp"], 1), rows["tp"])
    study.write_part("scores", PartKey(*key), rows.set_column(rows.schema.get_field_index("tp"), "tp", wrong))
    with pytest.raises(UserError, match="daf_net, trial 0, fold 1, image i04: prediction and truth give tp") as caught:
        read(study)
    assert len(caught.value.lines) == 1


def test_validation_rows_and_earlier_epochs_do_not_count(make_study: MakeStudy) -> None:
    study = make_study(whole=[])
    key = ("unet", 0, 0, 0)
    rows = study.read_part("scores", PartKey(*key)).to_pylist()
    others = [row | {"split": "validation", "tp": 1} for row in rows] + [row | {"epoch": 0, "tp": 2} for row in rows]
    study.write_part("scores", PartKey(*key), pa.Table.from_pylist(rows + others, store.SCORES))
    assert len(read(study)) == 24


def test_all_that_does_not_fit_is_said_at_once(make_study: MakeStudy) -> None:
    study = make_study(whole=[])
    key = ("unet", 0, 0, 0)
    rows = study.read_part("predictions", PartKey(*key)).to_pylist()
    rows[0] |= {"image_id": "stranger"}
    rows[1] |= {"height": 47}
    study.write_part("predictions", PartKey(*key), pa.Table.from_pylist(rows, store.PREDICTIONS))
    manifest = store.read_manifest(study)
    manifest.loc[manifest["image_id"] == "i05", "fold"] = 0
    study.write_frame(store.MANIFEST, manifest)
    with pytest.raises(UserError) as caught:
        read(study)
    text = str(caught.value)
    assert "image stranger: is predicted, but cases/cases.parquet has no such image" in text
    assert "image i01: its prediction is 47 x 64 with 3072 values, its truth 48 x 64" in text
    assert "unet, trial 0, fold 1, image i05: manifest.parquet has it in fold 0" in text


def test_a_file_that_goes_while_it_is_read_is_read_again(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial finishes between the listing of its parts and their reading."""
    study = make_study(whole=[], state="running")
    measure, calls = module.measure, []

    def finish_meanwhile(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            study.finish_trial(TrialKey("unet", 0), 3)
            raise FileNotFoundError
        if len(calls) == 2:
            raise MovedError
        return measure(*arguments)

    monkeypatch.setattr(module, "measure", finish_meanwhile)
    assert len(read(study)) == 24
    assert len(calls) == 3
    monkeypatch.setattr(module, "measure", lambda *_arguments: (_ for _ in ()).throw(MovedError()))
    with pytest.raises(UserError, match="faster than they can be read"):
        read(study)


def test_a_clinical_column_may_be_called_trial(make_study: MakeStudy) -> None:
    study = make_study()
    study.write_frame(store.MANIFEST, store.read_manifest(study).assign(trial="NCT0"))
    assert set(read(study)["trial"]) == {"NCT0"}
