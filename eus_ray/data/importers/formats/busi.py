"""Format `busi`: BUSI as published.

Folders `benign/`, `malignant/` and `normal/` hold `name.png`, `name_mask.png` and further masks `name_mask_1.png`.
"""

from __future__ import annotations

import re
from pathlib import Path

from eus_ray.data.importers import importer
from eus_ray.data.importers.cases import Case, find_images, with_patients
from eus_ray.data.names import near_hint
from eus_ray.errors import UserError


@importer
def read_busi(source: Path) -> tuple[list[Case], list[str]]:
    """Read the three folders, whose names become the clinical column `pathology`.

    The folders may lie in `Dataset_BUSI_with_GT`. `patients.csv` names the patients.
    """
    root = source / "Dataset_BUSI_with_GT"
    root = root if root.is_dir() else source
    cases, lines = [], []
    for pathology in ("benign", "malignant", "normal"):
        masks: dict[str, list[Path]] = {}
        images = {}
        for stem, path in find_images(root / pathology).items():
            if mask_of := re.fullmatch(r"(.+)_mask(_\d+)?", stem):
                masks.setdefault(mask_of[1], []).append(path)
            else:
                images[stem] = path
        for stem, image in images.items():
            if stem not in masks:
                lines.append(f"{image}: has no {stem}_mask.png{near_hint(f'{stem}_mask', images)}")
            cases.append(Case(image, tuple(masks.pop(stem, ())), {"pathology": pathology}))
        lines += [f"{path}: has no image" for paths in masks.values() for path in paths]
    stems = [case.image.stem for case in cases]
    lines += [f"{case.image}: its name is there twice" for case in cases if stems.count(case.image.stem) > 1]
    if lines:
        raise UserError(*lines)
    named, notes = with_patients(source, cases)
    united = sum(len(case.masks) > 1 for case in named)
    notes += [f"{united} images have several masks, which became one"] if united else []
    notes.append('the published set repeats pictures: data.duplicates = "warn" is needed to use it as it is')
    return named, notes
