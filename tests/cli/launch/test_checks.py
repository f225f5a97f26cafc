"""Launching is refused before it can fail: one line a mistake, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from eus_ray.cli import main
from tests.cli.launch.commands import COUNTS, launch
from tests.helpers import exit_code

SLURM = ["slurm", "--time", "1:00:00"]
AWS = ["autoscaler", "--provider", "aws", "--region", "here", "--instance-type", "big", "--workers", "1"]
KUBERAY = ["kuberay", "--image", "eus-ray", "--volume", "eus-data:/data"]
MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such target": (["slrum"], "did you mean slurm?"),
    "no time": (["slurm"], "--time"),
    "time": (["slurm", "--time", "2h"], "--time 2h: write minutes"),
    "time shorter than its warning": (["slurm", "--time", "10"], "--signal 600"),
    "no nodes": ([*SLURM, "--nodes", "0"], "--nodes 0: must be at least 1"),
    "no cores": ([*SLURM, "--cpus-per-task", "-1"], "--cpus-per-task -1"),
    "gpus": ([*SLURM, "--gpus-per-node", "four"], "--gpus-per-node four"),
    "memory": ([*SLURM, "--mem", "64 GB"], "--mem 64 GB"),
    "partition": ([*SLURM, "--partition", "gpu; rm -rf /"], "--partition gpu; rm"),
    "account": ([*SLURM, "--account", "a b"], "--account a b"),
    "job name": ([*SLURM, "--job-name", "a/b"], "--job-name a/b"),
    "option of sbatch": ([*SLURM, "--sbatch", "C a100"], "--sbatch 'C a100'"),
    "line break in an option": ([*SLURM, "--sbatch", "comment=a\nrm"], "--sbatch"),
    "option that is set already": ([*SLURM, "--sbatch", "requeue"], "the recipe sets that itself"),
    "line break in the set-up": ([*SLURM, "--setup", "a\nb"], "--setup"),
    "ports": ([*SLURM, "--port-range", "20000"], "--port-range 20000"),
    "ports upside down": ([*SLURM, "--port-range", "30000-20000"], "--port-range 30000-20000"),
    "ports that are none": ([*SLURM, "--port-range", "65000-66000"], "--port-range 65000-66000"),
    "trials of cv": ([*SLURM, "--trials", "5"], "--trials is of tune"),
    "override": ([*SLURM, "--set", "optim.lrr=1"], "did you mean optim.lr?"),
    "line break in an override": ([*SLURM, "--set", "model.encoder=a\nb"], "control character"),
    "architecture": ([*SLURM, "--models", "unett"], "did you mean unet?"),
    "encoder": ([*SLURM, "--models", "daf_net", "--set", "model.encoder=resnet1"], "resnet1"),
    "manifest": ([*SLURM, "--set", "data.manifest=none.csv"], "none.csv: no such file"),
    "existing file": ([*SLURM, "--write", "study.toml"], "nothing is overwritten"),
    "no such folder": ([*SLURM, "--write", "none/job.sh"], "no such folder"),
    "no scheduler here": ([*SLURM, "--submit"], "sbatch: no such command here"),
    "gpus of the machine": (["local", "--gpus", "0 1"], "--gpus 0 1"),
    "start without a file": (["local", "--submit"], "--submit needs --write FILE"),
    "address": (["ray", "--address", "head:8265"], "--address head:8265"),
    "password in the address": (["ray", "--address", "http://me:secret@head:8265"], "--address"),
    "half an address": (["ray", "--address", "http://[::1"], "--address http://[::1"),
    "secret's name": ([*KUBERAY, "--secret", "My Keys"], "--secret My Keys"),
    "identity on azure": (["autoscaler", "--provider", "azure", "--region", "r", "--resource-group", "g", "--workers",
                           "1", "--instance-type", "t", *COUNTS, "--worker-identity", "w"], "--worker-identity has no"),
    "submission id": (["ray", "--address", "http://head:8265", "--submission-id", "a b"], "--submission-id a b"),
    "secret in the study's place": (["local", "--out", "s3://key:secret@bucket/STUDY"], "--out: its secret"),
    "secret of the old study": ([*SLURM, "--command", "tune", "--from", "s3://key:secret@bucket/OLD"], "--from: its"),
    "provider": (["autoscaler", "--provider", "awz"], "did you mean aws?"),
    "region": ([*AWS[:3], "--instance-type", "big", "--workers", "1"], "--region is needed for --provider aws"),
    "of another provider": ([*AWS, "--project-id", "p"], "--project-id has no meaning for --provider aws"),
    "spot at home": (["autoscaler", "--provider", "local", "--head-ip", "h", "--worker-ips", "a", "--ssh-user", "me",
                      "--spot"], "--spot has no meaning"),
    "mount": ([*AWS, "--mount", "data=set"], "--mount data=set: write /REMOTE=LOCAL"),
    "mount of nothing": ([*AWS, "--mount", "/data=none"], "no such file or folder here"),
    "machine image": (["autoscaler", "--provider", "azure", "--region", "r", "--resource-group", "g", "--workers", "1",
                       "--instance-type", "t", *COUNTS, "--machine-image", "ubuntu"], "publisher:offer:sku:version"),
    "yaml in a name": ([*AWS, "--cluster-name", "a: {b"], "--cluster-name a: {b"),
    "no image": (["kuberay"], "--image"),
    "name": ([*KUBERAY, "--name", "My_Study"], "--name My_Study"),
    "long name": ([*KUBERAY, "--name", "a" * 48], "at most 47"),
    "namespace": ([*KUBERAY, "--namespace", "-a"], "--namespace"),
    "claim": ([*KUBERAY, "--volume", "Data:/d"], "--volume Data:/d: write CLAIM:/PATH"),
    "size": ([*KUBERAY, "--memory-per-worker", "lots"], "--memory-per-worker lots"),
    "no workers": ([*KUBERAY, "--workers", "0"], "--workers 0"),
    "selector": ([*KUBERAY, "--node-selector", "gpu"], "--node-selector gpu="),
    "study on no volume": ([*KUBERAY, "--out", "/home/S"], "--out /home/S: lies on no"),
    "relative manifest": ([*KUBERAY, "--set", "data.manifest=m.csv"], "data.manifest m.csv: the nodes do not see"),
    "relative study folder": ([*AWS, "--out", "STUDY"], "--out STUDY: the nodes do not see"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(
    name: str, study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, said = MISTAKES[name]
    away = words[0] in ("autoscaler", "kuberay")
    if away:
        study.write_text('models = ["unet"]\n[data]\nmanifest = "/data/manifest.csv"\n')
    monkeypatch.setenv("PATH", "/nowhere")
    before = sorted(study.parent.iterdir())
    code = exit_code(["launch", words[0], "study.toml", "--out", "/data/STUDY" if away else "STUDY", *words[1:]])
    printed = capsys.readouterr()
    assert code == 2, printed
    (line,) = printed.err.strip().splitlines()
    assert said in line
    assert ":secret" not in line
    assert printed.out == ""
    assert sorted(study.parent.iterdir()) == before


@pytest.mark.usefixtures("study")
def test_several_mistakes_come_in_one_go(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "slurm", "study.toml", "--out", "S", "--time", "soon", "--nodes", "0", "--mem", "x"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


def test_a_study_that_is_there_needs_resume(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study.parent / "STUDY").mkdir()
    (study.parent / "STUDY/provenance.json").write_text("{}")
    assert main(["launch", *SLURM[:1], "study.toml", "--out", "STUDY", *SLURM[1:]]) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert launch(capsys, SLURM, "--resume")
