"""Augmentation of training images.

Rotation, scaling, horizontal flip and elastic deformation (paper, section 2.3) move the pixels of image and mask alike;
then photometric changes of the image alone follow.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network for a newer version
import albumentations

from eus_ray.config import AugmentSettings

Image = npt.NDArray[np.uint8]
Change = Callable[[Image, np.random.Generator], Image]
"""Returns an image as changed by what it draws."""


class Augmenter:
    """Draw one augmentation from a seed and apply it to an image and its mask alike.

    A rotation and a scale are drawn from the listed values (each equally likely) and applied together about the centre.
    A horizontal flip follows, then an elastic deformation: the displacements of all pixels, rows and columns apart, are
    uniform in [-alpha, alpha] pixels and smoothed by a Gaussian of sigma pixels. Their standard deviation is then
    alpha / (2 sqrt(3 pi) sigma), 0.016 pixels at the paper's 2.048 and 20.48 (twice that in the corners). Images are
    interpolated linearly, masks take the nearest pixel; pixels from outside are black, and no lesion.

    The photometric changes come last, in the order of their fields, each with its own probability and its own strength,
    uniform between none and the largest. They treat the channels of a colour image alike, noise too, so that what is
    gray stays gray. One augmenter serves one thread.
    """

    def __init__(self, settings: AugmentSettings) -> None:
        """Build the transforms of all pairs of listed rotations and scales."""
        self._settings = settings
        # The library draws from ranges. Each pair of listed values has its own transform with empty ranges: no draw.
        self._affine = {
            (rotation, scale): albumentations.Affine(
                rotate=(rotation, rotation),
                scale=(scale, scale),
                interpolation=cv2.INTER_LINEAR,
                mask_interpolation=cv2.INTER_NEAREST,
                border_mode=cv2.BORDER_CONSTANT,
                fill=0,
                fill_mask=0,
                p=1.0,
            )
            for rotation, scale in itertools.product(settings.rotations_degrees, settings.scales)
            if (rotation, scale) != (0.0, 1.0)
        }
        self._flip = albumentations.HorizontalFlip(p=1.0)
        self._photometric = _photometric_changes(settings)

    def __call__(self, image: Image, mask: Image, seed: int) -> tuple[Image, Image]:
        """Return an image, gray `(H, W)` or colour `(H, W, 3)`, and its mask `(H, W)` as augmented for this seed.

        The mask keeps its values. Both are uint8, and depend on the settings, image, mask and seed alone. If the draw
        changes nothing, the arrays themselves come back; they are never written to.
        """
        settings = self._settings
        random = np.random.default_rng(seed)
        # Everything is drawn, in this order, whether used or not: one setting does not shift the draws of another.
        rotation = settings.rotations_degrees[random.integers(len(settings.rotations_degrees))]
        scale = settings.scales[random.integers(len(settings.scales))]
        flip, elastic = random.random(2) < (settings.flip_probability, settings.elastic_probability)
        both = {"image": image, "mask": mask}
        if (rotation, scale) in self._affine:
            both = self._affine[rotation, scale](**both)
        if flip:
            both = self._flip(**both)
        image, mask = both["image"], both["mask"]
        if elastic and settings.elastic_alpha > 0:
            image, mask = _deform(image, mask, settings.elastic_alpha, settings.elastic_sigma, random)
        for number, (probability, change) in self._photometric.items():
            own = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
            if own.random() < probability:
                image = change(image, own)
        return image, mask


def _photometric_changes(settings: AugmentSettings) -> dict[int, tuple[float, Change]]:
    """Probability and change by the number that its draws derive from, without those that are off."""
    blur = settings.blur_sigma
    side = (0.0, settings.occlusion)
    # Brightness and contrast lose up to one gray value: the library rounds down. ColorJitter has the contrast about the
    # mean, RandomBrightnessContrast that about black.
    changes: list[tuple[float, Change]] = [
        (
            settings.brightness_probability,
            _by_library(
                albumentations.RandomBrightnessContrast(
                    brightness_limit=(-settings.brightness, settings.brightness), contrast_limit=(0.0, 0.0), p=1.0
                )
            ),
        ),
        (
            settings.contrast_probability,
            _by_library(
                albumentations.ColorJitter(
                    contrast=(1 - settings.contrast, 1 + settings.contrast),
                    brightness=(1.0, 1.0),
                    saturation=(1.0, 1.0),
                    hue=(0.0, 0.0),
                    p=1.0,
                )
            ),
        ),
        (
            settings.gamma_probability,
            _by_library(albumentations.RandomGamma(gamma_limit=(100 / settings.gamma, 100 * settings.gamma), p=1.0)),
        ),
        (
            settings.blur_probability,
            _by_library(albumentations.GaussianBlur(blur_limit=0, sigma_limit=(min(0.1, blur), blur), p=1.0)),
        ),
        (settings.noise_probability, functools.partial(_add_noise, largest=255 * settings.noise)),
        (settings.speckle_probability, functools.partial(_multiply_noise, largest=settings.speckle)),
        (
            settings.downscale_probability,
            _by_library(
                albumentations.Downscale(
                    scale_range=(settings.downscale, 1.0),
                    interpolation_pair={"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR},
                    p=1.0,
                )
            ),
        ),
        (
            settings.occlusion_probability,
            _by_library(
                albumentations.CoarseDropout(
                    num_holes_range=(1, 1), hole_height_range=side, hole_width_range=side, fill=0, p=1.0
                )
            ),
        ),
    ]
    return {number: change for number, change in enumerate(changes) if change[0] > 0}


def _by_library(transform: albumentations.ImageOnlyTransform | albumentations.DualTransform) -> Change:
    def change(image: Image, random: np.random.Generator) -> Image:
        transform.set_random_seed(int(random.integers(2**63)))
        changed: Image = transform(image=image)["image"]
        return changed

    return change


# The library's noise is not taken: GaussNoise rounds towards 0, which takes 4 % of a standard deviation of 13 gray
# values and far more of a small one, and MultiplicativeNoise knows no Gaussian.


def _add_noise(image: Image, random: np.random.Generator, largest: float) -> Image:
    noise = _normal(image, random.uniform(0, largest), random)
    return cv2.add(image, noise, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def _multiply_noise(image: Image, random: np.random.Generator, largest: float) -> Image:
    noise = _normal(image, random.uniform(0, largest), random)
    return cv2.multiply(image, 1 + noise, dtype=cv2.CV_8U).astype(np.uint8, copy=False)


def _normal(image: Image, deviation: float, random: np.random.Generator) -> npt.NDArray[np.float32]:
    """A normal variate for each pixel, the same in all channels."""
    noise = np.float32(deviation) * random.standard_normal(image.shape[:2], dtype=np.float32)
    return noise if image.ndim == 2 else np.asarray(cv2.merge([noise] * image.shape[2]), np.float32)


def _deform(image: Image, mask: Image, alpha: float, sigma: float, random: np.random.Generator) -> tuple[Image, Image]:
    # ElasticTransform of albumentations smooths the displacements of rows and columns as one stacked image with its
    # border repeated: one bleeds into the other, and corners move 14 times as far as the middle. Smoothed apart, with
    # the border reflected, corners move twice as far.
    noise = random.random((2, *mask.shape), dtype=np.float32) * np.float32(2 * alpha) - np.float32(alpha)
    rows, columns = np.indices(mask.shape, dtype=np.float32)
    rows += cv2.GaussianBlur(noise[0], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    columns += cv2.GaussianBlur(noise[1], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    warped = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    warped_mask = cv2.remap(mask, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return warped.astype(np.uint8, copy=False), warped_mask.astype(np.uint8, copy=False)
