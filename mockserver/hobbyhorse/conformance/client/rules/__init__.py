"""The rules for clients, one file a family; a file here is found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hobbyhorse.conformance.client.rule import Rule

FAMILY_ORDER = ("SUB", "POL", "RTY", "TMO", "CAN", "PER", "RES", "SEC", "CBK", "SCH", "CON")


@cache
def rules() -> tuple[Rule, ...]:
    """Return every rule: orders first, then what follows them, families that this order does not know at the end."""
    found: list[Rule] = []
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").RULES
    return tuple(sorted(found, key=lambda rule: (*_place(rule.family), rule.id)))


def _place(family: str) -> tuple[int, str]:
    return (FAMILY_ORDER.index(family) if family in FAMILY_ORDER else len(FAMILY_ORDER), family)
