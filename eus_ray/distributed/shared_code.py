"""The code of others' networks, on each machine: packed by the driver, unpacked once where workers run.

Ray's `runtime_env` does this for a whole connection to a cluster. Two studies of one process share a connection, which
may also be older than both; and Ray leaves out what a .gitignore names. So the code goes with the cross-validation.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eus_ray.architectures import ENTRY_POINTS, entry_points
from eus_ray.errors import UserError
from eus_ray.store.process_identity import this_process

if TYPE_CHECKING:
    import ray

MAX_BYTES = 100 << 20
"""Of all files together: code has no more, and a folder that holds data beside it easily has."""
OWNER = ".owner"
"""A file in a folder of temporary files that says whose it is: nothing else is ever deleted."""
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class SharedCode:
    """Modules on their way to workers; by default none."""

    folder: str = ""
    """The name of the folder below each machine's temporary files."""
    archive: ray.ObjectRef[bytes] | None = None
    """The modules as a zip file, in Ray's object store."""

    def install(self) -> None:
        """Let this process, a worker's, import the modules; those on its own path give way to them."""
        if self.archive is None or str(place := _place(self.folder)) in sys.path:
            return
        if not place.exists():
            import ray

            _unpack(ray.get(self.archive), place)
        if place.is_symlink() or place.stat().st_uid != os.getuid():
            raise PermissionError(f"{place}: somebody else has made this folder; nothing is imported from it")
        sys.path.insert(0, str(place))
        importlib.invalidate_caches()
        entry_points.cache_clear()

    def delete(self) -> None:
        """Delete the folder of every machine; one that does not answer keeps it."""
        if self.archive is not None:
            on_every_machine(_delete, self.folder)


NO_CODE = SharedCode()


def share_code(modules: Iterable[str], name: str) -> SharedCode:
    """Put the packages that hold these modules into Ray's object store.

    A package in site-packages does not travel: as PyTorch does, it has to be installed on the machines.

    Args:
        modules: Dotted names; the whole top package of each travels, or the single file.
        name: Of this session, among all on the machines.

    Raises:
        UserError: If a package is too large.
    """
    files: dict[str, Path] = {}
    for top in sorted({module.partition(".")[0] for module in modules}):
        files |= _files_of(top)
    if not files:
        return NO_CODE
    import ray

    data = _packed(files)
    return SharedCode(f"{name}-{hashlib.sha256(data).hexdigest()[:12]}", ray.put(data))


def on_every_machine(task: Any, *arguments: Any) -> None:
    """Run a function once on each machine of the cluster, and wait for those that answer in time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote(num_cpus=0, max_retries=0)(task)
    nodes = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    tasks = [remote.options(scheduling_strategy=node).remote(*arguments) for node in nodes]
    ray.wait(tasks, num_returns=len(tasks), timeout=_PATIENCE_S)


def _files_of(top: str) -> dict[str, Path]:
    """The files of a top package or module by their names in the archive; none if it is installed, or built in."""
    spec = None if top == "__main__" else importlib.util.find_spec(top)
    if spec is None:
        raise UserError(f"model.arch: {top} is no module that Ray's workers could import; put it in a file of its own")
    if spec.submodule_search_locations is None:
        found = {Path(spec.origin).name: Path(spec.origin)} if spec.has_location and spec.origin else {}
    else:
        found = {
            f"{top}/{path.relative_to(place).as_posix()}": path
            for place in spec.submodule_search_locations
            for path in sorted(Path(place).rglob("*"))
            if _is_code(path.relative_to(place)) and path.is_file()
        }
    found = {name: path for name, path in found.items() if not _INSTALLED & set(path.parts) and path.is_file()}
    sizes = {path: path.stat().st_size for path in found.values()}
    if sum(sizes.values()) > MAX_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise UserError(
            f"model.arch: the package {top} has {sum(sizes.values()) >> 20} MiB, and {MAX_BYTES >> 20} MiB at most go "
            f"to Ray's workers; keep data out of its folder ({largest} is the largest file)"
        )
    return found


def _is_code(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _packed(files: dict[str, Path]) -> bytes:
    """A zip file with the files, their entry points, and whose it is."""
    tops = {name.partition("/")[0].removesuffix(".py") for name in files}
    points = [f"{name} = {to}" for name, to in entry_points().items() if re.split("[.:]", to)[0].strip() in tops]
    about = "eus_ray_shared_code-0.dist-info"
    texts = {
        OWNER: json.dumps(this_process()),
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: eus-ray-shared-code\nVersion: 0\n",
        f"{about}/entry_points.txt": "\n".join([f"[{ENTRY_POINTS}]", *points]),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for name, path in files.items():
            archive.write(path, name)
        for name, text in texts.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def _place(folder: str) -> Path:
    return Path(tempfile.gettempdir()) / folder


def _unpack(data: bytes, place: Path) -> None:
    """Unpack the archive beside its place, and put it there whole: other workers of the machine do the same."""
    aside = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(aside)
    with suppress(OSError):  # another worker was faster
        aside.rename(place)
    shutil.rmtree(aside, ignore_errors=True)


def _delete(folder: str) -> None:
    shutil.rmtree(_place(folder), ignore_errors=True)
