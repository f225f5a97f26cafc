"""HTML from the templates beside this file; every value is escaped unless it is markup already."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eus_ray.analysis.measures.thumbnails import jpeg_of_png

_FOLDER = Path(__file__).parent / "templates"
_environment = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(template: str, **values: Any) -> Markup:
    """A template's HTML. A value that it names and does not get is an error."""
    return Markup(_environment.get_template(template).render(**values))


def verbatim(name: str) -> Markup:
    """The text of a style sheet or script, to stand inside the page."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def script_source(script: str) -> str:
    """What a Content-Security-Policy calls an inline script by its text: no other text runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def data_uri(data: bytes, mime: str) -> str:
    """Bytes as an address that needs no file."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def photo_uri(png: bytes) -> str:
    """A figure with photographs in it as an address: as JPEG, a fraction of its PNG, which lies beside the report."""
    return data_uri(jpeg_of_png(png), "image/jpeg")
