"""A local stand-in for asynchronous video-generation providers, and the suite that tests their contract."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hobbyhorse.runners.client_suite import client_suite as client_suite
    from hobbyhorse.testing.local import MockServer as MockServer
    from hobbyhorse.testing.local import MockWorld as MockWorld

__all__ = ["MockServer", "MockWorld", "client_suite"]
_HOMES = {"client_suite": "hobbyhorse.runners.client_suite"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that the command line does not wait for all of them."""
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "hobbyhorse.testing.local")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
