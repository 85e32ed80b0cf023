"""Rules about a right server that is different, with traces written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.client.rules.variations import (
    advisory_file_name,
    error_shape,
    file_boxes,
    header_names,
    not_modified,
    odd_retry_after,
    opaque_id,
    variations_together,
)
from hobbyhorse.conformance.judge import check
from hobbyhorse.conformance.rule import Judgement
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.faults.download import DISPOSITIONS
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


def test_without_a_job_a_client_may_know_it_or_not(contract: Contract) -> None:
    failed, unknown = (
        Outcome("failed", START + 1, message="Failed: 425"),
        Outcome("error", START + 1, message="Lost: 500"),
    )
    job = TracedJob("job-1", START, "success", billable=True)
    for one, plain in ((failed, unknown), (unknown, failed)):
        assert judged(contract, one, LOWER, plain, jobs=()) == Judgement(observed=True)
        assert judged(contract, one, LOWER, plain, jobs=(job,)).breaches
        assert judged(contract, one, LOWER, plain, jobs=None).breaches
    assert judged(contract, BAD, LOWER, unknown, jobs=()).breaches, "a crash reports nothing"


def test_other_bytes_and_a_second_job_are_breaches(contract: Contract) -> None:
    job = TracedJob(JOB, START, "success", billable=True, sha256="right")
    right, wrong = replace(GOOD, sha256="right"), replace(GOOD, sha256="wrong")
    assert not judged(contract, right, LOWER, right, jobs=(job,)).breaches
    (breach,) = judged(contract, wrong, LOWER, right, jobs=(job,)).breaches
    assert "other bytes" in breach.message
    (breach,) = judged(contract, right, LOWER, right, jobs=(job, job)).breaches
    assert "submitted 2 jobs" in breach.message


def seen(told: Teller, scenario: dict[str, Any], outcome: Outcome, **more: Any) -> AnnotatedTrace:
    """Return the annotated trace of a run under variations."""
    trace = told.trace()
    runs = (replace(trace.runs[0], outcome=outcome),)
    return AnnotatedTrace(told.contract, replace(trace, runs=runs, scenario=scenario, **more))


def test_an_opaque_id_is_met_by_the_response_that_has_it(contract: Contract) -> None:
    scenario = {"timeline": {"move": "opaque_id"}}
    lost = Outcome("timeout", START + 1, message="timed out")
    story = seen(Teller(contract).submit(), scenario, lost, plain=GOOD)
    assert len(check(opaque_id, story).breaches) == 1
    refused = Teller(contract).submit(None, job=None, status=503)
    assert not check(opaque_id, seen(refused, scenario, lost, plain=GOOD)).observed


def test_the_boxes_of_a_file_are_judged_by_clients_that_fetch_it(contract: Contract) -> None:
    scenario = {"timeline": {"move": "file_boxes"}}
    lost = Outcome("failed", START + 1, message="not an MP4")
    (breach,) = check(file_boxes, seen(Teller(contract).submit().media(), scenario, lost, plain=GOOD)).breaches
    assert "ISO/IEC 14496-12, 4.2" in breach.message
    assert not check(file_boxes, seen(Teller(contract).submit(), scenario, lost, plain=GOOD)).observed


def test_without_a_wait_that_it_cannot_read_a_client_may_give_up_earlier(contract: Contract) -> None:
    limit = next(name for name, one in contract.operations["status"].situations.items() if one.status == 429)
    scenario = {
        "moves": {"status": [{"move": limit, "retry_after_odd": "word", "retry_after": 120, "times": "always"}]}
    }
    told = Teller(contract).submit().status(None, status=429, move=limit)
    late, lost = Outcome("timeout", START + 600), Outcome("error", START + 90, message="Lost: too many failures")
    assert not check(odd_retry_after, seen(told, scenario, lost, plain=late)).breaches
    for plain, bad in ((GOOD, lost), (late, BAD)):
        assert check(odd_retry_after, seen(told, scenario, bad, plain=plain)).breaches


WILD = {"moves": {"status": [{"move": "error_type"}]}, "timeline": {"move": "fail"}}
USUAL = Outcome("failed", START + 1, message="Failed: no video")


@pytest.mark.parametrize(
    ("message", "count"),
    [
        ("TypeError: can only concatenate str", 1),
        ("AttributeError: 'list' object has no attribute 'get'", 1),
        ("ValidationError: error.code should be a string", 0),
        ("Failed: something else", 0),
    ],
)
def test_an_error_of_an_undocumented_type_may_be_refused_on_purpose(
    contract: Contract, message: str, count: int
) -> None:
    told = Teller(contract).submit().status(None, status=200, move="error_type")
    judgement = check(error_shape, seen(told, WILD, replace(USUAL, message=message), plain=USUAL))
    assert (judgement.observed, len(judgement.breaches)) == (True, count)


def test_an_error_of_an_undocumented_type_may_be_read_as_no_response(contract: Contract) -> None:
    told = Teller(contract).submit().status(None, status=200, move="error_type")
    assert not check(error_shape, seen(told, WILD, Outcome("timeout", START + 1), plain=USUAL)).observed


@pytest.mark.parametrize(("name", "observed"), [("parent", False), ("absolute", False), ("long", True)])
def test_a_name_in_another_folder_is_left_to_its_own_rule(contract: Contract, name: str, observed: bool) -> None:
    header = (("content-disposition", DISPOSITIONS[name]),)
    told = Teller(contract).submit().media(answer_headers=header, move="file_name")
    scenario = {"moves": {"media": [{"move": "file_name", "saved_name": name, "times": "always"}]}}
    judgement = check(advisory_file_name, seen(told, scenario, BAD, plain=GOOD))
    assert (judgement.observed, bool(judgement.breaches)) == (observed, observed)


def test_only_a_client_that_gets_304_shows_what_it_makes_of_it(contract: Contract) -> None:
    scenario = {"moves": {"status": [{"move": "entity_tag", "times": "always"}]}}
    told = Teller(contract).submit().status(None, status=200, move="entity_tag")
    assert not check(not_modified, seen(told, scenario, BAD, plain=GOOD)).observed
    told.status(None, status=304, move="entity_tag")
    assert check(not_modified, seen(told, scenario, BAD, plain=GOOD)).breaches
    assert check(not_modified, seen(told, scenario, GOOD, plain=GOOD)) == Judgement(observed=True)
