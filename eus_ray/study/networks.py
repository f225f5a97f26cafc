"""Whose code a study's networks are: what provenance keeps of others', and where it may run.

A study folder names modules and never holds code. A run may import what the user's own study file names; who opens a
folder that came from elsewhere says himself which module may be imported (`allow_modules`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Collection, Mapping
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from eus_ray.config import ModelSettings, Study, is_of_smp, module_of
from eus_ray.errors import UserError
from eus_ray.store import PROVENANCE, Store, read_records

NETWORKS = "networks"
"""In provenance.json: what is known of each model whose code is not eus-ray's, by the model's name."""
_SMP = "segmentation_models_pytorch"


def others_modules(study: Study) -> list[str]:
    """Return the modules of others' networks in a study, each once. Imports nothing."""
    modules = [module_of(study.for_model(model).model.arch) for model in study.models]
    return list(dict.fromkeys(filter(None, modules)))


# ---- provenance -------------------------------------------------------------------------------------


def network_entry(arch: str) -> dict[str, Any] | None:
    """Return what provenance keeps of an architecture; None of eus-ray's own. Imports its module.

    Returns:
        `arch`; `module`, the one that defines the callable; `version` of its distribution, None if it has none;
        `sha256` of its file, None for SMP, whose version says enough, and for what is not a file.
    """
    if is_of_smp(arch):
        return {"arch": arch, "module": _SMP, "version": _version(_SMP), "sha256": None}
    module = module_of(arch)
    if module is None:
        return None
    from eus_ray.models.others import find_callable

    builder = find_callable(arch)
    if inspect.isclass(builder) or inspect.isfunction(builder):
        module = builder.__module__
    return {"arch": arch, "module": module, "version": _version(module), "sha256": _digest(module)}


def network_entries(store: Store, study: Study) -> dict[str, Any]:
    """Return the entries of a study folder with those of a study's models; what was trained keeps its own."""
    there, trained = _recorded(store), {record.model for record in read_records(store)}
    here = {model: network_entry(study.for_model(model).model.arch) for model in study.models}
    new = {model: entry for model, entry in here.items() if entry and not (model in there and model in trained)}
    return there | new


def check_networks(store: Store, study: Study) -> None:
    """Raise `UserError` if a module has changed since a model of the folder was trained."""
    there, trained = _recorded(store), {record.model for record in read_records(store)}
    lines = []
    for model in study.models:
        if model not in there or model not in trained:
            continue
        now = network_entry(study.for_model(model).model.arch)
        if now is not None and now["arch"] == there[model].get("arch") and _differs(there[model], now["sha256"]):
            lines.append(
                f"{store.location}: {model} was begun with another file of the module {now['module']}; bring that file "
                "back, give the changed network another name among the models, or choose another output folder"
            )
    if lines:
        raise UserError(*lines)


def network_warnings(store: Store, study: Study) -> list[str]:
    """Return a line for each model of a folder whose SMP had another version when it was trained."""
    there = _recorded(store)
    lines = []
    for model in study.models:
        before = there.get(model, {})
        if not is_of_smp(str(before.get("arch"))) or study.for_model(model).model.arch != before["arch"]:
            continue
        if (now := _version(_SMP)) != before.get("version"):
            lines.append(
                f"{store.location}: {model} was begun with {_SMP} {before.get('version')}, and {now} is installed; "
                "its network may differ"
            )
    return lines


def _recorded(store: Store) -> dict[str, dict[str, Any]]:
    """The folder's entries; empty if it is older than they are. They may be anybody's: what is no entry is none."""
    there = store.read_json(PROVENANCE).get(NETWORKS) if store.exists(PROVENANCE) else None
    if not isinstance(there, Mapping):
        return {}
    return {str(model): dict(entry) for model, entry in there.items() if isinstance(entry, Mapping)}


def _differs(entry: Mapping[str, Any], digest: str | None) -> bool:
    return entry.get("sha256") is not None and entry["sha256"] != digest


# ---- others' study folders --------------------------------------------------------------------------


def check_entry_points(store: Store) -> None:
    """Raise `UserError` if a study folder's settings name networks that no package of this machine offers."""
    lines = []
    for model, entry in _recorded(store).items():
        try:
            ModelSettings(arch=entry.get("arch", "unet"))
        except ValueError:
            lines.append(
                f"{store.location}: {model} is the network {entry['arch']} of a package that is not on this machine; "
                f"install the one that has the module {entry.get('module')}"
            )
    if lines:
        raise UserError(*lines)


def check_allowed(store: Store, study: Study, allow_modules: Collection[str]) -> None:
    """Check, importing nothing, that the network of a trained model may be built here and is the one that was trained.

    Args:
        store: The study folder, which may be a stranger's.
        study: One model's settings.
        allow_modules: Modules that may be imported.

    Raises:
        UserError: If the module is not among them, is not on this machine, or its file is another.
    """
    module, model = module_of(study.model.arch), study.name
    if module is None:
        return
    if module not in allow_modules:
        raise UserError(
            f"{store.location}: {model} is built by the module {module}, which is not part of eus-ray; importing it "
            f"runs its code; if you trust what {module} is on this machine, name it in allow_modules"
        )
    entry = _recorded(store).get(model, {})
    file = module_file(module)
    if file is None:
        raise UserError(
            f"{store.location}: {model} is built by the module {module}, which is not on this machine; install its "
            "package, or put the folder that holds it on PYTHONPATH"
        )
    defining = str(entry.get("module") or module)
    if _differs(entry, _digest(defining)):
        raise UserError(
            f"{store.location}: the module {defining} is not the file with which {model} was trained; bring that file "
            f"back (sha256 {str(entry['sha256'])[:12]}…)"
        )


# ---- modules ----------------------------------------------------------------------------------------


def module_file(module: str) -> Path | None:
    """Return the file of a module, without importing it or its packages; None if there is none.

    >>> module_file("eus_ray.errors").name, module_file("eus_ray.no_such_module")
    ('errors.py', None)
    """
    spec = _spec_of(module)
    if spec is None:
        return None
    if spec.origin is None and spec.submodule_search_locations:  # a folder without __init__.py
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin is not None and spec.has_location else None


def _spec_of(module: str) -> ModuleSpec | None:
    top, *inner = module.split(".")
    try:
        spec, name = importlib.util.find_spec(top), top
        for part in inner:
            if spec is None or spec.submodule_search_locations is None:
                return None
            name = f"{name}.{part}"
            # not by PathFinder, which asks for the imported parent
            finders = map(pkgutil.get_importer, spec.submodule_search_locations)
            found = [one for finder in finders if finder is not None and (one := finder.find_spec(name)) is not None]
            spec = next((one for one in found if one.loader is not None), found[0] if found else None)
    except (ImportError, ValueError):  # no name of a module, or __main__
        return None
    return spec


def _digest(module: str) -> str | None:
    file = module_file(module)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else None


def _version(module: str) -> str | None:
    """The version of the distribution that has a module; None if none has it."""
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    return metadata.version(names[0]) if names else None
