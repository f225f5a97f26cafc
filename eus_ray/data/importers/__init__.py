"""Data sets in other layouts, copied into a folder of their own with a manifest.

Each format is a module of `formats` with one function, decorated with `importer`: a new format is one new file.
Images are copied byte for byte. Masks become 8-bit PNG, 0 and 255; several masks of an image, or several foreground
labels, become their union. If a format names no patients, a table `patients.csv` in the source does (`cases`).

The command line lists the formats at every start, so this module imports no format and no heavy library by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eus_ray.data.importers import formats
from eus_ray.data.pseudonyms import Pseudonyms
from eus_ray.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from eus_ray.data.importers.cases import Case

    Reader = Callable[[Path], tuple[list[Case], list[str]]]
    """Reads a source folder: its cases, and notes for the user. Raises `UserError` with a line for each defect."""

_TABLES = (".csv", ".json")
"""What a format's own tables end in."""
_READERS: dict[str, Reader] = {}


@dataclass(frozen=True)
class Imported:
    """An imported data set: its manifest, how much was taken, and notes that a person should read."""

    manifest: Path
    num_images: int
    num_patients: int
    notes: tuple[str, ...]


def importer(reader: Reader) -> Reader:
    """Register the decorated function as the reader of its module's format."""
    _READERS[reader.__module__.rpartition(".")[2]] = reader
    return reader


def format_names() -> list[str]:
    """Return the names of all formats, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(formats.__path__))


def import_dataset(format: str, source: Path, target: Path, pseudonyms: Pseudonyms | None = None) -> Imported:
    """Copy a data set into a new folder, with a manifest; the source stays as it is.

    The copy is built aside and renamed: nothing is written if something is wrong.

    Args:
        format: The layout of the source, one of `format_names`.
        source: The folder that holds the data set.
        target: A folder that is new or empty.
        pseudonyms: If given, keyed hashes stand for patients and images, files are called by them, and images are
            written anew as PNG, which leaves behind what their files say besides pixels. Other columns stay, and a
            note names them.

    Raises:
        UserError: With one line for each defect: an unknown format, a layout that is not the format's, images
            without mask or masks without image, files that cannot be read whole, a target that holds something.
    """
    from eus_ray.data.importers.cases import names_alike_in
    from eus_ray.data.importers.writing import pseudonymise, write_dataset
    from eus_ray.data.io.folders import look_into
    from eus_ray.data.io.images import SUFFIXES
    from eus_ray.data.names import counted_by_kind

    if format not in format_names():
        raise UserError(f"{format}: no such format{did_you_mean(format, format_names())}")
    if not source.is_dir():
        raise UserError(f"{source}: is not a folder; name the one that holds the data set")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is not empty; choose a new folder")
    importlib.import_module(f"{formats.__name__}.{format}")
    cases, notes = _READERS[format](source)
    used = {path for case in cases for path in (case.image, *case.masks)}
    found = look_into(source, used)
    left = [path for path in found.files if path not in used and path.suffix.lower() not in _TABLES]
    if not cases:
        passed_over = found.passed_over(left)
        raise UserError(f"{source}: holds no images{f', but {passed_over}' if passed_over else ''}")
    patients = {case.patient for case in cases}
    notes = [*notes, *names_alike_in(cases)]
    images = {path for path in left if path.suffix.lower() in SUFFIXES}
    if told := counted_by_kind(path.relative_to(source).as_posix() for path in sorted(images)):
        notes.append(f"passed over, since the format does not name them: {told}")
    if others := found.passed_over(path for path in left if path not in images):
        notes.append(f"passed over, since they are not read: {others}")
    if pseudonyms is not None:
        cases = [pseudonymise(case, pseudonyms) for case in cases]
        kept = sorted({name for case in cases for name in case.columns} - {"patient_id"})
        seen = f"; {', '.join(kept)} stayed as they were: see that they name nobody" if kept else ""
        notes = [f"patients and images have pseudonyms{seen}", *notes]
    notes += write_dataset(cases, target)
    return Imported(target / "manifest.csv", len(cases), len(patients), tuple(notes))
