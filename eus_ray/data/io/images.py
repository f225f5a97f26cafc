"""Image files, decoded whole.

A file cut short is an error, never a half-gray image. Read are PNG, JPEG, TIFF and BMP files of one page, 8-bit or
deeper, gray, palette or colour. Refused are empty, damaged and truncated files, files of several pages, and gray values
that are not finite. A mask must be lossless (no JPEG) and hold 0 and one other value. The `decode` functions raise
ValueError, worded to follow a file's name.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from eus_ray.errors import UserError

UInt8 = npt.NDArray[np.uint8]
Intensity = Literal["auto"] | tuple[float, float]

LOSSLESS_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg")

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_PNG_END = b"IEND\xaeB\x60\x82"
_JPEG_START = b"\xff\xd8\xff"
_TIFF_BITS_PER_SAMPLE = 258
_PNG_BIT_DEPTH_BYTE = 24
"""In the IHDR chunk, which is the first."""


class NoMaskError(ValueError):
    """The gray values are not those of a mask."""


def read_image(path: str | Path, intensity: Intensity = "auto") -> UInt8:
    """Read an image file as gray `(H, W)` uint8; `to_uint8` maps deeper values.

    Raises:
        UserError: If the file cannot be read whole.
    """
    return to_uint8(decode_file(path, decode), intensity)


def read_mask(path: str | Path) -> UInt8:
    """Read a mask file as `(H, W)` uint8 of 0 and 1.

    Raises:
        UserError: If the file cannot be read whole, or is no mask.
    """
    return decode_file(path, decode_mask)


def decode_file(path: str | Path, decoder: Callable[[bytes], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Decode a file with one of the `decode` functions.

    Raises:
        UserError: If the file cannot be read, or the decoder refuses it.
    """
    try:
        return decoder(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def to_uint8(gray: npt.NDArray[Any], intensity: Intensity) -> UInt8:
    """Map gray values `(H, W)` to uint8.

    Args:
        gray: Gray values of any depth.
        intensity: `(low, high)` become 0 and 255, values outside are clipped. `auto` leaves 8-bit images as
            they are and maps deeper ones linearly from their own minimum and maximum; a deep image of one
            value becomes 0.
    """
    if intensity == "auto":
        if gray.dtype == np.uint8:
            return gray
        low, high = float(gray.min()), float(gray.max())
        if low == high:
            return np.zeros(gray.shape, np.uint8)
    else:
        low, high = intensity
    return np.rint(np.clip((gray.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def encode_png(pixels: npt.NDArray[Any]) -> bytes:
    """Return pixels `(H, W)` or `(H, W, 3)` (blue first) as the bytes of a PNG file."""
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()


def decode(content: bytes) -> npt.NDArray[Any]:
    """Return the gray values `(H, W)` of an image file, as deep as the file has them.

    They are uint8 if the file has 8 bits or fewer (1 bit: 0 and 255), else uint16, int32 or float32. Colour is made
    gray (ITU-R 601), transparency is ignored, pixels are taken as stored (no EXIF rotation).

    Raises:
        ValueError: If the file is not an image of the four formats, or cannot be decoded whole.
    """
    return _decode(content).gray


def decode_mask(content: bytes) -> UInt8:
    """Return a mask file as `(H, W)` uint8 of 0 and 1.

    A mask has 0 and one other value. All 0 is the empty mask (no lesion); one other value everywhere is a lesion
    that fills the frame.

    Raises:
        ValueError: As `decode_two_values`.
    """
    return (decode_two_values(content) != 0).astype(np.uint8)


def decode_two_values(content: bytes) -> npt.NDArray[Any]:
    """Return the gray values `(H, W)` of a mask file: 0 and one other.

    Raises:
        ValueError: If the file cannot be decoded whole, is a JPEG, has other values, has its shape in the
            transparency channel alone, or has several colours that are equal in gray, such as a dark one and black.
    """
    image = _decode(_lossless(content))
    lesion_value(image.gray)
    if image.mixes_colours():
        raise ValueError(
            "has colours that are equal in gray, such as a dark one and black; save it as gray PNG, 0 and 255"
        )
    alpha = image.alpha
    if image.gray.min() == image.gray.max() and alpha is not None and alpha.min() != alpha.max():
        raise ValueError("has its shape in the transparency channel; save it as gray PNG, 0 and 255")
    return image.gray


def decode_labels(content: bytes) -> npt.NDArray[Any]:
    """Return the label values `(H, W)` of a file as stored.

    Those of a palette file are its indices, not its colours.

    Raises:
        ValueError: If the file cannot be decoded whole, is a JPEG, or has colours that are not gray.
    """
    image = _decode(_lossless(content))
    return image.gray_as_stored() if image.indices is None else image.indices


def decode_levels(content: bytes) -> npt.NDArray[Any]:
    """Return a map of levels `(H, W)`, such as probabilities, in its own depth.

    Raises:
        ValueError: If the file cannot be decoded whole, is a JPEG, or has colours that are not gray: they have
            no order.
    """
    return _decode(_lossless(content)).gray_as_stored()


def lesion_value(values: npt.NDArray[Any]) -> float:
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


@dataclass(frozen=True)
class _DecodedImage:
    """The layers of a file, each `(H, W)`."""

    gray: npt.NDArray[Any]
    alpha: UInt8 | None
    colour: npt.NDArray[Any] | None
    """`(H, W, 3)` if the file is stored in colour, even if all its colours are gray."""
    indices: UInt8 | None
    """Those of a palette file."""

    def mixes_colours(self) -> bool:
        """Return whether one gray value stands for several colours or palette indices.

        Black must not stand for a dark colour either.
        """
        for value in np.unique(self.gray):
            inside = self.gray == value
            for layer in (self.colour, self.indices):
                if layer is not None and (layer[inside] != layer[inside][0]).any():
                    return True
        return self.colour is not None and bool(self.colour[self.gray == 0].any())

    def gray_as_stored(self) -> npt.NDArray[Any]:
        """Return the gray values. Raises ValueError if colours were mixed to them."""
        if self.colour is not None and (self.colour != self.colour[..., :1]).any():
            raise ValueError("is a colour image, and what a colour means is not known; save its values as gray PNG")
        return self.gray


def _lossless(content: bytes) -> bytes:
    if content.startswith(_JPEG_START):
        raise ValueError("is a JPEG, which blurs a mask's values; save masks as PNG")
    return content


def _decode(content: bytes) -> _DecodedImage:
    if not content:
        raise ValueError("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            pages = getattr(image, "n_frames", 1)
            deep_colour = _has_deep_colour(image, content)
            image.load()
            gray = _gray(image)
            alpha = np.asarray(image.getchannel("A")) if "A" in image.getbands() else None
            indices = np.asarray(image) if image.mode == "P" else None
            colour = None
            if image.mode not in ("1", "L", "LA", "I", "F") and not image.mode.startswith("I;16"):
                colour = np.asarray(image.convert("RGB"))
            is_whole = image.format != "PNG" or _PNG_END in content  # Pillow accepts a PNG without its last chunk
    except UnidentifiedImageError:
        raise ValueError("is not a PNG, JPEG, TIFF or BMP image, or its beginning is damaged") from None
    except Exception as error:  # decoders raise anything from OSError to struct.error on damaged files
        raise ValueError(f"is damaged or cut short ({error})") from None
    if pages > 1:
        raise ValueError(f"holds {pages} pages; save each picture as a file of its own")
    if not is_whole:
        raise ValueError("is damaged or cut short (its end is missing)")
    if deep_colour:  # Pillow reads these with 8 bits
        stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.ndim != 3:
            raise ValueError("is a 16-bit colour image that cannot be decoded; save it as 16-bit gray")
        colour = np.ascontiguousarray(stored[..., :3])
        gray = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    if gray.dtype.kind == "f" and not np.isfinite(gray).all():
        raise ValueError("has gray values that are not finite")
    return _DecodedImage(gray, alpha, colour, indices)


def _has_deep_colour(image: Image.Image, content: bytes) -> bool:
    if image.format == "PNG":
        return content[_PNG_BIT_DEPTH_BYTE] == 16 and len(image.getbands()) > 1
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]
        return len(bits) > 1 and max(bits) > 8
    return False


def _gray(image: Image.Image) -> npt.NDArray[Any]:
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(255)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("L", "I", "F"):
        return np.asarray(image)
    return np.asarray(image.convert("L"))
