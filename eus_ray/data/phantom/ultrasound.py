"""B-mode physics of a curved linear array: from tissue to the gray image.

The echoes are formed beam by beam, in polar coordinates, and only then converted to pixels:

1. Many scatterers share a resolution cell, so their sum is a complex Gaussian whose power is the tissue's echo
   level; its envelope is Rayleigh (Burckhardt 1978, "Speckle in ultrasound B-mode scans").
2. Steps of impedance along the beam add bright coherent interfaces.
3. Attenuation accumulates along the beam (dB per cm and MHz, both ways): tissue that absorbs casts a shadow, tissue
   that does not is followed by enhancement; poor contact adds to it.
4. The point-spread function is a Gaussian, constant in depth along the beam, wider across it away from the focus
   and with distance, with a faint broad pedestal (side lobes). Across the beam it is applied by FFT, one width a depth.
5. Electronic noise is added before time-gain compensation, so deep tissue drowns in it.
6. Envelope, log compression, gray map, scan conversion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d, label, map_coordinates

from eus_ray.data.phantom.anatomy import Anatomy, Slice

NUM_SAMPLES, NUM_BEAMS = 385, 264
"""The size of the beam grid: R samples along each of B beams."""
_TGC_DB_PER_CM_MHZ = 0.50
"""The mean attenuation that time-gain compensation assumes."""
_INTERFACE_AMPLITUDE = 2.2
"""The amplitude of an impedance step of 1 per mm; diffuse parenchyma has 1."""
_SIDE_LOBE_AMPLITUDE = 0.02
"""The amplitude of the pedestal relative to the main lobe."""
_MIN_OUTLINED_MM2 = 4.0


@dataclass(frozen=True)
class Scanner:
    """An echoendoscope and its processor; each patient has one."""

    name: str
    probe_radius_mm: float
    half_angle: float
    """Radians; pi / 2 for a sector of 180 degrees."""
    frequency_mhz: float
    aperture_mm: float
    focus_mm: float
    dynamic_range_db: float
    gamma: float
    smoothing: float
    """The standard deviation of the processor's speckle smoothing, in samples."""
    ring_mm: float
    """The distance between reverberations of the probe's face."""
    noise_db: float
    """The electronic noise relative to parenchyma at the probe's face."""


SCANNERS = (
    Scanner("synthetic A", 7.5, math.radians(90), 7.5, 7.0, 25.0, 54.0, 1.0, 0.55, 1.2, -62.0),
    Scanner("synthetic B", 8.5, math.radians(75), 6.0, 8.0, 30.0, 60.0, 1.1, 0.8, 1.5, -60.0),
    Scanner("synthetic C", 7.0, math.radians(62), 7.5, 6.0, 22.0, 50.0, 0.95, 0.35, 1.35, -64.0),
)


@dataclass(frozen=True)
class Contact:
    """A sector in which the probe does not touch the wall well; angles in radians."""

    angle: float
    half_width: float
    loss_db: float


@dataclass(frozen=True)
class View:
    """The probe's place in the patient and the operator's settings, for one image."""

    origin: np.ndarray
    roll: float
    depth_mm: float
    zoom: float
    """The side of the image over the depth of the sector."""
    gain_db: float
    tgc_error_db_per_cm: float
    gap_mm: float
    shading: np.ndarray
    """`(K, 2)`: amplitude in dB and phase of waves over the sector; contact is nowhere quite even."""
    contact: tuple[Contact, ...] = ()


@dataclass(frozen=True)
class BeamGrid:
    """The polar coordinates of the samples."""

    radius_mm: np.ndarray
    """`(R,)` from the probe's centre of curvature."""
    angle: np.ndarray
    """`(B,)` from the vertical, in radians."""

    @property
    def step_mm(self) -> float:
        """Return the distance between samples of a beam."""
        return float(self.radius_mm[1] - self.radius_mm[0])


def beam_grid(scanner: Scanner, depth_mm: float) -> BeamGrid:
    """Return the beam grid of a scanner to a depth below the probe's face."""
    # A few beams more than are shown, so that the wrapping FFT does not join left and right.
    half = scanner.half_angle * (1 + 12 / NUM_BEAMS)
    radius = scanner.probe_radius_mm + np.linspace(0, depth_mm, NUM_SAMPLES)
    return BeamGrid(radius.astype(np.float32), np.linspace(-half, half, NUM_BEAMS).astype(np.float32))


def complex_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw complex Gaussian noise of mean power 1, complex64."""
    parts = rng.standard_normal((*shape, 2), dtype=np.float32)
    return parts.view(np.complex64)[..., 0] * np.float32(math.sqrt(0.5))


def lateral_width_mm(scanner: Scanner, depth_mm: np.ndarray) -> np.ndarray:
    """Return the standard deviation across the beam, at `(R,)` from the probe's face."""
    diffraction = 1.54 / scanner.frequency_mhz / scanner.aperture_mm / 2.355
    defocus = 0.03 * scanner.aperture_mm * np.abs(1 - depth_mm / scanner.focus_mm)
    return np.hypot(0.12 + 0.85 * diffraction * depth_mm, defocus)


def beamform(
    diffuse: np.ndarray, coherent: np.ndarray, grid: BeamGrid, scanner: Scanner, rng: np.random.Generator
) -> np.ndarray:
    """Return the echo signal `(R, B)` complex64.

    If `diffuse` is a constant a and `coherent` zero, the mean power is a squared and the envelope is Rayleigh.

    Args:
        diffuse: The amplitude of the scatterers, `(R, B)`.
        coherent: The amplitude of the interfaces, `(R, B)`.
        grid: The beam grid.
        scanner: The scanner, for its point-spread function.
        rng: The source of the speckle.
    """
    sigma_mm = lateral_width_mm(scanner, grid.radius_mm - scanner.probe_radius_mm)
    sigma = (sigma_mm / grid.radius_mm / (grid.angle[1] - grid.angle[0]))[:, None].astype(np.float32)  # beams
    wave = ((2 * math.pi * fft.fftfreq(len(grid.angle))) ** 2 / 2).astype(np.float32)
    main = np.exp(-wave * sigma**2)
    transfer = main + _SIDE_LOBE_AMPLITUDE * sigma * np.exp(-wave * (6 * sigma) ** 2)
    axial = 0.5 * 1.54 / scanner.frequency_mhz * 1.6 / grid.step_mm
    along = gaussian_filter1d(np.eye(1, 65, 32)[0], axial)
    lateral_gain = np.sqrt((transfer**2).mean(1, keepdims=True))
    axial_gain = np.float32(math.sqrt((along**2).sum()))
    field = diffuse * complex_noise(rng, diffuse.shape) / (lateral_gain * axial_gain) + coherent
    field = fft.ifft(fft.fft(field.astype(np.complex64), axis=1) * transfer, axis=1)
    return gaussian_filter1d(field.real, axial, axis=0) + 1j * gaussian_filter1d(field.imag, axial, axis=0)


def render(
    anatomy: Anatomy, view: View, scanner: Scanner, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Render one view of a patient.

    Returns:
        The image `(size, size)` uint8, the mask of the cancer `(size, size)` uint8 of 0 and 255, and the mm a pixel.
    """
    grid = beam_grid(scanner, view.depth_mm)
    # Tissue varies over longer distances than the echoes' phase: every second sample is enough.
    sparse = grid.radius_mm[::2]
    cut = anatomy.cut(_points(anatomy, view, sparse, grid.angle), sparse - sparse[0], grid.angle, view.gap_mm)
    tissue = Slice(*(_between_rows(layer) for layer in cut))
    frequency, step_cm = scanner.frequency_mhz, grid.step_mm / 10
    loss_db = np.cumsum(tissue.attenuation, axis=0) * (2 * frequency * step_cm)
    poor_db = _contact_loss(view, grid)
    path = _amplitude(-(loss_db + poor_db))
    steps = np.abs(np.gradient(tissue.impedance, grid.step_mm, axis=0))
    echoes = beamform(_amplitude(tissue.echo_db) * path, _INTERFACE_AMPLITUDE * steps * path, grid, scanner, rng)
    echoes += _reverberation(grid, scanner, poor_db)
    echoes += complex_noise(rng, echoes.shape) * _amplitude(scanner.noise_db)
    depth_cm = (grid.radius_mm - grid.radius_mm[0]) / 10
    tgc_db = (2 * frequency * _TGC_DB_PER_CM_MHZ + view.tgc_error_db_per_cm) * depth_cm
    gain_db = (view.gain_db + np.minimum(tgc_db, 56))[:, None]
    level_db = 20 * np.log10(np.abs(echoes) + np.float32(1e-9)) + gain_db.astype(np.float32)
    level = np.clip(0.47 + level_db / scanner.dynamic_range_db, 0, 1) ** scanner.gamma
    for axis in (0, 1):
        level = gaussian_filter1d(level, scanner.smoothing, axis=axis)
    return _scan_convert(level, tissue.lesion_mm, grid, view, scanner, size)


def _points(anatomy: Anatomy, view: View, radius_mm: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Return the places of the samples in the patient, `(3, R, B)` float32."""
    turned = angle + np.float32(view.roll)
    x, y = radius_mm[:, None] * np.sin(turned), radius_mm[:, None] * np.cos(turned)
    (x_u, _, x_w), origin = anatomy.horizontal.astype(np.float32), view.origin.astype(np.float32)
    return np.stack([origin[0] + x_u * x, origin[1] + y, origin[2] + x_w * x])


def _between_rows(sparse: np.ndarray) -> np.ndarray:
    """Interpolate linearly from every second row to `(R, B)`; R is odd."""
    rows = np.empty((2 * len(sparse) - 1, sparse.shape[1]), np.float32)
    rows[::2] = sparse
    rows[1::2] = 0.5 * (sparse[:-1] + sparse[1:])
    return rows


def _amplitude(level_db: np.ndarray | float) -> np.ndarray:
    return np.exp(np.asarray(level_db, np.float32) * np.float32(math.log(10) / 20))


def _contact_loss(view: View, grid: BeamGrid) -> np.ndarray:
    waves = np.arange(1, len(view.shading) + 1)[:, None]
    swing, phase = view.shading.T[:, :, None]
    loss = (swing / np.sqrt(waves) * np.cos(waves * grid.angle + phase)).sum(0)
    for sector in view.contact:
        loss += sector.loss_db / (1 + np.exp((np.abs(grid.angle - sector.angle) - sector.half_width) / 0.06))
    return loss.astype(np.float32)


def _reverberation(grid: BeamGrid, scanner: Scanner, poor_db: np.ndarray) -> np.ndarray:
    """Return reverberations: rings that fade with depth, slowly if contact is poor."""
    depth = (grid.radius_mm - grid.radius_mm[0])[:, None]
    rings = np.exp(-((((depth / scanner.ring_mm) % 1) - 0.5) ** 2) / 0.02)
    fade_mm = 0.5 + 0.03 * np.maximum(poor_db, 0)
    return 2.2 * np.exp(-depth / 0.35) + 0.7 * rings * np.exp(-depth / fade_mm)


def _scan_convert(
    level: np.ndarray, lesion_mm: np.ndarray, grid: BeamGrid, view: View, scanner: Scanner, size: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Convert beams to pixels; small images are averaged from finer ones."""
    finer = max(1, math.ceil(256 / size))
    radius, angle, shown, side_mm = _pixels(grid, view, scanner, size * finer)
    inner = float(grid.radius_mm[0])
    at = np.stack([(radius - inner) / grid.step_mm, (angle - grid.angle[0]) / (grid.angle[1] - grid.angle[0])])
    gray = np.where(shown, map_coordinates(level, at, order=1, mode="nearest"), 0)
    cancer = shown & (map_coordinates(lesion_mm, at, order=1, mode="nearest") < 0)
    gray, cover = (part.reshape(size, finer, size, finer).mean((1, 3)) for part in (gray, cancer))
    image = np.rint(255 * gray).astype(np.uint8)
    return image, _outlined(cover >= 0.5, side_mm / size), side_mm / size


def sector(view: View, scanner: Scanner, size: int) -> np.ndarray:
    """Return the pixels of an image whose centres lie in the sector, `(size, size)` bool."""
    return _pixels(beam_grid(scanner, view.depth_mm), view, scanner, size)[2]


def _pixels(grid: BeamGrid, view: View, scanner: Scanner, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return radius in mm and angle of the pixels `(num, num)`, which lie in the sector, and the image's side in mm."""
    half, inner, outer = scanner.half_angle, float(grid.radius_mm[0]), float(grid.radius_mm[-1])
    top = inner * math.cos(half) - 1.5 if half < math.pi / 2 else -0.5
    side_mm = (outer - top + 1.5) * view.zoom
    pixel = (np.arange(num) + 0.5) * (side_mm / num)
    x, y = pixel - side_mm / 2, (pixel + top)[:, None]
    radius, angle = np.hypot(x, y), np.arctan2(x, y)
    return radius, angle, (radius >= inner) & (radius <= outer) & (np.abs(angle) <= half), side_mm


def _outlined(cancer: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Return the part that a reader would outline: the largest, unless it is a speck."""
    parts, num_parts = label(cancer)
    areas = np.bincount(parts.ravel(), minlength=num_parts + 1)[1:]
    if not num_parts or areas.max() * pixel_mm**2 < _MIN_OUTLINED_MM2:
        return np.zeros(cancer.shape, np.uint8)
    return np.where(parts == 1 + areas.argmax(), 255, 0).astype(np.uint8)
