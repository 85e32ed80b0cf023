"""The rules for clients, one file per family; each file in this folder is found by listing it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hobbyhorse.conformance.client.rule import Rule

# The life of a job: submitted, polled, ended, delivered; then the rules about every request.
FAMILY_ORDER = ("SUB", "POL", "RTY", "TMO", "CAN", "PER", "RES", "SEC", "CBK", "SCH", "CON")


@cache
def rules() -> tuple[Rule, ...]:
    """Return every rule in the order of FAMILY_ORDER; unknown families come last, by name."""
    found: list[Rule] = []
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").RULES
    return tuple(sorted(found, key=lambda rule: (*_place(rule.family), rule.id)))


def _place(family: str) -> tuple[int, str]:
    return (FAMILY_ORDER.index(family) if family in FAMILY_ORDER else len(FAMILY_ORDER), family)
