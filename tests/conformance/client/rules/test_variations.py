"""Rules about a right server that is different, with traces written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules.variations import header_names, variations_together
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Judgement
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Outcome, TracedJob
from tests.tracing import JOB, START, Teller

LOWER = {"moves": {"status": [{"move": "header_case", "times": "always"}]}}
GOOD = Outcome("success", START + 1)
BAD = Outcome("failed", START + 1, message="KeyError: 'content-length'")


def judged(
    contract: Contract, outcome: Outcome, scenario: dict[str, Any], plain: Outcome | None = GOOD, **more: Any
) -> Judgement:
    teller = Teller(contract).submit().status(None, status=200, move="header_case")
    trace = teller.trace()
    runs = (replace(trace.runs[0], outcome=outcome),)
    return check(
        header_names, AnnotatedTrace(contract, replace(trace, runs=runs, scenario=scenario, plain=plain, **more))
    )


def test_a_client_that_ends_as_usual_keeps_the_rule(contract: Contract) -> None:
    assert judged(contract, GOOD, LOWER) == Judgement(observed=True)


def test_a_client_that_fails_only_under_the_variation_breaks_the_rule(contract: Contract) -> None:
    (breach,) = judged(contract, BAD, LOWER).breaches
    assert "the server was right: it sends the names of headers in another case (RFC 9110, 5.1)" in breach.message
    assert "KeyError: 'content-length' instead of the video" in breach.message


def test_without_the_plain_run_a_case_without_faults_must_succeed(contract: Contract) -> None:
    assert judged(contract, BAD, LOWER, plain=None).breaches
    assert not judged(contract, BAD, LOWER | {"timeline": {"move": "fail"}}, plain=None).observed


def test_a_crash_is_no_report_about_a_failed_job(contract: Contract) -> None:
    failing = LOWER | {"timeline": {"move": "fail"}}
    usual = Outcome("failed", START + 1, message="Failed: no video")
    assert judged(contract, BAD, failing, usual).breaches
    assert judged(contract, usual, failing, usual) == Judgement(observed=True)
    assert not judged(contract, BAD, failing, BAD).breaches, "it crashes without the variation, too"


@pytest.mark.parametrize("kind", ["timeout", "unfinished"])
def test_a_failure_that_is_understood_only_under_the_variation_is_no_harm(contract: Contract, kind: str) -> None:
    failing = LOWER | {"timeline": {"move": "fail"}}
    usual, told = Outcome(kind, START + 1), Outcome("failed", START + 1, message="Failed: no video")
    job = TracedJob("job-1", START, "failure", billable=False)
    assert judged(contract, told, failing, usual, jobs=(job,)) == Judgement(observed=True)
    assert judged(contract, BAD, failing, usual, jobs=(job,)).breaches, "a crash reports nothing"
    assert judged(contract, told, LOWER, usual, jobs=(replace(job, kind="success"),)).breaches
    assert judged(contract, told, LOWER, usual, jobs=()).breaches


@pytest.mark.parametrize(
    ("scenario", "move"),
    [({}, "header_case"), ({"moves": {"status": [{"move": "framed"}]}}, "framed")],
)
def test_another_scenario_is_not_judged(contract: Contract, scenario: dict[str, Any], move: str) -> None:
    assert not judged(contract, BAD, scenario).observed


def test_several_forms_together_have_a_rule_of_their_own(contract: Contract) -> None:
    both = {"moves": {"status": [{"move": "header_case", "times": "always"}, {"move": "coded", "times": "always"}]}}
    assert not judged(contract, BAD, both).observed, "no rule for one form judges them"
    trace = Teller(contract).submit().status(None, status=200, move="header_case").trace()
    runs = (replace(trace.runs[0], outcome=BAD),)
    story = AnnotatedTrace(contract, replace(trace, runs=runs, scenario=both, plain=GOOD))
    (breach,) = check(variations_together, story).breaches
    assert "RFC 9110, 5.1" in breach.message
    assert "RFC 9110, 8.4.1 and 12.5.3" in breach.message


def test_a_better_end_than_without_the_variation_is_no_breach(contract: Contract) -> None:
    assert judged(contract, GOOD, LOWER, Outcome("failed", START + 1)) == Judgement(observed=True)


def test_other_bytes_and_a_second_job_are_breaches(contract: Contract) -> None:
    job = TracedJob(JOB, START, "success", billable=True, sha256="right")
    right, wrong = replace(GOOD, sha256="right"), replace(GOOD, sha256="wrong")
    assert not judged(contract, right, LOWER, right, jobs=(job,)).breaches
    (breach,) = judged(contract, wrong, LOWER, right, jobs=(job,)).breaches
    assert "other bytes" in breach.message
    (breach,) = judged(contract, right, LOWER, right, jobs=(job, job)).breaches
    assert "submitted 2 jobs" in breach.message
