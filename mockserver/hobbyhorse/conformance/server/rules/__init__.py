"""The rules for servers, one module per family, found by listing this folder."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hobbyhorse.conformance.server.rule import ServerRule


@cache
def server_rules() -> tuple[ServerRule, ...]:
    """Return every rule, sorted by module name, then by number."""
    found: list[ServerRule] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{__name__}.{module.name}").RULES
    return tuple(found)
