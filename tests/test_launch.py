"""Launching: every recipe is what its scheduler reads, runs the very command, and is refused before it can fail."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from eus_ray.cli import main, parser
from eus_ray.launch import heed_sigint
from eus_ray.launch_checks import Ports, slurm_seconds
from tests.helpers import LIGHT, assert_same, light_study, serial, tables
from tests.processes import wait_until

ROOT = Path(__file__).resolve().parent.parent
NASTY = "a b'c\"d$(touch pwned)`touch pwned`;&#"
"""A folder name that only right quoting survives."""

SHARED = {
    "local": ["local", "--gpus", "0,1"],
    "ray": ["ray", "--address", "http://127.0.0.1:8265", "--submission-id", "study-1"],
    "slurm": ["slurm", "--time", "12:00:00", "--cpus-per-task", "8", "--gpus-per-node", "a100:4", "--mem", "64G"],
    "slurm, whole nodes": [
        "slurm",
        "--time",
        "1-12",
        "--nodes",
        "2",
        "--port-range",
        "20000-20999",
        "--sbatch",
        "qos=long",
    ],
}
CLOUD = ["autoscaler", "--instance-type", "big", "--workers", "2", "--region", "here", "--image", "registry/eus-ray:1"]
COUNTS = ["--cpus-per-node", "16", "--gpus-per-node", "4"]
ELSEWHERE = {
    "aws": [*CLOUD, "--provider", "aws", "--spot", "--machine-image", "ami-1", "--zone", "here-a"],
    "gcp": [*CLOUD, "--provider", "gcp", "--zone", "here-a", "--project-id", "eus", "--spot", *COUNTS],
    "azure": [*CLOUD, "--provider", "azure", "--resource-group", "eus", *COUNTS, "--port-range", "20000-20999"],
    "own machines": ["autoscaler", "--provider", "local", "--head-ip", "10.0.0.1", "--worker-ips", "10.0.0.2,10.0.0.3",
                     "--ssh-user", "me", "--ssh-private-key", "~/.ssh/id_ed25519", "--setup", "module load python"],
    "RayJob": ["kuberay", "--image", "registry/eus-ray:1", "--volume", "eus-data:/data", "--gpus-per-worker", "1",
               "--node-selector", "gpu=a100", "--workers", "5"],
    "RayCluster": ["kuberay", "--image", "registry/eus-ray:1", "--volume", "eus-data:/data", "--kind", "RayCluster"],
}  # fmt: skip


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file beside its manifest, in a folder with an awkward name that is the current one."""
    folder = tmp_path / NASTY
    folder.mkdir()
    (folder / "manifest.csv").write_text("image,mask,patient_id\n")
    (folder / "study.toml").write_text('models = ["unet"]\n[data]\nmanifest = "manifest.csv"\n')
    monkeypatch.chdir(folder)
    return folder / "study.toml"


@pytest.fixture
def remote(study: Path) -> Path:
    """The study file for machines that do not see this one's folders."""
    study.write_text('# α "β" \'γ\'\nmodels = ["unet"]\n\n  [data]\n  manifest = "/data/manifest.csv"\n')
    return study


def launch(capsys: pytest.CaptureFixture[str], target: list[str], *more: str, out: str = "STUDY") -> str:
    """What `eus-ray launch` prints."""
    assert main(["launch", target[0], "study.toml", "--out", out, *target[1:], *more]) == 0
    return capsys.readouterr().out


def options_of(script: str, program: str) -> list[str]:
    """The words of the bash array or command in a script, as bash would see them."""
    (line,) = re.findall(rf"^{program}(.*)$", script, re.MULTILINE)
    return shlex.split(line.removesuffix(")"))


def check_bash(script: str, tmp_path: Path) -> None:
    path = tmp_path / "script.sh"
    path.write_text(script)
    subprocess.run(["bash", "-n", str(path)], check=True)
    if shutil.which("shellcheck"):
        answer = subprocess.run(["shellcheck", "--severity=warning", str(path)], capture_output=True, text=True)
        assert answer.returncode == 0, answer.stdout


# ---- what the recipes say -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SHARED)
def test_a_script_is_bash_and_runs_the_very_command(
    name: str, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = launch(
        capsys, SHARED[name], "--set", "optim.lr=1e-4", "--set", "data.manifest=manifest.csv", "--models", "unet"
    )
    check_bash(text, tmp_path)
    if name == "ray":
        words = options_of(text, "exec ray job submit ")
        assert words[: words.index("--")] == [
            "--address", "http://127.0.0.1:8265", "--no-wait", "--submission-id", "study-1", "--runtime-env-json",
            json.dumps({"env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "600"}}),
        ]  # fmt: skip
        words = words[words.index("--") + 1 :]
    else:
        words = options_of(text, r"command=\(")
    folder = study.parent
    assert words == [
        "eus-ray", "cv", str(study), "--out", str(folder / "STUDY"), "--models", "unet", "--set", "optim.lr=1e-4",
        "--set", f"data.manifest={folder / 'manifest.csv'}", "--resume",
    ]  # fmt: skip
    parsed = parser().parse_args(words[1:])
    assert (parsed.out, parsed.resume) == (str(folder / "STUDY"), True)
    assert not (folder / "pwned").exists()


def test_a_search_is_launched_with_its_own_options(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = launch(capsys, SHARED["slurm"], "--command", "tune", "--trials", "50", "--from", "OLD")
    words = options_of(text, r"command=\(")
    assert words[1] == "tune"
    assert words[-5:] == ["--trials", "50", "--from", str(study.parent / "OLD"), "--resume"]


def test_slurm_is_asked_for_what_the_options_say(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directives = re.findall(r"^#SBATCH --(.*)$", launch(capsys, SHARED["slurm"], "--signal", "900"), re.MULTILINE)
    assert directives == [
        "job-name=eus-ray", "nodes=1", "ntasks-per-node=1", "cpus-per-task=8", "gpus-per-node=a100:4", "mem=64G",
        "time=12:00:00", "signal=B:USR1@900", "requeue", "open-mode=append", "output=eus-ray-%j.log",
    ]  # fmt: skip
    whole = launch(capsys, SHARED["slurm, whole nodes"])
    assert re.search(r"^#SBATCH --exclusive$", whole, re.MULTILINE)
    assert re.search(r"^#SBATCH --qos=long$", whole, re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129600), ("1-12:30", 131400), ("1-00:00:30", 86430)]
    + [(wrong, None) for wrong in ("", "2h", "1-", "-1", "1:2:3:4", "１２", "12:00:00\n")],
)
def test_time_limits_are_read_as_slurm_reads_them(text: str, seconds: int | None) -> None:
    assert slurm_seconds(text) == seconds


@pytest.mark.parametrize("name", ["aws", "gcp", "azure", "own machines"])
def test_the_cluster_launcher_reads_its_file(name: str, remote: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import ray
    from ray.autoscaler._private.util import prepare_config, validate_config

    text = launch(capsys, ELSEWHERE[name], out="s3://bucket/STUDY")
    config = yaml.safe_load(text)
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    validate_config(prepare_config(config))
    started = [command for name in ("head", "worker") for command in config[f"{name}_start_ray_commands"]]
    assert sum("RAY_AUTH_MODE=token ray start" in command for command in started) == 2
    assert "--dashboard-host=127.0.0.1" in started[1]
    assert config["file_mounts"]["~/.ray/auth_token"] == str(Path.home() / ".ray/auth_token")
    assert config["file_mounts"]["/tmp/eus-ray/study.toml"] == str(remote)
    if name != "own machines":
        workers = config["available_node_types"]["workers"]
        assert workers["min_workers"] == workers["max_workers"] == config["max_workers"] == 2


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_kubernetes_gets_the_study_a_policy_and_the_cluster(
    kind: str, remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = launch(capsys, ELSEWHERE[kind], out="/data/STUDY")
    config_map, policy, resource = yaml.safe_load_all(text)
    jsonschema.validate(resource, json.loads((ROOT / "tests/kuberay_schema.json").read_text()))
    assert config_map["data"]["study.toml"] == remote.read_text()
    cluster = resource["spec"]["rayClusterSpec"] if kind == "RayJob" else resource["spec"]
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    selected = policy["spec"]["podSelector"]["matchLabels"]
    for group in groups:
        template = group["template"]
        assert selected.items() <= template["metadata"]["labels"].items()
        mounts = {mount["mountPath"]: mount["name"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert volumes[mounts["/etc/eus-ray"]]["configMap"]["name"] == config_map["metadata"]["name"]
        assert volumes[mounts["/data"]]["persistentVolumeClaim"]["claimName"] == "eus-data"
        assert template["spec"]["securityContext"]["runAsNonRoot"]
    if kind == "RayJob":
        words = shlex.split(resource["spec"]["entrypoint"])
        assert words == ["eus-ray", "cv", "/etc/eus-ray/study.toml", "--out", "/data/STUDY", "--resume"]
        assert groups[1]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert yaml.safe_load(resource["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_SIGNAL"] == "SIGINT"


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_kubernetes_manifests_pass_the_published_definitions(
    kind: str, remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(os.environ.get("EUS_RAY_KUBERAY_CRDS", ROOT.parent / "shared/data/kuberay"))
    path = folder / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"KubeRay's published definitions are not at {folder}; EUS_RAY_KUBERAY_CRDS names their folder")
    versions = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = (version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1")
    *_, resource = yaml.safe_load_all(launch(capsys, ELSEWHERE[kind], out="/data/STUDY"))
    jsonschema.validate(resource, closed(schema))


def closed(schema: Any) -> Any:
    """An OpenAPI schema that refuses unknown fields, and takes a number where an API server does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema["type"] = ["integer", "string"]
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        schema["additionalProperties"] = False
    return schema


def test_all_ports_lie_in_their_range_and_none_is_named_twice() -> None:
    ports = Ports(20000, 20099)
    named = [int(option.rpartition("=")[2]) for option in (*ports.head, *ports.every_node)]
    assert sorted(named) == [*range(20001, 20009), 20010, 20099]


def test_no_recipe_has_a_token_on_a_command_line(
    remote: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5ecret")
    for target in ELSEWHERE.values():
        text = launch(capsys, target, out="s3://bucket/STUDY" if target[0] == "autoscaler" else "/data/STUDY")
        assert "5ecret" not in text
        assert not re.search(r"RAY_AUTH_TOKEN\s*[:=]", text)


# ---- what the scripts do ------------------------------------------------------------------------


@pytest.fixture
def stubs(tmp_path: Path, study: Path) -> Callable[[str, str], Path]:
    """Puts a shell script in the place of a program; what it is called with is in `calls`."""
    folder = tmp_path / "stubs"
    folder.mkdir()

    def stub(name: str, body: str = "") -> Path:
        path = folder / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >>{shlex.quote(str(tmp_path / "calls"))}\n{body}\n')
        path.chmod(0o755)
        return folder

    return stub


def calls(tmp_path: Path, program: str) -> list[str]:
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix(f"{program} ") for line in lines if line.startswith(f"{program} ")]


FINISHES_ITS_EPOCH = """
trap 'mkdir -p STUDY/epochs; touch STUDY/epochs/part; exit 130' INT
touch running
while :; do sleep 0.1; done
"""


@pytest.fixture
def allocation(stubs: Callable[..., Path], study: Path, tmp_path: Path, capsys: Any) -> Iterator[Callable[..., Any]]:
    """Runs the Slurm script as slurmd would, with stubs for Slurm's and Ray's programs."""
    started: list[subprocess.Popen[str]] = []

    def run(command: str, wait: str = "exit 0", **more: str) -> subprocess.Popen[str]:
        stubs("eus-ray", command)
        stubs("python", wait)
        stubs("scontrol")
        stubs(
            "ray",
            'stat -c %a "$RAY_AUTH_TOKEN_PATH" >mode; wc -c <"$RAY_AUTH_TOKEN_PATH" >length\n'
            'mkdir /tmp/eusray.4711.0; while [ -e "$RAY_AUTH_TOKEN_PATH" ]; do sleep 0.1; done',
        )
        folder = stubs("srun", 'export SLURM_PROCID=0 SLURM_CPUS_ON_NODE=4\nexec "${@: -3}"')
        script = launch(
            capsys, SHARED["slurm"], "--setup", f"export PATH={shlex.quote(str(folder))}:$PATH", "--signal", "60"
        )
        given = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "1", **more}
        process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **given},
            preexec_fn=heed_sigint,
        )
        started.append(process)
        assert process.stdin is not None
        process.stdin.write(script)
        process.stdin.close()
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stderr is not None
    said = process.stderr.read()
    return process.wait(20), said


def test_ahead_of_the_time_limit_the_epoch_is_saved_and_the_job_requeued(
    allocation: Callable[..., Any], study: Path, tmp_path: Path
) -> None:
    process = allocation(FINISHES_ITS_EPOCH, SLURM_MEM_PER_NODE="1000", SLURM_GPUS_ON_NODE="2")
    wait_until((study.parent / "running").exists, seconds=20)
    wait_until((study.parent / "length").exists, seconds=20)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    code, said = end_of(process)
    assert code == 130, said
    assert calls(tmp_path, "scontrol") == ["requeue 4711"]
    (driver,) = calls(tmp_path, "eus-ray")
    assert driver == f"cv {study} --out {study.parent / 'STUDY'} --resume --address 127.0.0.1:26844"  # 20000 + 1711 * 4
    (ray,) = calls(tmp_path, "ray")
    options = ray.split()
    assert options[:3] == ["start", "--head", "--node-ip-address=127.0.0.1"]
    assert {"--num-cpus=4", "--num-gpus=2", "--dashboard-host=127.0.0.1", "--block"} <= set(options)
    assert f"--object-store-memory={1000 * 2**20 // 10 * 3}" in options
    assert (study.parent / "mode").read_text().strip() == "600"
    assert (study.parent / "length").read_text().strip() == "64"
    assert not (study.parent / ".eus-ray-4711").exists()
    assert not Path("/tmp/eusray.4711.0").exists()
    assert not (study.parent / "pwned").exists()


@pytest.mark.parametrize(
    ("command", "signals", "code", "requeued"),
    [
        ("exit 0", [], 0, False),
        ("exit 1", [], 1, False),
        ("trap 'exit 130' INT; touch running; while :; do sleep 0.1; done", ["USR1"], 130, False),  # saved nothing
        (FINISHES_ITS_EPOCH, ["TERM"], 130, False),  # scancel
        ("trap 'touch STUDY/epochs/part; exit 1' INT; mkdir -p STUDY/epochs; touch running; "
         "while :; do sleep 0.1; done", ["USR1"], 1, False),  # broke down on its way out
        ("trap 'sleep 0.5; mkdir -p STUDY/epochs; touch STUDY/epochs/part; exit 130' INT; touch running; "
         "while :; do sleep 0.1; done", ["USR1", "TERM"], 130, False),
    ],
    ids=["done", "failed", "nothing saved", "cancelled", "broken", "cancelled at the last minute"],
)  # fmt: skip
def test_only_a_job_that_comes_forward_is_requeued(
    allocation: Callable[..., Any],
    study: Path,
    tmp_path: Path,
    command: str,
    signals: list[str],
    code: int,
    requeued: bool,
) -> None:
    process = allocation(command)
    for name in signals:
        wait_until((study.parent / "running").exists, seconds=20)
        time.sleep(0.2)
        process.send_signal(getattr(signal, f"SIG{name}"))
    ended, said = end_of(process)
    assert ended == code, said
    assert bool(calls(tmp_path, "scontrol")) == requeued


def test_a_cluster_that_does_not_come_up_ends_the_job_with_what_ray_said(
    allocation: Callable[..., Any], study: Path, tmp_path: Path
) -> None:
    process = allocation("exit 0", wait="sleep 1; exit 1")
    code, _ = end_of(process)
    assert code == 1
    assert calls(tmp_path, "eus-ray") == []
    assert not (study.parent / ".eus-ray-4711").exists()


def test_the_workstation_script_goes_on_where_it_was_killed(
    stubs: Callable[..., Path], study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs("sleep")
    folder = stubs("eus-ray", "echo to the log; [ -e second ] && exit 0; touch second; kill -9 $$")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert main(["launch", "local", "study.toml", "--out", "STUDY", "--write", "run.sh"]) == 0
    assert (
        subprocess.run(
            ["bash", "run.sh"], capture_output=True, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        ).returncode
        == 0
    )
    once = f"cv {study} --out {study.parent / 'STUDY'} --resume"
    assert calls(tmp_path, "eus-ray") == [once, once]
    stubs("eus-ray", "exit 2")
    assert subprocess.run(["bash", "run.sh"], capture_output=True).returncode == 2
    assert len(calls(tmp_path, "eus-ray")) == 3


def test_a_workstation_run_is_started_apart_and_stops_on_sigint(
    stubs: Callable[..., Path], study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = stubs("eus-ray", f"echo to the log\n{FINISHES_ITS_EPOCH}")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert main(["launch", "local", "study.toml", "--out", "STUDY", "--write", "run.sh", "--submit"]) == 0
    pid = int(re.search(r"process (\d+)", capsys.readouterr().out)[1])  # type: ignore[index]
    wait_until((study.parent / "running").exists, seconds=20)
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGINT)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert (study.parent / "run.sh.log").read_text() == "to the log\n"


# ---- writing and submitting ---------------------------------------------------------------------


def test_a_recipe_is_written_once(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["launch", "slurm", "study.toml", "--out", "STUDY", "--time", "1:00:00", "--write", "job.sh"]
    assert main(command) == 0
    first = (study.parent / "job.sh").read_text()
    assert first.startswith("#!/bin/bash")
    assert os.access("job.sh", os.X_OK)
    assert main(command) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (study.parent / "job.sh").read_text() == first


@pytest.mark.parametrize(
    ("name", "program", "called"),
    [
        ("slurm", "sbatch", "--parsable"),
        ("RayJob", "kubectl", "create --filename -"),
        ("ray", "ray", "job submit --address http://127.0.0.1:8265 --no-wait --submission-id study-1"),
    ],
)
def test_a_recipe_is_submitted_by_the_schedulers_own_program(
    name: str, program: str, called: str, request: pytest.FixtureRequest, stubs: Callable[..., Path], tmp_path: Path,
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = stubs(program, f"cat >{shlex.quote(str(tmp_path / 'stdin'))}; echo job 4711")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    target, out = SHARED.get(name), "STUDY"
    if target is None:
        request.getfixturevalue("remote")
        target, out = ELSEWHERE[name], "/data/STUDY"
    recipe = launch(capsys, target, out=out)
    assert launch(capsys, target, "--submit", out=out) == "job 4711\n"
    (said,) = calls(tmp_path, program)
    assert said.startswith(called)
    assert (tmp_path / "stdin").read_text() == recipe


def test_a_cloud_is_started_and_then_the_study_on_it(
    remote: Path, stubs: Callable[..., Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stubs("ray")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    token = tmp_path / "keys/token"
    more = ["--write", "c.yaml", "--submit", "--token", str(token)]
    launch(capsys, ELSEWHERE["aws"], *more, out="s3://bucket/STUDY")
    path = remote.parent / "c.yaml"
    up, run = calls(tmp_path, "ray")
    assert up == f"up --yes {path}"
    assert run.startswith(f"exec {path} export RAY_AUTH_MODE=token && python -c ")
    assert "wait_for_nodes('\"'\"'127.0.0.1:6379'\"'\"', 3)" in run
    assert run.endswith("-- eus-ray cv /tmp/eus-ray/study.toml --out s3://bucket/STUDY --resume")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text())
    assert yaml.safe_load(path.read_text())["file_mounts"]["~/.ray/auth_token"] == str(token)


def test_a_token_that_others_can_read_is_refused(
    remote: Path, stubs: Callable[..., Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(stubs("ray") / "python"))
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o644)
    command = [*ELSEWHERE["aws"], "--write", "c.yaml", "--submit", "--token", str(token)]
    assert main(["launch", command[0], "study.toml", "--out", "s3://bucket/STUDY", *command[1:]]) == 2
    assert "others may read this token" in capsys.readouterr().err
    assert not Path("c.yaml").exists()
    assert calls(tmp_path, "ray") == []


def test_what_the_scheduler_refuses_is_one_line(
    study: Path, stubs: Callable[..., Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stubs("sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert main(["launch", "slurm", "study.toml", "--out", "STUDY", "--time", "1:00:00", "--submit"]) == 2
    assert capsys.readouterr().err == (
        "eus-ray: sbatch refused (exit code 1): sbatch: error: invalid partition specified: gpu\n"
    )


# ---- mistakes -----------------------------------------------------------------------------------

SLURM = ["slurm", "--time", "1:00:00"]
AWS = ["autoscaler", "--provider", "aws", "--region", "here", "--instance-type", "big", "--workers", "1"]
KUBERAY = ["kuberay", "--image", "eus-ray", "--volume", "eus-data:/data"]
MISTAKES: dict[str, tuple[list[str], str]] = {
    "no such target": (["slrum"], "did you mean slurm?"),
    "no time": (["slurm"], "--time"),
    "time": (["slurm", "--time", "2h"], "--time 2h: write minutes"),
    "time shorter than its warning": (["slurm", "--time", "10"], "--signal 600"),
    "no nodes": ([*SLURM, "--nodes", "0"], "--nodes 0: must be 1 at least"),
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
    "submission id": (["ray", "--address", "http://head:8265", "--submission-id", "a b"], "--submission-id a b"),
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
    "long name": ([*KUBERAY, "--name", "a" * 48], "47 at most"),
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
    try:
        code = main(["launch", words[0], "study.toml", "--out", "/data/STUDY" if away else "STUDY", *words[1:]])
    except SystemExit as stopped:  # the parser's own refusals
        code = int(stopped.code or 0)
    printed = capsys.readouterr()
    assert code == 2, printed
    (line,) = printed.err.strip().splitlines()
    assert said in line
    assert printed.out == ""
    assert sorted(study.parent.iterdir()) == before


def test_several_mistakes_come_in_one_go(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "slurm", "study.toml", "--out", "S", "--time", "soon", "--nodes", "0", "--mem", "x"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 3


def test_a_study_that_is_there_needs_resume(phantom: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study.parent / "STUDY").mkdir()
    (study.parent / "STUDY/provenance.json").write_text("{}")
    assert main(["launch", *SLURM[:1], "study.toml", "--out", "STUDY", *SLURM[1:]]) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert launch(capsys, SLURM, "--resume")


# ---- for real -----------------------------------------------------------------------------------


@pytest.fixture
def running_cluster(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray cluster with a token, as `ray start` leaves it: its dashboard, and the environment of its users."""
    token = tmp_path / "auth_token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "RAY_AUTH_MODE": "token"}
    environment |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    ports = Ports(23000, 23199)
    options = ["--head", f"--port={ports.first}", "--num-cpus=2", *ports.head, *ports.every_node, "--block"]
    with (tmp_path / "ray.log").open("w") as log:
        process = subprocess.Popen(
            [str(programs / "ray"), "start", *options], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield f"http://127.0.0.1:{ports.first + 1}", environment
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_on_a_running_cluster_ends_with_the_same_tables(
    running_cluster: tuple[str, dict[str, str]], phantom: Path, tmp_path: Path
) -> None:
    url, environment = running_cluster
    sets = [word for setting in LIGHT for word in ("--set", setting)]
    (tmp_path / "study.toml").write_text(f'models = ["unet"]\n[data]\nmanifest = "{phantom}"\n')
    command = [sys.executable, "-m", "eus_ray.cli", "launch", "ray", str(tmp_path / "study.toml"), *sets]
    command += ["--out", str(tmp_path / "STUDY"), "--address", url, "--submission-id", "study-1", "--submit"]
    waiting = "from eus_ray.launch import wait_for_nodes; wait_for_nodes('127.0.0.1:23000', 1, 60)"
    subprocess.run([sys.executable, "-c", waiting], env=environment, check=True)
    without = {**environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")}
    (tmp_path / "wrong").write_text("0" * 64)
    refused = subprocess.run(command, env=without, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    subprocess.run(command, env=environment, check=True)
    status = ["ray", "job", "status", "--address", url, "study-1"]

    def ended() -> bool:
        said = subprocess.run(status, env=environment, capture_output=True, text=True).stdout
        assert "failed" not in said
        return "succeeded" in said

    wait_until(ended, seconds=180)
    assert_same(tables(tmp_path / "STUDY"), serial(light_study(phantom), "unet"))
