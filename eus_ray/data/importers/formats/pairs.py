"""Format `pairs`: `images/` and `masks/`, paired by name.

`a.png` goes with `a.png` or `a_mask.png`; any suffix will do. Folders within them are read, too: `images/p1/a.png`
goes with `masks/p1/a.png`.
"""

from __future__ import annotations

from pathlib import Path

from eus_ray.data.importers import importer
from eus_ray.data.importers.cases import Case, find_images, with_patients
from eus_ray.data.names import near_hint
from eus_ray.errors import UserError


@importer
def read_pairs(source: Path) -> tuple[list[Case], list[str]]:
    """Read images and masks of equal names; `patients.csv` names the patients."""
    images, masks = find_images(source / "images"), find_images(source / "masks")
    cases, lines = [], []
    for stem, image in images.items():
        names = [name for name in (stem, f"{stem}_mask") if name in masks]
        if len(names) != 1:
            found = " and ".join(masks[name].name for name in names) or "no mask"
            hint = "" if names else near_hint(stem, masks) or near_hint(f"{stem}_mask", masks)
            lines.append(f"{image}: has {found} in masks; one is needed, {stem}.png or {stem}_mask.png{hint}")
            continue
        cases.append(Case(image, (masks.pop(names[0]),), relative=stem))
    lines += [f"{path}: has no image" for stem, path in masks.items() if stem.removesuffix("_mask") not in images]
    if lines:
        raise UserError(*lines)
    return with_patients(source, cases)
