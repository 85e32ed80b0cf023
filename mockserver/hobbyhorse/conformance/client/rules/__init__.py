"""The rules for clients, one file per family; each file in this folder is found by listing it."""

from __future__ import annotations

import sys
from functools import cache

from hobbyhorse.conformance.rule import Rule, rules_in

# The lifetime of a job: submitted, as ordered, polled, ended, delivered; then the rules about every request.
FAMILY_ORDER = (
    "SUB",
    "ORD",
    "POL",
    "RTY",
    "TMO",
    "CLK",
    "CAN",
    "PER",
    "RES",
    "END",
    "SEC",
    "RED",
    "CBK",
    "SCH",
    "VAR",
    "CON",
)


@cache
def rules() -> tuple[Rule, ...]:
    """Return every rule in the order of FAMILY_ORDER; unknown families come last, by name."""
    return tuple(sorted(rules_in(sys.modules[__name__]), key=lambda rule: (*_place(rule.family), rule.id)))


def _place(family: str) -> tuple[int, str]:
    return (FAMILY_ORDER.index(family) if family in FAMILY_ORDER else len(FAMILY_ORDER), family)
