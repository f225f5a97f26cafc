"""`eus-ray launch`: start a study on a workstation, a Ray cluster, Slurm, Kubernetes or a cloud.

The recipes are the files of `cluster/`; `recipes.py` checks the options and fills them in. What runs in the launched
job is the very `eus-ray cv` or `eus-ray tune` that a person would type, always with `--resume`: a job that is begun
again, by the scheduler or by hand, goes on where it was.
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

from eus_ray.config_file import PRESETS
from eus_ray.distributed.auth_token import DEFAULT, is_private, make_token
from eus_ray.errors import UserError


def add_launch_parser(commands: Any) -> None:
    """`launch` and its targets, options named as the scheduler names them."""
    launch = commands.add_parser(
        "launch",
        help="run cv or tune on a cluster, or in the background here",
        description="Fill in a launch recipe: print it, write it (--write), submit it (--submit).",
        epilog="example: eus-ray launch slurm study.toml --out /shared/STUDY --nodes 2 --gpus-per-node 4 "
        "--cpus-per-task 32 --time 12:00:00 --submit",
    )
    targets = launch.add_subparsers(required=True, metavar="TARGET", dest="target", parser_class=type(launch))

    local = _target(targets, "local", "this machine, in the background", "--out STUDY --write run.sh --submit")
    local.add_argument("--gpus", metavar="A,B", help="only these GPUs of the machine")

    ray = _target(targets, "ray", "a job on a running Ray cluster", "--out /shared/STUDY --address http://HEAD:8265")
    ray.add_argument("--address", required=True, metavar="URL", help="the dashboard: http://HEAD:8265")
    ray.add_argument("--submission-id", metavar="ID", help="default: Ray makes one")

    slurm = _target(
        targets, "slurm", "one Slurm allocation, of one node or many",
        "--out /shared/STUDY --nodes 2 --gpus-per-node 4 --cpus-per-task 32 --time 12:00:00 --partition gpu",
    )  # fmt: skip
    slurm.add_argument("--time", required=True, metavar="[D-]HH:MM:SS", help="limit; the job is requeued until done")
    slurm.add_argument("--nodes", type=int, default=1, metavar="N", help="(default: %(default)s)")
    slurm.add_argument("--cpus-per-task", type=int, metavar="N", help="cores of each node (default: whole nodes)")
    slurm.add_argument("--gpus-per-node", metavar="[TYPE:]N")
    slurm.add_argument("--mem", metavar="N[KMGT]", help="memory of each node")
    slurm.add_argument("--partition", metavar="A,B")
    slurm.add_argument("--account", metavar="NAME")
    slurm.add_argument("--job-name", default="eus-ray", metavar="NAME", help="(default: %(default)s)")
    slurm.add_argument(
        "--signal", type=int, default=600, metavar="SECONDS",
        help="how long before the limit the epoch is finished and saved (default: %(default)s)",
    )  # fmt: skip
    slurm.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION=VALUE",
        help="another #SBATCH line, such as constraint=a100; may be repeated",
    )  # fmt: skip
    _setup(slurm, "default: the environment that launches")
    _port_range(slurm)

    _autoscaler(targets)
    _kuberay(targets)


def _autoscaler(targets: Any) -> None:
    cloud = _target(
        targets, "autoscaler", "machines of a cloud, or your own, by Ray's cluster launcher",
        "--out s3://bucket/STUDY --provider aws --region eu-central-1 --instance-type g5.12xlarge --workers 2 "
        "--image registry/eus-ray --mount /data=set --write cluster.yaml",
    )  # fmt: skip
    cloud.add_argument(
        "--provider", required=True, choices=("aws", "gcp", "azure", "local"), help="local: own machines"
    )
    cloud.add_argument("--cluster-name", default="eus-ray", metavar="NAME", help="(default: %(default)s)")
    cloud.add_argument("--workers", type=int, metavar="N", help="machines that train, besides the head (clouds)")
    cloud.add_argument("--instance-type", metavar="TYPE", help="of the workers (clouds)")
    cloud.add_argument("--head-instance-type", metavar="TYPE", help="default: a small machine of the cloud")
    cloud.add_argument(
        "--worker-identity", metavar="NAME",
        help="what lets workers reach object storage: an instance profile (aws), a service account's address (gcp)",
    )  # fmt: skip
    cloud.add_argument("--spot", action="store_true", help="workers that may be taken away, for less money")
    cloud.add_argument("--region", metavar="NAME", help="region, or location (clouds)")
    cloud.add_argument("--zone", metavar="NAME", help="availability zone (needed for gcp)")
    cloud.add_argument("--project-id", metavar="ID", help="gcp")
    cloud.add_argument("--resource-group", metavar="NAME", help="azure")
    cloud.add_argument("--machine-image", metavar="ID", help="AMI, source image, or publisher:offer:sku:version")
    cloud.add_argument("--cpus-per-node", type=int, metavar="N", help="of a worker (needed for gcp and azure)")
    cloud.add_argument("--gpus-per-node", type=int, metavar="N", help="of a worker (needed for gcp and azure)")
    cloud.add_argument("--head-ip", metavar="IP", help="own machines")
    cloud.add_argument("--worker-ips", type=_listed, metavar="A,B", help="own machines")
    cloud.add_argument("--ssh-user", metavar="NAME", help="default: ubuntu (needed for own machines)")
    cloud.add_argument("--ssh-private-key", metavar="FILE", help="default: Ray makes one (clouds)")
    cloud.add_argument("--image", metavar="IMAGE", help="container with eus-ray, built from cluster/Containerfile")
    cloud.add_argument(
        "--mount", action="append", default=[], metavar="REMOTE=LOCAL",
        help="copy a file or folder, such as the data set, to every machine; may be repeated",
    )  # fmt: skip
    cloud.add_argument("--token", default=str(DEFAULT), metavar="FILE", help="Ray's token (default: %(default)s)")
    _setup(cloud, "default: nothing, the machines or the image have it")
    _port_range(cloud)


def _kuberay(targets: Any) -> None:
    kuberay = _target(
        targets, "kuberay", "a RayJob or RayCluster on Kubernetes",
        "--out /data/STUDY --image registry/eus-ray --volume eus-data:/data --workers 5 --gpus-per-worker 1",
    )  # fmt: skip
    kuberay.add_argument("--image", required=True, metavar="IMAGE", help="built from cluster/Containerfile")
    kuberay.add_argument(
        "--volume", action="append", default=[], metavar="CLAIM:PATH",
        help="a PersistentVolumeClaim that all pods can write, and where they see it; may be repeated",
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
    """A target with what all have in common: the study, the command, and what becomes of the recipe."""
    parser: argparse.ArgumentParser = targets.add_parser(
        name,
        help=about,
        description=about[0].upper() + about[1:] + ".",
        epilog=f"example: eus-ray launch {name} study.toml {example}",
    )
    parser.set_defaults(run=run_launch)
    parser.add_argument("study", metavar="STUDY.toml")
    parser.add_argument("--out", required=True, metavar="DIR", help="the study folder, as the nodes see it, or a URI")
    parser.add_argument("--command", choices=("cv", "tune"), default="cv", help="what to run (default: %(default)s)")
    parser.add_argument("--models", type=_listed, metavar="A,B", help="these architectures only")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="override a field; may be repeated")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="settings that the study file then changes")
    parser.add_argument("--trials", type=int, metavar="N", help="tune: settings to try, of each architecture")
    parser.add_argument("--from", dest="start_from", metavar="OLD_STUDY", help="tune: begin with that study's best")
    parser.add_argument("--resume", action="store_true", help="go on with a study that is there already")
    parser.add_argument("--write", metavar="FILE", help="a new file for the recipe, instead of printing it")
    parser.add_argument("--submit", action="store_true", help="and start it")
    return parser


def _setup(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument(
        "--setup", action="append", default=[], metavar="LINE",
        help=f"shell that makes eus-ray available, as 'module load python'; may be repeated ({otherwise})",
    )  # fmt: skip


def _port_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port-range", metavar="FIRST-LAST", help="the only ports that Ray may use, for firewalls")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def run_launch(args: argparse.Namespace) -> int:
    """Check study and options, fill in the recipe; print, write, submit it. Raises `UserError` before any of that."""
    from eus_ray.cli.launch.checks import check_study
    from eus_ray.cli.launch.recipes import FILE, RECIPES

    check_study(args)
    recipe = RECIPES[args.target](args)
    path = None if args.write is None else Path(args.write).expanduser().absolute()
    lines = []
    if path is not None and path.exists():
        lines.append(f"{path}: is there already; nothing is overwritten, choose another --write")
    elif path is not None and not path.parent.is_dir():
        lines.append(f"{path.parent}: no such folder; make it first, or choose another --write")
    if args.submit and path is None and recipe.needs_file:
        lines.append("--submit needs --write FILE here: the file is wanted again later")
    if lines:
        raise UserError(*lines)
    programs = [_program(command[0]) for command in recipe.submit] if args.submit else []
    if args.submit and args.target == "autoscaler":
        token = Path(args.token).expanduser()
        make_token(token)
        if not is_private(token):
            raise UserError(f"{token}: others may read this token; chmod 600 {token}")
    if path is not None:
        with path.open("x", encoding="utf-8") as file:
            file.write(recipe.text)
        path.chmod(0o755 if recipe.text.startswith("#!") else 0o644)
        print(f"written to {path}", flush=True)
    elif not args.submit:
        sys.stdout.write(recipe.text)
    if args.submit and args.target == "local" and path is not None:
        _start_here(path)
    for program, command in zip(programs, recipe.submit, strict=False):
        words = [str(path) if word == FILE else word for word in command[1:]]
        _run([program, *words], None if recipe.needs_file else recipe.text)
    return 0


def wait_for_nodes(address: str, count: int, seconds: float = 900) -> None:
    """Return when so many nodes of the Ray cluster at `address` are alive; recipes call it before the study.

    The plan is made for the nodes that are there when it starts. Ends the process with 1 and a line where they do
    not come within `seconds`.
    """
    import ray

    until = time.monotonic() + seconds
    alive, last = 0, ""
    while time.monotonic() < until:
        try:
            if not ray.is_initialized():
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            alive = sum(node["Alive"] for node in ray.nodes())
        except (ConnectionError, RuntimeError, ValueError) as error:  # the head is still starting
            last = f" ({str(error).strip().splitlines()[0]})" if str(error).strip() else ""
        if alive >= count:
            ray.shutdown()
            return
        time.sleep(1)
    sys.exit(f"eus-ray: {alive} of {count} Ray nodes came within {seconds:.0f} s{last}")


def _program(name: str) -> str:
    """A command of this environment, or of the PATH."""
    own = Path(sys.executable).parent / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise UserError(f"{name}: no such command here; leave --submit out and take the recipe to where there is one")
    return found


def _run(command: Sequence[str], stdin: str | None) -> None:
    """Run a submitting command, without a shell; one that reads no recipe talks for minutes, and is let talk.

    Raises `UserError` where it refuses.
    """
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    name = Path(command[0]).name
    if stdin is None:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, check=False).returncode
        if code:
            raise UserError(f"{name} {command[1]} failed (exit code {code}); its output stands above")
        return
    answer = subprocess.run(command, input=stdin, text=True, capture_output=True, env=environment, check=False)
    if answer.returncode:
        said = [line.strip() for line in (answer.stderr or answer.stdout).splitlines() if line.strip()]
        raise UserError(f"{name} refused (exit code {answer.returncode}): {' '.join(said[-3:])}")
    sys.stdout.write(answer.stdout)


def _start_here(script: Path) -> None:
    """Start the recipe as a process of its own that outlives this shell."""
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
    print(f"kill -INT {process.pid} has the epoch finished and saved; the script, run again, goes on")


def heed_sigint() -> None:
    """What a shell starts in the background ignores SIGINT, and so would all below it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
