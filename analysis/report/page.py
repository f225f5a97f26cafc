"""HTML of the report from templates; values are escaped unless they are markup."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from eus_ray.analysis.comparison.claims import p_text
from eus_ray.analysis.figures import style
from eus_ray.analysis.labels import DASH
from eus_ray.analysis.measures.thumbnails import jpeg_of_png

_FOLDER = Path(__file__).parent / "templates"
_environment = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def true_minus(text: str) -> str:
    """Return a text in which each negative number has a minus sign, not a hyphen.

    >>> true_minus("-0.03 to -0.01 (trial-2, 2023-118, 1e-05)")
    '−0.03 to −0.01 (trial-2, 2023-118, 1e-05)'
    """
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)


_environment.filters["true_minus"] = true_minus


def render(template: str, **values: Any) -> Markup:
    """Return a template's HTML; a missing value is an error."""
    return Markup(_environment.get_template(template).render(**values))


def verbatim(name: str) -> Markup:
    """Return the text of a style sheet or script, to be put into the page."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def script_source(script: str) -> str:
    """Return an inline script's source for the Content-Security-Policy.

    No other text may run.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def data_uri(data: bytes, mime: str) -> str:
    """Return bytes as a data URI."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def photo_uri(png: bytes) -> str:
    """Return a figure with photographs as a data URI, a JPEG to save space."""
    return data_uri(jpeg_of_png(png), "image/jpeg")


def picture(
    files: dict[str, bytes], name: str, figure: Figure, alt: str, caption: str = "", has_photos: bool = False
) -> dict[str, str]:
    """Add a figure's files to `files`, and return it as a picture for a template.

    Args:
        files: The files of the section, by name.
        name: Name of the figure's files, without folder and suffix.
        figure: The figure.
        alt: The alternative text.
        caption: The caption.
        has_photos: Whether it has photographs, which an SVG would not compress.
    """
    files |= style.files(name, figure)
    svg, png = (files[each] for each in style.names(name))
    src = photo_uri(png) if has_photos else data_uri(svg, "image/svg+xml")
    return {"src": src, "alt": alt, "caption": caption, "inches": f"{figure.get_figwidth():g}"}


def sort_key(value: float) -> str:
    """Return the text that a table's column is sorted by; empty for NaN."""
    return "" if math.isnan(value) else repr(float(value))


def p_cell(p_value: float) -> dict[str, str]:
    """Return a p-value as a table cell; a dash for NaN."""
    text = DASH if math.isnan(p_value) else p_text(p_value).removeprefix("p ").removeprefix("= ")
    return {"text": text, "sort": sort_key(p_value)}
