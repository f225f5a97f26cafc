"""`[augment]`: random changes of the training images, and the presets that name whole sets of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, field_validator, model_validator

from eus_ray.config.sections import Fraction, NonNegative, Positive, Settings

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "rotations_degrees": (-5.0, -2.5, 0.0, 2.5, 5.0),
        "scales": (0.9, 1.0, 1.1),
        "flip_probability": 0.5,
        "elastic_probability": 1.0,
        "elastic_alpha": 2.048,
        "elastic_sigma": 20.48,
    },
    "standard": {},
    "strong": {
        "rotations_degrees": (-20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0),
        "scales": (0.8, 0.9, 1.0, 1.1, 1.25),
        "brightness_probability": 0.3,
        "contrast_probability": 0.3,
        "gamma_probability": 0.3,
        "blur_probability": 0.1,
        "noise_probability": 0.1,
        "speckle_probability": 0.1,
        "downscale_probability": 0.1,
        "occlusion_probability": 0.1,
    },
}
"""The fields in which each preset differs from the defaults below, which are `standard`."""


class AugmentSettings(Settings):
    """Random changes of the training images; a change with the probability 0 is off.

    How strong a photometric change is, from brightness on, is drawn anew for each image, up to the largest.
    """

    preset: Literal["paper", "standard", "strong"] = "standard"
    """The values of all fields of this section that are not set: the paper's, the defaults, or more of everything."""
    rotations_degrees: tuple[float, ...] = (-5.0, -2.5, 0.0, 2.5, 5.0)
    scales: tuple[Positive, ...] = (0.9, 1.0, 1.1)
    flip_probability: Fraction = 0.5
    elastic_probability: Fraction = 0.0
    """Off by default: with the paper's values it moves pixels by hundredths and takes most of the time."""
    elastic_alpha: NonNegative = 2.048
    """Largest random displacement before smoothing, in pixels."""
    elastic_sigma: Positive = 20.48
    """Standard deviation of the Gaussian smoothing, in pixels."""
    brightness_probability: Fraction = 0.0
    brightness: Fraction = 0.2
    """Largest share of the full range that is added or taken away."""
    contrast_probability: Fraction = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Gray values are stretched about their mean by 1 - contrast to 1 + contrast."""
    gamma_probability: Fraction = 0.0
    gamma: Annotated[float, Field(ge=1, le=5)] = 1.5
    """Largest exponent of the gray values in [0, 1]; the smallest is 1 / gamma."""
    blur_probability: Fraction = 0.0
    blur_sigma: Annotated[float, Field(gt=0, le=20)] = 1.0
    """Largest standard deviation of the Gaussian, in pixels."""
    noise_probability: Fraction = 0.0
    noise: Fraction = 0.05
    """Largest standard deviation of noise that is added, as a share of the full range."""
    speckle_probability: Fraction = 0.0
    speckle: Fraction = 0.2
    """Largest standard deviation of noise about 1 that is multiplied."""
    downscale_probability: Fraction = 0.0
    downscale: Annotated[float, Field(ge=0.05, le=1)] = 0.5
    """Smallest factor by which an image is made smaller, before it is made larger again."""
    occlusion_probability: Fraction = 0.0
    occlusion: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Largest side of the black rectangle, as a share of the image's; the truth below it stays."""

    @model_validator(mode="wrap")
    @classmethod
    def _fill_from_preset(cls, given: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        preset = given.get("preset") if isinstance(given, dict) else None
        filled = PRESETS.get(preset, {}) if isinstance(preset, str) else {}
        settings = check({**filled, **given} if filled else given)
        if filled:
            settings.model_fields_set.difference_update(filled.keys() - given.keys())  # nobody has asked for these
        return settings

    @field_validator("rotations_degrees", "scales")
    @classmethod
    def _not_empty(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value:
            raise ValueError("needs one value at least; [0.0] rotations or [1.0] scales change nothing")
        return value
