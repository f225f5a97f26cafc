"""Every recipe is what its scheduler reads, and runs the same command as a person."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from eus_ray.cli import parser
from eus_ray.cli.launch.checks import Ports, slurm_seconds
from tests.cli.launch.commands import ELSEWHERE, SHARED, check_bash, launch, options_of

ROOT = Path(__file__).resolve().parents[3]


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


@pytest.mark.usefixtures("study")
def test_slurm_is_asked_for_what_the_options_say(capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize(
    ("name", "identity", "field", "expected"),
    [
        ("aws", "arn:aws:iam::1:instance-profile/w", "IamInstanceProfile",
         {"Arn": "arn:aws:iam::1:instance-profile/w"}),
        ("aws", "workers", "IamInstanceProfile", {"Name": "workers"}),
        ("gcp", "w@p.iam.gserviceaccount.com", "serviceAccounts",
         [{"email": "w@p.iam.gserviceaccount.com", "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}]),
    ],
)  # fmt: skip
def test_workers_of_a_cloud_reach_object_storage_by_an_identity(
    name: str, identity: str, field: str, expected: object, capsys: pytest.CaptureFixture[str]
) -> None:
    text = launch(capsys, ELSEWHERE[name], "--worker-identity", identity, out="s3://bucket/STUDY")
    types = yaml.safe_load(text)["available_node_types"]
    assert types["workers"]["node_config"][field] == expected
    assert field not in types["head"]["node_config"], "Ray gives the head one of its own"


@pytest.mark.usefixtures("remote")
def test_pods_get_a_secret_as_environment(capsys: pytest.CaptureFixture[str]) -> None:
    *_, job = yaml.safe_load_all(launch(capsys, ELSEWHERE["RayJob"], "--secret", "bucket-keys", out="/data/STUDY"))
    jsonschema.validate(job, json.loads((Path(__file__).parent / "kuberay_schema.json").read_text()))
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "bucket-keys"}}]


def test_the_image_has_its_token_s_folder_where_ray_looks_for_home() -> None:
    image = (ROOT / "cluster/Containerfile").read_text()
    assert "--mode 700 --owner eus --group eus /home/eus/.ray" in image
    assert re.search(r"^ENV HOME=/home/eus\b", image, re.MULTILINE)


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_kubernetes_gets_the_study_a_policy_and_the_cluster(
    kind: str, remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = launch(capsys, ELSEWHERE[kind], out="/data/STUDY")
    config_map, policy, resource = yaml.safe_load_all(text)
    jsonschema.validate(resource, json.loads((Path(__file__).parent / "kuberay_schema.json").read_text()))
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


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_kubernetes_manifests_pass_the_published_definitions(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize(
    ("fixture", "target", "out"),
    [("study", SHARED["slurm"], "STUDY"), ("remote", ELSEWHERE["aws"], "s3://bucket/STUDY")],
    ids=["slurm", "autoscaler"],
)
def test_what_a_recipe_imports_is_there(
    fixture: str, target: list[str], out: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    request.getfixturevalue(fixture)
    (module,) = set(re.findall(r"from ([\w.]+) import wait_for_nodes", launch(capsys, target, out=out)))
    assert callable(importlib.import_module(module).wait_for_nodes)


def test_all_ports_lie_in_their_range_and_none_is_named_twice() -> None:
    ports = Ports(20000, 20099)
    named = [int(option.rpartition("=")[2]) for option in (*ports.head, *ports.every_node)]
    assert sorted(named) == [*range(20001, 20009), 20010, 20099]


@pytest.mark.usefixtures("remote")
def test_no_recipe_has_a_token_on_a_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5ecret")
    for target in ELSEWHERE.values():
        text = launch(capsys, target, out="s3://bucket/STUDY" if target[0] == "autoscaler" else "/data/STUDY")
        assert "5ecret" not in text
        assert not re.search(r"RAY_AUTH_TOKEN\s*[:=]", text)
