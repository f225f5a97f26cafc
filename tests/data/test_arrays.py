"""Whole data sets as arrays, memory-mapped or not, and as the table of cases."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from eus_ray.config import DataSettings, EvaluateSettings
from eus_ray.data.arrays import arrays_name, case_batches, load_arrays, num_bytes
from eus_ray.data.io.images import decode, read_image
from eus_ray.data.resizing import resize_image
from eus_ray.errors import UserError
from eus_ray.store import CASES


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    rows = []
    for i, (height, width) in enumerate([(40, 80), (64, 64), (90, 30)]):
        image = np.random.default_rng(i).integers(0, 256, (height, width)).astype(np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[10:25, 8:20] = 255
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        cv2.imwrite(str(tmp_path / f"{i}_mask.png"), mask)
        files = {"image": str(tmp_path / f"{i}.png"), "mask": str(tmp_path / f"{i}_mask.png")}
        rows.append({"image_id": f"i{i}", **files, "height": height, "width": width})
    return pd.DataFrame(rows).assign(spacing_row=0.1, spacing_col=0.2)


SMALL = DataSettings(image_size=32, resize="pad")


def test_arrays_in_the_order_of_the_manifest(frame: pd.DataFrame) -> None:
    arrays = load_arrays(frame, SMALL)
    assert arrays.images.shape == arrays.masks.shape == (3, 32, 32)
    assert arrays.images.nbytes + arrays.masks.nbytes == num_bytes(frame, SMALL)
    for i, row in enumerate(frame.itertuples()):
        assert (arrays.images[i] == resize_image(read_image(row.image), 32, "pad")).all()
    assert set(np.unique(arrays.masks)) == {0, 1}
    assert not arrays.images[0, :8].any()
    assert not arrays.images[2, :, :10].any()


def test_mapped_arrays_are_equal_read_only_and_opened_again(frame: pd.DataFrame, tmp_path: Path) -> None:
    into = tmp_path / "cache" / arrays_name("fingerprint", SMALL)
    first = load_arrays(frame, SMALL, into=into)
    assert sorted(path.name for path in into.parent.iterdir()) == [into.name]
    assert (first.images == load_arrays(frame, SMALL).images).all()
    assert not first.images.flags.writeable
    Path(frame["image"][0]).unlink()  # opened, not decoded again
    assert (load_arrays(frame, SMALL, into=into).masks == first.masks).all()
    with pytest.raises(UserError, match="another shape"):
        load_arrays(frame.head(2), SMALL, into=into)
    (into / "masks.npy").unlink()
    with pytest.raises(UserError, match="delete it, and it is made again"):
        load_arrays(frame, SMALL, into=into)


def test_names_tell_data_and_settings_apart() -> None:
    settings = [SMALL, DataSettings(image_size=48), DataSettings(image_size=32, intensity=(0, 9)), DataSettings()]
    names = {arrays_name(print_, data) for print_ in ("a", "b") for data in settings}
    assert len(names) == 8


def test_unreadable_files_are_all_named_and_nothing_is_left(frame: pd.DataFrame, tmp_path: Path) -> None:
    Path(frame["image"][0]).unlink()
    Path(frame["mask"][2]).write_bytes(b"")
    for into in (None, tmp_path / "cache" / "arrays"):
        with pytest.raises(UserError) as refused:
            load_arrays(frame, SMALL, into=into)
        assert [line.split(":")[0] for line in refused.value.lines] == [frame["image"][0], frame["mask"][2]]
    assert not list((tmp_path / "cache").iterdir())


def test_cases_on_the_resized_grid(frame: pd.DataFrame) -> None:
    arrays = load_arrays(frame, SMALL)
    table = pa.Table.from_batches(case_batches(frame, arrays, SMALL, EvaluateSettings(grid="resized")))
    assert table.schema.equals(CASES)
    rows = table.to_pylist()
    for i, row in enumerate(rows):
        assert (decode(row["image"]).gray == arrays.images[i]).all()
        assert (decode(row["truth"]).mask() == arrays.masks[i]).all()
    assert [(row["height"], row["width"]) for row in rows] == [(32, 32)] * 3
    assert (rows[0]["spacing_row"], rows[0]["spacing_col"]) == pytest.approx((0.25, 0.5))


def test_cases_on_the_original_grid(frame: pd.DataFrame) -> None:
    data = DataSettings(image_size=32, intensity=(0, 128))
    (batch,) = case_batches(frame, load_arrays(frame, data), data, EvaluateSettings(grid="original"))
    rows = batch.to_pylist()
    assert [(row["image_id"], row["height"], row["width"]) for row in rows] == [
        ("i0", 40, 80),
        ("i1", 64, 64),
        ("i2", 90, 30),
    ]
    assert (decode(rows[2]["image"]).gray == read_image(frame["image"][2], (0, 128))).all()
    assert decode(rows[2]["truth"]).mask().sum() == 15 * 12
    assert (rows[2]["spacing_row"], rows[2]["spacing_col"]) == (0.1, 0.2)
