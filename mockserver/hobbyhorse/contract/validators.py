"""The package of JSON Schema validators, loaded on first use. No HTTP, no file access."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def validators() -> Any:
    """Return the module `jsonschema_rs`."""
    import jsonschema_rs  # noqa: PLC0415 - delays readiness by 19 ms; the project's own contracts load without it

    return jsonschema_rs
