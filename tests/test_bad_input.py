"""Two hundred mistakes over all commands: each ends with exit code 2, one clear line a defect, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eus_ray.cli import main
from eus_ray.config import dotted_names
from eus_ray.store import Store
from tests.helpers import exit_code

ROOT = Path(__file__).resolve().parent.parent
Case = tuple[tuple[str, ...], str]
"""A command line, and what its message must hold. `{here}` is a folder that holds what a test may spoil."""

CV = ("cv", "--out", "{here}/study", "--set", "data.manifest={here}/set/manifest.csv")
TUNE = ("tune", *CV[1:])


def misspelt() -> list[Case]:
    """Every field with a letter too many."""
    return [((*CV, "--set", f"{name}q=1"), f"did you mean {name}?") for name in dotted_names() if name != "only"]


def mistyped() -> list[Case]:
    """Every field with a list of lists of lists."""
    names = [name for name in dotted_names() if name not in ("only", "models")]
    return [((*CV, "--set", f"{name}=[[[1]]]"), name) for name in names]


OUT_OF_RANGE = {
    "data.image_size": ("16", "100", "-64"),
    "data.intensity": ("[5, 5]", "[9, 1]"),
    "data.resize": ("crop",),
    "data.duplicates": ("ignore",),
    "folds.count": ("1", "0", "-5"),
    "folds.seed": ("-1",),
    "model.width": ("0",),
    "model.decoder_width": ("12", "0"),
    "model.decoder_init": ("zeros",),
    "augment.flip_probability": ("1.5", "-0.1"),
    "augment.scales": ("[]", "[0.0]", "[-1.0]"),
    "augment.rotations_degrees": ("[]",),
    "augment.elastic_sigma": ("0",),
    "optim.optimizer": ("adam",),
    "optim.lr": ("0", "-1e-3", "nan", "inf"),
    "optim.momentum": ("1", "-0.5"),
    "optim.weight_decay": ("-1",),
    "optim.schedule": ("linear",),
    "optim.milestones": ("[20, 5]", "[5, 5]", "[0]"),
    "optim.gamma": ("0",),
    "loss.si_weight": ("0", "-1"),
    "loss.dice_weight": ("0",),
    "loss.level_weights": ("[1, 1, 1]", "[1, 1, 1, -1]"),
    "train.epochs": ("0", "2.5"),
    "train.batch_size": ("0",),
    "train.precision": ("float64",),
    "train.clip_norm": ("-1",),
    "train.accumulate": ("0",),
    "analysis.margin": ("0", "-0.02", "nan"),
    "analysis.distance_margin": ("0", "inf"),
    "analysis.tolerance": ("-1", "inf"),
    "analysis.average": ("lesions",),
    "analysis.clinical": ("sex",),
    "analysis.target": ("''",),
    "evaluate.threshold": ("0", "1", "nan"),
    "evaluate.keep": ("smallest",),
    "evaluate.fill_holes": ("maybe",),
    "run.workers": ("0", "many"),
    "run.gpus_per_fold": ("-1", "1.5"),
    "run.threads_per_fold": ("0",),
    "run.order": ("sideways",),
    "run.max_failures": ("-1",),
    "search.trials": ("0",),
    "search.sampler": ("cmaes",),
    "search.grid_points": ("1",),
    "search.scheduler": ("hyperband",),
    "search.racing_alpha": ("0", "0.5", "-1"),
    "search.protocol": ("leaky",),
    "search.inner_folds": ("1",),
    "search.metric": ("hd",),
    "search.concurrent": ("0",),
    "evaluate.grid": ("fine",),
}


def out_of_range() -> list[Case]:
    last = {name: name.rpartition(".")[2] for name in OUT_OF_RANGE}
    return [
        ((*CV, "--set", f"{name}={value}"), last[name]) for name, values in OUT_OF_RANGE.items() for value in values
    ]


BY_HAND: list[Case] = [
    ((), "required"),
    (("cvv",), "did you mean cv?"),
    (("cv",), "--out"),
    (("cv", "--out", "{here}/study"), "data.manifest is not set"),
    (("cv", "{here}/none.toml", "--out", "{here}/study"), "none.toml"),
    (("cv", "{here}/broken.toml", "--out", "{here}/study"), "broken.toml"),
    (("cv", "{here}/unknown.toml", "--out", "{here}/study"), "did you mean optim.lr?"),
    ((*CV, "--models", "unett"), "did you mean unet?"),
    ((*CV, "--models", "unet,unet"), "each once"),
    ((*CV, "--models", ","), "one model"),
    ((*CV, "--preset", "papre"), "did you mean paper?"),
    ((*CV, "--set", "optim.lr"), "optim.lr"),
    ((*CV, "--set", "=3"), "="),
    ((*CV, "--set", "folds.count=11"), "11 folds"),
    ((*CV, "--set", "folds.stratify=['t_stge']"), "did you mean t_stage?"),
    ((*CV, "--models", "daf_net", "--set", "model.encoder=resnet1"), "resnet1"),
    ((*CV, "--models", "daf_net", "--set", "model.weights={here}/none.pth"), "none.pth"),
    (("cv", "--out", "{here}/study", "--set", "data.manifest={here}/none.csv"), "none.csv"),
    (("cv", "--out", "{here}/full", *CV[3:]), "holds thesis.txt and no study"),
    (("cv", "--out", "gopher://x/y", *CV[3:]), "gopher://x/y"),
    ((*TUNE, "--set", "search.space={here}/none.toml"), "none.toml"),
    ((*TUNE, "--set", "search.space={here}/upside.toml"), "upside.toml"),
    ((*TUNE, "--trials", "0"), "search.trials"),
    ((*TUNE, "--trials", "many"), "many"),
    ((*TUNE, "--from", "{here}/none"), "no study with trials"),
    ((*TUNE, "--set", "search.scheduler=asha", "--set", "search.protocol=paper"), "asha"),
    (("plan", "--nodes", "0", *CV[3:]), "--nodes"),
    (("plan", "--gpus", "-1", *CV[3:]), "--gpus"),
    (("plan", "--gpus", "inf", *CV[3:]), "--gpus"),
    (("plan", "--gpus", "0.5", *CV[3:]), "write whole ones"),
    (("plan", "--gpus", "1", "--cpus", "nan", *CV[3:]), "--cpus"),
    (("plan", "--cpus", "2", *CV[3:], "--set", "run.threads_per_fold=8"), "the largest machine has 2 cores"),
    (("status", "{here}/damaged"), "study.toml is damaged"),
    (("status", "{here}/foreign"), "study.toml is damaged"),
    (("cv", "{here}/zero.toml", "--out", "{here}/study"), "is no path"),
    (("plan", "--address", "x:1", "--gpus", "1", *CV[3:]), "--address"),
    (("status", "{here}/none"), "no such folder"),
    (("status", "{here}/full"), "is not a study folder"),
    (("replay", "{here}/none", "--rule", "none"), "none"),
    (("replay", "{here}/scores.csv", "--rule", "racing:2"), "racing"),
    (("replay", "{here}/scores.csv", "--rule", "halving:3"), "halving"),
    (("replay", "{here}/scores.csv"), "--rule"),
    (("replay", "{here}/scores.csv", "--rule", "none", "--slots", "0"), "slots"),
    (("data", "check", "{here}/none.csv"), "none.csv"),
    (("data", "check", "{here}/full"), "full"),
    (("data", "check", "{here}/empty.csv"), "empty.csv"),
    (("data", "check", "{here}/binary.csv"), "binary.csv"),
    (("data", "phantom", "{here}/p", "--patients", "0"), "patients"),
    (("data", "phantom", "{here}/p", "--patients", "5", "--images", "3"), "images"),
    (("data", "phantom", "{here}/p", "--size", "7"), "size"),
    (("data", "phantom", "{here}/p", "--seed", "-1"), "seed"),
    (("data", "phantom", "{here}/full"), "full"),
    (("data", "import", "dicom", "{here}/set", "{here}/new"), "no such choice"),
    (("data", "import", "pairs", "{here}/none", "{here}/new"), "none"),
    (("data", "import", "pairs", "{here}/full", "{here}/new"), "images"),
    (("data", "import", "nnunet", "{here}/set", "{here}/new"), "dataset.json"),
    (("data", "import", "busbra", "{here}/set", "{here}/new"), "bus_data.csv"),
    (("data", "import", "pairs", "{here}/set", "{here}/full"), "full"),
    (("data", "import", "pairs", "{here}/set", "{here}/new", "--pseudonymise", "{here}/broken.toml"), "broken.toml"),
    (("folds", "{here}/set/manifest.csv", "--count", "1", "--out", "{here}/f.csv"), "1"),
    (("folds", "{here}/set/manifest.csv", "--count", "99", "--out", "{here}/f.csv"), "99 folds"),
    (("folds", "{here}/set/manifest.csv", "--stratify", "t_stge", "--out", "{here}/f.csv"), "did you mean t_stage?"),
    (("folds", "{here}/set/manifest.csv", "--out", "{here}/set/manifest.csv"), "nothing is overwritten"),
    (("folds", "{here}/set/manifest.csv", "--out", "{here}/no/f.csv"), "no such folder"),
    (("analyze", "{here}/none"), "none"),
    (("analyze", "{here}/full"), "is not a study folder"),
    (("analyze", "{here}/empty.csv"), "empty.csv"),
    (("analyze", "{here}/columns.csv"), "metric"),
    (("analyze", "{here}/nan.csv"), "dsc"),
    (("analyze", "{here}/range.csv"), "dsc"),
    (("analyze", "{here}/table.csv", "--out", "{here}/full"), "full"),
]

CASES = [*misspelt(), *mistyped(), *out_of_range(), *BY_HAND]


@pytest.fixture(scope="module")
def here(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data that is sound, and files that are not what they are taken for."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "set").symlink_to(phantom.parent, target_is_directory=True)
    (folder / "full").mkdir()
    (folder / "full" / "thesis.txt").write_text("mine")
    (folder / "broken.toml").write_text("[optim\nlr = 1")
    for name, text in (("damaged", "[folds\n"), ("foreign", "[folds]\n")):
        (folder / name).mkdir()
        (folder / name / "study.toml").write_text(text)
    (folder / "zero.toml").write_text('[data]\nmanifest = "a\\u0000b"\n')
    (folder / "unknown.toml").write_text("[optim]\nlrr = 1\n")
    (folder / "upside.toml").write_text('[search."optim.lr"]\nkind = "float"\nlow = 1.0\nhigh = 0.1\n')
    (folder / "empty.csv").write_text("")
    (folder / "columns.csv").write_text("image,patient_id,model,image_id\nset/manifest.csv,1,unet,a\n")
    (folder / "binary.csv").write_bytes(bytes(range(256)))
    score = {"model": "unet", "trial": 0, "repeat": 0, "epoch": 0, "split": "test", "fn": 1, "tn": 9}
    scores = [score | {"fold": k, "image_id": f"i{k}", "patient_id": f"p{k}", "tp": 5, "fp": k} for k in (0, 1)]
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
    rows = pd.DataFrame({"model": "unet", "image_id": ["a", "b"], "patient_id": ["1", "2"], "dsc": [0.5, 0.6]})
    rows.to_csv(folder / "table.csv", index=False)
    rows.assign(dsc=[0.5, np.nan]).to_csv(folder / "nan.csv", index=False)
    rows.assign(dsc=[0.5, 1.5]).to_csv(folder / "range.csv", index=False)
    return folder


def filled(case: tuple[str, ...], here: Path) -> list[str]:
    return [word.replace("{here}", str(here)) for word in case]


def below(folder: Path) -> set[tuple[str, int]]:
    return {(str(path.relative_to(folder)), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def check(code: int, out: str, err: str, said: str) -> None:
    assert code == 2, out + err
    lines = err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("eus-ray: ")
    assert said in lines[0]
    assert "Traceback" not in out + err


def test_there_are_two_hundred() -> None:
    assert len(CASES) >= 200
    assert len({case for case, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("case", "said"), CASES, ids=[" ".join(case)[-60:] for case, _ in CASES])
def test_a_mistake_is_one_line_and_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], case: tuple[str, ...], said: str
) -> None:
    before = below(here)
    code = exit_code(filled(case, here))
    printed = capsys.readouterr()
    check(code, printed.out, printed.err, said)
    assert below(here) == before


@pytest.mark.slow
@pytest.mark.parametrize(("case", "said"), CASES[:: len(CASES) // 20][:20], ids=lambda value: str(value)[-40:])
def test_the_same_from_a_shell(here: Path, case: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "eus_ray.cli", *filled(case, here)]
    before = below(here)
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    check(answer.returncode, answer.stdout, answer.stderr, said)
    assert below(here) == before


def test_a_study_that_is_there_already_is_kept(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --resume a model that the folder holds is not begun again."""
    from eus_ray.store import write_trials

    store = Store(tmp_path / "study")
    write_trials(store, [{"model": "unet", "kind": "fixed", "trial": 0, "state": "complete", "reason": "",
                          "folds_done": 5, "value": 0.7}])  # fmt: skip
    assert main(["cv", "--out", store.location, "--models", "unet", *filled(CV[3:], here)]) == 2
    assert "holds trials.parquet and no study" in capsys.readouterr().err
