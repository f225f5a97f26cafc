"""Others' networks: the callables that `module:callable` and entry points name, and how they are called.

Their code is imported only when a network is checked or built. What it prints goes nowhere.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import io
from collections.abc import Callable, Iterator
from typing import Any, Self

from torch import nn

from eus_ray.architectures import path_of
from eus_ray.config import ModelSettings
from eus_ray.errors import UserError, did_you_mean
from eus_ray.models.adapter import AdaptedNetwork

FIELDS = ("width", "encoder", "pretrained", "weights", "decoder_width", "decoder_init")
"""Fields of `[model]` that a callable gets if it names them."""


class CallableNetwork(AdaptedNetwork):
    """The network that `module:callable` or an entry point returns."""

    @classmethod
    def from_settings(cls, settings: ModelSettings, in_channels: int) -> Self:
        """Call the callable with arguments by name: `in_channels`, what it names of `[model]`, and `model.args`."""
        builder = find_callable(settings.arch)
        arguments = _arguments(builder, settings, in_channels)
        with explained(settings.arch, "building it"):
            network = builder(**arguments)
        if not isinstance(network, nn.Module):
            raise UserError(
                f"model.arch: {settings.arch}: returns type {type(network).__name__}, not a torch.nn.Module"
            )
        return cls(network)

    @classmethod
    def check(cls, settings: ModelSettings) -> None:
        """Raise `UserError` if the callable is not there or does not take its arguments; call nothing."""
        _arguments(find_callable(settings.arch), settings, in_channels=1)


def find_callable(arch: str) -> Callable[..., Any]:
    """Return the callable that builds another's network, after importing its module.

    Args:
        arch: `module:callable`, of which the second part may be dotted, or the name of an entry point.

    Raises:
        UserError: If the module is not there or raises, it has nothing of that name, or that cannot be called.
    """
    path = path_of(arch)
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
        raise UserError(
            f"model.arch: {arch}: has type {type(found).__name__} and cannot be called; name a class or a function "
            "that returns the network"
        )
    builder: Callable[..., Any] = found
    return builder


@contextlib.contextmanager
def explained(arch: str, doing: str) -> Iterator[None]:
    """Turn what others' code raises into one line, and swallow what it prints.

    Args:
        arch: The network.
        doing: What is done, as the line says it: `building it`.
    """
    try:
        with quiet():
            yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # others' code raises what it likes
        raise UserError(f"model.arch: {arch}: {doing} raises {described(error)}") from None


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


def _import(arch: str, module: str) -> Any:
    with explained(arch, f"importing {module}"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # one that the module itself imports
            raise UserError(
                f"model.arch: {arch}: there is no module {error.name} here; install its package, or put the folder "
                "that holds it on PYTHONPATH"
            ) from None


def _arguments(builder: Callable[..., Any], settings: ModelSettings, in_channels: int) -> dict[str, Any]:
    """Return what a callable is called with.

    Raises:
        UserError: If it does not take an argument, needs another, or `model.args` repeats a field of `[model]`.
    """
    arch = settings.arch
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):  # compiled code need not tell
        return {"in_channels": in_channels, **copy.deepcopy(settings.args)}
    own: dict[str, Any] = {"in_channels": in_channels}
    own |= {name: getattr(settings, name) for name in FIELDS if name in parameters}
    if "settings" in parameters:
        own["settings"] = settings
    named = {name for name, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    needed = {name for name in named if parameters[name].default is inspect.Parameter.empty}
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    lines = [
        f"model.args: {arch} is given {name} already{f', as model.{name}' * (name in FIELDS)}; leave it out here"
        for name in settings.args
        if name in own
    ]
    if "in_channels" not in named and not takes_all:
        lines.append(f"model.arch: {arch}: takes no argument in_channels, the channels of an image (1 or 3); add it")
    lines += [
        f"model.args: {arch} takes no argument {name}{did_you_mean(name, sorted(named - {*own}), 'see its code')}"
        for name in settings.args
        if name not in named and name not in own and not takes_all
    ]
    lines += [
        f"model.arch: {arch}: needs an argument {name}; give it in model.args"
        for name in parameters
        if name in needed - {*own, *settings.args}
    ]
    if lines:
        raise UserError(*lines)
    return own | copy.deepcopy(settings.args)
