"""Judging traces written by hand by rules for servers, under documented or assumed contracts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict, judge
from hobbyhorse.conformance.rule import MUST, Breach, Observed, Rule, rule
from hobbyhorse.conformance.server.rules import server_rules
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


def family(letters: str) -> tuple[Rule, ...]:
    """Return the server rules of a family."""
    return tuple(one for one in server_rules() if one.family == letters)


def made_up(id: str, *evidence: Observed | Breach, **more: Any) -> Rule:
    """Return a rule whose check yields the given evidence for every trace."""
    fields: dict[str, Any] = {"level": MUST, "severity": "S2", "says": "It holds.", "because": "Why."}
    return rule(id, f"name-{id}", **(fields | more))(lambda trace: iter(evidence))


def judged(rule: Rule, told: Teller, **more: Any) -> Verdict:
    """Return the verdict on one rule; `more` replaces fields of the trace."""
    (found,) = judge(told.contract, [replace(told.trace(), **more)], [rule])
    return found


def verdict(rule: Rule, told: Teller, **more: Any) -> str:
    """Return the verdict on one rule, as a word."""
    return judged(rule, told, **more).verdict


def named(rules: tuple[Rule, ...], name: str) -> Rule:
    """Return the rule with an id."""
    return next(rule for rule in rules if rule.id == name)
