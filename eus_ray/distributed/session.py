"""Ray, started or joined: quiet, reached by its token alone, and gone without a trace.

With an address (or RAY_ADDRESS) the running cluster is joined; otherwise a local one is started for the time of the
session, and everything that it wrote outside the study folder is deleted after it. Several sessions of one process, one
inside the other or in several threads, share the cluster; the last to end shuts it down. The environment and the
loggers are restored then.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eus_ray.distributed.auth_token import guard_own_token
from eus_ray.distributed.resources import Machines, of_cluster
from eus_ray.distributed.shared_code import NO_CODE, OWNER, SharedCode, share_code
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
_LOCAL_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process that waits for notices of a cloud
    "RAY_worker_niceness": "0",  # Ray's is 15: beside any busy program a fold hardly advances
    "RAY_num_workers_soft_limit": "0",  # else an idle process for each CPU, which takes a hundredth of one to wait
}
"""For a cluster that is started here: its processes inherit the environment of this one."""
_LOGGERS = ("ray", "ray.tune", "ray.train", "ray.data")

_SCRATCH = "eus-ray-"
_MAX_FOLDER_LENGTH = 36
"""Characters of a folder for Ray: it puts sockets up to 71 characters deeper, and their paths must stay within 107."""
_PATIENCE_S = 15.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A Ray cluster that this process is connected to."""

    scratch: Path
    """A folder of this machine for what Ray insists on writing; deleted with the session."""
    machines: Machines
    object_store_bytes: int
    """The memory of the smallest object store among the machines."""
    dashboard: str = ""
    """Host and port of the dashboard that was started; empty if none was."""
    logs_folder: Path | None = None
    """Where a cluster that was started here writes its own logs; None of one that was joined."""
    code: SharedCode = NO_CODE
    """Others' modules that workers import."""


_guard = threading.Lock()
_num_sessions = 0
_cluster: tuple[str, Path | None] = "", None
"""The dashboard and the logs' folder of a cluster that was started here, as `Session` has them."""
_teardown = ExitStack()
"""Undone by the last session of this process."""


@contextmanager
def session(
    address: str | None = None,
    num_cpus: int | None = None,
    *,
    dashboard: bool = False,
    modules: Iterable[str] = (),
) -> Iterator[Session]:
    """Join a cluster, or start a local one; one that this process has joined already is used.

    Args:
        address: Of a running cluster; RAY_ADDRESS if None.
        num_cpus: Of a local cluster; all of the machine's if None.
        dashboard: Whether a cluster that is started has one.
        modules: Others' modules that its workers are to import (`shared_code`).

    Raises:
        UserError: If the address does not answer, or a module cannot go to workers.
    """
    global _num_sessions, _cluster
    with _guard:
        if _num_sessions == 0:
            with ExitStack() as begun:
                before, changed = dict(os.environ), set[str]()
                begun.callback(_restore_environment, before, changed)
                try:
                    _cluster = _connect(begun, address or os.environ.get("RAY_ADDRESS") or None, num_cpus, dashboard)
                finally:  # Ray sets names too: its debugger takes over `breakpoint()`
                    changed |= {name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}
                _teardown.push(begun.pop_all())
        _num_sessions += 1
    try:
        import ray

        nodes = ray.nodes()
        # each machine holds a copy of what is shared, so that the smallest store counts
        stores = [int(node["Resources"].get("object_store_memory", 0)) for node in nodes if node["Alive"]]
        with _scratch_folder(tempfile.gettempdir()) as scratch:
            code = share_code(modules, scratch.name)
            try:
                yield Session(scratch, of_cluster(nodes), min(stores, default=0), *_cluster, code)
            finally:
                code.delete()
    finally:
        with _guard:
            _num_sessions -= 1
            if _num_sessions == 0:
                _teardown.close()


def _connect(stack: ExitStack, address: str | None, num_cpus: int | None, dashboard: bool) -> tuple[str, Path | None]:
    """Connect this process to a cluster, push onto the stack what undoes it, and return its dashboard and logs."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    for logger in map(logging.getLogger, _LOGGERS):
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    if ray.is_initialized():
        return "", None
    _sweep()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address is not None:
        _join(ray, address, quiet)
        stack.callback(ray.shutdown)
        return "", None
    parent = tempfile.gettempdir()
    is_short = len(f"{parent}/{_SCRATCH}{os.getpid()}-12345678") <= _MAX_FOLDER_LENGTH
    folder = stack.enter_context(_scratch_folder(parent if is_short else "/tmp"))
    os.environ["TMPDIR"] = str(folder)  # for what Ray's processes forget, sockets among it
    guard_own_token()
    for name, value in _LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    started = ray.init(
        num_cpus=num_cpus,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        _temp_dir=str(folder),
        **quiet,
    )
    stack.callback(ray.shutdown)
    _log.debug("started Ray %s in %s", ray.__version__, folder)
    return (str(started.dashboard_url) if dashboard else ""), folder / "session_latest/logs"


def _join(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address=address, runtime_env={"env_vars": {name: os.environ[name] for name in _ENVIRONMENT}}, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster at {address}: {str(error).strip().splitlines()[0]}; "
            "check the address or RAY_ADDRESS, or unset it to start a local one"
        ) from None
    _log.debug("joined the Ray cluster at %s", address)


def _restore_environment(before: Mapping[str, str], changed: Collection[str]) -> None:
    """Give back what a session has changed, and leave what others have set since."""
    for name in changed:
        if name in before:
            os.environ[name] = before[name]
        else:
            os.environ.pop(name, None)


@contextmanager
def _scratch_folder(parent: str) -> Iterator[Path]:
    """A folder of this process, in which Ray's processes may still write on their way out."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-", dir=parent))
    (folder / OWNER).write_text(json.dumps(this_process()), encoding="utf-8")
    try:
        yield folder
    finally:
        end = time.monotonic() + _PATIENCE_S
        while not _delete(folder) and time.monotonic() < end:
            time.sleep(0.2)


def _sweep() -> None:
    """Delete what killed runs of this machine could not delete themselves."""
    for folder in [
        found for parent in {tempfile.gettempdir(), "/tmp"} for found in Path(parent).glob(f"{_SCRATCH}*-*")
    ]:
        try:
            owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not ours, or just being made
            continue
        if owner["host"] == socket.gethostname() and birth_of(owner["pid"]) != owner["born"]:
            _delete(folder)


def _delete(folder: Path) -> bool:
    """Delete a scratch folder, and return whether it is gone.

    Its owner's name goes last: if this is interrupted, or a process of Ray writes meanwhile, a later run can sweep.
    """
    with suppress(OSError):  # another run sweeps it, too
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != OWNER:
                path.unlink(missing_ok=True)
        if {path.name for path in folder.iterdir()} <= {OWNER}:
            shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
