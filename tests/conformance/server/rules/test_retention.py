"""The server rules about retention, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.server.rules.retention import JOB as KEPT
from hobbyhorse.conformance.server.rules.retention import LIFE
from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.judging import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    assuming,
    family,
    judged,
    knowing,
    teller,
    verdict,
)
from tests.tracing import START, Teller

RULES = family("RET")
READABLE, REFUSED, STATUS = RULES
DAY = 86_400.0
limited = contracts_that(lambda contract: contract.retention.result_url is not None)
unlimited = contracts_that(lambda contract: contract.retention.result_url is None)
telling = contracts_that(lambda contract: "expires_at" in contract.operations["status"].bindings)


def role(contract: Contract) -> str:
    """Return the operation that delivers the video."""
    return "result" if "result" in contract.operations else "status"


def answer(contract: Contract, kind: str = "success") -> str:
    situations = contract.operations[role(contract)].situations.values()
    return next(one.name for one in situations if {contract.graph[name].kind for name in one.stages} == {kind})


def written(told: Teller, **moments: float) -> Teller:
    """Write timestamps into the last response."""
    operation = told.contract.operations[told.exchanges[-1].role or ""]
    last = told.exchanges[-1]
    body = orjson.loads(last.answer)
    for name, moment in moments.items():
        binding = operation.bindings.get(name)
        for place in binding.response if binding else ():
            if binding and resolve(body, place.pointer[:-1]) is not None:
                body = replaced(body, place.pointer, FORMATS[binding.format or "unix"].write(moment))
    told.exchanges[-1] = replace(last, answer=orjson.dumps(body))
    return told


def done(contract: Contract, life: float | None = None, **how: Any) -> Teller:
    """Add a submission and its end a minute later; the link lives as documented, or for `life` seconds."""
    told = teller(contract).submit().wait(60)
    ends = told.now
    told.call(role(contract), answer(contract), **how)
    life = contract.retention.result_url if life is None else life
    expires = {} if life is None else {"expires_at": ends + life}
    return written(told, created_at=START, finished_at=ends, started_at=START + 5, **expires)


def test_a_submission_alone_shows_nothing(contract: Contract) -> None:
    words = {verdict(rule, teller(contract).submit()) for rule in RULES}
    assert words <= {NOT_OBSERVED, NOT_APPLICABLE}


def test_a_link_works_until_it_expires(contract: Contract) -> None:
    assert verdict(READABLE, done(contract)) == NOT_OBSERVED
    assert verdict(READABLE, done(contract).media()) == PASSED
    assert verdict(READABLE, done(contract).media(206)) == PASSED


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_link_that_is_refused_too_early(contract: Contract, status: int) -> None:
    assert verdict(READABLE, done(knowing(contract)).wait(3600).media(status)) == BROKEN
    assert verdict(READABLE, done(knowing(contract)).media(503)) == NOT_OBSERVED
    keyed = (("authorization", "Bearer [key]"),)
    assert verdict(READABLE, done(knowing(contract)).media(status, headers=keyed)) == NOT_OBSERVED
    other = done(knowing(contract))
    assert verdict(READABLE, other.media(status, url=other.video + "?signature=changed")) == NOT_OBSERVED
    assert verdict(READABLE, done(knowing(contract)).media(status, method="HEAD")) == NOT_OBSERVED


def test_a_request_that_shows_nothing_does_not_hide_a_link_that_is_refused_later(contract: Contract) -> None:
    told = done(knowing(contract))
    assert verdict(READABLE, told.nothing("media", url=told.video).media(403)) == BROKEN


def test_how_long_a_link_works_may_be_assumed(contract: Contract) -> None:
    told = "expires_at" in contract.operations[role(contract)].bindings
    place = f"lifecycle.json#/operations/{role(contract)}/bindings" if told else "lifecycle.json#/retention"
    assert verdict(READABLE, done(assuming(contract, place)).media(403)) == LESSON


@limited
def test_a_link_that_has_expired_is_refused(contract: Contract) -> None:
    life = contract.retention.result_url
    assert life is not None
    assert verdict(REFUSED, done(contract).media()) == NOT_OBSERVED
    assert verdict(REFUSED, done(contract).wait(life + 3600).media(403)) == PASSED
    assert verdict(READABLE, done(contract).wait(life + 3600).media(403)) == NOT_OBSERVED
    assert verdict(REFUSED, done(knowing(contract)).wait(life + 3600).media()) == BROKEN
    assert verdict(REFUSED, done(contract).wait(life + 3600).media(503)) == NOT_OBSERVED
    places = (LIFE, f"lifecycle.json#/operations/{role(contract)}/bindings")
    assert verdict(REFUSED, done(assuming(contract, *places)).wait(life + 3600).media()) == LESSON


@limited
def test_nothing_is_judged_while_the_two_clocks_may_differ(contract: Contract) -> None:
    life = contract.retention.result_url
    assert life is not None
    for status in (200, 403):
        told = done(knowing(contract)).wait(life).media(status)
        assert {verdict(READABLE, told), verdict(REFUSED, told)} == {NOT_OBSERVED}


@telling
@pytest.mark.parametrize("ahead", [-20.0, 0.0, 20.0])
def test_a_clock_that_is_wrong_is_no_fault(contract: Contract, ahead: float) -> None:
    life = contract.retention.result_url
    assert life is not None

    def shifted() -> Teller:
        told = done(knowing(contract))
        ends = told.now
        return written(told, created_at=START + ahead, finished_at=ends + ahead, expires_at=ends + ahead + life)

    assert verdict(REFUSED, shifted().wait(life + 0.5).media()) == NOT_OBSERVED
    assert verdict(READABLE, shifted().wait(life + 0.5).media(403)) == NOT_OBSERVED
    assert verdict(REFUSED, shifted().wait(life + 30).media()) == BROKEN
    assert verdict(READABLE, shifted().wait(life - 30).media(403)) == BROKEN


@unlimited
def test_a_link_that_never_expires_is_not_to_be_refused(contract: Contract) -> None:
    assert verdict(REFUSED, done(contract).wait(9 * DAY).media()) == NOT_APPLICABLE
    assert verdict(READABLE, done(knowing(contract)).wait(9 * DAY).media(403)) == BROKEN
    assert verdict(READABLE, done(assuming(contract, LIFE)).wait(9 * DAY).media(403)) == LESSON


@telling
def test_a_link_lives_as_long_as_the_contract_says(contract: Contract) -> None:
    assert verdict(READABLE, done(knowing(contract), life=DAY)) == BROKEN
    found = judged(READABLE, done(assuming(contract, LIFE), life=DAY))
    assert found.verdict == LESSON
    assert found.lessons[0].patch[0]["value"] == DAY
    assert verdict(REFUSED, done(knowing(contract), life=DAY)) == NOT_OBSERVED


@telling
def test_a_link_lives_no_longer_than_the_contract_says(contract: Contract) -> None:
    assert verdict(READABLE, done(knowing(contract), life=DAY * 30)) == NOT_OBSERVED
    assert verdict(REFUSED, done(knowing(contract), life=DAY * 30)) == BROKEN
    found = judged(REFUSED, done(assuming(contract, LIFE), life=DAY * 30))
    assert found.verdict == LESSON
    assert found.lessons[0].patch[0]["value"] == DAY * 30


def test_a_job_that_has_ended_can_be_read(contract: Contract) -> None:
    told = done(knowing(contract))
    assert verdict(STATUS, told) == NOT_OBSERVED
    assert verdict(STATUS, done(contract).wait(DAY).call(role(contract), answer(contract))) == PASSED
    gone = told.wait(DAY).call(role(contract), None, status=404)
    assert verdict(STATUS, gone) == BROKEN
    gone.contract = assuming(contract, KEPT)
    assert verdict(STATUS, gone) == LESSON
    gone.contract = replace(contract, retention=replace(contract.retention, job=3600.0))
    assert verdict(STATUS, gone) == NOT_OBSERVED


def test_a_job_cannot_be_read_by_another_account(contract: Contract) -> None:
    for headers in ((), (("authorization", "Bearer another"),), (("authorization", "[redacted]"),)):
        told = done(knowing(contract)).call(role(contract), None, status=404, headers=headers)
        assert verdict(STATUS, told) == NOT_OBSERVED
