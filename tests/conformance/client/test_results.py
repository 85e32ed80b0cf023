"""The result of a suite: which findings count, and when it is clean."""

from __future__ import annotations

from dataclasses import replace

from hobbyhorse.conformance.client.results import Coverage, Result
from hobbyhorse.conformance.client.rules import rules
from hobbyhorse.conformance.judge import BROKEN, NOT_OBSERVED, PASSED, Verdict

FIRST, SECOND, THIRD, *_ = rules()
VERDICTS = (Verdict(FIRST, BROKEN, 2, 1), Verdict(SECOND, PASSED, 2), Verdict(THIRD, NOT_OBSERVED))
RESULT = Result("provider", "model", "client", 0, VERDICTS, Coverage(1, 2), 3, 0.5)


def test_only_broken_rules_are_findings() -> None:
    assert RESULT.broken == (VERDICTS[0],)
    assert not RESULT.clean


def test_an_accepted_finding_is_not_counted() -> None:
    accepted = replace(RESULT, accepted={FIRST.id: "known"})
    assert accepted.broken == ()
    assert accepted.clean
    assert replace(RESULT, accepted={SECOND.id: "known"}).broken == (VERDICTS[0],)


def test_a_stale_baseline_is_not_clean() -> None:
    clean = replace(RESULT, verdicts=VERDICTS[1:])
    assert clean.clean
    assert not replace(clean, stale=(SECOND.id,)).clean


def test_a_rule_that_was_not_observed_is_not_a_finding() -> None:
    assert replace(RESULT, verdicts=VERDICTS[2:]).clean
