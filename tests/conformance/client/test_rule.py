"""Rules: what their fields may be, and checks of each order separately."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from hobbyhorse.conformance.client.rule import CHANNELS, SEVERITIES, Rule, always, each_order
from hobbyhorse.conformance.client.rules import FAMILY_ORDER, rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from tests.tracing import Teller


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_each_rule_has_a_sentence_a_reason_and_known_classes(rule: Rule) -> None:
    assert re.fullmatch(r"[A-Z]{3}-\d\d", rule.id)
    assert rule.family == rule.id[:3]
    assert rule.family in FAMILY_ORDER
    assert rule.level in ("MUST", "SHOULD")
    assert rule.severity in SEVERITIES
    assert rule.channel in CHANNELS
    assert rule.statement.endswith(".")
    assert rule.why.endswith(".")
    assert re.search(r"[\w.-]+/[\w.-]+#\d+", rule.why), "the reason names no issue"


def test_ids_and_names_are_unique_and_families_are_in_order() -> None:
    assert set(Counter(rule.id for rule in rules()).values()) == {1}
    assert set(Counter(rule.name for rule in rules()).values()) == {1}
    families = list(dict.fromkeys(rule.family for rule in rules()))
    assert families == list(FAMILY_ORDER)


def test_a_rule_applies_to_every_contract_unless_it_says_otherwise(contract: Contract) -> None:
    assert always(contract)
    assert Rule("XXX-01", "x", "MUST", "S1", "wire", "One.", "Two.", lambda trace: None).applies is always


def numbers(trace: AnnotatedTrace) -> list[str] | None:
    """Return the numbers of the submissions of an order whose first one was accepted; None for other orders."""
    return [str(step.number) for step in trace.submits] if trace.submits and trace.submits[0].accepted else None


def test_each_order_is_checked_separately_and_orders_without_evidence_are_left_out(contract: Contract) -> None:
    check = each_order(numbers)
    two = Teller(contract, {"n": 1}).submit(job="one").again({"n": 2}).submit(job="two").story()
    assert [len(part.submits) for part in two.by_order] == [1, 1]
    assert check(two) == ["1", "2"]
    one = Teller(contract, {"n": 1}).submit(job="one").again({"n": 2}).submit(None, status=422, job=None).story()
    assert check(one) == ["1"]
    assert check(Teller(contract).submit(None, status=422, job=None).story()) is None


def test_a_check_of_each_order_keeps_its_name_and_docstring() -> None:
    check = each_order(numbers)
    assert (check.__name__, check.__doc__) == ("numbers", numbers.__doc__)
