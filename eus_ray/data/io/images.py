"""Picture files, decoded whole: a file cut short is an error, never a half-gray picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

UInt8 = npt.NDArray[np.uint8]

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
_PNG_END = b"IEND\xaeB\x60\x82"
_JPEG_START = b"\xff\xd8\xff"


class NoMaskError(ValueError):
    """The values are not those of a mask."""


def decode(content: bytes) -> npt.NDArray[Any]:
    """The gray values `(H, W)` of a PNG, JPEG, TIFF or BMP file, as deep as the file has them.

    uint8 where the file has 8 bits or fewer (1-bit: 0 and 255), else uint16, int32 or float32. Colour is
    made gray (ITU-R 601), transparency is ignored, pixels are taken as stored (no EXIF rotation).
    Raises ValueError with the reason, worded to follow a file's name.
    """
    return _decode(content).gray


def decode_mask(content: bytes) -> UInt8:
    """A mask file as `(H, W)` uint8 of 0 and 1.

    A mask has 0 and one other value. All 0 is the empty mask (no lesion); one other value everywhere
    is a lesion that fills the frame. Raises ValueError with the reason.
    """
    return (decode_two_values(content) != 0).astype(np.uint8)


def decode_two_values(content: bytes) -> npt.NDArray[Any]:
    """A mask file as its gray values `(H, W)`: 0 and one other. Raises ValueError with the reason.

    Colours whose gray is one and the same, as a dark one's and black's, are not taken for one value.
    """
    picture = _decode(_lossless(content))
    lesion_value(picture.gray)
    if picture.mixes_colours():
        raise ValueError(
            "has colours that are equal in gray, such as a dark one and black; save it as gray PNG, 0 and 255"
        )
    alpha = picture.alpha
    if picture.gray.min() == picture.gray.max() and alpha is not None and alpha.min() != alpha.max():
        raise ValueError("has its shape in the transparency channel; save it as gray PNG, 0 and 255")
    return picture.gray


def decode_labels(content: bytes) -> npt.NDArray[Any]:
    """A file of label values `(H, W)` as stored: a palette file's indices, not its colours.

    Raises ValueError with the reason; colours that are not gray are one, for they are no labels.
    """
    picture = _decode(_lossless(content))
    return picture.gray_as_stored() if picture.indices is None else picture.indices


def decode_levels(content: bytes) -> npt.NDArray[Any]:
    """A map of levels `(H, W)`, such as probabilities, in its own depth.

    Raises ValueError with the reason; colours that are not gray are one, for they have no order.
    """
    return _decode(_lossless(content)).gray_as_stored()


def lesion_value(values: npt.NDArray[Any]) -> float:
    """The one value besides 0 that a mask `(H, W)` holds; 0 where there is none. Raises NoMaskError."""
    top = values.max()
    if np.count_nonzero(values) == (np.count_nonzero(values == top) if top else 0):
        return float(top)
    found = np.unique(values)
    if len(found) > 2:
        raise NoMaskError(f"is not a mask: it has {len(found)} gray values; a mask has 0 and one other value")
    raise NoMaskError(f"is not a mask: it has the values {found[0]} and {found[1]}; the background must be 0")


@dataclass(frozen=True)
class _Picture:
    """What a file holds, each `(H, W)`."""

    gray: npt.NDArray[Any]
    alpha: UInt8 | None
    colour: npt.NDArray[Any] | None
    """`(H, W, 3)` where the file has colours, be they gray ones."""
    indices: UInt8 | None
    """Of a palette file."""

    def mixes_colours(self) -> bool:
        """Whether pixels of one gray value have several colours, or places in a palette, or colours are as black."""
        for value in np.unique(self.gray):
            inside = self.gray == value
            for layer in (self.colour, self.indices):
                if layer is not None and (layer[inside] != layer[inside][0]).any():
                    return True
        return self.colour is not None and bool(self.colour[self.gray == 0].any())

    def gray_as_stored(self) -> npt.NDArray[Any]:
        """Gray values that no mixing of colours made. Raises ValueError where there are colours."""
        if self.colour is not None and (self.colour != self.colour[..., :1]).any():
            raise ValueError("is a colour image, and what a colour means is not known; save its values as gray PNG")
        return self.gray


def _lossless(content: bytes) -> bytes:
    if content.startswith(_JPEG_START):
        raise ValueError("is a JPEG, which blurs a mask's values; save masks as PNG")
    return content


def _decode(content: bytes) -> _Picture:
    if not content:
        raise ValueError("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            pages = getattr(picture, "n_frames", 1)
            deep_colour = _has_deep_colour(picture, content)
            picture.load()
            gray = _gray(picture)
            alpha = np.asarray(picture.getchannel("A")) if "A" in picture.getbands() else None
            indices = np.asarray(picture) if picture.mode == "P" else None
            colour = None
            if picture.mode not in ("1", "L", "LA", "I", "F") and not picture.mode.startswith("I;16"):
                colour = np.asarray(picture.convert("RGB"))
            whole = picture.format != "PNG" or _PNG_END in content
    except UnidentifiedImageError:
        raise ValueError("is not a PNG, JPEG, TIFF or BMP image, or its beginning is damaged") from None
    except Exception as error:  # decoders raise anything from OSError to struct.error on damaged files
        raise ValueError(f"is damaged or cut short ({error})") from None
    if pages > 1:
        raise ValueError(f"holds {pages} pages; save each picture as a file of its own")
    if not whole:
        raise ValueError("is damaged or cut short (its end is missing)")
    if deep_colour:  # Pillow reads these with 8 bits
        stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.ndim != 3:
            raise ValueError("is a 16-bit colour image that cannot be decoded; save it as 16-bit gray")
        colour = np.ascontiguousarray(stored[..., :3])
        gray = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    if gray.dtype.kind == "f" and not np.isfinite(gray).all():
        raise ValueError("has gray values that are not finite")
    return _Picture(gray, alpha, colour, indices)


def _has_deep_colour(picture: Image.Image, content: bytes) -> bool:
    if picture.format == "PNG":
        return content[24] == 16 and len(picture.getbands()) > 1  # IHDR: the bit depth is byte 24
    if picture.format == "TIFF":
        bits = picture.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return len(bits) > 1 and max(bits) > 8
    return False


def _gray(picture: Image.Image) -> npt.NDArray[Any]:
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8) * np.uint8(255)
    if picture.mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16)
    if picture.mode in ("L", "I", "F"):
        return np.asarray(picture)
    return np.asarray(picture.convert("L"))
