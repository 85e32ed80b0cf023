"""Judging traces written by hand: by rules for clients, and by rules for servers under assumed contracts."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED, Verdict, check, judge
from hobbyhorse.conformance.rule import MUST, Breach, Judgement, Observed, Rule, examine, rule
from hobbyhorse.conformance.server.rules import server_rules
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.values import Assumption, Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.tracing import Teller

__all__ = [
    "BROKEN",
    "LESSON",
    "NOT_APPLICABLE",
    "NOT_OBSERVED",
    "PASSED",
    "assuming",
    "checked",
    "judged",
    "knowing",
    "messages",
    "rules_of",
    "verdict",
]


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


def rules_of(*modules: ModuleType) -> tuple[Rule, ...]:
    """Return the rules that stand in some modules."""
    return tuple(found for module in modules for found in vars(module).values() if isinstance(found, Rule))


def messages(rule: Rule, trace: AnnotatedTrace) -> list[str] | None:
    """Return the breaches of a rule in words, whether or not it applies; None if its subject did not occur."""
    return _in_words(examine(rule.check(trace)))


def checked(rule: Rule, trace: AnnotatedTrace) -> list[str] | None:
    """Return the breaches of a rule in words; None if it does not apply, or if its subject or channel is missing."""
    return _in_words(check(rule, trace))


def _in_words(judgement: Judgement) -> list[str] | None:
    return [breach.message for breach in judgement.breaches] if judgement.observed else None
