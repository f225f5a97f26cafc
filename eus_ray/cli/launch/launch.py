"""`eus-ray launch`: start a study on a workstation, a Ray cluster, Slurm, Kubernetes or a cloud.

`checks.py` checks the study and the options, `recipes.py` fills in a template of `cluster/`, and this module prints,
writes or submits the result. The job runs the same `eus-ray cv` or `eus-ray tune` that a person types, always with
`--resume`: if the scheduler or a person starts it again, it goes on from what is saved.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eus_ray.cli.launch.checks import check_study
from eus_ray.cli.launch.recipes import FILE, RECIPES
from eus_ray.cli.parsing import absolute_path, add_command, add_settings_arguments, comma_separated, refuse_existing
from eus_ray.distributed.auth_token import DEFAULT, is_private, make_token
from eus_ray.errors import UserError


def add_launch_parser(commands: Any) -> None:
    """Add `launch` and its targets, whose options are named as the scheduler names them."""
    launch = commands.add_parser(
        "launch",
        help="run cv or tune on a cluster, or in the background on this machine",
        description="Fill in a launch recipe, and print it, write it (--write) or submit it (--submit).",
        epilog="example: eus-ray launch slurm study.toml --out /shared/STUDY --nodes 2 --gpus-per-node 4 "
        "--cpus-per-task 32 --time 12:00:00 --submit",
    )
    targets = launch.add_subparsers(required=True, metavar="TARGET", dest="target", parser_class=type(launch))
    for add in (_add_local, _add_ray, _add_slurm, _add_autoscaler, _add_kuberay):
        add(targets)


def _add_local(targets: Any) -> None:
    local = _target(targets, "local", "run on this machine, in the background", "--out STUDY --write run.sh --submit")
    local.add_argument("--gpus", metavar="A,B", help="only these GPUs of the machine")


def _add_ray(targets: Any) -> None:
    ray = _target(
        targets, "ray", "run as a job of a running Ray cluster", "--out /shared/STUDY --address http://HEAD:8265"
    )
    ray.add_argument("--address", required=True, metavar="URL", help="the dashboard: http://HEAD:8265")
    ray.add_argument("--submission-id", metavar="ID", help="default: Ray makes one")


def _add_slurm(targets: Any) -> None:
    slurm = _target(
        targets, "slurm", "run in a Slurm allocation of one or more nodes",
        "--out /shared/STUDY --nodes 2 --gpus-per-node 4 --cpus-per-task 32 --time 12:00:00 --partition gpu",
    )  # fmt: skip
    slurm.add_argument(
        "--time", required=True, metavar="[D-]HH:MM:SS", help="time limit; the job is requeued until it is done"
    )
    slurm.add_argument("--nodes", type=int, default=1, metavar="N", help="(default: %(default)s)")
    slurm.add_argument("--cpus-per-task", type=int, metavar="N", help="cores of each node (default: whole nodes)")
    slurm.add_argument("--gpus-per-node", metavar="[TYPE:]N", help="GPUs of each node")
    slurm.add_argument("--mem", metavar="N[KMGT]", help="memory of each node")
    slurm.add_argument("--partition", metavar="A,B", help="partitions that may run the job")
    slurm.add_argument("--account", metavar="NAME", help="account that the job is charged to")
    slurm.add_argument("--job-name", default="eus-ray", metavar="NAME", help="(default: %(default)s)")
    slurm.add_argument(
        "--signal", type=int, default=600, metavar="SECONDS",
        help="how long before the time limit the job begins to finish and save its epoch (default: %(default)s)",
    )  # fmt: skip
    slurm.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION=VALUE",
        help="another #SBATCH line, such as constraint=a100; may be repeated",
    )  # fmt: skip
    _add_node_options(slurm, "the environment of this command")


def _add_autoscaler(targets: Any) -> None:
    cloud = _target(
        targets, "autoscaler", "run on machines of a cloud, or on your own, with Ray's cluster launcher",
        "--out s3://bucket/STUDY --provider aws --region eu-central-1 --instance-type g5.12xlarge --workers 2 "
        "--image registry/eus-ray --mount /data=set --write cluster.yaml",
    )  # fmt: skip
    cloud.add_argument(
        "--provider", required=True, choices=("aws", "gcp", "azure", "local"), help="local: your own machines"
    )
    cloud.add_argument("--cluster-name", default="eus-ray", metavar="NAME", help="(default: %(default)s)")
    cloud.add_argument("--workers", type=int, metavar="N", help="machines that train, besides the head (clouds)")
    cloud.add_argument("--instance-type", metavar="TYPE", help="of the workers (clouds)")
    cloud.add_argument("--head-instance-type", metavar="TYPE", help="default: a small machine of the cloud")
    cloud.add_argument(
        "--worker-identity", metavar="NAME",
        help="lets workers use object storage: an instance profile (aws), the address of a service account (gcp)",
    )  # fmt: skip
    cloud.add_argument("--spot", action="store_true", help="cheaper workers that the cloud may take away")
    cloud.add_argument("--region", metavar="NAME", help="region, or location (clouds)")
    cloud.add_argument("--zone", metavar="NAME", help="availability zone (needed for gcp)")
    cloud.add_argument("--project-id", metavar="ID", help="gcp")
    cloud.add_argument("--resource-group", metavar="NAME", help="azure")
    cloud.add_argument("--machine-image", metavar="ID", help="AMI, source image, or publisher:offer:sku:version")
    cloud.add_argument("--cpus-per-node", type=int, metavar="N", help="of a worker (needed for gcp and azure)")
    cloud.add_argument("--gpus-per-node", type=int, metavar="N", help="of a worker (needed for gcp and azure)")
    cloud.add_argument("--head-ip", metavar="IP", help="own machines")
    cloud.add_argument("--worker-ips", type=comma_separated, metavar="A,B", help="own machines")
    cloud.add_argument("--ssh-user", metavar="NAME", help="default: ubuntu (needed for own machines)")
    cloud.add_argument("--ssh-private-key", metavar="FILE", help="default: Ray makes one (clouds)")
    cloud.add_argument("--image", metavar="IMAGE", help="container with eus-ray, built from cluster/Containerfile")
    cloud.add_argument(
        "--mount", action="append", default=[], metavar="REMOTE=LOCAL",
        help="copy a file or folder, such as the data set, to every machine; may be repeated",
    )  # fmt: skip
    cloud.add_argument(
        "--token", type=absolute_path, default=str(DEFAULT), metavar="FILE", help="Ray's token (default: %(default)s)"
    )
    _add_node_options(cloud, "nothing; the machines or the image have it")


def _add_kuberay(targets: Any) -> None:
    kuberay = _target(
        targets, "kuberay", "run as a RayJob or on a RayCluster, on Kubernetes",
        "--out /data/STUDY --image registry/eus-ray --volume eus-data:/data --workers 5 --gpus-per-worker 1",
    )  # fmt: skip
    kuberay.add_argument("--image", required=True, metavar="IMAGE", help="built from cluster/Containerfile")
    kuberay.add_argument(
        "--volume", action="append", default=[], metavar="CLAIM:PATH",
        help="a PersistentVolumeClaim that all pods can write, and its path in the pods; may be repeated",
    )  # fmt: skip
    kuberay.add_argument(
        "--secret", metavar="NAME", help="a Secret whose keys become environment variables, for object storage"
    )
    kuberay.add_argument("--kind", choices=("RayJob", "RayCluster"), default="RayJob", help="(default: %(default)s)")
    kuberay.add_argument("--name", default="eus-ray", metavar="NAME", help="(default: %(default)s)")
    kuberay.add_argument("--namespace", default="default", metavar="NAME", help="(default: %(default)s)")
    kuberay.add_argument("--workers", type=int, default=1, metavar="N", help="pods that train (default: %(default)s)")
    kuberay.add_argument("--cpus-per-worker", type=int, default=4, metavar="N", help="(default: %(default)s)")
    kuberay.add_argument("--gpus-per-worker", type=int, default=0, metavar="N", help="(default: %(default)s)")
    kuberay.add_argument("--memory-per-worker", default="16Gi", metavar="SIZE", help="(default: %(default)s)")
    kuberay.add_argument("--node-selector", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")


def _target(targets: Any, name: str, about: str, example: str) -> argparse.ArgumentParser:
    """Add a target with the options that all targets have: study, command, and what to do with the recipe."""
    parser = add_command(targets, name, run_launch, about, f"eus-ray launch {name} study.toml {example}")
    parser.add_argument("study", metavar="STUDY.toml")
    parser.add_argument("--out", required=True, metavar="DIR", help="the study folder, as the nodes see it, or a URI")
    parser.add_argument("--command", choices=("cv", "tune"), default="cv", help="what to run (default: %(default)s)")
    add_settings_arguments(parser)
    parser.add_argument("--trials", type=int, metavar="N", help="tune: how many settings to try for each model")
    parser.add_argument("--from", dest="start_from", metavar="OLD_STUDY", help="tune: begin with that study's best")
    parser.add_argument("--resume", action="store_true", help="go on with a study that the folder holds already")
    parser.add_argument(
        "--write", type=absolute_path, metavar="FILE", help="write the recipe into a new file instead of printing it"
    )
    parser.add_argument("--submit", action="store_true", help="submit the recipe, too")
    return parser


def _add_node_options(parser: argparse.ArgumentParser, default_setup: str) -> None:
    parser.add_argument(
        "--setup", action="append", default=[], metavar="LINE",
        help="shell line that makes eus-ray available, as 'module load python'; may be repeated "
        f"(default: {default_setup})",
    )  # fmt: skip
    parser.add_argument("--port-range", metavar="FIRST-LAST", help="the only ports that Ray may use, for firewalls")


def run_launch(args: argparse.Namespace) -> None:
    """Check study and options, fill in the recipe, and print, write or submit it.

    Raises:
        UserError: Something is wrong with study or options; nothing is written then. Or the scheduler refuses the job.
    """
    check_study(args)
    recipe = RECIPES[args.target](args)
    path: Path | None = args.write
    if path is not None:
        refuse_existing(path, "--write")
    elif args.submit and recipe.needs_file:
        raise UserError("--submit needs --write FILE for this target: the file is used again later")
    commands = [[_program(words[0]), *words[1:]] for words in recipe.submit] if args.submit else []
    if args.submit and args.target == "autoscaler":
        make_token(args.token)
        if not is_private(args.token):
            raise UserError(f"{args.token}: others may read this token; chmod 600 {args.token}")
    if path is not None:
        with path.open("x", encoding="utf-8") as file:
            file.write(recipe.text)
        path.chmod(0o755 if recipe.text.startswith("#!") else 0o644)
        print(f"written to {path}", flush=True)
    elif not args.submit:
        sys.stdout.write(recipe.text)
    if args.submit and args.target == "local" and path is not None:
        _start_here(path)
    for command in commands:
        words = [str(path) if word == FILE else word for word in command]
        _submit(words, None if recipe.needs_file else recipe.text)


def wait_for_nodes(address: str, num_nodes: int, timeout_s: float = 900) -> None:
    """Wait until a Ray cluster has all its nodes; recipes call this before the study.

    The planner counts the nodes once, when the study starts.

    Args:
        address: Of the GCS, as `HOST:PORT`.
        num_nodes: How many nodes must be alive, the head among them.
        timeout_s: How long to wait.

    Raises:
        SystemExit: They did not come in time; a line says how many did, and the exit code is 1.
    """
    import ray  # outside of `distributed`: the launching script asks before there is a session

    deadline = time.monotonic() + timeout_s
    num_alive, reason = 0, ""
    while time.monotonic() < deadline:
        try:
            if not ray.is_initialized():
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            num_alive = sum(node["Alive"] for node in ray.nodes())
        except (ConnectionError, RuntimeError, ValueError) as error:  # the head is still starting
            reason = f" ({str(error).strip().splitlines()[0]})" if str(error).strip() else ""
        if num_alive >= num_nodes:
            ray.shutdown()
            return
        time.sleep(1)
    sys.exit(f"eus-ray: {num_alive} of {num_nodes} Ray nodes came within {timeout_s:.0f} s{reason}")


def _program(name: str) -> str:
    """Return the path of a program in this environment, or else on the PATH."""
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise UserError(f"{name}: no such command here; leave --submit out, and submit the recipe where there is one")
    return found


def _submit(command: Sequence[str], recipe: str | None) -> None:
    """Run a submitting command, without a shell.

    A command that reads the recipe on standard input is short, and its output is kept for an error message. Any other
    takes minutes, and its output is shown as it comes. Raises `UserError` if the command fails.
    """
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    name = Path(command[0]).name
    if recipe is None:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, check=False).returncode
        if code:
            raise UserError(f"{name} {command[1]} failed (exit code {code}); its output stands above")
        return
    answer = subprocess.run(command, input=recipe, text=True, capture_output=True, env=environment, check=False)
    if answer.returncode:
        said = [line.strip() for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
        raise UserError(f"{name} refused (exit code {answer.returncode}): {' '.join(said[-3:])}")
    sys.stdout.write(answer.stdout)


def _start_here(script: Path) -> None:
    """Start the recipe in a session of its own, so that it outlives this shell."""
    log = script.with_name(script.name + ".log")
    with log.open("a") as file:
        process = subprocess.Popen(
            ["bash", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=heed_sigint,
        )
    print(f"started as process {process.pid}; output in {log}")
    print(f"kill -INT {process.pid} finishes the epoch, saves it and stops; to go on, run the script again")


def heed_sigint() -> None:
    """Restore the default handling of SIGINT, which a shell's background jobs and their children ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
