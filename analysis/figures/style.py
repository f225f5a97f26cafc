"""Style of all figures: one palette, and equal files from equal numbers.

Colours are Okabe and Ito's, which colour-blind readers can tell apart. Lines also differ in their dashes, so they can
be told apart in gray.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from eus_ray.analysis.figures import fonts

MODEL_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
"""Colours on white, by model."""
OUTLINE_COLOURS = ("#56b4e9", "#e69f00", "#2fd6a3", "#f29ccb", "#8fa8ff", "#ff8a4c")
"""The same hues, light enough to be seen on ultrasound; the truth is white."""
TRUTH_COLOUR = "#ffffff"
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1.2, 1.2), (6, 1.5, 1.2, 1.5), (8, 2), (3, 1, 1, 1, 1, 1))
INK, GRID = "#1b2733", "#d5dbe1"

PAGE_WIDTH_INCHES = 7.1
"""Two columns of a journal."""

_STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#5c6b78",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "text.parse_math": False,  # a name may contain a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.3,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "figure.dpi": 100,
    "svg.hashsalt": "eus-ray",
    "path.simplify": True,
}
MOST_VECTOR_DOTS = 3000
"""A figure with more dots has them as an image: each would be some hundred bytes of an SVG."""
_PNG_DPI = 200
_MAX_NAME_LENGTH = 30
_families: ContextVar[tuple[str, ...]] = ContextVar("families", default=(fonts.FAMILY,))


@contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Draw all figures inside with fonts that have the letters of these texts, as far as such are installed."""
    token = _families.set(fonts.families(texts))
    try:
        yield
    finally:
        _families.reset(token)


@contextmanager
def styled() -> Iterator[None]:
    """Draw with this style, whatever the caller's own matplotlib settings are."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the report says which letters have no font
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE | {"font.family": list(_families.get())})  # type: ignore[arg-type]
        yield


def new_figure(height_inches: float, width_inches: float = PAGE_WIDTH_INCHES) -> Figure:
    """Return a new figure without window or global state: nothing has to be closed."""
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def files(name: str, figure: Figure) -> dict[str, bytes]:
    """Return the SVG and PNG file of a figure by name; equal figures give equal bytes."""
    svg, png = io.BytesIO(), io.BytesIO()
    with styled():
        figure.draw_without_rendering()  # one layout only: another would move axes by rounding
        figure.set_layout_engine("none")
        has_image_of_dots = any(artist.get_rasterized() for artist in figure.findobj())
        dpi = _PNG_DPI if has_image_of_dots else "figure"  # photographs keep their own pixels
        figure.savefig(svg, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=_PNG_DPI, metadata={"Software": None})
    return dict(zip(names(name), (svg.getvalue(), png.getvalue()), strict=True))


def names(name: str) -> tuple[str, str]:
    """Return a figure's SVG and PNG file name, relative to the report."""
    return f"figures/{name}.svg", f"figures/{name}.png"


def shortened(text: str, max_length: int) -> str:
    """Shorten a text to `max_length` characters; an ellipsis replaces the rest."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def fitted(name: str) -> str:
    """Replace the middle of a long name by an ellipsis: the whole would leave a figure no room.

    >>> fitted("U-Net"), fitted("nnunet_of_all_centres_without_augmentation_seed_1")
    ('U-Net', 'nnunet_of_all_centr…ion_seed_1')
    """
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 11]}…{name[-10:]}"


def model_colour(place: int) -> str:
    """Return the colour of the model at this place."""
    return MODEL_COLOURS[place % len(MODEL_COLOURS)]


def outline_colour(place: int) -> str:
    """Return the outline colour of the model at this place."""
    return OUTLINE_COLOURS[place % len(OUTLINE_COLOURS)]


def dashes(place: int) -> Any:
    """Return matplotlib's line style of the model or fold at this place."""
    return (0.0, DASHES[place % len(DASHES)] or None)
