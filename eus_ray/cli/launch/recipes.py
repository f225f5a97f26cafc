"""The recipes of `cluster/`, filled in: one function a target, which raises `UserError` for all that is wrong."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from eus_ray.cli.launch.checks import (
    absolute,
    below,
    command_of,
    flag,
    is_given,
    mismatches,
    not_one_line,
    port_range,
    slurm_seconds,
    written_paths,
)
from eus_ray.errors import UserError

FOLDER = Path(__file__).parents[2] / "cluster"
FILE = "{file}"
"""Stands in a submitting command for the recipe's file."""
STOPPING = {"env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "600"}}
"""Runtime environment of a Ray job: `ray job stop` is a Ctrl-C, and waits for the epoch to be saved."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"), "letters, digits, dots, dashes and _, 63 at most"
_PLAIN = re.compile(r"[\w./:@+-]+", re.ASCII), "it without spaces and quotes"
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Recipe:
    """A filled-in recipe, and the commands that submit it; they read it on standard input, or as `FILE`."""

    text: str
    submit: tuple[tuple[str, ...], ...]
    needs_file: bool = False


def local(args: argparse.Namespace) -> Recipe:
    """A script that runs the study here, and again where it was killed."""
    lines = mismatches(args, {"gpus": (re.compile(r"[\w/-]+(,[\w/-]+)*", re.ASCII), "numbers with commas, as 0,1")})
    if lines:
        raise UserError(*lines)
    path = absolute(args.write or "THIS_FILE")
    return Recipe(_fill("local.sh.jinja", {**_place(args), "gpus": args.gpus, "path": path}), (), needs_file=True)


def ray(args: argparse.Namespace) -> Recipe:
    """`ray job submit` to a cluster that runs already."""
    lines = mismatches(args, {"submission_id": _WORD})
    try:
        url = urlsplit(args.address)
    except ValueError:  # half of an IPv6 address
        url = urlsplit("")
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password:
        shown = args.address.rpartition("@")[2]  # no password
        lines.append(f"--address {shown}: write the dashboard's address, such as http://127.0.0.1:8265")
    if lines:
        raise UserError(*lines)
    command = command_of(args, absolute(args.study))
    words = _job(args.address, command, args.submission_id)
    return Recipe(_fill("ray.sh.jinja", {"command": command, "submission": words}), (tuple(words),))


_SLURM_OWN = (
    *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem", "partition", "account"),
    *("time", "signal", "requeue", "open-mode", "output"),
)


def slurm(args: argparse.Namespace) -> Recipe:
    """A batch script: one allocation, a Ray cluster in it, requeued until the study is done."""
    lines = below(args, 1, "nodes", "cpus_per_task") + not_one_line(args.setup, "--setup")
    limit_s = slurm_seconds(args.time)
    if limit_s is None:
        lines.append(f"--time {args.time}: write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS")
    elif not 60 <= args.signal <= min(limit_s - 60, 65535):
        lines.append(f"--signal {args.signal}: must be 60 at least, and a minute less than --time {args.time} at most")
    name = r"[\w.-]+"
    patterns = {
        "job_name": _WORD,
        "partition": (re.compile(rf"{name}(,{name})*", re.ASCII), "names with commas"),
        "account": (re.compile(name, re.ASCII), "a name"),
        "mem": (re.compile(r"\d+[KMGT]?", re.ASCII), "a size such as 64G"),
        "gpus_per_node": (re.compile(rf"({name}:)?[1-9]\d*", re.ASCII), "a number, or TYPE:NUMBER"),
    }
    lines += mismatches(args, patterns)
    extra = [option.lstrip("-") for option in args.sbatch]
    for option in extra:
        if not option.isprintable() or not re.fullmatch(r"[a-z][a-z0-9-]*(=\S(.*\S)?)?", option):
            lines.append(f"--sbatch {option!r}: write a long option of sbatch, such as constraint=a100")
        elif option.partition("=")[0] in _SLURM_OWN:
            lines.append(f"--sbatch {option}: the recipe sets that itself")
    ports = port_range(args.port_range, lines)
    if lines:
        raise UserError(*lines)
    asked = {
        option: getattr(args, option.replace("-", "_")) for option in ("gpus-per-node", "mem", "partition", "account")
    }
    values = {
        **_place(args),
        **{name: getattr(args, name) for name in ("job_name", "nodes", "cpus_per_task", "time", "setup")},
        "given": [(option, value) for option, value in asked.items() if value is not None],
        "signal_s": args.signal,
        "sbatch": extra,
        "ports": ports,
        "any_ports": ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"],
    }
    return Recipe(_fill("slurm.sh.jinja", values), (("sbatch", "--parsable"),))


@dataclass(frozen=True)
class Provider:
    """What Ray's cluster launcher wants to know of a cloud, and what is taken where nothing is said."""

    needs: tuple[str, ...]
    head_instance_type: str | None = None
    machine_image: str | None = None
    head_setup: tuple[str, ...] = ()
    initialization: tuple[str, ...] = ()


PROVIDERS = {
    "aws": Provider(
        ("region", "instance_type", "workers"),
        "m5.2xlarge",
        head_setup=("pip install boto3",),  # and Ray knows an image for each region
    ),
    "gcp": Provider(
        ("region", "zone", "project_id", "instance_type", "workers", "cpus_per_node", "gpus_per_node"),
        "n2-standard-8",
        "projects/deeplearning-platform-release/global/images/family/common-cu121",
        ("pip install google-api-python-client",),
    ),
    "azure": Provider(
        ("region", "resource_group", "instance_type", "workers", "cpus_per_node", "gpus_per_node"),
        "Standard_D8s_v5",
        "microsoft-dsvm:ubuntu-2204:2204-gen2:latest",
        ("pip install azure-identity azure-mgmt-compute azure-mgmt-network azure-mgmt-resource",),
        ("touch ~/.sudo_as_admin_successful", "sudo usermod -aG docker $USER || true"),
    ),
    "local": Provider(("head_ip", "worker_ips", "ssh_user")),
}
_WITH_IDENTITY = ("aws", "gcp")
_OF_CLOUDS = {"zone", "spot", "head_instance_type", "machine_image", "cpus_per_node", "gpus_per_node"}


def autoscaler(args: argparse.Namespace) -> Recipe:
    """A configuration of Ray's cluster launcher, and the job that runs on the cluster."""
    provider, options = PROVIDERS[args.provider], vars(args)
    lines = [
        f"{flag(name)} is needed for --provider {args.provider}"
        for name in provider.needs
        if not is_given(options[name])
    ]
    takes = {*provider.needs, "ssh_user"} | (_OF_CLOUDS if args.provider != "local" else set())
    takes |= {"worker_identity"} if args.provider in _WITH_IDENTITY else set()
    all_names = {name for each in PROVIDERS.values() for name in each.needs} | _OF_CLOUDS | {"worker_identity"}
    strangers = [name for name in sorted(all_names - takes) if is_given(options[name])]
    lines += [f"{flag(name)} has no meaning for --provider {args.provider}" for name in strangers]
    lines += below(args, 1, "workers", "cpus_per_node") + below(args, 0, "gpus_per_node")
    lines += not_one_line(args.setup, "--setup")
    names = (
        *("cluster_name", "region", "zone", "project_id", "resource_group", "instance_type", "head_instance_type"),
        *("machine_image", "image", "head_ip", "ssh_user", "worker_identity"),
    )
    lines += mismatches(args, dict.fromkeys(names, _PLAIN))
    lines += [f"--worker-ips {ip}: write {_PLAIN[1]}" for ip in args.worker_ips or () if not _PLAIN[0].fullmatch(ip)]
    machine_image = args.machine_image or provider.machine_image
    if args.provider == "azure" and str(machine_image).count(":") != 3:
        lines.append(f"--machine-image {machine_image}: write publisher:offer:sku:version")
    mounts = [mount.partition("=")[::2] for mount in args.mount]
    for remote, here in mounts:
        if not PurePosixPath(remote).is_absolute() or not here:
            lines.append(f"--mount {remote}={here}: write /REMOTE=LOCAL")
        elif not Path(here).expanduser().exists():
            lines.append(f"--mount {remote}={here}: no such file or folder here")
    ports = port_range(args.port_range, lines)
    if lines:
        raise UserError(*lines)
    port, dashboard = (ports.first, ports.first + 1) if ports else (6379, 8265)
    remote_study = "/tmp/eus-ray/study.toml"
    nodes = 1 + (len(args.worker_ips) if args.provider == "local" else args.workers)
    wait = f"from eus_ray.launch import wait_for_nodes; wait_for_nodes('127.0.0.1:{port}', {nodes})"
    job = _job(f"http://127.0.0.1:{dashboard}", command_of(args, remote_study), None)
    start = f"export RAY_AUTH_MODE=token && {shlex.join(['python', '-c', wait])} && {shlex.join(job)}"
    counts = {"CPU": args.cpus_per_node, "GPU": args.gpus_per_node}
    values = {
        **{name: options[name] for name in (*names, "provider", "workers", "worker_ips", "spot", "setup")},
        "head_instance_type": args.head_instance_type or provider.head_instance_type,
        "machine_image": machine_image,
        "ssh_user": args.ssh_user or "ubuntu",
        "ssh_private_key": None if args.ssh_private_key is None else absolute(args.ssh_private_key),
        "resources": {name: count for name, count in counts.items() if count is not None},
        "head_setup": provider.head_setup,
        "initialization": provider.initialization,
        "token": absolute(args.token),
        "remote_study": remote_study,
        "local_study": absolute(args.study),
        "mounts": [(remote, absolute(here)) for remote, here in mounts],
        "port": port,
        "ports": ports,
        "start": start,
    }
    submit = (("ray", "up", "--yes", FILE), ("ray", "exec", FILE, start))
    return Recipe(_fill("autoscaler.yaml.jinja", values), submit, needs_file=True)


_STUDY_FOLDER = "/etc/eus-ray"
_LONGEST_NAME = 47
"""Of a RayJob: KubeRay makes longer names of it."""


def kuberay(args: argparse.Namespace) -> Recipe:
    """A RayJob or RayCluster, the study as a ConfigMap, and who may reach its ports."""
    lines = below(args, 1, "workers", "cpus_per_worker") + below(args, 0, "gpus_per_worker")
    for name, longest in (("name", _LONGEST_NAME), ("namespace", 63)):
        value = getattr(args, name)
        if not _DNS_LABEL.fullmatch(value) or len(value) > longest:
            lines.append(f"--{name} {value}: small letters, digits and dashes, a letter first, {longest} at most")
    size = re.compile(r"[1-9]\d*([KMGT]i?)?", re.ASCII), "a size such as 64Gi"
    lines += mismatches(args, {"image": _PLAIN, "memory_per_worker": size})
    volumes = [volume.partition(":")[::2] for volume in args.volume]
    for claim, path in volumes:
        if not all(_DNS_LABEL.fullmatch(part) for part in claim.split(".")) or not PurePosixPath(path).is_absolute():
            lines.append(f"--volume {claim}:{path}: write CLAIM:/PATH")
    if args.secret is not None and not all(_DNS_LABEL.fullmatch(part) for part in args.secret.split(".")):
        lines.append(f"--secret {args.secret}: write the name of a Secret")
    selector = [pair.partition("=")[::2] for pair in args.node_selector]
    label = re.compile(r"[A-Za-z0-9]([\w./-]*[A-Za-z0-9])?", re.ASCII)
    for key, value in selector:
        if not label.fullmatch(key) or not label.fullmatch(value):
            lines.append(f"--node-selector {key}={value}: write KEY=VALUE")
    for name, place in {"--out": args.out, **written_paths(args)}.items():
        if "://" not in place and not any(PurePosixPath(place).is_relative_to(path) for _, path in volumes):
            lines.append(f"{name} {place}: lies on no --volume, and pods forget what lies elsewhere")
    if lines:
        raise UserError(*lines)
    worker = {"cpu": str(args.cpus_per_worker), "memory": args.memory_per_worker}
    if args.gpus_per_worker:
        worker["nvidia.com/gpu"] = str(args.gpus_per_worker)
    values = {
        **{name: getattr(args, name) for name in ("name", "namespace", "kind", "image", "workers", "secret")},
        "labels": {"app.kubernetes.io/name": "eus-ray", "app.kubernetes.io/instance": args.name},
        "ray_version": metadata.version("ray"),
        "node_selector": dict(selector),
        "volumes": volumes,
        "head_resources": {"cpu": "2", "memory": "16Gi"},
        "worker_resources": worker,
        "study_folder": _STUDY_FOLDER,
        "study_text": Path(args.study).read_text(encoding="utf-8"),
        "entrypoint": shlex.join(command_of(args, f"{_STUDY_FOLDER}/study.toml")),
        "runtime_env": STOPPING,
    }
    return Recipe(_fill("kuberay.yaml.jinja", values), (("kubectl", "create", "--filename", "-"),))


RECIPES: Mapping[str, Callable[[argparse.Namespace], Recipe]] = {
    "local": local,
    "ray": ray,
    "slurm": slurm,
    "autoscaler": autoscaler,
    "kuberay": kuberay,
}


def _job(address: str, command: Sequence[str], submission_id: str | None) -> list[str]:
    name = [] if submission_id is None else ["--submission-id", submission_id]
    options = ["--address", address, "--no-wait", *name, "--runtime-env-json", json.dumps(STOPPING)]
    return ["ray", "job", "submit", *options, "--", *command]


def _place(args: argparse.Namespace) -> dict[str, Any]:
    """What a script says of the machine it was made on, which its job sees too."""
    return {
        "command": command_of(args, absolute(args.study)),
        "out": absolute(args.out),
        "folder": str(Path.cwd()),
        "programs": str(Path(sys.executable).parent),
    }


def _fill(name: str, values: Mapping[str, Any]) -> str:
    """A recipe with its blanks filled; every value has matched a pattern or is quoted by a filter."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["q"] = shlex.quote
    environment.filters["words"] = shlex.join
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.get_template(name).render(**values)
