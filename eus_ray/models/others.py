"""Others' networks: the callables that `module:callable` and entry points name, and how they are called.

Their code is imported only when a network is checked or built. What it prints goes nowhere.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterator
from typing import Any

from eus_ray.architectures import architectures, entry_points
from eus_ray.errors import UserError, did_you_mean


def module_of(arch: str) -> str | None:
    """Return the module that holds another's network; None for eus-ray's own and for those of SMP.

    It imports nothing, so it tells a module that is not here, too.

    >>> module_of("ourlab.nets:BoundaryNet"), module_of("unet"), module_of("smp:FPN")
    ('ourlab.nets', None, None)
    """
    path = _path_of(arch)
    return None if path is None else path.partition(":")[0]


def find_callable(arch: str) -> Callable[..., Any]:
    """Return the callable that builds another's network, after importing its module.

    Args:
        arch: `module:callable`, of which the second part may be dotted, or the name of an entry point.

    Raises:
        UserError: If the module is not there or raises, it has nothing of that name, or that cannot be called.
    """
    path = _path_of(arch)
    if path is None:
        raise ValueError(f"{arch} has no module of its own")
    module, _, name = path.partition(":")
    found: Any = _import(arch, module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = [other for other in dir(found) if not other.startswith("_")]
            where = getattr(found, "__name__", module)
            near = did_you_mean(part, public, "say which callable builds the network")
            raise UserError(f"model.arch: {arch}: {where} has no {part}{near}") from None
    if not callable(found):
        kind = type(found).__name__
        raise UserError(
            f"model.arch: {arch}: is a {kind} and no callable; name a class or a function that returns the network"
        )
    builder: Callable[..., Any] = found
    return builder


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallow what others' code prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def described(error: BaseException) -> str:
    r"""Return an exception's type and the first line of its message.

    >>> described(ValueError("depth is 0\nin full: ...")), described(AssertionError())
    ('ValueError: depth is 0', 'AssertionError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *lines[:1]])


def _path_of(arch: str) -> str | None:
    """`module:callable` of another's network; None for eus-ray's own and for those of SMP."""
    if arch in architectures() or arch.startswith("smp:"):
        return None
    # an entry point may name extras of its package in brackets
    return entry_points().get(arch, arch).partition("[")[0].strip()


def _import(arch: str, module: str) -> Any:
    try:
        with quiet():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise UserError(f"model.arch: {arch}: importing {module} raises {described(error)}") from None
        raise UserError(
            f"model.arch: {arch}: there is no module {error.name} here; install its package, or put the folder that "
            "holds it on PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # others' code raises what it likes
        raise UserError(f"model.arch: {arch}: importing {module} raises {described(error)}") from None
