"""The rules for servers, one module per family, found by listing this folder."""

from __future__ import annotations

import sys
from functools import cache

from hobbyhorse.conformance.rule import Rule, rules_in

FAMILIES = {
    "SHA": "shape",
    "LIF": "lifecycle",
    "IDN": "identity",
    "AUT": "authentication",
    "NEG": "negatives",
    "IDM": "idempotency",
    "CNL": "cancel",
    "NTF": "callbacks",
    "RET": "retention",
    "MED": "media",
    "MON": "money",
    "VAL": "values",
    "CAT": "catalogue",
    "PIC": "pictures",
}


@cache
def server_rules() -> tuple[Rule, ...]:
    """Return every rule, sorted by module name, then by number."""
    return rules_in(sys.modules[__name__])


def family_of(rule: Rule) -> str:
    """Return the name of a rule's family; a family without a name keeps its letters."""
    return FAMILIES.get(rule.family, rule.family)
