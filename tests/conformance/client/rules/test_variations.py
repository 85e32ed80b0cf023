"""Rules about a right server that is different, with traces written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules.variations import header_names
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Judgement
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Outcome
from tests.tracing import START, Teller

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


@pytest.mark.parametrize(
    ("scenario", "move"),
    [({}, "header_case"), ({"moves": {"status": [{"move": "framed"}]}}, "framed")],
)
def test_another_scenario_is_not_judged(contract: Contract, scenario: dict[str, Any], move: str) -> None:
    assert not judged(contract, BAD, scenario).observed
