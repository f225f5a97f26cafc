"""Ray, started or joined: quiet, on this machine's loopback, and gone without a trace.

With an address (`--address` or RAY_ADDRESS) the running cluster is joined; otherwise a local one is
started for the time of the run and everything it wrote outside the study folder is deleted after it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eus_ray.distributed.auth_token import guard_own_token
from eus_ray.distributed.resources import Machines, of_cluster
from eus_ray.errors import UserError
from eus_ray.store.process_identity import birth_of, this_process

_ENVIRONMENT = {
    "NO_ALBUMENTATIONS_UPDATE": "1",  # it asks the network for a newer version when imported
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default, 2 s, is waited for at each end of a run
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",  # for room; then it is asked for anew, by what nodes there are then
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",  # for the workers of a stopped trial to leave
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: folds finish their epoch and are saved
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # else every trial's scores go to CSV, JSON and TensorBoard too
}


_SCRATCH = "eus-ray-"
_OWNER = ".owner"
"""A file in it that says whose it is: nothing else is ever deleted."""
_LONGEST = 36
"""Characters of a folder for Ray: it puts sockets up to 71 characters deeper, and their paths must stay within 107."""

_PATIENCE_S = 15.0


@dataclass(frozen=True)
class Session:
    """A Ray cluster that this process is connected to."""

    scratch: Path
    """A folder of this machine for what Ray insists on writing; deleted with the session."""
    machines: Machines
    object_store_bytes: int
    """Of the machine that has least."""
    dashboard: str = ""
    """Host and port of the dashboard that was started; empty where none was."""


@contextmanager
def session(address: str | None = None, num_cpus: int | None = None, *, dashboard: bool = False) -> Iterator[Session]:
    """Join the cluster at `address` (or RAY_ADDRESS), or start a local one; one that is joined already is used.

    dashboard: whether a cluster that is started has one. Raises `UserError` where the address does not answer.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    for logger in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    before = os.environ.get("TMPDIR")
    joined = ray.is_initialized()
    address = address or os.environ.get("RAY_ADDRESS") or None
    _sweep()
    scratch = _make_folder(tempfile.gettempdir())
    rays_own = scratch if len(str(scratch)) <= _LONGEST else _make_folder("/tmp")
    shown = ""
    try:
        if not joined:
            os.environ["TMPDIR"] = str(rays_own)  # for what its processes forget, sockets among it
            shown = _start(ray, address, num_cpus, rays_own, dashboard)
        nodes = ray.nodes()
        # each machine holds a copy of what is shared, so that the smallest store counts
        stores = [int(node["Resources"].get("object_store_memory", 0)) for node in nodes if node["Alive"]]
        yield Session(
            scratch=scratch,
            machines=of_cluster(nodes),
            object_store_bytes=min(stores, default=0),
            dashboard=shown,
        )
    finally:
        if not joined:
            ray.shutdown()
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
        for folder in {scratch, rays_own}:
            _delete(folder)


def _make_folder(parent: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=parent))
    (folder / _OWNER).write_text(json.dumps(this_process()), encoding="utf-8")
    return folder


def _delete(folder: Path) -> None:
    """Delete a folder in which Ray's processes, on their way out, may still write."""
    end = time.monotonic() + _PATIENCE_S
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Delete what killed runs of this machine could not delete themselves."""
    parents = {tempfile.gettempdir(), "/tmp"}
    for folder in [found for parent in parents for found in Path(parent).glob(f"{_SCRATCH}*-*")]:
        try:
            owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not ours, or just being made
            continue
        if owner["host"] == socket.gethostname() and birth_of(owner["pid"]) != owner["born"]:
            shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, address: str | None, num_cpus: int | None, folder: Path, dashboard: bool) -> str:
    """Start or join; host and port of the dashboard that was started, if any."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address is None:
        guard_own_token()
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # a process that waits for notices of a cloud
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's is 15: beside any busy program a fold hardly advances
        # else it keeps an idle process for each CPU, which takes a hundredth of one to wait
        os.environ.setdefault("RAY_num_workers_soft_limit", "0")
        started = ray.init(  # its processes inherit this one's environment
            num_cpus=num_cpus,
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            _temp_dir=str(folder),
            **quiet,
        )
        return str(started.dashboard_url) if dashboard else ""
    environment = {"env_vars": {name: os.environ[name] for name in _ENVIRONMENT}}
    try:
        ray.init(address=address, runtime_env=environment, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"no Ray cluster at {address}: {first}; check --address or RAY_ADDRESS, or unset it to start a local one"
        ) from None
    return ""
