"""Image files: one decoder for images and masks of every command; its law is in `docs/data.md`.

Read are PNG, JPEG, TIFF and BMP files of one picture, decoded whole: a file cut short is an error, never a half-gray
image. Values are those that the writer stored, at every depth; only a flag of orientation is obeyed, as viewers do.
A mask must be lossless (no JPEG) and hold 0 and one other value. `decode` and what a `Picture` gives raise ValueError,
worded to follow a file's name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from eus_ray.data.io.image_formats import CutShortError, RefusedError, Stored, Values, read_stored
from eus_ray.data.names import shown
from eus_ray.errors import UserError

UInt8 = npt.NDArray[np.uint8]
Intensity = Literal["auto"] | tuple[float, float]
Channels = Literal["gray", "rgb"]
_Wanted = TypeVar("_Wanted")

LOSSLESS_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg")


class NoMaskError(ValueError):
    """The gray values are not those of a mask."""


class Remark(StrEnum):
    """How a file was read, if it could have been meant otherwise; worded to follow a number of files."""

    WHITE_IS_ZERO = "with a note that 0 is white: the values were taken as stored, 0 as black"
    TURNED = "with a flag of orientation: the picture was turned as viewers show it"
    TRANSPARENT = "with transparency, which was ignored"
    CMYK = "with CMYK colours: they were made RGB without a colour profile"
    FIRST_ONLY = "with a second, embedded picture, such as a thumbnail, which was left out"

    @property
    def changes_pixels(self) -> bool:
        """Return whether a reader without this rule would give other pixels."""
        return self in (Remark.WHITE_IS_ZERO, Remark.TURNED)


@dataclass(frozen=True)
class Picture:
    """The layers of a file, each `(H, W)`, turned as viewers show them."""

    gray: Values
    """As deep as the file has them, 8 bits at least: 1 bit is 0 and 255. Colour is made gray (ITU-R 601)."""
    stored: Values
    """The numbers in the file: below 8 bits without scaling, a palette's indices; for a colour file as `gray`."""
    colour: Values | None = None
    """`(H, W, 3)`, red first, if the file is stored in colour, even if all its colours are gray."""
    alpha: Values | None = None
    is_transparent: bool = False
    """Whether a pixel, or a colour of the palette, lets what is behind it shine through."""
    is_palette: bool = False
    is_lossy: bool = False
    remarks: tuple[Remark, ...] = ()

    @property
    def content(self) -> Values:
        """Return colour if there is any, else gray."""
        return self.gray if self.colour is None else self.colour

    def pixels(self, channels: Channels) -> Values:
        """Return what networks see: gray `(H, W)`, or colour `(H, W, 3)`, red first.

        A gray file's values are repeated in colour. Transparency is ignored in gray.

        Raises:
            ValueError: If colour is wanted and the file is transparent: its colours depend on what lies behind.
        """
        if channels == "gray":
            return self.gray
        if self.is_transparent:
            raise ValueError(
                "is transparent, and its colours depend on what lies behind it; save it without transparency (alpha)"
            )
        return np.repeat(self.gray[..., None], 3, axis=2) if self.colour is None else self.colour

    def mask(self) -> UInt8:
        """Return the mask as uint8 of 0 and 1.

        A mask has 0 and one other value. All 0 is the empty mask (no lesion); one other value everywhere is a lesion
        that fills the frame.

        Raises:
            ValueError: As `two_values`.
        """
        return (self.two_values() != 0).astype(np.uint8)

    def two_values(self) -> Values:
        """Return the gray values of a mask: 0 and one other.

        Raises:
            ValueError: If the file is a JPEG, has other values, has its shape in the transparency channel alone, or
                has several colours that are equal in gray, such as a dark one and black.
        """
        self._refuse_lossy()
        lesion_value(self.gray)
        if self._mixes_colours():
            raise ValueError(
                "has colours that are equal in gray, such as a dark one and black; save it as gray PNG, 0 and 255"
            )
        if self.gray.min() == self.gray.max() and self.alpha is not None and self.alpha.min() != self.alpha.max():
            raise ValueError("has its shape in the transparency channel; save it as gray PNG, 0 and 255")
        return self.gray

    def labels(self) -> Values:
        """Return the label values as stored; those of a palette file are its indices, not its colours.

        Raises:
            ValueError: If the file is a JPEG, or has colours that are not gray.
        """
        self._refuse_lossy()
        if not self.is_palette:
            self._refuse_colour()
        return self.stored

    def levels(self) -> Values:
        """Return a map of levels, such as probabilities, in its own depth.

        Raises:
            ValueError: If the file is a JPEG, or has colours that are not gray: they have no order.
        """
        self._refuse_lossy()
        self._refuse_colour()
        return self.gray

    def _refuse_lossy(self) -> None:
        if self.is_lossy:
            raise ValueError("is a JPEG, which blurs a mask's values; save masks as PNG")

    def _refuse_colour(self) -> None:
        if self.colour is not None and (self.colour != self.colour[..., :1]).any():
            raise ValueError("is a colour image, and what a colour means is not known; save its values as gray PNG")

    def _mixes_colours(self) -> bool:
        """Return whether one gray value stands for several colours or indices, or black for a dark colour."""
        layers = [layer for layer in (self.colour, self.stored if self.is_palette else None) if layer is not None]
        for value in np.unique(self.gray) if layers else ():
            inside = self.gray == value
            if any((layer[inside] != layer[inside][0]).any() for layer in layers):
                return True
        return self.colour is not None and bool(self.colour[self.gray == 0].any())


def read_image(path: str | Path, intensity: Intensity = "auto", channels: Channels = "gray") -> UInt8:
    """Read an image file as uint8, gray `(H, W)` or colour `(H, W, 3)`; `to_uint8` maps deeper values.

    Raises:
        UserError: If the file cannot be read whole, or is transparent and colour is wanted.
    """
    return to_uint8(read_picture(path, lambda picture: picture.pixels(channels)), intensity)


def read_mask(path: str | Path) -> UInt8:
    """Read a mask file as `(H, W)` uint8 of 0 and 1.

    Raises:
        UserError: If the file cannot be read whole, or is no mask.
    """
    return read_picture(path, Picture.mask)


def read_picture(path: str | Path, wanted: Callable[[Picture], _Wanted]) -> _Wanted:
    """Decode a file, and return what is wanted of its picture.

    Raises:
        UserError: If the file cannot be read whole, or is not what is wanted.
    """
    try:
        return wanted(decode(Path(path).read_bytes()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def told_remarks(files: Iterable[tuple[str | Path, Remark]]) -> list[str]:
    """Return one line for each remark on files, with their number and the first one's name."""
    found: dict[Remark, list[str | Path]] = defaultdict(list)
    for name, remark in files:
        found[remark].append(name)
    return [
        f"{names[0]}: is a file {remark}" if len(names) == 1 else f"{len(names)} files {remark}; such as {names[0]}"
        for remark, names in found.items()
    ]


def to_uint8(pixels: Values, intensity: Intensity) -> UInt8:
    """Map gray values `(H, W)` or colours `(H, W, 3)` to uint8, all channels alike.

    Args:
        pixels: Values of any depth.
        intensity: `(low, high)` become 0 and 255, values outside are clipped. `auto` leaves 8-bit images as
            they are and maps deeper ones linearly from their own minimum and maximum, of colour over all three
            channels; a deep image of one value becomes 0.
    """
    if intensity == "auto":
        if pixels.dtype == np.uint8:
            return pixels
        low, high = float(pixels.min()), float(pixels.max())
        if low == high:
            return np.zeros(pixels.shape, np.uint8)
    else:
        low, high = intensity
    return np.rint(np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def encode_png(pixels: Values) -> bytes:
    """Return pixels `(H, W)` or `(H, W, 3)` (blue first) as the bytes of a PNG file."""
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()


def lesion_value(values: Values) -> float:
    """Return the one value besides 0 that a mask `(H, W)` holds; 0 if it is empty.

    Raises:
        NoMaskError: If there are several values besides 0, or two values and none is 0.
    """
    top = values.max()
    if np.count_nonzero(values) == (np.count_nonzero(values == top) if top else 0):
        return float(top)
    found = np.unique(values)
    if len(found) > 2:
        raise NoMaskError(f"is not a mask: it has {len(found)} gray values; a mask has 0 and one other value")
    raise NoMaskError(f"is not a mask: it has the values {found[0]} and {found[1]}; the background must be 0")


# ---- the law ----------------------------------------------------------------------------------------


def decode(content: bytes) -> Picture:
    """Decode an image file.

    Raises:
        ValueError: If the file is not an image of the four formats, holds several pictures or too many pixels, has
            values that are not finite, or cannot be decoded whole.
    """
    try:
        stored = read_stored(content)
    except RefusedError as error:
        raise ValueError(str(error)) from None
    except CutShortError as error:
        raise ValueError(f"is damaged or cut short ({error})") from None
    except Exception as error:  # decoders raise anything from OSError to struct.error on damaged files
        reason = shown((str(error).splitlines() or [type(error).__name__])[0])
        raise ValueError(f"is damaged or cut short, or of a rare kind ({reason}); save it anew as PNG") from None
    picture = _picture(stored)
    if picture.gray.dtype.kind == "f" and not np.isfinite(picture.gray).all():
        raise ValueError("has gray values that are not finite")
    return picture


def _picture(stored: Stored) -> Picture:
    is_turned = stored.orientation in _TURNS
    turn = _TURNS.get(stored.orientation, np.asarray)
    remarks = {
        Remark.WHITE_IS_ZERO: stored.is_white_zero,
        Remark.TURNED: is_turned,
        Remark.TRANSPARENT: stored.has_transparency,
        Remark.CMYK: stored.is_cmyk,
        Remark.FIRST_ONLY: stored.has_more,
    }
    values = np.ascontiguousarray(turn(stored.values))
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    full = values * np.uint8(255 // (2**stored.bits - 1)) if stored.bits < 8 and stored.palette is None else values
    colour = full if values.ndim == 3 else None
    if stored.palette is not None:
        if values.max() >= len(stored.palette):
            raise ValueError(f"is damaged: it has index {values.max()}, and its palette {len(stored.palette)} colours")
        colour = stored.palette[values]
    gray = full if colour is None else _gray_of_colour(colour)
    return Picture(
        gray=gray,
        stored=gray if values.ndim == 3 else values,
        colour=colour,
        alpha=None if stored.alpha is None else turn(stored.alpha),
        is_transparent=stored.has_transparency or _is_clear(stored.alpha, stored.bits),
        is_palette=stored.palette is not None,
        is_lossy=stored.is_lossy,
        remarks=tuple(remark for remark, holds in remarks.items() if holds),
    )


def _is_clear(alpha: Values | None, bits: int) -> bool:
    """Return whether transparency, if there is any, begins below its highest value."""
    return alpha is not None and bool(alpha.min() < (1 if alpha.dtype.kind == "f" else 2**bits - 1))


_TURNS: dict[int, Callable[[Values], Values]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
"""From the stored to the upright picture, by EXIF's number of the orientation."""


def _gray_of_colour(colour: Values) -> Values:
    """Return the luma of ITU-R 601, red first, in the depth of the colours."""
    if colour.dtype == np.uint8:
        return np.asarray(Image.fromarray(colour).convert("L"))
    if colour.dtype in (np.uint16, np.float32):
        return np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    return colour.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
