"""The study file: TOML and command-line overrides become one checked `Study`.

`load_study` reads a file. Each mistake becomes one line that says where it is and what would be right.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from eus_ray.architectures import is_architecture, may_be_architecture, name_of
from eus_ray.config import Study, dotted_names, field_of, set_dotted, unused_fields
from eus_ray.config.study import sorted_settings
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
    or `settings` is relative to the working folder. All paths of the returned study are absolute. `model.arch` without
    `models` means this one network. A later `augment.preset` replaces what was said of augmentation before it.
    `without_effect` tells which settings change nothing.

    Args:
        path: A TOML file; None if the other arguments say everything.
        preset: The name of one of `PRESETS`, which the file then changes.
        models: The models to train.
        overrides: Fields as `a.b=c`.
        settings: Fields by dotted name.

    Raises:
        UserError: With one line for each mistake.
    """
    tree: dict[str, Any] = {}
    source = "the settings" if path is None else str(path)
    of_preset: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise UserError(f"preset {preset}: no such preset{did_you_mean(preset, PRESETS)}")
        of_preset = read_toml(PRESETS[preset])
        _merge(tree, of_preset)
    in_file = {} if path is None else read_toml(Path(path))
    manifest = in_file.get("data", {}).get("manifest") if isinstance(in_file.get("data"), dict) else None
    if path is not None and isinstance(manifest, str) and manifest:
        in_file["data"]["manifest"] = _manifest_path(Path(path).parent, manifest, source)
    _merge(tree, in_file)
    _choose_models(tree, in_file, source)
    given: dict[str, Any] = {} if models is None else {"models": list(models)}
    given |= dict(map(parse_override, overrides)) | dict(settings or {})
    for name, value in sorted_settings(given):
        said = str(value) if isinstance(value, Path) else value
        if name == "data.manifest" and isinstance(said, str) and said:
            said = _manifest_path(Path(), said, "the settings")
        set_dotted(tree, name, said)
    _choose_models(tree, given, "the settings")
    flatten_only(tree)
    study = build_study(tree, source)
    base = (Path(path).parent if path is not None else Path()).resolve()
    for name, written in (("model.weights", study.model.weights), ("search.space", study.search.space)):
        if written:
            set_dotted(tree, name, str(base / written))
    for own in tree.get("only", {}).values():
        own.update({name: str(base / own[name]) for name in ("model.weights", "search.space") if own.get(name)})
    study = build_study(tree, source)
    for name in dict(_dotted(of_preset)).keys() - dict(_dotted(in_file)).keys() - dict(_dotted(given)).keys():
        _section(study, name).model_fields_set.discard(name.split(".")[-1])  # nobody has asked for this one by name
    return study


def _choose_models(tree: dict[str, Any], layer: Mapping[str, Any], source: str) -> None:
    """Let `model.arch` of a layer of settings stand for `models`, in the tree that holds this layer already.

    A file that a run wrote names every field that its version had, and there `models` counts.

    Raises:
        UserError: If the layer names both, and they differ.
    """
    names = dict(_dotted(layer))
    arch, models = names.get("model.arch"), names.get("models")
    meant = [name_of(arch)] if isinstance(arch, str) and may_be_architecture(arch) else []
    if models is None and meant:
        tree["models"] = meant
    elif isinstance(models, list | tuple) and list(models) != meant and isinstance(tree.get("model"), dict):
        is_of_a_run = _is_written_by_a_run(map(field_of, names))
        if is_of_a_run and len(models) == 1 and not is_architecture(str(models[0])):
            return  # a variant that was alone (`Study.for_model`): only this says what it is
        if arch is not None and not (is_of_a_run and arch == Study().model.arch):
            raise UserError(f"{source}: model.arch is {arch!r}, and models is {list(models)}; leave one of them out")
        tree["model"].pop("arch", None)


def _manifest_path(base: Path, manifest: str, source: str) -> str:
    try:
        path = str((base / manifest).resolve())
        path.encode()
    except ValueError:  # a zero byte, or a name that is not UTF-8
        raise UserError(f"{source}: data.manifest {manifest!r}: is no path that can be written down") from None
    return path


def flatten_only(tree: Mapping[str, Any]) -> None:
    """Replace the tables below each `[only.NAME]` by dotted names, in place.

    To TOML, `optim.lr` without quotes is a table in a table.
    """
    if isinstance(only := tree.get("only"), dict):
        only.update({name: dict(_dotted(own)) for name, own in only.items() if isinstance(own, dict)})


def _dotted(names: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in names.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


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
    for model, own in study.only.items():
        for name, value in own.items():
            if not _may_differ(name):
                lines.append(f"{source}: [only.{model}] {name}: is one for the whole study; set it outside [only]")
                continue
            try:
                probe: dict[str, Any] = {}
                set_dotted(probe, name, value)
                Study.model_validate(probe)
            except ValidationError as error:
                lines += [f"{source}: [only.{model}] {line}" for line in _explain(error)]
    labels: dict[str, list[str]] = {}
    for model in study.models if not lines else ():  # fields that contradict each other only together
        try:
            labels.setdefault(study.for_model(model).label, []).append(model)
        except ValidationError as error:
            lines += [f"{source}: [only.{model}] {line}" for line in _explain(error)]
    for label, models in labels.items():
        if len(models) > 1:
            lines.append(f"{source}: model.label: {' and '.join(models)} are both called {label} in print")
    if lines:
        raise UserError(*lines)
    return study


def _may_differ(name: str) -> bool:
    """Return whether a field may differ between the models of a study."""
    section = name.split(".")[0]
    if section == "search":
        return name in ("search.space", "search.trials")
    return section in ("model", "augment", "optim", "loss", "train") and name != "train.seed"


# ---- settings without effect ------------------------------------------------------------------------

_ALL_NAMES = tuple(name for name in dotted_names() if name not in ("only", "model.arch"))
_USED_IF: dict[str, tuple[str, Any]] = {
    "model.pretrained": ("model.weights", False),
    "augment.elastic_alpha": ("augment.elastic_probability", True),
    "augment.elastic_sigma": ("augment.elastic_probability", True),
    "optim.momentum": ("optim.optimizer", "sgd"),
    "optim.milestones": ("optim.schedule", "steps"),
    "optim.gamma": ("optim.schedule", "steps"),
    "augment.brightness": ("augment.brightness_probability", True),
    "augment.contrast": ("augment.contrast_probability", True),
    "augment.gamma": ("augment.gamma_probability", True),
    "augment.blur_sigma": ("augment.blur_probability", True),
    "augment.noise": ("augment.noise_probability", True),
    "augment.speckle": ("augment.speckle_probability", True),
    "augment.downscale": ("augment.downscale_probability", True),
    "augment.occlusion": ("augment.occlusion_probability", True),
    "loss.smooth": ("loss.dice_weight", True),
    "search.grid_points": ("search.sampler", "grid"),
    "search.racing_alpha": ("search.scheduler", "racing"),
    "search.asha_reduction": ("search.scheduler", "asha"),
    "search.asha_grace": ("search.scheduler", "asha"),
    "search.inner_folds": ("search.protocol", "nested"),
    "log.mlflow_experiment": ("log.mlflow", True),
}
"""The fields that are used only if another one has some value; True: if it is set, not 0 or empty; False: if not."""


def _is_written_by_a_run(names: Iterable[str]) -> bool:
    """Whether these fields are more than somebody would set by hand: a run writes all that its version has."""
    return 2 * len(set(names) & set(_ALL_NAMES)) > len(_ALL_NAMES)


def without_effect(study: Study) -> list[str]:
    """Return a line for the fields that somebody has set and that change nothing, one for each reason.

    A file that a run wrote names every field: nobody has set one of them in particular.

    >>> without_effect(Study.model_validate({"models": ["unet"], "model": {"encoder": "resnet18"}}))
    ['model.encoder has no effect on unet']
    """
    written = [name for name in _ALL_NAMES if name.split(".")[-1] in _section(study, name).model_fields_set]
    if _is_written_by_a_run(written):
        return []
    idle = {model: idle_fields(study.for_model(model)) for model in study.models}
    found: dict[str, list[str]] = {}
    for name in written:
        if all(name in map(field_of, study.only.get(model, {})) for model in study.models):
            found.setdefault("since every model has its own in [only]", []).append(name)
        elif all(name in idle[model] for model in study.models):
            reasons = dict.fromkeys(idle[model][name] for model in study.models)
            found.setdefault(" and ".join(reasons), []).append(name)
    for model, own in study.only.items():
        if model not in study.models:
            found.setdefault(f"since models does not name {model}", []).append(f"[only.{model}]")
        for name in own if model in study.models else ():
            if (reason := idle[model].get(field_of(name))) is not None:
                found.setdefault(reason, []).append(f"[only.{model}] {name}")
    return [
        f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect {why}" for why, names in found.items()
    ]


def idle_fields(study: Study) -> dict[str, str]:
    """Return the fields that change nothing in the study of one model, each with the reason."""
    idle = dict.fromkeys(unused_fields(study.model.arch), f"on {study.name}")
    for name, (other, wanted) in _USED_IF.items():
        value = getattr(_section(study, other), other.split(".")[-1])
        if (bool(value) if isinstance(wanted, bool) else value) != wanted:
            idle.setdefault(name, f"while {other} is {value!r}")
    return idle


def _section(study: Study, name: str) -> BaseModel:
    """Return the section that holds the field of this dotted name; the study itself for a name without a dot."""
    section, dot, _ = name.rpartition(".")
    return getattr(study, section) if dot else study


# ---- TOML -------------------------------------------------------------------------------------------


def with_settings(study: Study, settings: Mapping[str, Any], source: str) -> Study:
    """Return one model's study with some fields set to other values, checked.

    Args:
        study: The study of one model (`Study.for_model`).
        settings: The new values by dotted name.
        source: The name of the file that they come from, for messages.

    Raises:
        UserError: With one line for each mistake.
    """
    tree = study.model_dump()
    for name, value in sorted_settings(settings):
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


_KINDS = (
    dict.fromkeys(("float_parsing", "float_type"), "a number")
    | dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "a whole number")
    | dict.fromkeys(("bool_parsing", "bool_type"), "true or false")
    | dict.fromkeys(("list_type", "tuple_type", "set_type"), "a list")
    | dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a table")
    | {"string_type": "a text", "finite_number": "a finite number"}
)
"""What a value must be, by the kind of pydantic's complaint."""


def _explain(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for problem in error.errors():
        parts = [str(part) for part in problem["loc"] if not (isinstance(part, str) and "[" in part)]
        is_unknown = problem["type"] == "extra_forbidden"
        if not is_unknown and parts and parts[-1] in ("auto", "int", "float", "constrained-int", "constrained-float"):
            parts = parts[:-1]  # the branch of a union, not a part of the name
        name, given, message = ".".join(parts), problem.get("input"), problem["msg"].removeprefix("Value error, ")
        said = str(given).lower() if isinstance(given, bool) else repr(given)  # as TOML has it
        if is_unknown:
            siblings = [known for known in dotted_names() if known.count(".") == name.count(".")]
            known = siblings if len(parts) > 1 else sorted(Study.model_fields)
            lines.append(f"{name}: no such field{did_you_mean(name, known)}")
        elif problem["type"] == "literal_error" and isinstance(given, str):
            choices = [word.strip(" '\"") for word in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
            lines.append(f"{name}: {given!r} is not a choice{did_you_mean(given, choices)}")
        elif kind := _KINDS.get(problem["type"]):
            lines.append(f"{name}: must be {kind}, not {said}")
        elif problem["type"] == "value_error":
            lines += [f"{name}: {message}"] if name else message.splitlines()
        else:
            lines.append(f"{name}: {message[0].lower()}{message[1:]}, not {said}")
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
