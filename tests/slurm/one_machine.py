"""Debian's Slurm on this machine alone, as a cluster of two small nodes: munged, slurmctld and slurmd, as root.

Everything lies in one folder and ends with the `with`. Ports 27000 to 27003 of this machine are used.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
PACKAGES = "munge slurmctld slurmd slurm-client"
PORT = 27000
NODES = ("eus1", "eus2")


def missing() -> str:
    """Return why this machine cannot run it, or an empty text if it can."""
    if os.geteuid() != 0:
        return "Slurm's daemons are started as root only"
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"no {', '.join(absent)} here: apt-get install {PACKAGES}" if absent else ""


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start the daemons, and yield the environment in which Slurm's commands reach them."""
    for name in ("state", "cgroup", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    _write_configuration(folder)
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder / 'munge.socket'}"]
    munged += [f"--pid-file={folder / 'munged.pid'}", f"--log-file={folder / 'munged.log'}"]
    munged += [f"--seed-file={folder / 'munged.seed'}"]
    daemons = [munged, ["slurmctld", "-D", "-i"], *(["slurmd", "-D", "-N", name] for name in NODES)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for daemon in daemons:
            with (folder / f"{daemon[0]}-{len(started)}.out").open("wb") as out:
                started.append(subprocess.Popen(daemon, env=environment, stdout=out, stderr=out))
            time.sleep(0.5)
        _wait_for_nodes(environment, started, folder)
        yield environment
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _write_configuration(folder: Path) -> None:
    host = socket.gethostname()
    (folder / "slurm.conf").write_text(
        f"""ClusterName=eus
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={PORT}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=5
MpiDefault=none
ReturnToService=2
KillWait=10
JobRequeue=1
NodeName=eus1 NodeHostname={host} NodeAddr=127.0.0.1 Port={PORT + 1} CPUs=1 State=UNKNOWN
NodeName=eus2 NodeHostname={host} NodeAddr=127.0.0.1 Port={PORT + 2} CPUs=1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""
    )
    # nothing above uses control groups, yet slurmd loads a plugin for them: the one that needs nothing of the machine
    version = subprocess.run(["slurmd", "-V"], env={"PATH": _path()}, capture_output=True, text=True).stdout.split()[-1]
    plugin = "disabled" if int(version.split(".")[0]) >= 23 else "cgroup/v1"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\nCgroupMountpoint={folder}/cgroup\n")


def _wait_for_nodes(environment: dict[str, str], started: list[subprocess.Popen[bytes]], folder: Path) -> None:
    until = time.monotonic() + 30
    command = ["sinfo", "--noheader", "--format=%T"]
    while time.monotonic() < until:
        answer = subprocess.run(command, env=environment, capture_output=True, text=True)
        if answer.stdout.split() == ["idle"]:
            return
        ended = [process.args for process in started if process.poll() is not None]
        if ended:
            break
        time.sleep(0.5)
    logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(folder.glob("*.out")))
    raise AssertionError(f"the Slurm cluster did not come up:\n{logs}")
