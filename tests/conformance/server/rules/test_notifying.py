"""The server rules about callbacks, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.server.receiver import ELSEWHERE
from hobbyhorse.conformance.server.rules.notifying import PLACE
from hobbyhorse.conformance.server.session import with_callback
from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.forms.signatures import sign
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
from tests.tracing import JOB, MEDIA, START, Teller

RULES = family("NTF")
SCHEMA, SIGNED, SAME, RETRIED, ONCE, READABLE, REASON, GROWING, REQUESTED = RULES
SECRET = "whsec_" + base64.b64encode(b"a secret of ours").decode()
calling = contracts_that(lambda contract: contract.callbacks is not None)
silent = contracts_that(lambda contract: contract.callbacks is None)


def ending(contract: Contract, kind: str = "success") -> str:
    """Return the name of the callback situation for an end."""
    assert contract.callbacks is not None
    situations = contract.callbacks.situations.values()
    return next(one.name for one in situations if {contract.graph[name].kind for name in one.stages} == {kind})


def polled(contract: Contract, kind: str = "success") -> str:
    """Return the status situation for a kind of stage."""
    situations = contract.operations["status"].situations.values()
    return next(one.name for one in situations if {contract.graph[name].kind for name in one.stages} == {kind})


def told(contract: Contract, kind: str = "success", **how: Any) -> Teller:
    """Add a submission and its final callback."""
    return callback(teller(contract).submit(**how).wait(60), kind)


def callback(annotated: Teller, kind: str = "success", status: int | None = 200, job: str = JOB, **how: Any) -> Teller:
    """Add a callback that has only the known values of the example."""
    assert annotated.contract.callbacks is not None
    name = ending(annotated.contract, kind)
    values = {"job": job, "video_url": annotated.video}
    body = annotated.contract.callbacks.situations[name].template.write(lambda one: values.get(one, MISSING))
    return annotated.callback(name, status, job, body=body, **how)


def after(annotated: Teller, situation: str | None, seconds: float = 1.0, **how: Any) -> Teller:
    """Add a poll a little later."""
    return annotated.wait(seconds).status(situation, **how)


def sealed(annotated: Teller, key: str = SECRET, body: bytes | None = None, late: float = 0.0, **how: Any) -> Teller:
    """Sign the last callback."""
    last = annotated.deliveries[-1]
    assert annotated.contract.callbacks is not None
    assert annotated.contract.callbacks.signature is not None
    signature = replace(annotated.contract.callbacks.signature, **how)
    moment = int(last.sent - late)
    headers = sign(signature, key, last.body if body is None else body, timestamp=moment, message_id="msg-1")
    written = tuple((name.lower(), value) for name, value in headers.items())
    annotated.deliveries[-1] = replace(last, headers=(*last.headers, *written))
    return annotated


def changed(annotated: Teller, **members: Any) -> Teller:
    """Change the last callback's body."""
    last = annotated.deliveries[-1]
    annotated.deliveries[-1] = replace(last, body=orjson.dumps(orjson.loads(last.body) | members))
    return annotated


@silent
def test_callback_rules_do_not_apply_to_a_provider_without_callbacks(contract: Contract) -> None:
    assert {verdict(rule, teller(contract).submit()) for rule in RULES} == {NOT_APPLICABLE}


@calling
def test_a_submission_without_a_callback_shows_nothing(contract: Contract) -> None:
    applicable = [rule for rule in RULES if rule.applies(contract)]
    assert {verdict(rule, teller(contract).submit(), secret=SECRET) for rule in applicable} == {NOT_OBSERVED}


@calling
@pytest.mark.parametrize("kind", ["success", "failure"])
def test_a_documented_callback_breaks_no_rule(contract: Contract, kind: str) -> None:
    annotated = after(sealed(told(contract, kind)), polled(contract, kind)).wait(100_000)
    found = [verdict(rule, annotated, secret=SECRET) for rule in RULES[:7]]
    assert found == [PASSED] * 3 + [NOT_OBSERVED] + [PASSED] * 2 + [PASSED if kind == "failure" else NOT_OBSERVED]
    assert verdict(GROWING, annotated) in (NOT_OBSERVED, NOT_APPLICABLE)


@calling
def test_a_callback_has_every_field(contract: Contract) -> None:
    annotated = told(knowing(contract))
    last = annotated.deliveries[-1]
    body = orjson.loads(last.body)
    for name in body:
        kept = {key: value for key, value in body.items() if key != name}
        annotated.deliveries[-1] = replace(last, body=orjson.dumps(kept))
        optional = not contract.schemas.violations(next(iter(_schemas(contract))), kept)
        assert verdict(SCHEMA, annotated) == (PASSED if optional else BROKEN), name
    annotated.deliveries[-1] = replace(last, body=b"<html>")
    assert verdict(SCHEMA, annotated) == BROKEN
    assert verdict(SAME, after(annotated, polled(contract))) == NOT_OBSERVED


def _schemas(contract: Contract) -> list[str]:
    assert contract.callbacks is not None
    return [one.schema for one in contract.callbacks.situations.values()]


@calling
def test_a_field_that_is_only_assumed_to_be_there_is_a_lesson(contract: Contract) -> None:
    for name in orjson.loads(told(contract).deliveries[-1].body):
        (breach,) = judged(SCHEMA, changed(told(knowing(contract)), **{name: [1]})).breaches
        assert breach.places
        for place in breach.places:
            assert verdict(SCHEMA, changed(told(assuming(contract, place)), **{name: [1]})) == LESSON
        if "none of" not in breach.message:
            assert any(place.startswith("openapi.json#/components/schemas/") for place in breach.places)


@calling
def test_a_seal_is_that_of_the_bytes_that_came(contract: Contract) -> None:
    assert verdict(SIGNED, sealed(told(contract))) == NOT_OBSERVED
    assert verdict(SIGNED, sealed(told(contract)), secret=SECRET) == PASSED
    assert verdict(SIGNED, sealed(told(contract), key="another"), secret=SECRET) == BROKEN
    assert verdict(SIGNED, sealed(told(contract), body=b"{}"), secret=SECRET) == BROKEN
    assert verdict(SIGNED, told(knowing(contract)), secret=SECRET) == BROKEN


@calling
@pytest.mark.parametrize("way", [{"secret": "whsec-base64"}, {"secret": "whsec-text"}, {"encoding": "base64"}])
def test_another_interpretation_of_the_secret_or_the_encoding_is_reported(
    contract: Contract, way: dict[str, Any]
) -> None:
    (name, word), *_ = way.items()
    found = judged(SIGNED, sealed(told(knowing(contract)), **way), secret=SECRET)
    assert found.verdict == BROKEN
    assert found.breaches[0].patch[0]["value"] == word
    place = f"{PLACE}/signature/{name}"
    assert verdict(SIGNED, sealed(told(assuming(contract, place)), **way), secret=SECRET) == LESSON


@calling
def test_a_header_that_is_only_assumed_is_a_lesson(contract: Contract) -> None:
    assert contract.callbacks is not None
    assert contract.callbacks.signature is not None
    for name in contract.callbacks.signature.headers:
        place = f"{PLACE}/signature/headers/{name}"
        for known, word in ((knowing(contract), BROKEN), (assuming(contract, place), LESSON)):
            annotated = sealed(told(known))
            last = annotated.deliveries[-1]
            kept = tuple(pair for pair in last.headers if pair[0] != name.lower())
            annotated.deliveries[-1] = replace(last, headers=kept)
            assert verdict(SIGNED, annotated, secret=SECRET) == word


@calling
def test_a_seal_is_fresh(contract: Contract) -> None:
    assert contract.callbacks is not None
    assert contract.callbacks.signature is not None
    if contract.callbacks.signature.tolerance is None:
        assert verdict(SIGNED, sealed(told(contract), late=100_000), secret=SECRET) == PASSED
        return
    assert verdict(SIGNED, sealed(told(knowing(contract)), late=100_000), secret=SECRET) == BROKEN
    place = f"{PLACE}/signature/tolerance"
    assert verdict(SIGNED, sealed(told(assuming(contract, place)), late=-100_000), secret=SECRET) == LESSON
    # Whatever the tolerance is, no callback is sent before its job is submitted, or in another century.
    for late in (100_000, -1e12):
        assert verdict(SIGNED, sealed(told(assuming(contract, place)), late=late), secret=SECRET) == BROKEN


@calling
def test_a_callback_agrees_with_a_poll(contract: Contract) -> None:
    assert verdict(SAME, after(told(contract, "failure"), polled(contract))) == BROKEN
    assert verdict(SAME, after(told(contract), polled(contract, "failure"))) == BROKEN
    places = (f"{PLACE}/situations",)
    assert verdict(SAME, after(told(assuming(contract, *places)), polled(contract, "failure"))) == LESSON
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    assert verdict(SAME, after(told(contract), running)) == NOT_OBSERVED


@calling
def test_a_callback_has_the_video_that_the_poll_has(contract: Contract) -> None:
    annotated = told(knowing(contract))
    annotated.video += "?signature=another"
    assert verdict(SAME, after(annotated, polled(contract))) == PASSED
    annotated = told(knowing(contract))
    annotated.video = f"{MEDIA}/media/another/video.mp4"
    assert verdict(SAME, after(annotated, polled(contract))) == BROKEN
    annotated.contract = assuming(contract, f"{PLACE}/bindings/video_url")
    assert verdict(SAME, annotated) == LESSON


@calling
def test_a_callback_names_its_own_job(contract: Contract) -> None:
    annotated = told(contract)
    other = "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVZ"
    annotated.deliveries[-1] = replace(
        annotated.deliveries[-1], body=annotated.deliveries[-1].body.replace(JOB.encode(), other.encode())
    )
    assert verdict(SAME, after(annotated, polled(contract))) == BROKEN
    old = callback(teller(contract).submit(), job=other)
    assert verdict(SAME, after(old, polled(contract))) == NOT_OBSERVED


@calling
def test_a_callback_is_not_compared_with_polls_that_differ_among_themselves(contract: Contract) -> None:
    annotated = callback(teller(knowing(contract)).submit().wait(60))
    for name in ("another", "a-third"):
        annotated.video = f"{MEDIA}/media/{name}/video.mp4"
        after(annotated, polled(contract))
    assert verdict(SAME, annotated) == PASSED


@calling
def test_a_callback_that_was_not_acknowledged_comes_again(contract: Contract) -> None:
    assert contract.callbacks is not None
    delay = contract.callbacks.retries[0]
    for status in (500, None, 404):
        annotated = teller(knowing(contract)).submit().callback(ending(contract), status)
        assert verdict(RETRIED, annotated) == NOT_OBSERVED
        assert verdict(RETRIED, annotated.wait(delay * 1.5 + 20)) == BROKEN
        annotated.contract = assuming(contract, f"{PLACE}/retries")
        assert verdict(RETRIED, annotated) == LESSON
        # That there is a retry at all is documented, even if its delay is not.
        assert verdict(RETRIED, annotated.wait(100)) == BROKEN
        annotated = teller(contract).submit().callback(ending(contract), status).wait(delay)
        assert verdict(RETRIED, annotated.callback(ending(contract)).wait(100_000)) == PASSED
    annotated = teller(contract).submit().callback(ending(contract), 410).wait(100_000)
    assert verdict(RETRIED, annotated) == NOT_OBSERVED


@calling
def test_a_callback_that_comes_again_too_late_does_not_help(contract: Contract) -> None:
    assert contract.callbacks is not None
    annotated = (
        teller(knowing(contract)).submit().callback(ending(contract), 500).wait(contract.callbacks.retries[0] * 2 + 60)
    )
    assert verdict(RETRIED, annotated.callback(ending(contract))) == BROKEN


@calling
def test_no_more_retries_than_documented_are_expected(contract: Contract) -> None:
    assert contract.callbacks is not None
    annotated = teller(contract).submit()
    for delay in (0.0, *contract.callbacks.retries):
        annotated.wait(delay).callback(ending(contract), 500)
    assert verdict(RETRIED, annotated.wait(100_000)) == PASSED


@calling
def test_a_requested_callback_comes(contract: Contract) -> None:
    annotated = after(teller(contract).submit(probe="callback:order"), polled(contract))
    assert verdict(RETRIED, annotated) == NOT_OBSERVED
    assert verdict(RETRIED, annotated.wait(1000)) == BROKEN
    annotated = after(teller(contract).submit(), polled(contract)).wait(1000)
    assert verdict(RETRIED, annotated) == NOT_OBSERVED


@calling
def test_a_requested_callback_may_take_its_deadline_and_one_retry(contract: Contract) -> None:
    assert contract.callbacks is not None
    most = contract.callbacks.deadline + 1.5 * contract.callbacks.retries[0] + 30
    for more, expected in ((-1, NOT_OBSERVED), (1, BROKEN)):
        annotated = after(teller(knowing(contract)).submit(probe="callback:order"), polled(contract))
        ended = annotated.story().steps[-1].done
        assert verdict(RETRIED, annotated, ended=ended + most + more) == expected, more


@calling
def test_a_callback_that_was_acknowledged_does_not_come_again(contract: Contract) -> None:
    assert verdict(ONCE, told(contract).callback(ending(contract))) == PASSED
    assert verdict(ONCE, told(contract).wait(30).callback(ending(contract))) == BROKEN
    annotated = told(assuming(contract, PLACE)).wait(30).callback(ending(contract))
    assert verdict(ONCE, annotated) == LESSON
    assert verdict(ONCE, teller(contract).submit().callback(ending(contract), 500).wait(9)) == NOT_OBSERVED


@calling
def test_a_late_acknowledgement_does_not_count(contract: Contract) -> None:
    annotated = teller(contract).submit()
    annotated.callback(ending(contract), answered=annotated.now + 60).wait(70).callback(ending(contract))
    assert verdict(ONCE, annotated) == PASSED


@calling
def test_the_end_that_a_callback_reports_can_be_polled(contract: Contract) -> None:
    running = next(stage.name for stage in contract.graph if not stage.terminal)
    assert verdict(READABLE, after(told(contract), running)) == BROKEN
    assert verdict(READABLE, after(told(contract), None, status=503).status(polled(contract))) == PASSED
    assert verdict(READABLE, after(told(contract), "unknown_job")) == BROKEN
    assert verdict(READABLE, after(told(contract), "unknown_job", headers=())) == NOT_OBSERVED
    annotated = after(told(assuming(contract, f"{PLACE}/situations")), running)
    assert verdict(READABLE, annotated) == LESSON


@calling
def test_a_callback_does_not_contradict_its_outcome(contract: Contract) -> None:
    assert contract.callbacks is not None
    bindings = contract.callbacks.bindings
    annotated = callback(teller(knowing(contract)).submit())
    body = orjson.loads(annotated.deliveries[-1].body)
    assert verdict(SCHEMA, annotated) == PASSED
    early = {"created_at": START + 60, "finished_at": START}
    for name, moment in early.items():
        at = bindings[name].request[0].pointer
        known = resolve(body, at)
        value = int(moment) if isinstance(known, int) else f"2026-01-01T00:0{int(moment - START) // 60}:00.000Z"
        body = replaced(body, at, value)
    annotated = teller(knowing(contract)).submit().callback(ending(contract), body=orjson.dumps(body))
    found = judged(SCHEMA, annotated)
    assert any("before created_at" in breach.message for breach in found.breaches)


@calling
def test_an_end_may_be_a_second_before_the_creation_by_rounding(contract: Contract) -> None:
    assert contract.callbacks is not None
    bindings = contract.callbacks.bindings
    for early, expected in ((1.0, False), (2.0, True)):
        body = orjson.loads(callback(teller(contract).submit()).deliveries[-1].body)
        for name, moment in {"created_at": START + 10, "finished_at": START + 10 - early}.items():
            form = bindings[name].format
            assert form is not None
            body = replaced(body, bindings[name].request[0].pointer, FORMATS[form].write(moment))
        annotated = teller(knowing(contract)).submit().callback(ending(contract), body=orjson.dumps(body))
        found = judged(SCHEMA, annotated)
        assert any("before created_at" in breach.message for breach in found.breaches) is expected, early


def called_at(contract: Contract, *urls: str | None) -> list[str]:
    """Return the findings on a callback at a URL without an order, after submissions that name URLs and get one job."""
    annotated = teller(knowing(contract))
    order = orjson.loads(annotated.submit().exchanges.pop().body)
    for url in urls:
        body = order if url is None else with_callback(contract.operations["submit"], order, url)
        annotated.submit(body=orjson.dumps(body), probe="callback:order")
    callback(annotated.wait(60))
    annotated.deliveries[-1] = replace(annotated.deliveries[-1], note=ELSEWHERE)
    return [breach.message for breach in judged(SAME, after(annotated, polled(contract))).breaches]


@calling
def test_a_callback_goes_to_the_submitted_url(contract: Contract) -> None:
    bare, own = "http://127.0.0.1/callback", "http://127.0.0.1/callback?order=1"
    (found,) = called_at(contract, own)
    assert "was sent to another URL" in found
    assert called_at(contract, own, own) == [found]
    # The URL of each submission that got the job may be the right one.
    assert called_at(contract, bare) == called_at(contract, own, bare) == called_at(contract, None, bare) == []
    (without,) = called_at(contract, None)
    assert "submitted without a callback URL" in without


@calling
def test_a_callback_without_a_documented_video_need_not_have_one(contract: Contract) -> None:
    assert contract.callbacks is not None
    bindings = {name: one for name, one in contract.callbacks.bindings.items() if name != "video_url"}
    silent = replace(knowing(contract), callbacks=replace(contract.callbacks, bindings=bindings))
    for documented, expected in ((knowing(contract), BROKEN), (silent, PASSED)):
        annotated = told(documented)
        annotated.video = f"{MEDIA}/media/another/video.mp4"
        assert verdict(SAME, after(annotated, polled(contract))) == expected


@calling
def test_a_callback_that_is_signed_with_an_empty_secret_is_reported_without_any_secret(contract: Contract) -> None:
    assert verdict(SIGNED, sealed(told(contract), "")) == BROKEN
    assert verdict(SIGNED, sealed(told(contract), SECRET)) == NOT_OBSERVED
    assert verdict(SIGNED, told(contract)) == NOT_OBSERVED


def without_reason(annotated: Teller) -> Teller:
    """Drop the reason of the last callback."""
    assert annotated.contract.callbacks is not None
    last = annotated.deliveries[-1]
    body = orjson.loads(last.body)
    for name in ("error_code", "error_message"):
        for place in annotated.contract.callbacks.bindings[name].request:
            if resolve(body, place.pointer[:-1]) is not MISSING:
                body = replaced(body, place.pointer[:-1], None)
    annotated.deliveries[-1] = replace(last, body=orjson.dumps(body))
    return annotated


@calling
def test_the_callback_of_a_failure_has_its_reason(contract: Contract) -> None:
    found = judged(REASON, without_reason(told(contract, "failure")))
    assert found.verdict == BROKEN
    assert "has no error_code" in found.breaches[0].message
    assert verdict(REASON, without_reason(told(contract))) == NOT_OBSERVED
    assert contract.callbacks is not None
    annotated = without_reason(told(contract, "failure"))
    examples = contract.callbacks.situations[ending(contract, "failure")].example_at.partition("/examples/")[0]
    annotated.contract = assuming(contract, f"{examples}/examples")
    assert verdict(REASON, annotated) == LESSON


def attempts(contract: Contract, *delays: float) -> Teller:
    """Return a job whose callback is refused, and sent again after each delay."""
    assert contract.callbacks is not None
    growing = replace(contract, callbacks=replace(contract.callbacks, growing=True))
    annotated = callback(teller(growing).submit(), status=500)
    for delay in delays:
        callback(annotated.wait(delay), status=500)
    return annotated


@calling
def test_the_delays_between_refused_attempts_grow_where_they_are_documented_to(contract: Contract) -> None:
    assert verdict(GROWING, attempts(contract, 10, 10, 10)) == BROKEN
    assert "same time apart: 10.0, 10.0, 10.0 s" in judged(GROWING, attempts(contract, 10, 10, 10)).breaches[0].message
    assert verdict(GROWING, attempts(contract, 10, 20, 40)) == PASSED
    # Jitter may hide the growth of two delays, and the third shows it.
    assert verdict(GROWING, attempts(contract, 10, 10, 20)) == PASSED
    assert verdict(GROWING, attempts(contract, 10, 10)) == PASSED
    assert verdict(GROWING, attempts(contract, 1000)) == NOT_OBSERVED
    assert verdict(GROWING, attempts(contract, 1000).wait(1400)) == PASSED
    assert verdict(GROWING, callback(attempts(contract, 1000).wait(1400)).wait(9)) == PASSED
    annotated = attempts(contract, 10, 10, 10)
    annotated.contract = replace(assuming(contract, f"{PLACE}/growing"), callbacks=annotated.contract.callbacks)
    assert verdict(GROWING, annotated) == LESSON


@calling
def test_growing_delays_are_not_expected_of_a_contract_that_documents_none(contract: Contract) -> None:
    annotated = attempts(contract, 10, 10, 10)
    assert contract.callbacks is not None
    annotated.contract = replace(contract, callbacks=replace(contract.callbacks, growing=False))
    assert verdict(GROWING, annotated) == NOT_APPLICABLE


# NTF-09


def requested(contract: Contract, after: float = 1.0, **how: Any) -> Teller:
    """Add the request for a callback that was acknowledged, and the callback if it comes."""
    annotated = told(knowing(contract)).wait(10).call("redeliver", "redelivered", **how)
    return callback(annotated.wait(after)) if after else annotated


@contracts_that(lambda contract: "redeliver" in contract.operations)
def test_a_requested_callback_comes_with_the_same_values(contract: Contract) -> None:
    assert {verdict(rule, requested(contract)) for rule in (REQUESTED, ONCE)} == {PASSED}
    assert verdict(REQUESTED, told(contract)) == NOT_OBSERVED
    assert verdict(ONCE, callback(told(knowing(contract)).wait(10))) == BROKEN, "nobody has requested it"
    other = requested(contract, 0)
    assert verdict(REQUESTED, callback(other.wait(1), "cancelled")) == BROKEN


@contracts_that(lambda contract: "redeliver" in contract.operations)
def test_a_requested_callback_that_does_not_come_is_reported(contract: Contract) -> None:
    assert contract.callbacks is not None
    annotated = requested(contract, 0)
    assert verdict(REQUESTED, after(annotated, polled(contract))) == NOT_OBSERVED, "it may still come"
    assert verdict(REQUESTED, after(annotated, polled(contract), contract.callbacks.deadline + 31)) == BROKEN
    refused = requested(contract, 0, status=404)
    assert verdict(REQUESTED, after(refused, polled(contract), contract.callbacks.deadline + 31)) == NOT_OBSERVED


@contracts_that(lambda contract: contract.callbacks is not None and "redeliver" not in contract.operations)
def test_without_the_operation_no_callback_can_be_requested(contract: Contract) -> None:
    assert verdict(REQUESTED, told(contract)) == NOT_APPLICABLE
