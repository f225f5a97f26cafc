"""The Python interface, used as in a notebook: nothing is printed, nothing of the command line is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import eus_ray
from tests.architecture import ROOT
from tests.helpers import LIGHT, Recorder, assert_same, serial, tables

SETTINGS = {"folds.count": 3, "run.workers": 1, **dict(text.split("=") for text in LIGHT)}


def light(manifest: Path, **settings: object) -> eus_ray.Study:
    return eus_ray.load_study(models=["unet"], **{"data.manifest": manifest, **SETTINGS, **settings})


@pytest.fixture(scope="module")
def trained(phantom: Path, ray_session: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:  # noqa: ARG001
    """A study of two networks, and what a callback heard of it."""
    folder, recorder = tmp_path_factory.mktemp("api") / "study", Recorder()
    study = eus_ray.load_study(models=["unet", "daf_net"], **{"data.manifest": phantom, **SETTINGS})
    outcome = eus_ray.cross_validate(study, folder, callbacks=[recorder])
    assert outcome.states == {"unet": "complete", "daf_net": "complete"}
    assert not outcome.is_interrupted
    return folder, recorder


@pytest.mark.ray
def test_a_notebook_from_a_manifest_to_a_figure(
    trained: tuple[Path, Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, recorder = trained
    results = eus_ray.open_study(folder)
    assert results.trials()["state"].tolist() == ["complete"] * 2
    images = results.images()
    assert images.groupby("model").size().to_dict() == {"unet": 20, "daf_net": 20, "baseline": 20}
    assert images["dsc"].between(0, 1).all()
    claims = results.claims()
    assert set(claims["metric"]) >= {"dsc", "hd"}
    assert {"Supported", "supported"} & set(" ".join(map(str, claims.to_numpy().ravel())).split()) or len(claims)
    figures = results.figures()
    assert any(name.endswith(".svg") and data.lstrip().startswith(b"<") for name, data in figures.items())
    assert results.selection().empty
    assert len(results.statistics())

    epochs = SETTINGS["train.epochs"]
    assert len(recorder.reports) == 2 * 3 * int(str(epochs))
    assert [record.model for record in recorder.begun] == ["unet", "daf_net"]
    assert [record.state for record in recorder.ended] == [eus_ray.TrialState.COMPLETE] * 2
    assert recorder.plans
    assert capsys.readouterr() == ("", "")


@pytest.mark.ray
def test_a_network_predicts_an_array(trained: tuple[Path, Recorder]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)
    predictor = eus_ray.Predictor(trained[0], "unet")
    prediction = predictor.predict(image)
    for part in prediction.probability, prediction.mask, prediction.agreement:
        assert part.shape == (40, 56)
    assert prediction.mask.dtype == np.bool_
    assert (prediction.mask == (prediction.probability >= 0.5)).all()
    assert set(np.round(np.unique(prediction.agreement) * 3).astype(int)) <= {0, 1, 2, 3}, "of three networks"
    with pytest.raises(eus_ray.UserError, match=r"\(H, W\)"):
        predictor.predict(np.zeros((3, 40, 56), np.uint8))


@pytest.mark.ray
def test_two_studies_at_once_in_two_threads(phantom: Path, ray_session: object, tmp_path: Path) -> None:  # noqa: ARG001
    """Each has its own settings, folder, controller and callbacks."""
    studies = {name: light(phantom, **{"optim.lr": lr}) for name, lr in (("slow", 1e-4), ("fast", 3e-3))}
    heard = {name: Recorder() for name in studies}
    outcomes: dict[str, object] = {}

    def run(name: str) -> None:
        outcomes[name] = eus_ray.cross_validate(studies[name], tmp_path / name, callbacks=[heard[name]]).states

    threads = [threading.Thread(target=run, args=(name,)) for name in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {name: {"unet": "complete"} for name in studies}
    for name, study in studies.items():
        assert_same(tables(tmp_path / name), serial(study, "unet"))
        assert {record.settings["optim.lr"] for record in heard[name].ended} == {study.optim.lr}


def test_scores_of_any_tool_are_compared() -> None:
    rng = np.random.default_rng(1)
    patients = [f"p{number}" for number in range(30)]
    base = rng.uniform(0.6, 0.8, 30)
    frame = pd.concat(
        pd.DataFrame({"model": model, "image_id": patients, "patient_id": patients, "dsc": base + gain})
        for model, gain in (("ours", 0.1 + rng.normal(0, 0.01, 30)), ("theirs", 0.0))
    )
    (claim,) = eus_ray.compare(frame, "dsc").to_dict("records")
    assert claim["verdict"] == "supported"
    assert "ours" in claim["claim"]
    with pytest.raises(eus_ray.UserError, match="have no column iou"):
        eus_ray.compare(frame, "iou")
    with pytest.raises(eus_ray.UserError, match="patient_id"):
        eus_ray.compare(frame.drop(columns="patient_id"), "dsc")


def test_mistakes_are_user_errors_that_speak_of_no_option(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(eus_ray.UserError, match=r"optim\.lrr: no such field; did you mean optim\.lr"):
        eus_ray.load_study(**{"optim.lrr": 1})
    with pytest.raises(eus_ray.UserError, match="is no study folder"):
        eus_ray.open_study(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(eus_ray.UserError) as error:
        eus_ray.cross_validate(light(phantom), tmp_path)
    assert "choose an empty output folder" in str(error.value)
    assert "--" not in str(error.value)


def test_importing_the_package_is_light_and_its_names_are_there() -> None:
    code = (
        "import sys, eus_ray; heavy = {'torch', 'ray', 'numpy', 'pandas'} & set(sys.modules); "
        "print(sorted(heavy), all(hasattr(eus_ray, name) for name in eus_ray.__all__))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.split() == ["[]", "True"]
    with pytest.raises(AttributeError, match="has no attribute 'cross_validat'"):
        eus_ray.cross_validat  # noqa: B018


def test_reading_results_needs_neither_torch_nor_ray(tmp_path: Path) -> None:
    """A laptop analyses what a cluster trained."""
    frame = pd.DataFrame({"model": ["a", "b"] * 6, "image_id": np.repeat(list("ijklmn"), 2)})
    frame.assign(patient_id=frame["image_id"], dsc=np.linspace(0.5, 0.9, 12)).to_csv(tmp_path / "scores.csv")
    code = (
        "import sys, eus_ray, pandas; eus_ray.compare(pandas.read_csv('scores.csv')); eus_ray.open_study; "
        "print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert answer.stdout.strip() == "[]"


USERS_SCRIPT = """
from __future__ import annotations

import numpy as np
import numpy.typing as npt

import eus_ray


class Best(eus_ray.Callback):
    def __init__(self) -> None:
        self.dsc = 0.0

    def on_fold_report(self, key: eus_ray.TrialKey, report: eus_ray.FoldReport) -> None:
        if report.monitor_dsc is not None:
            self.dsc = max(self.dsc, report.monitor_dsc)

    def on_trial_end(self, trial: eus_ray.TrialRecord) -> None:
        print(trial.model, trial.state is eus_ray.TrialState.COMPLETE, trial.value)


def main(folder: str) -> npt.NDArray[np.bool_]:
    study: eus_ray.Study = eus_ray.load_study("study.toml", **{"train.epochs": 3})
    best = Best()
    outcome: eus_ray.Outcome = eus_ray.cross_validate(study, folder, resume=True, callbacks=[best])
    if not outcome.is_interrupted:
        outcome = eus_ray.tune(study, folder, start_from=None)
    results = eus_ray.open_study(folder)
    mean: float = float(results.images()["dsc"].mean())
    print(mean, best.dsc, results.claims().shape, list(results.figures()), eus_ray.analyze(folder))
    predictor = eus_ray.Predictor(folder, "unet")
    prediction: eus_ray.Prediction = predictor.predict(np.zeros((64, 64), np.uint8))
    try:
        eus_ray.predict(folder, ["images"], "out", progress=lambda done, total: None)
    except eus_ray.UserError as error:
        print(error.lines)
    return prediction.mask
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_users_script_passes_mypy_strict(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(USERS_SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    environment = {"PATH": "", "MYPYPATH": str(ROOT)}
    answer = subprocess.run(
        [*command, "--follow-imports=silent", str(script)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stdout
