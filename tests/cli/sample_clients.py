"""A client that keeps every rule, and one that breaks a rule, as options of `hobbyhorse conformance`."""

from __future__ import annotations

from tests.broken_clients.mutants import EXAMPLES, MUTANTS
from tests.conftest import CONTRACTS

HIAPI = next(contract for contract in CONTRACTS if contract.key == "hiapi")
PROVIDER = ("--provider", "hiapi")
KEEPS = ("--python", f"{EXAMPLES / 'hiapi.py'}:generate")
BREAKS = next(one for one in MUTANTS if (one.rule, one.client, one.kind) == ("SUB-02", "hiapi", "python"))
LOST_RESPONSE = {"moves": {"submit": [{"move": "accept_then_drop"}]}}
