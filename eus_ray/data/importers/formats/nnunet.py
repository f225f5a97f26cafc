"""Format `nnunet`: a raw nnU-Net data set of 2-D images.

The files are `dataset.json`, `imagesTr/*_0000.png` and `labelsTr/*.png`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eus_ray.data.importers import importer
from eus_ray.data.importers.cases import Case, find_images, with_patients
from eus_ray.data.io.images import LOSSLESS_SUFFIXES
from eus_ray.data.names import alike_key, near_hint, shown
from eus_ray.errors import UserError

_EXAMPLE = '{"background": 0, "lesion": 1}'


@importer
def read_nnunet(source: Path) -> tuple[list[Case], list[str]]:
    """Read the first channel of the training cases; all foreground labels are lesion.

    `patients.csv` names the patients.
    """
    about = _dataset_json(source / "dataset.json")
    ending = str(about.get("file_ending", ".nii.gz")).lower()
    if ending not in LOSSLESS_SUFFIXES:
        raise UserError(
            f"{source / 'dataset.json'}: file_ending is {ending}; only 2-D images ({', '.join(LOSSLESS_SUFFIXES)}) are "
            "read: export the slices as PNG"
        )
    values = _label_values(about["labels"], source / "dataset.json")
    labels = [name for name in about["labels"] if alike_key(name) != "background"]
    if "ignore" in map(alike_key, labels):
        raise UserError(f"{source / 'dataset.json'}: has an ignore label, which a mask cannot hold; relabel its pixels")
    images, masks = find_images(source / "imagesTr", [ending]), find_images(source / "labelsTr", [ending])
    channels = {stem.rpartition("_")[2] for stem in images}
    lines, cases = [], []
    for stem, image in images.items():
        name, _, channel = stem.rpartition("_")
        if not name or not re.fullmatch(r"\d{4}", channel):
            lines.append(f"{image}: is not named CASE_0000{ending}")
        elif channel == "0000" and name not in masks:
            lines.append(f"{image}: has no {name}{ending} in labelsTr{near_hint(name, masks)}")
        elif channel == "0000":
            cases.append(Case(image, (masks[name],), {"image_id": name}, values))
        elif name not in masks and f"{name}_0000" not in images:
            hint = near_hint(f"{name}_0000", images)
            lines.append(f"{image}: has no {name}_0000{ending}, the first channel, which is the one that is read{hint}")
    lines += [
        f"{path}: has no {name}_0000{ending} in imagesTr"
        for name, path in masks.items()
        if f"{name}_0000" not in images
    ]
    if lines:
        raise UserError(*lines)
    notes = []
    announced = about.get("numTraining", len(cases))
    if announced != len(cases) and str(announced) != str(len(cases)):
        notes.append(
            f"dataset.json announces {shown(str(announced))} training cases (numTraining), and {len(cases)} are there"
        )
    if len(labels) > 1:
        notes.append(f"the labels {', '.join(map(shown, labels))} became one lesion")
    if channels > {"0000"}:
        notes.append(f"of {len(channels)} channels the first was taken")
    if (source / "imagesTs").is_dir():
        notes.append("imagesTs was left out: cross-validation tests on the training cases")
    named, more = with_patients(source, cases)
    return named, notes + more


def _dataset_json(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_bytes())  # in UTF-8, UTF-16 or UTF-32
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); nnU-Net's raw data sets have it") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text in UTF-8 or UTF-16; save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path}: is not JSON that can be read: its brackets are nested too deep") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from None
    labels = about.get("labels") if isinstance(about, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise UserError(f"{path}: is not an nnU-Net data set's: it has no labels, such as {_EXAMPLE}")
    if all(isinstance(name, str) and value.isdecimal() for value, name in labels.items()):  # as in old sets
        about["labels"] = {name: value for value, name in labels.items()}
    return about


def _label_values(labels: Mapping[str, Any], path: Path) -> frozenset[int]:
    """Return the values that label files may hold: 0, and those of each label or region.

    Raises:
        UserError: With one line for each value that a label cannot have, and each label without value.
    """
    values, lines = {0}, []
    for name, value in labels.items():
        if value == []:
            lines.append(f"{path}: label {shown(name)} has no value; give it one from 1, or drop it")
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, int | str) or not re.fullmatch(r"\d{1,9}", str(one)):
                lines.append(f"{path}: label {shown(name)} is {one!r}; a label's value is a whole number from 0")
                continue
            is_background = alike_key(name) == "background"
            if is_background and int(one) != 0:
                lines.append(f"{path}: the background is {one}, and only 0 is read as such; relabel its pixels")
            if not is_background and int(one) == 0:
                lines.append(f"{path}: label {shown(name)} is 0, which is read as the background; relabel its pixels")
            values.add(int(one))
    if lines:
        raise UserError(*lines)
    return frozenset(values)
