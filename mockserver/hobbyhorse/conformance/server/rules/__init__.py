"""The rules for servers, one file a family; a file here is found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hobbyhorse.conformance.server.rule import ServerRule


@cache
def server_rules() -> tuple[ServerRule, ...]:
    """Return every rule, by family in the order of the files' names, and by number."""
    found: list[ServerRule] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{__name__}.{module.name}").RULES
    return tuple(found)
