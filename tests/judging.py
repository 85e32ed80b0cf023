"""Judging traces written by hand by rules for servers, under documented or assumed contracts."""

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
    """Return the contract without assumptions."""
    return replace(contract, assumptions=())


def assuming(contract: Contract, *places: str) -> Contract:
    """Return the contract with an assumption about some places only."""
    return replace(contract, assumptions=(Assumption(places, "the documents do not say"),))


def teller(contract: Contract, model: int = 0) -> Teller:
    """Return a trace writer for the cheapest order of a model."""
    return Teller(contract, order_for(contract, contract.models[model]))


def judged(rule: ServerRule, told: Teller, **more: Any) -> ServerVerdict:
    """Return the verdict on one rule; `more` replaces fields of the trace."""
    (found,) = judge_server(told.contract, replace(told.trace(), **more), [rule])
    return found


def verdict(rule: ServerRule, told: Teller, **more: Any) -> str:
    """Return the verdict on one rule, as a word."""
    return judged(rule, told, **more).verdict


def named(rules: tuple[ServerRule, ...], name: str) -> ServerRule:
    """Return the rule with an id."""
    return next(rule for rule in rules if rule.id == name)
