"""Outlines of masks as polygons, for figures and for the report's SVG."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt

from eus_ray.analysis.measures.distances import bounding_box

Outline = tuple[npt.NDArray[np.float32], ...]
"""Closed polygons `(K, 2)` of column and row, the rims of holes too; pixel (r, c) covers [c, c+1] x [r, r+1]."""

MOST_POLYGONS = 40
"""The longest outlines of a mask in more pieces are drawn: the rest are specks that nobody can see."""
_MAX_POINTS = 500
_TOLERANCE_PX = 0.6
"""A simplified outline lies so near the traced one, unless that takes more than `_MAX_POINTS`."""


def outline(mask: npt.NDArray[np.bool_]) -> Outline:
    """Return the simplified outline of a boolean mask `(H, W)`; no polygon if empty."""
    # Traced on doubled pixels, the line runs a quarter of a pixel inside the mask's edge, and one pixel is not nothing.
    box = bounding_box(mask)
    doubled = mask[box].view(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    if not doubled.size:
        return ()
    corner = (2 * box[1].start, 2 * box[0].start)
    traced, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=corner)
    longest = sorted(traced, key=lambda points: cv2.arcLength(points, True), reverse=True)[:MOST_POLYGONS]
    tolerance = _TOLERANCE_PX
    while True:
        simple = [cv2.approxPolyDP(points, 2 * tolerance, True) for points in longest]
        if sum(map(len, simple)) <= _MAX_POINTS:
            return tuple((points.reshape(-1, 2) + 0.5).astype(np.float32) / np.float32(2) for points in simple)
        tolerance *= 2


def svg_path(polygons: Outline, scale: float = 1.0) -> str:
    """Return the `d` of an SVG path, to a quarter of a unit.

    Args:
        polygons: The outline in pixels.
        scale: Multiplies the coordinates.

    >>> svg_path(outline(np.ones((2, 3), bool)))
    'M.25 .25V1.75H2.75V.25Z'
    """
    return "".join(_closed((np.round(polygon * scale * 4) / 4).astype(np.float32)) for polygon in polygons)


def _closed(points: npt.NDArray[np.float32]) -> str:
    text = f"M{_number(points[0, 0])} {_number(points[0, 1])}"
    for (before_x, before_y), (x, y) in itertools.pairwise(points):
        if x == before_x:
            text += f"V{_number(y)}"
        elif y == before_y:
            text += f"H{_number(x)}"
        else:
            text += f"L{_number(x)} {_number(y)}"
    return text + "Z"


def _number(value: float) -> str:
    return f"{value:g}".removeprefix("0") or "0"
