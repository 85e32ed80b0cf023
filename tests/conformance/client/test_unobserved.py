"""Why a rule was not observed, and what would make it observable."""

from __future__ import annotations

import pytest

from hobbyhorse.conformance.client.cases import KILLED, ONCE
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.client.unobserved import Evidence, explained, explained_for
from hobbyhorse.conformance.judge import NOT_OBSERVED, PASSED, Verdict, judge
from hobbyhorse.conformance.rule import Rule
from hobbyhorse.contract.values import Contract
from tests.tracing import Teller

ALL = ("submit", "status", "media", "cancel", "callback")


def rule(id: str) -> Rule:
    return next(one for one in rules() if one.id == id)


@pytest.mark.parametrize(
    ("id", "evidence", "words"),
    [
        ("PER-01", Evidence(ALL, (ONCE,)), "no run was killed: give --resume-command"),
        ("PER-01", Evidence(ALL, (ONCE, KILLED)), "no run led the client to its situation"),
        ("CAN-01", Evidence(("submit", "status"), (ONCE,)), "the client never cancels a job"),
        ("CAN-01", Evidence(ALL, (ONCE,)), "no run led the client to its situation"),
        ("CBK-01", Evidence(("submit", "status"), (ONCE,)), "no callback was sent"),
        ("RES-06", Evidence(("submit", "status"), (ONCE,)), "the client never downloads a video"),
        ("RES-02", Evidence(("submit", "status"), (ONCE,), untried=7), "runs used up"),
        ("SUB-04", Evidence(("run", "status"), (ONCE,)), "no run led the client to its situation"),
        ("POL-04", Evidence(ALL, (ONCE,), untried=7), "runs used up (7 single faults were not tried): raise --runs"),
        ("POL-04", Evidence(ALL, (ONCE,), untried=7, stopped=True), "the suite was stopped"),
    ],
)
def test_a_suite_explains_missing_evidence(id: str, evidence: Evidence, words: str) -> None:
    (one,) = explained([Verdict(rule(id), NOT_OBSERVED)], evidence)
    assert one.why is not None
    assert one.why.startswith(words)


def test_only_rules_without_evidence_are_explained_and_a_known_reason_stays() -> None:
    verdicts = [Verdict(rule("SUB-01"), PASSED, 1), Verdict(rule("SUB-02"), NOT_OBSERVED, why="internal error: x")]
    assert list(explained(verdicts, Evidence(ALL, (ONCE,)))) == verdicts


def test_a_trace_explains_missing_evidence(contract: Contract) -> None:
    story = Teller(contract).submit().story()
    found = {one.rule.id: one.why for one in explained_for(judge(contract, [story.trace], rules()), story)}
    assert (found["TMO-03"] or "").startswith("the trace has no outcome")
    assert (found["PER-01"] or "").startswith("the trace has no restart")
    assert (found["SUB-01"] or "").startswith("the trace does not show its situation")
    if contract.callbacks is not None:
        assert (found["CBK-01"] or "").startswith("no callback was sent")
        called = Teller(contract).submit().callback(next(iter(contract.callbacks.situations))).story()
        found = {one.rule.id: one.why for one in explained_for(judge(contract, [called.trace], rules()), called)}
        assert (found["CBK-02"] or "").startswith("the trace does not show its situation")
