"""Augmentation of training images (paper, section 2.3).

These are rotation, scaling, horizontal flip and elastic deformation.
"""

from __future__ import annotations

import itertools
import os

import cv2
import numpy as np
import numpy.typing as npt

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks the network for a newer version
import albumentations

from eus_ray.config import AugmentSettings

Image = npt.NDArray[np.uint8]


class Augmenter:
    """Draw one augmentation from a seed and apply it to an image and its mask alike.

    A rotation and a scale are drawn from the listed values (each equally likely) and applied together about the centre.
    A horizontal flip follows, then an elastic deformation: the displacements of all pixels, rows and columns apart, are
    uniform in [-alpha, alpha] pixels and smoothed by a Gaussian of sigma pixels. Their standard deviation is then
    alpha / (2 sqrt(3 pi) sigma), 0.016 pixels at the paper's 2.048 and 20.48 (twice that in the corners). Images are
    interpolated linearly, masks take the nearest pixel; pixels from outside are black, and no lesion. One augmenter
    serves one thread.
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

    def __call__(self, image: Image, mask: Image, seed: int) -> tuple[Image, Image]:
        """Return image and mask `(H, W)` uint8 as augmented for this seed.

        The mask keeps its values. Both depend on the settings, image, mask and seed alone. If the draw changes nothing,
        the arrays themselves come back; they are never written to.
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
            return _deform(image, mask, settings.elastic_alpha, settings.elastic_sigma, random)
        return image, mask


def _deform(image: Image, mask: Image, alpha: float, sigma: float, random: np.random.Generator) -> tuple[Image, Image]:
    # ElasticTransform of albumentations smooths the displacements of rows and columns as one stacked image with its
    # border repeated: one bleeds into the other, and corners move 14 times as far as the middle. Smoothed apart, with
    # the border reflected, corners move twice as far.
    noise = random.random((2, *image.shape), dtype=np.float32) * np.float32(2 * alpha) - np.float32(alpha)
    rows, columns = np.indices(image.shape, dtype=np.float32)
    rows += cv2.GaussianBlur(noise[0], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    columns += cv2.GaussianBlur(noise[1], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    warped = cv2.remap(image, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    warped_mask = cv2.remap(mask, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return warped.astype(np.uint8, copy=False), warped_mask.astype(np.uint8, copy=False)
