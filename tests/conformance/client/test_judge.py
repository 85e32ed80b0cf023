"""Verdicts: silence is not a pass, one violation is enough, and a trace must have the rule's channel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.conformance.client.judge import (
    BROKEN,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    check,
    has_channel,
    judge,
)
from hobbyhorse.conformance.client.rule import CHANNELS, Rule
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Trace
from tests.tracing import Teller


def submissions(trace: AnnotatedTrace) -> list[str] | None:
    """Accuse every submission after the first one; say nothing about a trace without submissions."""
    return [f"request {step.number}" for step in trace.submits[1:]] if trace.submits else None


def rule(channel: str = "wire", applies: bool = True) -> Rule:
    return Rule("XXX-01", "x", "MUST", "S1", channel, "One.", "Two.", submissions, lambda contract: applies)


def verdicts(contract: Contract, one: Rule, *traces: Trace) -> tuple[str, int, int, int]:
    (found,) = judge(contract, traces, [one])
    assert found.rule is one
    return found.verdict, found.observed, found.times_broken, len(found.findings)


def test_a_trace_without_evidence_is_not_a_pass(contract: Contract) -> None:
    silent, kept = Teller(contract).trace(), Teller(contract).submit().trace()
    assert verdicts(contract, rule()) == (NOT_OBSERVED, 0, 0, 0)
    assert verdicts(contract, rule(), silent) == (NOT_OBSERVED, 0, 0, 0)
    assert verdicts(contract, rule(), silent, kept) == (PASSED, 1, 0, 0)


def test_one_violation_outweighs_every_trace_that_keeps_the_rule(contract: Contract) -> None:
    kept, broken = Teller(contract).submit().trace(), Teller(contract).submit().submit().trace()
    assert verdicts(contract, rule(), kept, broken, kept) == (BROKEN, 3, 1, 1)
    (found,) = judge(contract, [kept, broken], [rule()])
    assert found.findings[0].messages == ("request 2",)
    assert found.findings[0].trace is broken
    assert found.findings[0].rule == "XXX-01"


def test_a_rule_that_does_not_apply_is_never_checked(contract: Contract) -> None:
    broken = Teller(contract).submit().submit().trace()
    assert verdicts(contract, rule(applies=False), broken) == (NOT_APPLICABLE, 0, 0, 0)
    assert check(rule(applies=False), AnnotatedTrace(contract, broken)) is None


def test_a_rule_is_not_observed_without_its_channel(contract: Contract) -> None:
    told = Teller(contract).submit().submit()
    recorded = replace(told.trace(), runs=())
    ended = Teller(contract).submit().submit().end("failed").trace()
    resumed = Teller(contract).submit().restart().submit().trace()
    expected = {
        "wire": (True, True, True),
        "outcome": (False, True, False),
        "restart": (False, False, True),
    }
    assert expected.keys() == CHANNELS.keys()
    for channel, found in expected.items():
        assert tuple(has_channel(rule(channel), trace) for trace in (recorded, ended, resumed)) == found
        words = [verdicts(contract, rule(channel), trace)[0] for trace in (recorded, ended, resumed)]
        assert words == [BROKEN if one else NOT_OBSERVED for one in found]


def test_every_rule_is_judged_if_none_is_chosen(contract: Contract) -> None:
    found = judge(contract, [])
    assert [one.rule for one in found] == list(rules())
    assert {one.verdict for one in found} <= {NOT_OBSERVED, NOT_APPLICABLE}


@pytest.mark.parametrize("one", rules(), ids=lambda one: one.id)
def test_no_rule_finds_anything_in_an_empty_trace(one: Rule, contract: Contract) -> None:
    assert not check(one, AnnotatedTrace(contract, Trace(contract.key, "http://127.0.0.1:1")))
