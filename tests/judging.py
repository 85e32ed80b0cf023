"""What a rule for servers says of a trace told by hand, under contracts that know or only assume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hobbyhorse.conformance.client.judge import BROKEN, NOT_APPLICABLE, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rule import LESSON, ServerRule, ServerVerdict, judge_server
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.values import Assumption, Contract
from tests.tracing import Teller

__all__ = ["BROKEN", "LESSON", "NOT_APPLICABLE", "NOT_OBSERVED", "PASSED", "assuming", "judged", "knowing", "verdict"]


def knowing(contract: Contract) -> Contract:
    """Return a contract of which everything is documented."""
    return replace(contract, assumptions=())


def assuming(contract: Contract, *places: str) -> Contract:
    """Return a contract of which some places are assumed, and nothing else is."""
    return replace(contract, assumptions=(Assumption(places, "nobody says so"),))


def teller(contract: Contract, model: int = 0) -> Teller:
    """Return a teller of what becomes of the cheapest order of a model."""
    return Teller(contract, order_for(contract, contract.models[model]))


def judged(rule: ServerRule, told: Teller, **more: Any) -> ServerVerdict:
    """Return the verdict on one rule; `more` is what the trace has besides."""
    (found,) = judge_server(told.contract, replace(told.trace(), **more), [rule])
    return found


def verdict(rule: ServerRule, told: Teller, **more: Any) -> str:
    """Return the verdict on one rule, as a word."""
    return judged(rule, told, **more).verdict


def named(rules: tuple[ServerRule, ...], name: str) -> ServerRule:
    """Return the rule of an id."""
    return next(rule for rule in rules if rule.id == name)
