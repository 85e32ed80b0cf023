"""Writes the page from its templates. Every value is escaped unless a template's own code makes it HTML."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hobbyhorse.server.ui import shapes
from hobbyhorse.server.ui.exchanges import pretty
from hobbyhorse.traces.timeline import PALETTE, TIMELINE_STYLE, since

FOLDER = Path(__file__).parent
ASSETS: Mapping[str, str] = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "at": shapes.at,
    "date": shapes.date,
    "ago": shapes.ago,
    "since": since,
    "pretty": pretty,
    # A job's id may have characters that end a path.
    "segment": lambda text: quote(str(text), safe=""),
}
# Compiled when this module is loaded, which happens in a thread: together they take 70 ms.
_TEMPLATES = {path.name: _ENVIRONMENT.get_template(path.name) for path in (FOLDER / "templates").iterdir()}


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a template with values."""
    return _TEMPLATES[template].render(values)


@lru_cache
def asset(name: str) -> bytes:
    """Return a file that the page loads; `name` is a key of ASSETS."""
    content = (FOLDER / "assets" / name).read_text(encoding="utf-8")
    return (PALETTE + TIMELINE_STYLE + content if name == "page.css" else content).encode()
