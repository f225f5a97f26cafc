"""Cases of a source in any layout, and the functions that readers share.

`patients.csv` in a source says which patient an image is of, if the format does not: columns `image` (a file's name
with or without suffix), `patient_id`, and any further columns of a manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import pandas as pd

from eus_ray.data.io.folders import look_into
from eus_ray.data.io.images import SUFFIXES
from eus_ray.data.io.manifest_columns import OPTIONAL, REQUIRED, column_defects
from eus_ray.data.io.tables import MISSING, names_alike, read_table, typed
from eus_ray.data.names import composed, is_writable, near_hint, shown
from eus_ray.errors import UserError


@dataclass(frozen=True)
class Case:
    """One image, its masks (their union is the lesion), and its manifest columns."""

    image: Path
    masks: tuple[Path, ...]
    columns: dict[str, str] = field(default_factory=dict)
    labels: frozenset[int] = frozenset()
    """The values that the masks may hold; every one but 0 is lesion. None are given if masks have 0 and one other."""
    relative: str = ""
    """The image's path below the folder of images without suffix, if it is not simply its stem."""
    pseudonym: str = ""
    """A name for the copies, if their own is not to be seen."""

    @property
    def name(self) -> str:
        """Return the image's id, else its path without suffix."""
        return self.columns.get("image_id", self.relative or self.image.stem)

    @property
    def patient(self) -> str:
        """Return the patient; the image is its own if none is named."""
        return self.columns.get("patient_id", self.name)

    def names(self, source: Path) -> tuple[str, ...]:
        """Return the names by which `patients.csv` in the source may call the image, composed."""
        path = self.image.relative_to(source).with_suffix("").as_posix()
        return tuple(map(composed, (self.name, self.relative, self.image.stem, path)))

    @property
    def files(self) -> tuple[str, str]:
        """Return the paths of image and mask in the new folder."""
        stem = self.pseudonym or self.relative or self.image.stem
        return f"images/{stem}{'.png' if self.pseudonym else self.image.suffix}", f"masks/{stem}.png"


def find_images(folder: Path, suffixes: Iterable[str] = SUFFIXES) -> dict[str, Path]:
    """Return the image files of a folder and of those in it, by their paths below it without suffix, sorted.

    The paths are composed (`names.composed`), so that names of several systems pair. Linked folders, hidden
    files and other suffixes are passed over.

    Raises:
        UserError: If there is no such folder, or with one line for each file if its name or its folder's is not UTF-8
            or has a line break, if the name begins or ends with a blank, or is that of another but for its suffix,
            encoding or invisible characters.
    """
    if folder.is_file():
        raise UserError(f"{folder}: is a file; the format needs a folder of this name")
    if not folder.is_dir():
        beside = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise UserError(f"{folder}: no such folder; the format needs it{near_hint(folder.name, beside)}")
    found: dict[str, Path] = {}
    lines = []
    for path in look_into(folder).files:
        if not path.name.lower().endswith(tuple(suffixes)):
            continue
        shown_path, relative = shown(str(path)), path.relative_to(folder)
        key = composed(relative.with_suffix("").as_posix())
        if not is_writable(str(relative)):  # as from an archive in another encoding
            whose = "its folder's" if is_writable(path.name) else "its"
            lines.append(f"{shown_path}: {whose} name is not UTF-8; rename it")
        elif len(str(relative).splitlines()) > 1:
            whose = "its" if len(path.name.splitlines()) > 1 else "its folder's"
            lines.append(f"{shown_path}: {whose} name has a line break; rename it")
        elif key != key.strip() or path.name != path.name.lstrip():
            lines.append(f"{path}: its name {'ends' if key != key.rstrip() else 'begins'} with a blank; rename it")
        if key in found:
            lines.append(f"{shown_path}: there is {_too(found[key], path)}; keep one, or rename one")
        found[key] = path
    if lines:
        raise UserError(*lines)
    return found


def _too(first: Path, second: Path) -> str:
    """Say that there is a file of the same composed name, and what tells the two apart."""
    if first.suffix != second.suffix:
        return f"{shown(first.name)} too"
    is_encoding = normalize("NFC", str(first)) == normalize("NFC", str(second))
    differ = "in another encoding" if is_encoding else "but for invisible characters"
    return f"{shown(first.name)}, the same name {differ}, too"


def names_alike_in(cases: Sequence[Case]) -> list[str]:
    """Return warnings of patients, images and categories whose names look alike."""
    columns = list(dict.fromkeys(name for case in cases for name in case.columns))
    names = {"patient_id": [case.patient for case in cases], "image_id": [case.name for case in cases]}
    if names["image_id"] == names["patient_id"]:
        del names["image_id"]  # once is enough
    clinical = [name for name in columns if name not in (*REQUIRED, *OPTIONAL)]
    cells = {name: typed([case.columns.get(name, "") for case in cases]) for name in clinical}
    return names_alike(pd.DataFrame({**names, **cells}), clinical)


def with_patients(source: Path, cases: list[Case]) -> tuple[list[Case], list[str]]:
    """Return the cases with the columns of `patients.csv`, and notes.

    Without that table the cases stay as they are, and a note says what that risks.

    Raises:
        UserError: With one line for each defect of the table, and for each image that it does not name; without it,
            for each image whose name a table cannot hold as a patient's.
    """
    path = source / "patients.csv"
    if not path.exists():
        if unnamed := [shown(str(case.image)) for case in cases if case.patient in MISSING]:
            raise UserError(
                *(
                    f"{image}: its name would be its patient's, and a table reads that as no value; write {path} "
                    "(image, patient_id), or rename it"
                    for image in unnamed
                )
            )
        hint = near_hint(path.name, [file.name for file in source.iterdir()])
        note = (
            "the source names no patients, so each image is a patient of its own; if images share a patient, "
            f"training and test would too: write {path} (image, patient_id) and import again{hint}"
        )
        return cases, [note]
    table = read_table(path)
    notes = [f"{path}: {warning}" for warning in table.warnings]
    lines = [f"{path}: {defect}" for defect in [*table.defects, *column_defects(table, ("image", "patient_id"))]]
    if lines:
        raise UserError(*lines)
    rows: dict[str, dict[str, str]] = {}
    for number, row in zip(table.numbers, table.records(), strict=True):
        key = composed(row.pop("image"))
        key = str(PurePosixPath(key).with_suffix("")) if key.lower().endswith(SUFFIXES) else key
        row.pop("mask", None)
        if key in rows:
            lines.append(f"{path}: row {number}: image {key} is there already")
        if row["patient_id"] in MISSING:
            lines.append(f"{path}: row {number}: patient_id is missing")
        rows[key] = row
    named = []
    for case in cases:
        row = rows.pop(next((name for name in case.names(source) if name in rows), ""), {})
        if not row:
            lines.append(f"{path}: has no row for {shown(case.image.name)}{near_hint(case.name, rows)}")
        else:
            named.append(replace(case, columns={**row, **case.columns}))
            if named[-1].columns.get("image_id", case.image) in MISSING:
                lines.append(f"{shown(str(case.image))}: a table reads its image_id as no value; give it another name")
    if lines:
        raise UserError(*lines)
    return named, notes + ([f"{path}: {len(rows)} rows name no image, such as {min(rows)}"] if rows else [])
