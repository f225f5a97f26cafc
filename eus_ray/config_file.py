"""The study file: TOML and command-line overrides become one checked `Study`.

`load_study` reads a file. Each mistake becomes one line that says where it is and what would be right.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from eus_ray.config import Study, dotted_names, set_dotted
from eus_ray.errors import UserError, did_you_mean

PRESETS = {"paper": Path(__file__).parent / "search_spaces/paper.toml"}
"""Settings by name that a study file may change."""


def load_study(
    path: str | Path | None,
    *,
    preset: str | None = None,
    models: Iterable[str] | None = None,
    overrides: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> Study:
    """Read a study file and check it.

    A later argument overrides an earlier one. Paths in the file are relative to the file; a manifest among `overrides`
    or `settings` is relative to the working folder. All paths of the returned study are absolute.

    Args:
        path: A TOML file; None if the other arguments say everything.
        preset: The name of one of `PRESETS`, which the file then changes.
        models: The architectures to train.
        overrides: Fields as `a.b=c`.
        settings: Fields by dotted name.

    Raises:
        UserError: With one line for each mistake.
    """
    tree: dict[str, Any] = {}
    source = "the settings"
    if preset is not None:
        if preset not in PRESETS:
            raise UserError(f"preset {preset}: no such preset{did_you_mean(preset, PRESETS)}")
        _merge(tree, read_toml(PRESETS[preset]))
    if path is not None:
        source = str(path)
        written = read_toml(Path(path))
        _merge(tree, written)
        manifest = written.get("data", {}).get("manifest") if isinstance(written.get("data"), dict) else None
        if isinstance(manifest, str) and manifest:
            tree["data"]["manifest"] = _manifest_path(Path(path).parent, manifest, source)
    if models is not None:
        tree["models"] = list(models)
    for name, value in [*map(parse_override, overrides), *(settings or {}).items()]:
        given = str(value) if isinstance(value, Path) else value
        if name == "data.manifest" and isinstance(given, str) and given:
            given = _manifest_path(Path(), given, "the settings")
        set_dotted(tree, name, given)
    flatten_only(tree)
    study = build_study(tree, source)
    base = (Path(path).parent if path is not None else Path()).resolve()
    set_dotted(tree, "model.weights", _absolute(base, study.model.weights))
    set_dotted(tree, "search.space", _absolute(base, study.search.space))
    for own in tree.get("only", {}).values():
        own.update({name: _absolute(base, own[name]) for name in ("model.weights", "search.space") if name in own})
    return build_study(tree, source)


def _manifest_path(base: Path, manifest: str, source: str) -> str:
    try:
        return str((base / manifest).resolve())
    except ValueError:  # a zero byte
        raise UserError(f"{source}: data.manifest {manifest!r}: is no path") from None


def flatten_only(tree: Mapping[str, Any]) -> None:
    """Replace the tables below each `[only.ARCH]` by dotted names, in place.

    To TOML, `optim.lr` without quotes is a table in a table.
    """
    if isinstance(only := tree.get("only"), dict):
        only.update({arch: dict(_dotted(names)) for arch, names in only.items() if isinstance(names, dict)})


def _dotted(names: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in names.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _absolute(base: Path, path: str) -> str:
    """Return a path of a study file as an absolute path; empty stays empty."""
    return str(base / path) if path else ""


def build_study(tree: Mapping[str, Any], source: str) -> Study:
    """Check a tree of settings and return it as a `Study`.

    Args:
        tree: Sections as mappings.
        source: The name of the file, for messages.

    Raises:
        UserError: With one line for each mistake.
    """
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        raise UserError(*(f"{source}: {line}" for line in _explain(error))) from None
    lines: list[str] = []
    for arch, names in study.only.items():
        for name, value in names.items():
            if not _may_differ(name):
                lines.append(f"{source}: [only.{arch}] {name}: is one for the whole study; set it outside [only]")
                continue
            try:
                probe: dict[str, Any] = {}
                set_dotted(probe, name, value)
                Study.model_validate(probe)
            except ValidationError as error:
                lines += [f"{source}: [only.{arch}] {line}" for line in _explain(error)]
    if not lines:  # fields that contradict each other only together
        for arch in study.models:
            try:
                study.for_model(arch)
            except ValidationError as error:
                lines += [f"{source}: [only.{arch}] {line}" for line in _explain(error)]
    if lines:
        raise UserError(*lines)
    return study


def _may_differ(name: str) -> bool:
    """Return whether a field may differ between the architectures of a study."""
    section = name.split(".")[0]
    if section == "search":
        return name in ("search.space", "search.trials")
    return section in ("model", "augment", "optim", "loss", "train") and name not in ("model.arch", "train.seed")


def with_settings(study: Study, settings: Mapping[str, Any], source: str) -> Study:
    """Return one architecture's study with some fields set to other values, checked.

    Args:
        study: The study of one architecture (`Study.for_model`).
        settings: The new values by dotted name.
        source: The name of the file that they come from, for messages.

    Raises:
        UserError: With one line for each mistake.
    """
    tree = study.model_dump()
    for name, value in settings.items():
        set_dotted(tree, name, value)
    return build_study(tree, source)


def parse_override(text: str) -> tuple[str, Any]:
    """Split `a.b=c` into the dotted name and its value: TOML if it is TOML, else the text itself.

    Raises:
        UserError: If the text has no name or no equals sign.

    >>> parse_override("optim.lr=1e-4"), parse_override("model.encoder=resnet18")
    (('optim.lr', 0.0001), ('model.encoder', 'resnet18'))
    """
    name, equals, written = text.partition("=")
    name, written = name.strip(), written.strip()
    if not equals or not name or "" in name.split("."):
        raise UserError(f"{text}: write a setting as name=value, such as optim.lr=1e-4")
    try:
        return name, tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        return name, written


def read_toml(path: Path) -> dict[str, Any]:
    """Read the tables of a TOML file.

    Raises:
        UserError: If the file cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not TOML: {error}") from None


def study_toml(study: Study) -> str:
    """Return the study as TOML with every default; `load_study` reads an equal study from it."""
    return tomli_w.dumps(study.model_dump(mode="json"))


def _merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(name), dict):
            _merge(tree[name], value)
        else:
            tree[name] = dict(value) if isinstance(value, Mapping) else value


def _explain(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for problem in error.errors():
        parts = [str(part) for part in problem["loc"] if not (isinstance(part, str) and "[" in part)]
        is_unknown = problem["type"] == "extra_forbidden"
        if not is_unknown and parts and parts[-1] in ("auto", "int", "float", "constrained-int", "constrained-float"):
            parts = parts[:-1]  # the branch of a union, not a part of the name
        name, given, message = ".".join(parts), problem.get("input"), problem["msg"].removeprefix("Value error, ")
        if is_unknown:
            siblings = [known for known in dotted_names() if known.count(".") == name.count(".")]
            known = siblings if len(parts) > 1 else sorted(Study.model_fields)
            lines.append(f"{name}: no such field{did_you_mean(name, known)}")
        elif problem["type"] == "literal_error" and isinstance(given, str):
            choices = [word.strip(" '\"") for word in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
            lines.append(f"{name}: {given!r} is not a choice{did_you_mean(given, choices)}")
        elif problem["type"] == "value_error":
            lines.append(f"{name}: {message}" if name else message)
        else:
            lines.append(f"{name}: {message[0].lower()}{message[1:]}, not {given!r}")
    return _joined(lines)


def _joined(lines: Iterable[str]) -> list[str]:
    """Join the lines of a field, one for each alternative of a union or each entry of a list, into one."""
    by_field: dict[str, list[str]] = {}
    for line in lines:
        name, _, said = line.partition(": ")
        field, _, entry = name.rpartition(".")
        if entry.isdecimal():
            name, said = field, f"entry {int(entry) + 1}: {said}"
        by_field.setdefault(name, []).append(said)
    joined = {name: "; or ".join(dict.fromkeys(said)) for name, said in by_field.items()}
    return [f"{name}: {said}" if said else name for name, said in joined.items()]
