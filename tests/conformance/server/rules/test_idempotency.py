"""The server rules about idempotency keys, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from hobbyhorse.conformance.server.rules.idempotency import MODE, members
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.json_patch import after
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

RULES = family("IDM")
SAME, OTHER, AT_ONCE, IN_FLIGHT = RULES
# The rules that compare jobs and bodies.
JOBS = RULES[:3]
ANOTHER = "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVZ"
keyed = contracts_that(lambda contract: contract.idempotency.mode == "replay")
keyless = contracts_that(lambda contract: contract.idempotency.mode == "none")


def wanted(told: Teller, prompt: str) -> bytes:
    """Return the body of another submission."""
    place = (
        *told.contract.operations["submit"].model_parameters.pointer,
        *told.contract.models[0].parameters["prompt"][0],
    )
    return orjson.dumps(replaced(told.request, place, prompt))


@keyless
def test_idempotency_rules_do_not_apply_to_a_provider_without_keys(contract: Contract) -> None:
    assert {verdict(rule, teller(contract).submit().submit()) for rule in RULES} == {NOT_APPLICABLE}


@keyed
def test_one_submission_shows_nothing(contract: Contract) -> None:
    assert {verdict(rule, teller(contract).submit()) for rule in RULES} == {NOT_OBSERVED}


@keyed
def test_the_same_submission_gets_the_same_job(contract: Contract) -> None:
    told = teller(contract).submit().wait(1).submit()
    assert verdict(SAME, told) == PASSED
    assert verdict(SAME, told.submit(job=ANOTHER)) == BROKEN


@keyed
def test_another_job_is_a_lesson_where_the_mode_is_only_assumed(contract: Contract) -> None:
    for place in (MODE, "lifecycle.json#/idempotency"):
        told = teller(assuming(contract, place)).submit().submit(job=ANOTHER)
        assert verdict(SAME, told) == LESSON


@keyed
def test_the_same_submission_is_not_refused(contract: Contract) -> None:
    told = teller(contract).submit().submit("key_mismatch", job=None)
    assert verdict(SAME, told) == BROKEN


@keyed
@pytest.mark.parametrize("name", ["key_in_flight", "unauthenticated", "insufficient_balance", "rate_limited"])
def test_a_refusal_for_another_reason_shows_nothing(contract: Contract, name: str) -> None:
    assert verdict(SAME, teller(contract).submit().submit(name, job=None)) == NOT_OBSERVED
    changed = teller(contract).submit()
    refused = NOT_OBSERVED if name != "key_in_flight" else PASSED
    assert verdict(OTHER, changed.submit(name, job=None, body=wanted(changed, "a cow"))) == refused


@keyed
def test_a_key_that_has_died_or_is_another_customers_may_make_another_job(contract: Contract) -> None:
    told = teller(contract).submit().wait(contract.idempotency.life).submit(job=ANOTHER)
    assert [verdict(rule, told) for rule in JOBS] == [NOT_OBSERVED] * len(JOBS)
    headers = (("authorization", "Bearer somebody"), ("idempotency-key", "key-1"))
    told = teller(contract).submit().submit(job=ANOTHER, headers=headers)
    assert [verdict(rule, told) for rule in RULES] == [NOT_OBSERVED] * len(RULES)


@keyed
def test_a_submission_that_was_not_kept_in_full_is_not_compared(contract: Contract) -> None:
    told = (
        teller(contract)
        .submit(body=b'{"input": {"image": "data:')
        .submit(job=ANOTHER, body=b'{"input": {"image": "data:')
    )
    assert [verdict(rule, told) for rule in JOBS] == [NOT_OBSERVED] * len(JOBS)


@keyed
def test_another_submission_with_the_key_is_refused(contract: Contract) -> None:
    told = teller(contract)
    cow = wanted(told, "a cow")
    assert verdict(OTHER, told.submit().submit("key_mismatch", job=None, body=cow)) == PASSED
    assert verdict(SAME, told) == NOT_OBSERVED
    assert verdict(OTHER, told.submit(body=cow)) == BROKEN
    assert verdict(OTHER, teller(contract).submit().submit(body=cow, job=ANOTHER)) == BROKEN
    # Whichever of the two orders sorts first.
    assert verdict(OTHER, teller(contract).submit(body=wanted(told, "~")).submit(body=cow)) == BROKEN
    place = "lifecycle.json#/operations/submit/situations/key_mismatch"
    assert verdict(OTHER, teller(assuming(contract, place)).submit().submit(body=cow)) == LESSON


@keyed
def test_a_submission_for_another_receiver_with_the_key_is_refused(contract: Contract) -> None:
    told = teller(contract)
    (place,) = contract.operations["submit"].bindings["callback_url"].request
    elsewhere = orjson.dumps(replaced(told.request, place.pointer, "https://example.com/another"))
    assert verdict(OTHER, teller(contract).submit().submit(body=elsewhere)) == BROKEN
    refused = teller(contract).submit().submit("key_mismatch", job=None, body=elsewhere)
    assert verdict(OTHER, refused) == PASSED


@keyed
def test_a_provoked_refusal_has_its_documented_status(contract: Contract) -> None:
    told = teller(contract)
    body = wanted(told, "a cow")
    told.submit().submit(
        "key_mismatch", job=None, body=body, status=409, probe="idempotency:other", expected="key_mismatch"
    )
    found = judged(OTHER, told)
    assert found.verdict == BROKEN
    at = found.breaches[0].places[0]
    assert after(contract.written, found.breaches[0].patch, at) == 409
    told = teller(contract).submit().submit("key_mismatch", job=None, body=body, status=409)
    assert verdict(OTHER, told) == PASSED


@keyed
def test_another_spelling_of_the_same_submission_is_the_same_submission(contract: Contract) -> None:
    told = teller(contract)
    spelt = orjson.dumps(told.request, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    assert verdict(OTHER, told.submit().submit(body=spelt)) == NOT_OBSERVED
    assert verdict(SAME, told) == PASSED


@keyed
def test_one_submission_sent_concurrently_is_one_job(contract: Contract) -> None:
    told = teller(contract).submit(answered=START + 5).submit(answered=START + 5)
    assert verdict(AT_ONCE, told.submit("key_in_flight", job=None)) == PASSED
    assert verdict(SAME, told) == NOT_OBSERVED
    assert verdict(AT_ONCE, told.submit(job=ANOTHER, answered=START + 5)) == BROKEN
    told.contract = assuming(contract, MODE)
    assert verdict(AT_ONCE, told) == LESSON


@keyed
def test_submissions_with_two_keys_are_two_jobs(contract: Contract) -> None:
    told = teller(contract).submit(answered=START + 5).submit(answered=START + 5, key="key-2", job=ANOTHER)
    assert [verdict(rule, told) for rule in RULES] == [NOT_OBSERVED] * len(RULES)


@keyed
def test_a_refused_used_key_does_not_make_another_job(contract: Contract) -> None:
    rejecting = replace(knowing(contract), idempotency=replace(contract.idempotency, mode="reject"))
    told = teller(rejecting).submit()
    assert verdict(SAME, told.submit("key_mismatch", job=None)) == PASSED
    assert verdict(SAME, told.submit(job=ANOTHER)) == BROKEN


@keyed
def test_the_response_to_a_repetition_has_the_members_of_the_first_one(contract: Contract) -> None:
    told = teller(contract).submit()
    body = orjson.loads(told.exchanges[0].answer)
    again = told.wait(1).submit(answer=orjson.dumps(body | {"state": "queued"}))
    found = judged(SAME, again)
    assert found.verdict == BROKEN
    assert "has state" in found.breaches[0].message


def test_the_items_of_a_list_count_as_one() -> None:
    assert members({"a": [{"b": 1}, {"c": 2}]}) == {("a",), ("a", "0", "b"), ("a", "0", "c")}
    assert members([]) == members(3) == frozenset()


@keyed
def test_a_new_key_is_accepted_if_anything_is(contract: Contract) -> None:
    def refused(situation: str, **how: object) -> Teller:
        told = teller(knowing(contract)).submit(expected="accepted", probe="job")
        return told.submit(situation, None, key="key-2", expected="accepted", **how)

    assert verdict(SAME, refused("key_mismatch")) == BROKEN
    assert verdict(SAME, refused("invalid_request")) == BROKEN
    assert verdict(SAME, refused("insufficient_balance")) == NOT_OBSERVED
    assert verdict(SAME, refused("rate_limited")) == NOT_OBSERVED
    only = teller(knowing(contract)).submit("invalid_request", None, expected="accepted")
    assert verdict(SAME, only) == NOT_OBSERVED
    # The key was used with another body.
    assert verdict(SAME, refused("key_mismatch").submit(key="key-2", expected="accepted")) != BROKEN


@keyed
def test_a_key_is_in_flight_only_while_a_request_with_it_is_under_way(contract: Contract) -> None:
    def busy(times: int) -> Teller:
        told = teller(contract).submit("invalid_request", job=None, body=b"{}")
        for _ in range(times):
            told.wait(1).submit("key_in_flight", job=None)
        return told

    assert verdict(IN_FLIGHT, teller(contract).submit().wait(1).submit()) == PASSED
    assert verdict(IN_FLIGHT, busy(1).wait(1).submit()) == PASSED, "one may be an accident"
    assert verdict(IN_FLIGHT, busy(2)) == BROKEN
    assert verdict(IN_FLIGHT, teller(contract).submit()) == NOT_OBSERVED
