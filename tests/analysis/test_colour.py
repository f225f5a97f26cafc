"""A report shows a colour study in colour, and a gray one as ever."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from eus_ray.analysis.figures import image_panels
from eus_ray.analysis.measures.thumbnails import jpeg
from eus_ray.analysis.report.results import read_study
from eus_ray.analysis.report.sections import examples, gallery
from eus_ray.store import Store
from tests.analysis.conftest import HEIGHT, WIDTH, example_manifest

RED, GREEN, BLUE = 200, 90, 30
"""A plain colour; its gray value is .299 R + .587 G + .114 B = 116."""


def images(*colour: int) -> dict[str, np.ndarray]:
    """Return plain images, blue first, as OpenCV writes them."""
    pixels = np.full((HEIGHT, WIDTH, 3), colour[::-1], np.uint8) if len(colour) == 3 else None
    gray = np.full((HEIGHT, WIDTH), colour[0], np.uint8)
    return dict.fromkeys(example_manifest()["image_id"], gray if pixels is None else pixels)


def photographs(study: Store) -> list[np.ndarray]:
    """Return the gallery's pictures as they are stored; those in colour have blue first."""
    section = gallery.build(read_study(study))
    assert section is not None
    uris = re.findall(r'(?:href|src)="data:image/jpeg;base64,([^"]+)"', str(section.body))
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_UNCHANGED) for uri in uris]
    return [picture for picture in decoded if picture.shape[:2] == (HEIGHT, WIDTH)]


def test_the_gallery_shows_colour(make_study: Callable[..., Store]) -> None:
    shown = [picture for picture in photographs(make_study(images=images(RED, GREEN, BLUE))) if picture.ndim == 3]
    assert len(shown) == len(example_manifest())
    for picture in shown:
        assert np.abs(picture.astype(int) - (BLUE, GREEN, RED)).max() <= 4  # JPEG


def test_a_gray_study_has_gray_pictures(make_study: Callable[..., Store]) -> None:
    shown = photographs(make_study(images=images(116)))
    assert len(shown) >= len(example_manifest())
    assert all(picture.ndim == 2 for picture in shown)  # maps are gray, too


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("colour", [(116,), (RED, GREEN, BLUE)])
def test_examples_show_pixels_as_they_are(
    make_study: Callable[..., Store], monkeypatch: pytest.MonkeyPatch, colour: tuple[int, ...]
) -> None:
    drawn: list[np.ndarray] = []
    show = image_panels._show

    def keep(axes: object, panel: image_panels.Panel) -> None:
        show(axes, panel)  # type: ignore[arg-type]
        drawn.append(axes.images[0].get_array())  # type: ignore[attr-defined]

    monkeypatch.setattr(image_panels, "_show", keep)
    assert examples.build(read_study(make_study(images=images(*colour)))) is not None
    assert drawn
    for pixels in drawn:
        assert pixels.shape == ((HEIGHT, WIDTH, 3) if len(colour) == 3 else (HEIGHT, WIDTH))
        assert (np.asarray(pixels) == colour).all()


def test_a_smaller_colour_picture_keeps_its_shape() -> None:
    pixels = np.full((300, 200, 3), (RED, GREEN, BLUE), np.uint8)
    picture = cv2.imdecode(np.frombuffer(jpeg(pixels, 150, 90), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (150, 100, 3)
    assert np.abs(picture[75, 50].astype(int) - (BLUE, GREEN, RED)).max() <= 4
