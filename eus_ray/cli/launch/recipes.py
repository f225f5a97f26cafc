"""The templates of `cluster/`, filled in: one function for each target.

Each raises `UserError` with a line for everything that is wrong with its options.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from eus_ray.cli.launch.checks import (
    SHARED_TARGETS,
    flag,
    is_given,
    line_defects,
    minimum_defects,
    pattern_defects,
    port_range,
    refuse,
    slurm_seconds,
    written_paths,
)
from eus_ray.cli.parsing import absolute_path, location
from eus_ray.config_file import parse_override

TEMPLATE_FOLDER = Path(__file__).parents[2] / "cluster"
FILE = "{file}"
"""The word of a submitting command that the recipe's path replaces."""
STOP_BY_SIGINT = {"env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "600"}}
"""Runtime environment of a Ray job: `ray job stop` sends what Ctrl-C sends, and waits until the epoch is saved."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"), "letters, digits, dots, dashes and _, at most 63"
_PLAIN = re.compile(r"[\w./:@+-]+", re.ASCII), "it without spaces and quotes"
_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_NAME = re.compile(rf"{_DNS_LABEL.pattern}(\.{_DNS_LABEL.pattern})*")


@dataclass(frozen=True)
class Recipe:
    """A filled-in template.

    Attributes:
        text: The whole file.
        submit: The commands that submit it, one after the other. They read it on standard input, or the file `FILE`.
        needs_file: Whether submitting needs the recipe as a file.
    """

    text: str
    submit: tuple[tuple[str, ...], ...]
    needs_file: bool = False


def local(args: argparse.Namespace) -> Recipe:
    """Return a script that runs the study on this machine, and runs it again if it is killed."""
    gpus = re.compile(r"[\w/-]+(,[\w/-]+)*", re.ASCII), "numbers with commas, as 0,1"
    refuse(pattern_defects(args, {"gpus": gpus}))
    values = {**_here(args), "gpus": args.gpus, "path": str(args.write or absolute_path("THIS_FILE"))}
    return Recipe(_render("local.sh.jinja", values), (), needs_file=True)


def ray(args: argparse.Namespace) -> Recipe:
    """Return a script that submits the study to a running cluster with `ray job submit`."""
    lines = pattern_defects(args, {"submission_id": _NAME})
    try:
        url = urlsplit(args.address)
    except ValueError:  # half of an IPv6 address
        url = urlsplit("")
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.password:
        shown = args.address.rpartition("@")[2]  # no password
        lines.append(f"--address {shown}: write the dashboard's address, such as http://127.0.0.1:8265")
    refuse(lines)
    command = _study_command(args, location(args.study))
    words = _ray_job_submit(args.address, command, args.submission_id)
    return Recipe(_render("ray.sh.jinja", {"command": command, "submission": words}), (tuple(words),))


_SBATCH_OPTIONS_OF_THE_RECIPE = (
    *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem", "partition", "account"),
    *("time", "signal", "requeue", "open-mode", "output"),
)


def slurm(args: argparse.Namespace) -> Recipe:
    """Return a batch script: one allocation with a Ray cluster in it, requeued until the study is done."""
    lines = minimum_defects(args, 1, "nodes", "cpus_per_task") + line_defects(args.setup, "--setup")
    limit_s = slurm_seconds(args.time)
    if limit_s is None:
        lines.append(f"--time {args.time}: write minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS")
    elif not 60 <= args.signal <= min(limit_s - 60, 65535):
        lines.append(f"--signal {args.signal}: must be at least 60, and at most a minute less than --time {args.time}")
    name = r"[\w.-]+"
    patterns = {
        "job_name": _NAME,
        "partition": (re.compile(rf"{name}(,{name})*", re.ASCII), "names with commas"),
        "account": (re.compile(name, re.ASCII), "a name"),
        "mem": (re.compile(r"\d+[KMGT]?", re.ASCII), "a size such as 64G"),
        "gpus_per_node": (re.compile(rf"({name}:)?[1-9]\d*", re.ASCII), "a number, or TYPE:NUMBER"),
    }
    lines += pattern_defects(args, patterns)
    extra = [option.lstrip("-") for option in args.sbatch]
    for option in extra:
        if not option.isprintable() or not re.fullmatch(r"[a-z][a-z0-9-]*(=\S(.*\S)?)?", option):
            lines.append(f"--sbatch {option!r}: write a long option of sbatch, such as constraint=a100")
        elif option.partition("=")[0] in _SBATCH_OPTIONS_OF_THE_RECIPE:
            lines.append(f"--sbatch {option}: the recipe sets that itself")
    ports = port_range(args.port_range, lines)
    refuse(lines)
    asked = {
        option: getattr(args, option.replace("-", "_")) for option in ("gpus-per-node", "mem", "partition", "account")
    }
    values = {
        **_here(args),
        **{name: getattr(args, name) for name in ("job_name", "nodes", "cpus_per_task", "time", "setup")},
        "given": [(option, value) for option, value in asked.items() if value is not None],
        "signal_s": args.signal,
        "sbatch": extra,
        "ports": ports,
        "any_ports": ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"],
    }
    return Recipe(_render("slurm.sh.jinja", values), (("sbatch", "--parsable"),))


@dataclass(frozen=True)
class Provider:
    """What Ray's cluster launcher needs for a provider.

    Attributes:
        needs: Options that must be given.
        optional: Further options that may be given.
        head_instance_type: Default of `--head-instance-type`.
        machine_image: Default of `--machine-image`.
        head_setup: Commands that install the provider's client on the head.
        initialization: Commands that are run on every machine before anything else.
    """

    needs: tuple[str, ...]
    optional: tuple[str, ...] = ()
    head_instance_type: str | None = None
    machine_image: str | None = None
    head_setup: tuple[str, ...] = ()
    initialization: tuple[str, ...] = ()


_CLOUD_OPTIONS = (
    *("zone", "spot", "head_instance_type", "machine_image"),
    *("cpus_per_node", "gpus_per_node", "ssh_user"),
)
PROVIDERS = {
    "aws": Provider(
        ("region", "instance_type", "workers"),
        (*_CLOUD_OPTIONS, "worker_identity"),
        "m5.2xlarge",
        head_setup=("pip install boto3",),  # and Ray knows an image for each region
    ),
    "gcp": Provider(
        ("region", "zone", "project_id", "instance_type", "workers", "cpus_per_node", "gpus_per_node"),
        (*_CLOUD_OPTIONS, "worker_identity"),
        "n2-standard-8",
        "projects/deeplearning-platform-release/global/images/family/common-cu121",
        ("pip install google-api-python-client",),
    ),
    "azure": Provider(
        ("region", "resource_group", "instance_type", "workers", "cpus_per_node", "gpus_per_node"),
        _CLOUD_OPTIONS,
        "Standard_D8s_v5",
        "microsoft-dsvm:ubuntu-2204:2204-gen2:latest",
        ("pip install azure-identity azure-mgmt-compute azure-mgmt-network azure-mgmt-resource",),
        ("touch ~/.sudo_as_admin_successful", "sudo usermod -aG docker $USER || true"),
    ),
    "local": Provider(("head_ip", "worker_ips", "ssh_user")),
}


def autoscaler(args: argparse.Namespace) -> Recipe:
    """Return a configuration of Ray's cluster launcher, and the commands that start cluster and study."""
    provider, options = PROVIDERS[args.provider], vars(args)
    lines = [
        f"{flag(name)} is needed for --provider {args.provider}"
        for name in provider.needs
        if not is_given(options[name])
    ]
    everywhere = {name for each in PROVIDERS.values() for name in (*each.needs, *each.optional)}
    lines += [
        f"{flag(name)} has no meaning for --provider {args.provider}"
        for name in sorted(everywhere.difference(provider.needs, provider.optional))
        if is_given(options[name])
    ]
    lines += minimum_defects(args, 1, "workers", "cpus_per_node") + minimum_defects(args, 0, "gpus_per_node")
    lines += line_defects(args.setup, "--setup")
    names = (
        *("cluster_name", "region", "zone", "project_id", "resource_group", "instance_type", "head_instance_type"),
        *("machine_image", "image", "head_ip", "ssh_user", "worker_identity"),
    )
    lines += pattern_defects(args, dict.fromkeys(names, _PLAIN))
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
    refuse(lines)
    port, dashboard = (ports.first, ports.first + 1) if ports else (6379, 8265)
    remote_study = "/tmp/eus-ray/study.toml"
    nodes = 1 + (len(args.worker_ips) if args.provider == "local" else args.workers)
    wait = f"from eus_ray.cli.launch.launch import wait_for_nodes; wait_for_nodes('127.0.0.1:{port}', {nodes})"
    job = _ray_job_submit(f"http://127.0.0.1:{dashboard}", _study_command(args, remote_study), None)
    start = f"export RAY_AUTH_MODE=token && {shlex.join(['python', '-c', wait])} && {shlex.join(job)}"
    counts = {"CPU": args.cpus_per_node, "GPU": args.gpus_per_node}
    values = {
        **{name: options[name] for name in (*names, "provider", "workers", "worker_ips", "spot", "setup")},
        "head_instance_type": args.head_instance_type or provider.head_instance_type,
        "machine_image": machine_image,
        "ssh_user": args.ssh_user or "ubuntu",
        "ssh_private_key": None if args.ssh_private_key is None else location(args.ssh_private_key),
        "resources": {name: count for name, count in counts.items() if count is not None},
        "head_setup": provider.head_setup,
        "initialization": provider.initialization,
        "token": str(args.token),
        "remote_study": remote_study,
        "local_study": location(args.study),
        "mounts": [(remote, location(here)) for remote, here in mounts],
        "port": port,
        "ports": ports,
        "start": start,
    }
    submit = (("ray", "up", "--yes", FILE), ("ray", "exec", FILE, start))
    return Recipe(_render("autoscaler.yaml.jinja", values), submit, needs_file=True)


_STUDY_FOLDER = "/etc/eus-ray"
_MAX_NAME_LENGTH = 47
"""KubeRay appends to a RayJob's name, and the results may have 63 characters."""


def kuberay(args: argparse.Namespace) -> Recipe:
    """Return a RayJob or RayCluster, the study as a ConfigMap, and a NetworkPolicy for Ray's ports."""
    lines = minimum_defects(args, 1, "workers", "cpus_per_worker") + minimum_defects(args, 0, "gpus_per_worker")
    lines += [
        f"--{name} {value}: at most {longest} small letters, digits and dashes, a letter first"
        for name, value, longest in (("name", args.name, _MAX_NAME_LENGTH), ("namespace", args.namespace, 63))
        if not _DNS_LABEL.fullmatch(value) or len(value) > longest
    ]
    size = re.compile(r"[1-9]\d*([KMGT]i?)?", re.ASCII), "a size such as 64Gi"
    secret = _DNS_NAME, "the name of a Secret"
    lines += pattern_defects(args, {"image": _PLAIN, "memory_per_worker": size, "secret": secret})
    volumes = [volume.partition(":")[::2] for volume in args.volume]
    lines += [
        f"--volume {claim}:{path}: write CLAIM:/PATH"
        for claim, path in volumes
        if not _DNS_NAME.fullmatch(claim) or not PurePosixPath(path).is_absolute()
    ]
    selector = [pair.partition("=")[::2] for pair in args.node_selector]
    label = re.compile(r"[A-Za-z0-9]([\w./-]*[A-Za-z0-9])?", re.ASCII)
    lines += [
        f"--node-selector {key}={value}: write KEY=VALUE"
        for key, value in selector
        if not label.fullmatch(key) or not label.fullmatch(value)
    ]
    lines += [
        f"{name} {path}: lies on no --volume, and pods lose what lies elsewhere"
        for name, path in {"--out": args.out, **written_paths(args)}.items()
        if "://" not in path and not any(PurePosixPath(path).is_relative_to(volume) for _, volume in volumes)
    ]
    refuse(lines)
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
        "entrypoint": shlex.join(_study_command(args, f"{_STUDY_FOLDER}/study.toml")),
        "runtime_env": STOP_BY_SIGINT,
    }
    return Recipe(_render("kuberay.yaml.jinja", values), (("kubectl", "create", "--filename", "-"),))


RECIPES: Mapping[str, Callable[[argparse.Namespace], Recipe]] = {
    "local": local,
    "ray": ray,
    "slurm": slurm,
    "autoscaler": autoscaler,
    "kuberay": kuberay,
}


def _study_command(args: argparse.Namespace, study_path: str) -> list[str]:
    """Return the words of the `eus-ray` command that runs in the job."""
    is_shared = args.target in SHARED_TARGETS
    words = ["eus-ray", args.command, study_path, "--out", location(args.out) if is_shared else args.out]
    if args.models:
        words += ["--models", ",".join(args.models)]
    if args.preset:
        words += ["--preset", args.preset]
    for override in args.set:
        name, value = parse_override(override)
        if is_shared and name == "data.manifest":  # in an override it is relative to the current folder
            override = f"{name}={location(str(value))}"
        words += ["--set", override]
    if args.trials is not None:
        words += ["--trials", str(args.trials)]
    if args.start_from is not None:
        words += ["--from", location(args.start_from) if is_shared else args.start_from]
    return [*words, "--resume"]  # a new folder has nothing to go on from, and is begun


def _ray_job_submit(address: str, command: Sequence[str], submission_id: str | None) -> list[str]:
    name = [] if submission_id is None else ["--submission-id", submission_id]
    options = ["--address", address, "--no-wait", *name, "--runtime-env-json", json.dumps(STOP_BY_SIGINT)]
    return ["ray", "job", "submit", *options, "--", *command]


def _here(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of a script that name paths of this machine, which its nodes see too."""
    return {
        "command": _study_command(args, location(args.study)),
        "out": location(args.out),
        "folder": str(Path.cwd()),
        "programs": str(Path(sys.executable).parent),
    }


def _render(name: str, values: Mapping[str, Any]) -> str:
    """Return a filled-in template; every value has matched a pattern, or a filter quotes it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(q=shlex.quote, words=shlex.join, json=partial(json.dumps, ensure_ascii=False))
    return environment.get_template(name).render(**values)
