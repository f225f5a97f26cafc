"""The manifest: one row an image, checked whole before anything is trained.

A manifest is a CSV or Parquet table (`io.tables`) with `image`, `mask` and `patient_id`. Optional columns are
`image_id`, `fold`, and `spacing_mm` or `spacing_row_mm` with `spacing_col_mm`; every other column is clinical. Paths
are relative to the table and stay within its folder. All defects are reported at once, by the row as a spreadsheet
counts them: the header is row 1.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy.typing as npt
import pandas as pd

from eus_ray.data.duplicates import Look, find_copies, look
from eus_ray.data.io.images import Channels, Remark, decode, to_uint8, told_remarks
from eus_ray.data.io.manifest_columns import OPTIONAL, REQUIRED, check_cells, column_defects, spacing_mm
from eus_ray.data.io.tables import MISSING, Lines, Table, names_alike, near_columns, read_table, repeated, typed
from eus_ray.data.names import alike, composed, near_hint
from eus_ray.data.signs import (
    MaskFacts,
    SmallMasks,
    all_have_lesions,
    fixed_mask_signs,
    is_its_mask,
    mask_facts,
    mask_signs,
    repeated_masks,
    resembles_its_mask,
    small_mask,
    spacing_signs,
)
from eus_ray.errors import UserError, collapsed


@dataclass(frozen=True)
class Manifest:
    """A checked manifest."""

    path: Path
    frame: pd.DataFrame
    """One row an image in the table's order. Columns are image_id, patient_id; image, mask (absolute paths); height,
    width (original pixels); spacing_row, spacing_col (mm or NaN); lesion_share (the share of mask pixels); fold (int),
    if the table has it; then the clinical columns."""
    warnings: tuple[str, ...]
    near_duplicates_within: int
    """Pairs of images of one patient that are the same picture, exactly or nearly."""
    fingerprint: str
    """SHA-256 of ids, file contents and spacing; the order of the rows and the place of the files do not matter."""
    small_masks: SmallMasks
    """The masks on a common grid."""

    def training_warnings(self, target: str = "lesion") -> tuple[str, ...]:
        """Return what to know before networks are trained on these masks, as lines like `warnings`."""
        lines = all_have_lesions(self.frame["lesion_share"].tolist(), target)
        lines += fixed_mask_signs(self.small_masks, self.frame["patient_id"].tolist(), target)
        return tuple(f"{self.path}: {line}" for line in lines)


@dataclass(frozen=True)
class _Case:
    """The facts of one row's files; empty if a file cannot be read: see `problems`."""

    problems: list[str]
    notes: list[str]
    height: int = 0
    width: int = 0
    mask: MaskFacts | None = None
    small_mask: bytes = b""
    digests: tuple[str, ...] = ()
    look: Look | None = None
    remarks: tuple[tuple[str, Remark], ...] = ()


def read_manifest(
    path: Path,
    duplicates: Literal["stop", "warn"] = "stop",
    target: str = "lesion",
    channels: Channels = "gray",
) -> Manifest:
    """Read a manifest and check all of it: table, images, masks, patients.

    Args:
        path: The table. Its images and masks are decoded whole.
        duplicates: Whether the same picture under two patients, exactly or nearly, is a defect or a warning.
        target: What the masks show, in the words of the warnings.
        channels: What networks will see of the images. In colour a transparent image is a defect. Copies are found by
            gray values in both.

    Raises:
        UserError: With one line for each defect.
    """
    path = Path(path)
    folder = path.parent.resolve()
    table = read_table(path)
    header, defects, warnings = [*table.defects, *column_defects(table)], Lines(), Lines()
    cells = {name: table.column(name) for name in (*REQUIRED, *OPTIONAL) if name in table.columns}
    check_cells(table, cells, defects)
    images, masks = (_locate_all(table, cells, kind, folder, defects) for kind in ("image", "mask"))
    with ThreadPoolExecutor() as pool:
        cases = list(pool.map(partial(_inspect, folder, channels), images, masks))
    for number, case in zip(table.numbers, cases, strict=True):
        for text in case.problems:
            defects.add(number, text)
        for text in case.notes:
            warnings.add(number, text)
    header += _size_columns(table, cases)
    leaks, within = _find_leaks(table, cells, cases)
    for row, text in leaks:
        if duplicates == "warn":
            warnings.add(row, text)
        else:
            defects.add(row, f'{text}; keep one, give both one patient_id, or set data.duplicates = "warn"')
    if header or defects.found:
        raise UserError(*(f"{path}: {line}" for line in [*header, *defects.told()]))

    row_spacing, col_spacing = spacing_mm(cells, len(cases))
    clinical = [name for name in table.columns if name not in (*REQUIRED, *OPTIONAL, "height", "width")]
    frame = pd.DataFrame(
        {
            "image_id": _image_ids(cells),
            "patient_id": cells["patient_id"],
            "image": [str(file) for file in images],
            "mask": [str(file) for file in masks],
            "height": [case.height for case in cases],
            "width": [case.width for case in cases],
            "spacing_row": row_spacing,
            "spacing_col": col_spacing,
            "lesion_share": [case.mask.share for case in cases if case.mask],
            **({"fold": [int(cell) for cell in cells["fold"]]} if "fold" in cells else {}),
            **{name: typed(table.column(name)) for name in clinical},
        }
    )
    prints = sorted(
        [row.image_id, row.patient_id, *case.digests, str(row.spacing_row), str(row.spacing_col)]
        for row, case in zip(frame.itertuples(), cases, strict=True)
    )
    fingerprint = hashlib.sha256(json.dumps(prints).encode()).hexdigest()
    names = [*near_columns(table.columns, OPTIONAL, "clinical"), *alike("column", table.columns)]
    names += names_alike(frame, clinical)
    told = [*table.warnings, *names, *warnings.told(), *_signs(cells, cases, frame, target)]
    small_masks = SmallMasks([case.small_mask for case in cases])
    return Manifest(path, frame, tuple(f"{path}: {line}" for line in collapsed(told)), within, fingerprint, small_masks)


# ---- names ------------------------------------------------------------------------------------------


def _image_ids(cells: dict[str, list[str]]) -> list[str]:
    """Return the table's own ids, else the shortest names of the files that differ.

    These are the stems, the paths without suffix, or the paths.
    """
    if "image_id" in cells:
        return cells["image_id"]
    paths = [PurePosixPath(cell) for cell in cells["image"]]
    for ids in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if len(set(ids)) == len(ids):
            return ids
    return [str(path) for path in paths]


# ---- files ------------------------------------------------------------------------------------------


def _locate_all(
    table: Table, cells: dict[str, list[str]], kind: str, folder: Path, defects: Lines
) -> list[Path | None]:
    """Return each row's file, None if there is none that may be read."""
    located: list[Path | None] = []
    names_in = cache(_names_in)
    for number, written in zip(table.numbers, cells.get(kind, [""] * len(table.rows)), strict=True):
        located.append(None)
        if written not in MISSING:
            try:
                located[-1] = _resolve(folder, written, names_in)
            except ValueError as error:
                defects.add(number, f"{kind} {written} {error}")
    resolved = [path and path.resolve() for path in located]
    if kind == "image":
        for number, first in repeated(table, resolved):
            defects.add(
                number, f"image {cells[kind][table.numbers.index(number)]} is that of row {first}; keep one row"
            )
    return located


def _resolve(folder: Path, written: str, names_in: Callable[[Path], Mapping[str, list[str]]]) -> Path:
    """Return the file that a table names, below `folder` (resolved); `names_in` is `_names_in`, with a memory.

    The folder itself may be a link. Raises ValueError, worded to follow the name, for an absolute path, `..` or a link
    that leads out of the folder, and if there is no such file.
    """
    path = PurePosixPath(written)
    if path.is_absolute() or re.match(r"[A-Za-z]:[\\/]|\\\\", written):
        raise ValueError("is an absolute path; write it relative to the manifest")
    if ".." in re.split(r"[\\/]", written):
        raise ValueError("leaves the manifest's folder with '..'; put the manifest above its images")
    try:
        path = path if (folder / path).exists() else _as_on_disk(folder, path, names_in)
        found = (folder / path).resolve()
        inside, is_file = found.is_relative_to(folder), found.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, a loop of links
        raise ValueError("is not a path that can be opened") from None
    if not inside:
        raise ValueError("is a link that leaves the manifest's folder; copy the file into it")
    if not is_file:
        hint = "; write / between folders" if "\\" in written else ""
        hint = hint or near_hint(path.name, itertools.chain.from_iterable(names_in(found.parent).values()))
        raise ValueError(f"is not a file{hint}" if found.exists() else f"is not there{hint}")
    return folder / path


def _as_on_disk(
    folder: Path, path: PurePosixPath, names_in: Callable[[Path], Mapping[str, list[str]]]
) -> PurePosixPath:
    """Return a path in the encoding that its names have on the disk; `path` itself if there is none."""
    place = folder
    for part in path.parts:
        same = names_in(place).get(composed(part), [])
        if len(same) != 1:
            return path
        place /= same[0]
    return PurePosixPath(place.relative_to(folder).as_posix())


def _names_in(folder: Path) -> dict[str, list[str]]:
    """Return the names in a folder by their composed form; none if it is no folder."""
    names: dict[str, list[str]] = defaultdict(list)
    for path in folder.iterdir() if folder.is_dir() else ():
        names[composed(path.name)].append(path.name)
    return names


def _inspect(folder: Path, channels: Channels, image: Path | None, mask: Path | None) -> _Case:
    """Decode a row's files; their defects become the case's problems."""
    problems: list[str] = []
    notes: list[str] = []
    kept: dict[str, Any] = {"remarks": ()}
    digests: list[str] = []
    found: dict[str, npt.NDArray[Any]] = {}
    for kind, path in (("image", image), ("mask", mask)):
        if path is None:
            continue
        name = f"{kind} {path.relative_to(folder).as_posix()}"
        try:
            content = path.read_bytes()
            picture = decode(content)
            pixels = picture.gray if kind == "image" else picture.mask()
            seen = picture.pixels(channels) if kind == "image" else pixels
        except OSError as error:
            problems.append(f"{name} cannot be read ({error.strerror})")
            continue
        except ValueError as error:
            problems.append(f"{name} {error}")
            continue
        digests.append(hashlib.sha256(content).hexdigest())
        digests += [remark.name for remark in picture.remarks if remark.changes_pixels]  # other pixels, other data
        kept["remarks"] += tuple((path.relative_to(folder).as_posix(), remark) for remark in picture.remarks)
        found[kind] = pixels
        if kind == "image":
            kept |= {"height": pixels.shape[0], "width": pixels.shape[1], "look": look(to_uint8(pixels, "auto"))}
            if (seen == seen[0, 0]).all():
                notes.append(f"{name} has one {'gray value' if channels == 'gray' else 'colour'} only")
        else:
            kept["mask"] = mask_facts(pixels, hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest())
            kept["small_mask"] = small_mask(pixels)
    if len(found) == 2 and found["image"].shape != found["mask"].shape:
        (height, width), (mask_height, mask_width) = found["image"].shape, found["mask"].shape
        turned = "; one of them is turned" if (height, width) == (mask_width, mask_height) else ""
        problems.append(
            f"{name} is {mask_height} × {mask_width} pixels (rows × columns), its image {height} × {width}{turned}"
        )
    elif len(found) == 2 and is_its_mask(found["image"], found["mask"]):
        problems.append(f"{name} is its image too: the image shows the mask; name the picture that it was drawn on")
    elif len(found) == 2 and resembles_its_mask(found["image"], found["mask"]):
        notes.append(f"{name} is nearly its image: see that the image is the picture that it was drawn on")
    return _Case(problems, notes, digests=tuple(digests), **kept)


def _signs(cells: dict[str, list[str]], cases: Sequence[_Case], frame: pd.DataFrame, target: str) -> list[str]:
    """Return how files were read, and what is odd about masks and spacing."""
    masks = [case.mask for case in cases if case.mask]
    return [
        *told_remarks(remark for case in cases for remark in case.remarks),
        *mask_signs(cells["mask"], masks, target=target),
        *repeated_masks(cells["mask"], cells["patient_id"], masks),
        *spacing_signs(frame[["spacing_row", "spacing_col"]].max(axis=1).tolist()),
    ]


def _size_columns(table: Table, cases: Sequence[_Case]) -> list[str]:
    """Return defects of the columns height and width: they must repeat the pixels."""
    lines = []
    for name in ("height", "width"):
        if name not in table.columns:
            continue
        for number, cell, case in zip(table.numbers, table.column(name), cases, strict=True):
            if case.look is not None and cell not in MISSING and typed([cell]).iloc[0] != getattr(case, name):
                lines.append(
                    f"column {name} is {cell} in row {number}, where the image has {getattr(case, name)} pixels; "
                    f"correct it, or rename it if it is something else, for example to clinical_{name}"
                )
                break
    return lines


def _find_leaks(table: Table, cells: dict[str, list[str]], cases: Sequence[_Case]) -> tuple[list[tuple[int, str]], int]:
    """Return messages, by the later row, on images under two patients.

    The number of pairs within a patient comes second.
    """
    patients = cells.get("patient_id", [])
    rows = [index for index, case in enumerate(cases) if case.look and patients and patients[index] not in MISSING]
    leaks, within = [], 0
    for copy in find_copies([looks for index in rows if (looks := cases[index].look)]):
        first, second = rows[copy.first], rows[copy.second]
        if patients[first] == patients[second]:
            within += 1
            continue
        same = "is the same picture as" if copy.is_exact else f"is nearly (correlation {copy.correlation:.3f})"
        leaks.append(
            (
                table.numbers[second],
                f"image {cells['image'][second]} of patient {patients[second]} {same} "
                f"{cells['image'][first]} of patient {patients[first]} (row {table.numbers[first]})",
            )
        )
    return leaks, within
