"""One synthetic patient: a random anatomy around a given cancer, and views of it.

All choices that make the images hard are here: the contrast of the cancer, the fading of its margin, structures beside
it that look alike (vessels, dilated ducts, lymph nodes, cysts, kidney), chronic pancreatitis, poor contact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from eus_ray.data.phantom.anatomy import (
    CYST_WALL,
    FAT,
    FLUID,
    GAS,
    KIDNEY,
    LIVER,
    NODE,
    PARENCHYMA,
    SINUS,
    SPLEEN,
    WALL_MM,
    Anatomy,
    Ellipsoid,
    Lesion,
    Noise,
    Tissue,
    Tube,
)
from eus_ray.data.phantom.ultrasound import Contact, Scanner, View

_U, _V, _W = np.eye(3)

Place = Callable[..., np.ndarray]
"""Maps (x, v, z = 0) in mm, along the scan plane, away from the probe and off the plane, to (u, v, w)."""

_SHARE_WITH_DILATED_DUCT = {"head": 0.75, "neck": 0.7, "body": 0.6, "tail": 0.15, "uncinate": 0.25}
"""Upstream of a cancer at that location."""
_SHARE_WITH_DILATED_BILE_DUCT = {"head": 0.6, "uncinate": 0.2}


def make_anatomy(rng: np.random.Generator, location: str, size_mm: float, scanner: Scanner) -> Anatomy:
    """Draw a patient's anatomy around a cancer.

    Args:
        rng: The patient's random stream.
        location: The part of the pancreas that the cancer is in, which decides on neighbours and ducts.
        size_mm: Near this is the greatest diameter of the cancer; its centre is at u = 0.
        scanner: The scanner, for the radius of its probe.
    """
    noise = Noise(rng)
    azimuth = math.radians(rng.uniform(35, 70))
    horizontal = np.array([math.cos(azimuth), 0, math.sin(azimuth)])
    normal = np.array([-math.sin(azimuth), 0, math.cos(azimuth)])

    def place(x: float, v: float, z: float = 0.0) -> np.ndarray:
        return x * horizontal + z * normal + v * _V

    pancreatitis = rng.random() < 0.25
    wall_scale = rng.uniform(0.8, 1.2)
    thick = rng.uniform(8, 12) * (0.8 if pancreatitis else 1)
    near = scanner.probe_radius_mm + WALL_MM * wall_scale + rng.uniform(0.5, 4)
    gland_v = near + thick
    lesion = _make_lesion(rng, size_mm, near, gland_v, horizontal, normal)
    side = {"head": 1.0, "uncinate": 1.0, "tail": -1.0}.get(location, float(rng.choice([-1, 1])))
    station = side * (lesion.reach_mm / math.sin(azimuth) + 3)
    behind = gland_v + thick
    organs = _organs(rng, location, behind, place) + _look_alikes(rng, lesion, near, behind, place)
    vessels = _vessels(rng, location, gland_v, behind, place) + _station_tubes(rng, station, horizontal, gland_v)
    radius = rng.uniform(0.7, 1.2)
    dilated = rng.random() < _SHARE_WITH_DILATED_DUCT[location]
    end = max(18.0, 0.8 * size_mm / 2) + rng.uniform(0, 8)
    return Anatomy(
        noise=noise,
        azimuth=azimuth,
        wall_scale=wall_scale,
        gland_v=gland_v,
        gland_half_mm=(thick, rng.uniform(15, 24)),
        gland_end=(-end if location in ("head", "uncinate") else -1e6, end if location == "tail" else 1e6),
        lobulation_mm=rng.uniform(0.5, 1.1),
        parenchyma=PARENCHYMA._replace(
            echo_db=rng.uniform(-2, 1.5) - (1.5 if pancreatitis else 0),
            texture_db=rng.uniform(1.2, 2.2) + (1.0 if pancreatitis else 0),
            grain_mm=rng.uniform(0.7, 1.1),
        ),
        fat=FAT._replace(echo_db=rng.uniform(2, 6), texture_db=rng.uniform(3, 5)),
        strands=rng.uniform(0.6, 1.4) if pancreatitis else 0.0,
        duct=Tube(
            centre=np.array([0.0, gland_v + rng.normal(0, 1.5), rng.normal(0, 2)]),
            direction=_U,
            radius_mm=radius,
            winding_mm=rng.uniform(0.5, 2),
            period_mm=rng.uniform(40, 70),
            phase=rng.uniform(0, 2 * math.pi),
            wall_mm=0.5,
        ),
        duct_upstream_mm=rng.uniform(1.8, 4.2) if dilated else radius,
        organs=organs,
        vessels=vessels,
        lesion=lesion,
        station_mm=station,
        foci=_spheres(rng, 10 if pancreatitis else 0, place(0, gland_v), np.array([22, thick, 12]), (0.3, 0.8)),
    )


def _make_lesion(
    rng: np.random.Generator,
    size_mm: float,
    near: float,
    gland_v: float,
    horizontal: np.ndarray,
    normal: np.ndarray,
) -> Lesion:
    radius = 0.45 * size_mm
    axes = radius * np.array([1.0, rng.uniform(0.62, 0.92), rng.uniform(0.75, 1.0)])
    lean = rng.uniform(-0.6, 0.6)
    long_axis = math.cos(lean) * horizontal + math.sin(lean) * _V
    rotation = np.stack([long_axis, np.cross(normal, long_axis), normal])
    fingers = []
    for start in rng.uniform(0, 2 * math.pi, rng.integers(3, 8)):
        direction = math.cos(start) * horizontal + math.sin(start) * _V + rng.normal(0, 0.35) * normal
        length = min(rng.uniform(0.10, 0.40) * radius, 9.0)
        fingers.append((direction / np.linalg.norm(direction), length, min(rng.uniform(0.12, 0.26) * radius, 4.5)))
    centre_v = max(gland_v + rng.normal(0, 2.0), near + 0.8 * axes[1])
    large = size_mm > 35
    count = int(rng.poisson(4 if size_mm > 40 else 1)) if size_mm > 20 and rng.random() < 0.5 else 0
    return Lesion(
        centre=np.array([0.0, centre_v, 0.0]),
        axes_mm=axes,
        rotation=rotation,
        fingers=tuple(fingers),
        roughness=rng.uniform(0.07, 0.16),
        edge_mm=rng.uniform(1.2, 5.0),
        tissue=Tissue(
            echo_db=-rng.uniform(5.0, 10.5),
            attenuation=rng.uniform(0.52, 0.68),
            impedance=rng.uniform(0.75, 1.0),
            texture_db=rng.uniform(1.8, 3.6),
            grain_mm=rng.uniform(1.0, 2.4),
        ),
        necrosis=rng.uniform(0.7, 1.4) if large and rng.random() < 0.6 else math.inf,
        calcifications=_spheres(rng, count, centre_v * _V, 0.55 * axes, (0.4, 1.0)),
    )


def _spheres(
    rng: np.random.Generator, count: int, centre: np.ndarray, spread_mm: np.ndarray, radius_mm: tuple[float, float]
) -> np.ndarray:
    """Draw spheres `(count, 4)` as `Lesion.calcifications` has them."""
    places = centre + rng.uniform(-1, 1, (count, 3)) * spread_mm
    return np.column_stack([places, rng.uniform(*radius_mm, count)])


def _vessels(rng: np.random.Generator, location: str, gland_v: float, behind: float, place: Place) -> tuple[Tube, ...]:
    def tube(
        where: np.ndarray,
        direction: np.ndarray,
        radius: float,
        winding: float = 2.0,
        period: float = 70.0,
        wall: float = 0.6,
    ) -> Tube:
        lean = direction + rng.normal(0, 0.18, 3)
        lumen = FLUID._replace(echo_db=rng.uniform(-36, -19))
        return Tube(where, lean, radius, winding, period, rng.uniform(0, 2 * math.pi), wall, lumen)

    splenic_vein = tube(place(0, behind + rng.uniform(1, 4), rng.normal(0, 5)), _U, rng.uniform(2.5, 4.5))
    aorta = tube(place(rng.normal(0, 14), behind + rng.uniform(14, 26)), _W, rng.uniform(5, 8), 1.0, wall=0.8)
    if location in ("head", "neck", "uncinate"):
        x = rng.uniform(6, 18) * rng.choice([-1, 1])
        portal = tube(place(x, behind + rng.uniform(0, 5)), _W, rng.uniform(3.5, 6))
        artery = tube(place(x + rng.uniform(10, 16), behind + rng.uniform(8, 14)), _W, rng.uniform(2.5, 4), wall=0.8)
        dilated = rng.random() < _SHARE_WITH_DILATED_BILE_DUCT.get(location, 0.0)
        bile_duct = tube(
            place(-x + rng.normal(0, 4), gland_v + rng.uniform(-3, 4)),
            _W + 0.5 * _U,
            rng.uniform(4.5, 7.5) if dilated else rng.uniform(1.8, 3),
            wall=0.8,
        )
        return (aorta, portal, artery, bile_duct) + ((splenic_vein,) if location == "neck" else ())
    artery = tube(
        place(rng.normal(0, 6), gland_v - rng.uniform(2, 8), rng.normal(0, 6)),
        _U,
        rng.uniform(1.6, 2.8),
        rng.uniform(4, 8),
        rng.uniform(28, 45),
    )
    return (aorta, splenic_vein, artery) if location == "body" else (splenic_vein, artery)


def _organs(rng: np.random.Generator, location: str, behind: float, place: Place) -> tuple[Ellipsoid, ...]:
    def organ(where: np.ndarray, axes: tuple[float, float, float], tissue: Tissue, edge: float = 0.6) -> Ellipsoid:
        return Ellipsoid(where, np.array(axes) * rng.uniform(0.85, 1.15, 3), _rotation(rng, 0.5), tissue, edge)

    side = rng.choice([-1, 1])
    if location == "tail":
        kidney_x, kidney_v = side * rng.uniform(0, 22), behind + rng.uniform(16, 26)
        found = [
            organ(place(kidney_x, kidney_v), (24, 17, 34), KIDNEY),
            organ(place(kidney_x, kidney_v + 4), (12, 6.5, 22), SINUS, 3.0),
        ]
        if rng.random() < 0.5:
            found.append(organ(place(-side * rng.uniform(32, 42), behind), (18, 24, 30), SPLEEN))
        return tuple(found)
    found = []
    if rng.random() < 0.55:
        found.append(organ(place(side * rng.uniform(34, 46), behind - rng.uniform(0, 16)), (20, 18, 40), LIVER))
    if location in ("head", "uncinate") and rng.random() < 0.45:
        found.append(organ(place(-side * rng.uniform(22, 32), behind - rng.uniform(2, 10)), (5, 2, 9), GAS, 1.0))
    if rng.random() < 0.4:
        found.append(organ(place(rng.normal(0, 14), behind + rng.uniform(28, 38)), (18, 7, 30), GAS, 1.5))
    return tuple(found)


def _look_alikes(
    rng: np.random.Generator, lesion: Lesion, near: float, behind: float, place: Place
) -> tuple[Ellipsoid, ...]:
    """Draw lymph nodes and cysts beside the cancer."""
    found: list[Ellipsoid] = []
    clear = 0.75 * float(lesion.axes_mm.max()) + 3
    for _ in range(rng.integers(0, 4)):
        x, v = rng.uniform(-28, 28), rng.uniform(near + 2, behind + 16)
        if math.hypot(x, v - lesion.centre[1]) > clear:
            axes = rng.uniform(2.5, 8) * np.array([1, rng.uniform(0.5, 0.8), rng.uniform(0.7, 1)])
            tissue = NODE._replace(echo_db=-rng.uniform(5, 11))
            found.append(Ellipsoid(place(x, v, rng.normal(0, 2)), axes, _rotation(rng, 0.6), tissue))
    if rng.random() < 0.2:
        x, v = rng.choice([-1, 1]) * rng.uniform(12, 24), rng.uniform(near + 6, behind + 4)
        if math.hypot(x, v - lesion.centre[1]) > clear:
            axes = rng.uniform(3, 9) * rng.uniform(0.75, 1, 3)
            found.append(Ellipsoid(place(x, v), axes, _rotation(rng, 0.6), FLUID, wall=CYST_WALL))
    return tuple(found)


def _station_tubes(
    rng: np.random.Generator, station: float, horizontal: np.ndarray, gland_v: float
) -> tuple[Tube, ...]:
    """Draw the common bile duct and the vein at which a sweep starts."""
    side = rng.choice([-1, 1])
    bile_duct = station * _U + side * rng.uniform(2, 9) * horizontal + (gland_v + rng.uniform(-1, 4)) * _V
    vein = station * _U - side * rng.uniform(5, 14) * horizontal + (gland_v + rng.uniform(8, 15)) * _V
    lean = rng.normal(0, 0.35, (2, 3))
    phase = rng.uniform(0, 2 * math.pi, 2)
    return (
        Tube(bile_duct, _W + 0.6 * horizontal + lean[0], rng.uniform(2.8, 4.5), 2.0, 60.0, phase[0], 0.8),
        Tube(vein, _W + lean[1], rng.uniform(4, 6.5), 2.0, 60.0, phase[1]),
    )


def _rotation(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Draw a rotation `(3, 3)` by normally distributed angles of `spread` radians."""
    a, b, c = rng.normal(0, spread, 3)
    about_u = np.array([[1, 0, 0], [0, math.cos(a), math.sin(a)], [0, -math.sin(a), math.cos(a)]])
    about_v = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    about_w = np.array([[math.cos(c), math.sin(c), 0], [-math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return about_u @ about_v @ about_w


def still_view(rng: np.random.Generator, anatomy: Anatomy, scanner: Scanner, cancer: bool = True) -> View:
    """Draw the view of one captured frame.

    Args:
        rng: The patient's random stream.
        anatomy: The patient.
        scanner: The scanner, for the radius of its probe.
        cancer: Whether the cancer is in the scan plane; else the view is from the station at which it is not.
    """
    lesion = anatomy.lesion
    if cancer:
        off_plane = float(np.clip(rng.normal(0, 0.22), -0.45, 0.45)) * float(lesion.axes_mm[2])
        origin = off_plane * anatomy.normal
        # A mass that fills the field is viewed from its edge.
        edge = rng.choice([-1, 1]) * rng.uniform(0, 0.9) * max(0.0, lesion.axes_mm[0] - 18)
        x_target = float(np.clip(rng.normal(0, 11), -20, 20)) + edge
        depth = lesion.centre[1] + 0.75 * lesion.axes_mm[1] + rng.uniform(9, 32) - scanner.probe_radius_mm
    else:
        origin = anatomy.station_mm * rng.uniform(1.0, 1.12) * _U
        x_target = rng.normal(0, 4)
        depth = anatomy.gland_v + rng.uniform(22, 38) - scanner.probe_radius_mm
    origin = origin - x_target * anatomy.horizontal + rng.normal(0, 1.2) * _V
    return View(
        origin=origin,
        roll=rng.normal(0, 0.15),
        depth_mm=float(np.clip(5 * round(depth / 5), 40, 90)),
        zoom=rng.uniform(1.0, 1.18),
        gain_db=rng.normal(0, 2.2),
        tgc_error_db_per_cm=rng.normal(-0.5, 0.6),
        gap_mm=max(0.0, rng.normal(-0.3, 0.8)),
        shading=np.column_stack([rng.normal(0, 1.4, 4), rng.uniform(0, 2 * math.pi, 4)]),
        contact=_poor_contact(rng) if rng.random() < 0.22 else (),
    )


def _poor_contact(rng: np.random.Generator) -> tuple[Contact, ...]:
    """Draw one or two sectors that stay dark, never in the middle of the image."""
    return tuple(
        Contact(rng.choice([-1, 1]) * rng.uniform(0.35, 1.3), rng.uniform(0.12, 0.4), rng.uniform(18, 34))
        for _ in range(rng.integers(1, 3))
    )


def sweep_views(rng: np.random.Generator, anatomy: Anatomy, scanner: Scanner, frames: int) -> list[View]:
    """Draw the views of a sweep.

    It starts at the station without cancer, stays there a moment, and glides onto the cancer. The operator's settings
    stay; hand and breath move the probe a little and smoothly.
    """
    last = still_view(rng, anatomy, scanner)
    time = np.linspace(0, 1, frames)
    eased = 1 - (1 - np.clip((time - 0.12) / 0.84, 0, 1)) ** 2
    phase = rng.uniform(0, 2 * math.pi, 3)
    views = []
    for moment, come in zip(time, eased, strict=True):
        drift = np.sin(2 * math.pi * 1.5 * moment + phase)
        start = anatomy.station_mm * 1.02 * _U
        origin = start + come * (last.origin - start) + 0.8 * drift[0] * _V + 0.8 * drift[1] * anatomy.horizontal
        views.append(replace(last, origin=origin, roll=last.roll + 0.03 * drift[2]))
    return views
