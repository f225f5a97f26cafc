"""A patient's anatomy in 3-D: pancreas, neighbouring organs, vessels and cancer.

Coordinates are in mm: `u` along the gland towards the tail, `v` away from the probe, `w` across the gland. The origin
is the centre of curvature of the probe at rest. Structures are painted one over the other by their signed distance (mm,
negative inside), each blended in over the width of its boundary. Any plane can be cut: images of one patient and the
frames of a sweep show the same anatomy.

Echo levels are relative to healthy pancreatic parenchyma. The cancer has the features that EUS shows: a heterogeneous
hypoechoic mass with irregular margin and pseudopodia, a duct that stops abruptly and is dilated upstream, calcification
and necrosis in large masses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

WALL_MM = 3.6
"""Thickness of the five layers of the gut wall before they are stretched."""


class Tissue(NamedTuple):
    """Acoustic properties of a tissue."""

    echo_db: float
    attenuation: float
    """dB / (cm MHz), one way."""
    impedance: float
    """Relative; a step of 1 across the beam is a bright interface."""
    texture_db: float = 0.0
    """The spread of the echo level over lengths of `grain_mm`."""
    grain_mm: float = 1.0


PARENCHYMA = Tissue(0.0, 0.50, 1.0, 2.0, 0.9)
FAT = Tissue(4.0, 0.52, 0.0, 4.0, 1.1)
FLUID = Tissue(-38.0, 0.22, 0.6)
VESSEL_WALL = Tissue(3.0, 0.6, 1.5)
FASCIA = Tissue(8.0, 0.55, 1.2)
CYST_WALL = Tissue(2.0, 0.6, 1.1)
NODE = Tissue(-8.5, 0.55, 0.8, 1.2, 1.2)
KIDNEY = Tissue(-6.5, 0.5, 1.0, 1.2, 1.0)
SINUS = Tissue(6.0, 0.55, 0.4, 2.5, 1.0)
LIVER = Tissue(-2.5, 0.48, 1.2, 0.8, 0.8)
SPLEEN = Tissue(-4.0, 0.45, 1.2, 0.6, 0.8)
GAS = Tissue(13.0, 7.0, 2.5, 3.0, 1.0)
CALCIFICATION = Tissue(13.0, 9.0, 2.0)
NECROSIS = Tissue(-20.0, 0.3, 0.7, 3.0, 1.0)
FIBROSIS = Tissue(7.0, 0.7, 1.3)

# Bright and dark layers of the gut wall in EUS: interface, mucosa, submucosa, muscularis propria, serosa.
_LAYER_MM = np.array([0.0, 0.4, 0.55, 1.1, 1.25, 1.9, 2.05, 3.0, 3.15, 3.6])
_LAYER_DB = np.array([5.0, 5.0, -8.0, -8.0, 6.0, 6.0, -10.0, -10.0, 7.0, 7.0])


class Slice(NamedTuple):
    """The plane of one image on the beam grid; every array is `(R, B)` float32."""

    echo_db: np.ndarray
    attenuation: np.ndarray
    impedance: np.ndarray
    lesion_mm: np.ndarray
    """Signed distance to the margin of the cancer; negative inside."""


class Noise:
    """A smooth random field in space with unit variance that repeats every 64 steps."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw the field."""
        volume = gaussian_filter(rng.standard_normal((64, 64, 64), dtype=np.float32), 0.9, mode="wrap")
        self._volume = volume / volume.std()

    def __call__(self, points: np.ndarray, step_mm: float, shift: float = 0.0) -> np.ndarray:
        """Return the values `(...)` at `points (3, ...)`; hills are some 3 steps apart."""
        nodes = points / np.float32(step_mm) + np.float32(shift)
        return map_coordinates(self._volume, nodes, order=1, mode="grid-wrap")


@dataclass(frozen=True)
class Tube:
    """A vessel or a duct: a gently winding line with a round cross-section."""

    centre: np.ndarray
    direction: np.ndarray
    radius_mm: float
    winding_mm: float = 2.0
    period_mm: float = 70.0
    phase: float = 0.0
    wall_mm: float = 0.6
    lumen: Tissue = FLUID
    wall: Tissue = VESSEL_WALL

    def distance(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distance to the midline and position along it, both `(...)` in mm."""
        unit = (self.direction / np.linalg.norm(self.direction)).astype(np.float32)
        side = np.cross(unit, [0.31, 0.84, 0.44])
        side = (side / np.linalg.norm(side)).astype(np.float32)
        offset = points - _column(self.centre, points)
        along = np.tensordot(unit, offset, 1)
        wave = np.float32(2 * math.pi / self.period_mm)
        bend = np.float32(self.winding_mm) * np.sin(wave * along + np.float32(self.phase))
        squared = (offset * offset).sum(0) - along * along
        squared += bend * bend - 2 * bend * np.tensordot(side, offset, 1)
        return np.sqrt(np.maximum(squared, 0)), along


@dataclass(frozen=True)
class Ellipsoid:
    """An organ, a lymph node or a cyst."""

    centre: np.ndarray
    axes_mm: np.ndarray
    rotation: np.ndarray
    """`(3, 3)`: the rows are the ellipsoid's own axes."""
    tissue: Tissue
    edge_mm: float = 0.6
    wall: Tissue | None = None

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return the signed distance `(...)` of `points (3, ...)` to the surface, in mm."""
        offset = points - _column(self.centre, points)
        return _ellipsoid_distance(np.tensordot(self.rotation.astype(np.float32), offset, 1), self.axes_mm)


@dataclass(frozen=True)
class Lesion:
    """The cancer: an ellipsoid with pseudopodia and an irregular margin."""

    centre: np.ndarray
    axes_mm: np.ndarray
    rotation: np.ndarray
    fingers: tuple[tuple[np.ndarray, float, float], ...]
    """Pseudopodia: each a direction, the length beyond the margin (mm) and the radius at the root (mm)."""
    roughness: float
    """Irregularity of the margin as a share of the radius."""
    edge_mm: float
    """The width over which the margin fades."""
    tissue: Tissue
    necrosis: float
    """Noise above this threshold is necrosis; infinite for none."""
    calcifications: np.ndarray
    """`(N, 4)`: centre (u, v, w) and radius in mm."""

    @property
    def reach_mm(self) -> float:
        """Return a distance from the centre beyond which no part of the cancer lies."""
        longest = max((length for _, length, _ in self.fingers), default=0.0)
        return float(self.axes_mm.max()) * (1 + 2.5 * self.roughness) + longest + 4

    def distance(self, points: np.ndarray, noise: Noise) -> np.ndarray:
        """Return the signed distance `(...)` of `points (3, ...)` to the margin, in mm."""
        offset = points - _column(self.centre, points)
        radius = float(self.axes_mm.min())
        distance = _ellipsoid_distance(np.tensordot(self.rotation.astype(np.float32), offset, 1), self.axes_mm)
        for direction, length, root in self.fingers:
            unit = direction.astype(np.float32)
            start, end = 0.6 * radius, radius + length
            along = np.tensordot(unit, offset, 1)
            nearest = np.clip(along, start, end)
            aside = np.sqrt(np.maximum((offset * offset).sum(0) - along * along, 0) + (along - nearest) ** 2)
            taper = 1 - 0.75 * (nearest - start) / (end - start)
            distance = _smooth_union(distance, aside - root * taper, 0.25 * root)
        rough = self.roughness * radius
        distance = _roughen(distance, points, rough, noise, max(0.24 * radius, 1.2), 7.0)
        return _roughen(distance, points, 0.25 * rough, noise, max(0.10 * radius, 0.8), 31.0)


@dataclass(frozen=True)
class Anatomy:
    """One patient's anatomy."""

    noise: Noise
    azimuth: float
    """The angle between the scan plane and the gland's axis, in radians."""
    wall_scale: float
    gland_v: float
    gland_half_mm: tuple[float, float]
    gland_end: tuple[float, float]
    lobulation_mm: float
    parenchyma: Tissue
    fat: Tissue
    strands: float
    duct: Tube
    duct_upstream_mm: float
    organs: tuple[Ellipsoid, ...]
    vessels: tuple[Tube, ...]
    lesion: Lesion
    station_mm: float
    """A position along the gland at which the cancer is out of the scan plane."""
    foci: np.ndarray
    """Bright foci of chronic pancreatitis, as `Lesion.calcifications`."""

    @property
    def horizontal(self) -> np.ndarray:
        """Return the unit vector across the image, `(3,)`."""
        return np.array([math.cos(self.azimuth), 0.0, math.sin(self.azimuth)])

    @property
    def normal(self) -> np.ndarray:
        """Return the unit vector off the scan plane, `(3,)`."""
        return np.array([-math.sin(self.azimuth), 0.0, math.cos(self.azimuth)])

    def cut(self, points: np.ndarray, probe_mm: np.ndarray, angle: np.ndarray, gap_mm: float) -> Slice:
        """Cut the anatomy along one plane.

        Args:
            points: The samples of the beam grid, `(3, R, B)`.
            probe_mm: Their distances from the probe's face, `(R,)`.
            angle: The beams' angles in radians, `(B,)`.
            gap_mm: The film of water between probe and gut wall.
        """
        warp = self.noise(points, 6.5, 3.0)
        warped = points + np.stack([1.3 * warp, -1.6 * warp, 0.9 * warp]).astype(np.float32)
        canvas = _Canvas(self.fat, warped, self.noise)
        # Sheets of fascia between layers of fat: thin bright lines that swing across the image.
        flat = warped * np.array([0.45, 1.3, 0.45], np.float32)[:, None, None]
        canvas.paint(5.0 * np.abs(self.noise(flat, 5.0, 37.0) - 0.3) - 0.35, FASCIA, 0.5)
        gland = self._gland_distance(warped)
        canvas.paint(np.abs(gland - 0.4) - 0.3, FASCIA, 0.5)
        canvas.paint(gland, self.parenchyma, 0.8)
        self._paint_strands(canvas, gland)
        for organ in self.organs:
            distance = organ.distance(warped)
            if organ.wall is not None:
                canvas.paint(distance - 0.8, organ.wall, 0.5)
            canvas.paint(distance, organ.tissue, organ.edge_mm)
        self._paint_tubes(canvas, gland)
        lesion_mm = self._paint_lesion(canvas)
        wall = self._paint_wall(canvas, points, probe_mm, angle, gap_mm)
        return Slice(canvas.echo_db, canvas.attenuation, canvas.impedance, np.maximum(lesion_mm, -wall))

    def _gland_distance(self, points: np.ndarray) -> np.ndarray:
        thick, high = self.gland_half_mm
        u, v, w = points
        v_middle = self.gland_v + 3.0 * np.sin(u * np.float32(2 * math.pi / 110) + np.float32(self.duct.phase))
        shape = np.sqrt(((v - v_middle) / np.float32(thick)) ** 2 + (w / np.float32(high)) ** 2)
        distance = (shape - 1) * thick
        low, far = self.gland_end
        distance = np.maximum(distance, np.maximum(low - u, u - far))
        return _roughen(distance, points, self.lobulation_mm, self.noise, 2.2, 11.0)

    def _paint_strands(self, canvas: _Canvas, gland: np.ndarray) -> None:
        if self.strands:
            ridge = np.abs(self.noise(canvas.points, 2.6, 19.0)) - np.float32(0.10 * self.strands)
            canvas.paint(np.maximum(2.0 * ridge, gland + 1), FIBROSIS, 0.4)
            canvas.paint_spheres(self.foci, FIBROSIS)

    def _paint_tubes(self, canvas: _Canvas, gland: np.ndarray) -> None:
        lumens = [(tube, tube.distance(canvas.points)[0] - tube.radius_mm) for tube in self.vessels]
        distance, along = self.duct.distance(canvas.points)
        radius = self.duct.radius_mm + (self.duct_upstream_mm - self.duct.radius_mm) * np.clip(along / 4, 0, 1)
        lumens.append((self.duct, np.maximum(distance - radius, gland + 1 + self.duct.wall_mm)))
        # All walls first: tubes that meet open into each other.
        for tube, distance in lumens:
            canvas.paint(distance - tube.wall_mm, tube.wall, 0.5)
        for tube, distance in lumens:
            canvas.paint(distance, tube.lumen, 0.5)

    def _paint_lesion(self, canvas: _Canvas) -> np.ndarray:
        """Paint the cancer; return the signed distance to its margin."""
        lesion, points = self.lesion, canvas.points
        distance = lesion.distance(points, self.noise)
        if distance.min() > 2 * lesion.edge_mm:
            return distance
        # The margin is sharp in one place and fades into the gland in another.
        fade = np.full_like(distance, lesion.edge_mm)
        margin = np.abs(distance) < 4 * lesion.edge_mm
        fade[margin] *= np.exp(0.7 * self.noise(points[:, margin], 4.0, 43.0))
        canvas.paint(distance, self.parenchyma, 0.8)  # ducts and vessels that it grew into are gone
        canvas.paint(distance, lesion.tissue, fade)
        depth = -distance / float(lesion.axes_mm.min())
        if np.isfinite(lesion.necrosis):
            clump = self.noise(points, max(0.13 * float(lesion.axes_mm.min()), 1.0), 53.0)
            canvas.paint(2.0 * np.maximum(lesion.necrosis - clump, 4 * (0.2 - depth)), NECROSIS, 1.2)
        canvas.paint_spheres(lesion.calcifications, CALCIFICATION)
        return distance

    def _paint_wall(
        self, canvas: _Canvas, points: np.ndarray, probe_mm: np.ndarray, angle: np.ndarray, gap_mm: float
    ) -> np.ndarray:
        """Paint water film and gut wall.

        Returns the distance `(R, B)` to the wall's far side, negative within it.
        """
        track = np.stack([np.float32(9) * angle + points[0].mean(), points[2].mean() + 0 * angle, 0 * angle + 5])
        stretch = self.wall_scale * (1 + 0.14 * self.noise(track.astype(np.float32), 2.5, 0.0))
        film = np.maximum(gap_mm + 0.5 * self.noise(track.astype(np.float32), 3.0, 23.0), 0)
        inward = (probe_mm[:, None] - film) / stretch
        within = np.clip(np.minimum(inward / 0.1, (WALL_MM - inward) / 0.15) + 0.5, 0, 1).astype(np.float32)
        level = np.interp(inward, _LAYER_MM, _LAYER_DB).astype(np.float32)
        texture = 1.5 * self.noise(points, 0.8, 3.0)
        canvas.blend(within, level + texture, 0.6, 0.9 + 0.04 * level)
        canvas.blend((inward <= 0).astype(np.float32), FLUID.echo_db, FLUID.attenuation, FLUID.impedance)
        return (inward - WALL_MM).astype(np.float32) * self.wall_scale


class _Canvas:
    def __init__(self, background: Tissue, points: np.ndarray, noise: Noise) -> None:
        self.points, self._noise = points, noise
        # Fat lies in layers: its texture is stretched across the beam.
        streaks = noise(points * np.array([0.35, 1.6, 0.35], np.float32)[:, None, None], background.grain_mm, 2.0)
        patches = noise(points, 4.0, 13.0)
        self.echo_db = background.echo_db + background.texture_db * (0.6 * streaks + 0.5 * patches)
        self.attenuation = np.full(streaks.shape, background.attenuation, np.float32)
        self.impedance = background.impedance + 0.18 * streaks

    def paint(self, distance: np.ndarray, tissue: Tissue, edge_mm: float | np.ndarray) -> None:
        weight = np.clip(0.5 - distance / edge_mm, 0, 1).astype(np.float32)
        inside = weight > 0
        if not inside.any():
            return
        level: float | np.ndarray = tissue.echo_db
        if tissue.texture_db:
            points = self.points[:, inside]
            fine = self._noise(points, tissue.grain_mm, 17.0 + tissue.impedance)
            coarse = self._noise(points, 2.8 * tissue.grain_mm, 29.0)
            level = tissue.echo_db + tissue.texture_db * (0.8 * fine + 0.6 * coarse)
        self.blend(weight[inside], level, tissue.attenuation, tissue.impedance, inside)

    def paint_spheres(self, spheres: np.ndarray, tissue: Tissue) -> None:
        for *centre, radius in spheres:
            offset = self.points - _column(np.array(centre), self.points)
            self.paint(np.sqrt((offset * offset).sum(0)) - radius, tissue, 0.4)

    def blend(
        self,
        weight: np.ndarray,
        echo_db: float | np.ndarray,
        attenuation: float | np.ndarray,
        impedance: float | np.ndarray,
        inside: Any = ...,
    ) -> None:
        layers = (self.echo_db, echo_db), (self.attenuation, attenuation), (self.impedance, impedance)
        for layer, value in layers:
            before = layer[inside]
            layer[inside] = before + weight * (value - before)


def _column(vector: np.ndarray, points: np.ndarray) -> np.ndarray:
    return vector.astype(np.float32).reshape(3, *(1,) * (points.ndim - 1))


def _ellipsoid_distance(own: np.ndarray, axes_mm: np.ndarray) -> np.ndarray:
    """Return nearly the signed distance: exact on the surface, beside it to 1st order."""
    axes = _column(axes_mm, own)
    scaled = np.sqrt(((own / axes) ** 2).sum(0))
    slope = np.sqrt(((own / axes**2) ** 2).sum(0))
    return scaled * (scaled - 1) / np.maximum(slope, 1e-4)


def _roughen(
    distance: np.ndarray, points: np.ndarray, amplitude_mm: float, noise: Noise, step_mm: float, shift: float
) -> np.ndarray:
    """Add noise to a distance, near the surface only: this spares most look-ups."""
    near = np.abs(distance) < 5 * amplitude_mm
    rough = distance.astype(np.float32)
    rough[near] += np.float32(amplitude_mm) * noise(points[:, near], step_mm, shift)
    return rough


def _smooth_union(first: np.ndarray, second: np.ndarray, width_mm: float) -> np.ndarray:
    """Return the polynomial smooth minimum of two distances: the crease is rounded."""
    blend = np.clip(0.5 + 0.5 * (second - first) / width_mm, 0, 1)
    return second + (first - second) * blend - width_mm * blend * (1 - blend)
