"""Cases of a source in any layout, and the functions that readers share.

`patients.csv` in a source says which patient an image is of, if the format does not: columns `image` (a file's name
with or without suffix), `patient_id`, and any further columns of a manifest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from eus_ray.data.io.images import SUFFIXES
from eus_ray.data.io.tables import MISSING, read_table
from eus_ray.errors import UserError


@dataclass(frozen=True)
class Case:
    """One image, its masks (their union is the lesion), and its manifest columns."""

    image: Path
    masks: tuple[Path, ...]
    columns: dict[str, str] = field(default_factory=dict)
    has_labels: bool = False
    """The masks may hold several values; every one but 0 is lesion."""
    pseudonym: str = ""
    """A name for the copies, if their own is not to be seen."""

    @property
    def name(self) -> str:
        """Return the image's id, else the stem of its file."""
        return self.columns.get("image_id", self.image.stem)

    @property
    def files(self) -> tuple[str, str]:
        """Return the paths of image and mask in the new folder."""
        stem = self.pseudonym or self.image.stem
        return f"images/{f'{stem}.png' if self.pseudonym else self.image.name}", f"masks/{stem}.png"


def find_images(folder: Path, suffixes: Iterable[str] = SUFFIXES) -> dict[str, Path]:
    """Return the image files of a folder by stem, sorted.

    Hidden files and other suffixes are ignored.

    Raises:
        UserError: If there is no such folder, or with one line for each name that is not UTF-8, begins or ends with
            a blank, or has the stem of another.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; the format needs it")
    found: dict[str, Path] = {}
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(tuple(suffixes)) or not path.is_file():
            continue
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        if shown != str(path):  # as from an archive in another encoding
            lines.append(f"{shown}: its name is not UTF-8; rename it")
        elif path.name != path.name.strip():
            lines.append(f"{path}: its name begins with a blank; rename it")
        if path.stem in found:
            lines.append(f"{path}: there is {found[path.stem].name} too; keep one, or rename one")
        found[path.stem] = path
    if lines:
        raise UserError(*lines)
    return found


def with_patients(source: Path, cases: list[Case]) -> tuple[list[Case], list[str]]:
    """Return the cases with the columns of `patients.csv`, and notes.

    Without that table the cases stay as they are, and a note says what that risks.

    Raises:
        UserError: With one line for each defect of the table, and for each image that it does not name.
    """
    path = source / "patients.csv"
    if not path.is_file():
        note = (
            "the source names no patients, so each image is a patient of its own; if images share a patient, "
            f"training and test would too: write {path} (image, patient_id) and import again"
        )
        return cases, [note]
    table = read_table(path)
    lines = [f"{path}: {defect}" for defect in table.defects]
    lines += [f"{path}: there is no column {name}" for name in ("image", "patient_id") if name not in table.columns]
    if lines:
        raise UserError(*lines)
    rows: dict[str, dict[str, str]] = {}
    for number, row in zip(table.numbers, table.records(), strict=True):
        key = row.pop("image")
        key = Path(key).stem if key.lower().endswith(SUFFIXES) else key
        row.pop("mask", None)
        if key in rows:
            lines.append(f"{path}: row {number}: image {key} is there already")
        if row["patient_id"] in MISSING:
            lines.append(f"{path}: row {number}: patient_id is missing")
        rows[key] = row
    named = []
    for case in cases:
        row = rows.pop(case.name if case.name in rows else case.image.stem, {})
        if not row:
            lines.append(f"{path}: has no row for {case.image.name}")
        else:
            named.append(replace(case, columns={**row, **case.columns}))
    if lines:
        raise UserError(*lines)
    return named, [f"{path}: {len(rows)} rows name no image, such as {min(rows)}"] if rows else []
