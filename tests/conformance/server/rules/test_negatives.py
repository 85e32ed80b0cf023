"""The rules about invalid bodies and bodies at a bound, on hand-written traces."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_OBSERVED, PASSED
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import format_pointer, replaced
from hobbyhorse.contract.values import Contract, find_situation
from tests.conformance.server.rules.test_shape import HTML, a_job, assuming, broken, home, verdict, word
from tests.conftest import contracts_that
from tests.tracing import Teller

names_model = contracts_that(
    lambda contract: any(one.part == "body" for one in contract.operations["submit"].bindings["model"].request)
)


def duration(contract: Contract) -> tuple[str, ...]:
    """Return the place of the duration in the body."""
    (inner,) = contract.models[0].parameters["duration"]
    return (*contract.operations["submit"].model_parameters.pointer, *inner)


def order(contract: Contract, pointer: tuple[str, ...], value: Any) -> Any:
    """Return a body with a value at a place."""
    body = next(iter(contract.operations["submit"].body_examples.values()))
    return replaced(body, pointer, value)


def wrong(contract: Contract, situation: str | None, number: int = 0, **how: Any) -> Teller:
    """Add a submission for a video that is far too long, and its response."""
    return add_wrong(Teller(contract), situation, number, **how)


def add_wrong(told: Teller, situation: str | None, number: int = 0, **how: Any) -> Teller:
    pointer = duration(told.contract)
    body = orjson.dumps(order(told.contract, pointer, "a while"))
    said = {
        "body": body,
        "probe": f"negative:type:{format_pointer(pointer)}",
        "expected": "invalid_request",
        "key": f"key-{number}",
    } | how
    job = a_job(told.contract, number) if situation == "accepted" else None
    return told.submit(situation, job, **said)


# NEG-01


def test_a_bad_body_is_refused(contract: Contract) -> None:
    assert broken(wrong(contract, "invalid_request")) == {}
    assert word("NEG-01", wrong(contract, "invalid_request")) == PASSED
    assert word("NEG-02", wrong(contract, "invalid_request")) == PASSED


def test_an_invalid_body_that_makes_a_job_is_reported_with_the_schema_that_forbids_it(contract: Contract) -> None:
    told = wrong(contract, "accepted")
    found = verdict("NEG-01", told)
    assert found.verdict == BROKEN
    (breach,) = found.breaches
    (inner,) = contract.models[0].parameters["duration"]
    at = contract.models[0].schema + format_pointer(tuple(part for one in inner for part in ("properties", one)))
    assert breach.places[0].endswith(("/type", "/anyOf", "/enum"))
    assert contract.schemas.at(breach.places[0]) is not None
    assert breach.seen == a_job(contract)
    assert any(one.startswith(at) for one in breach.places) or len(breach.places) > 2
    assert word("NEG-01", told, assuming(contract, breach.places[0])) == LESSON
    # The type is documented even if the status of the refusal is not.
    assert word("NEG-01", told, assuming(contract, home(contract, "submit", "invalid_request"))) == BROKEN
    assert word("NEG-01", told, assuming(contract, "lifecycle.json#/polling")) == BROKEN
    assert word("NEG-02", told) == NOT_OBSERVED


def test_each_bad_body_counts(contract: Contract) -> None:
    told = wrong(contract, "accepted")
    add_wrong(told, "accepted", 1, probe="negative:json", body=b"{", expected="malformed_body")
    add_wrong(told, "invalid_request", 2, probe="negative:enum:/other")
    assert len(verdict("NEG-01", told).breaches) == 2


def test_another_content_type_may_be_accepted_unless_a_document_forbids_it(contract: Contract) -> None:
    told = wrong(contract, "accepted", probe="negative:type", expected="unsupported_media_type")
    says = "unsupported_media_type" in contract.operations["submit"].situations
    assert word("NEG-01", told) == (BROKEN if says else NOT_OBSERVED)


def test_valid_submissions_show_nothing_about_invalid_bodies(contract: Contract) -> None:
    told = Teller(contract).submit().submit("invalid_request", None)
    assert word("NEG-01", told) == word("NEG-02", told) == word("NEG-03", told) == NOT_OBSERVED
    lost = Teller(contract).nothing("submit", probe="negative:type:/x", expected="invalid_request")
    assert word("NEG-01", lost) == word("NEG-02", lost) == NOT_OBSERVED


# NEG-02


def test_an_undocumented_refusal_of_an_invalid_body_is_reported(contract: Contract) -> None:
    told = wrong(contract, "unauthenticated")
    right = contract.operations["submit"].situations["invalid_request"]
    other = contract.operations["submit"].situations["unauthenticated"]
    found = verdict("NEG-02", told)
    assert found.verdict == BROKEN
    if right.status != other.status:
        assert found.breaches[0].seen == other.status
        places = [place for breach in found.breaches for place in breach.places[:1]]
        assert word("NEG-02", told, assuming(contract, *places)) == LESSON
    assert word("NEG-01", told) == PASSED


def test_a_successful_response_without_a_job_is_not_a_refusal(contract: Contract) -> None:
    told = wrong(contract, None, status=200, answer=b'{"error": "no"}')
    assert word("NEG-01", told) == PASSED
    assert word("NEG-02", told) == BROKEN


def test_a_fallback_for_a_situation_may_be_any_refusal(contract: Contract) -> None:
    told = wrong(contract, None, probe="negative:huge", expected="body_too_large", status=413)
    assert word("NEG-02", told) == PASSED


@names_model
def test_a_bad_name_of_a_model_may_be_refused_as_a_model_that_is_not_there(contract: Contract) -> None:
    for situation in ("invalid_request", "unknown_model"):
        told = wrong(contract, situation, probe="negative:enum:/model", expected="invalid_request")
        assert word("NEG-02", told) == PASSED


def test_an_unknown_model_is_refused_as_such(contract: Contract) -> None:
    right = find_situation(contract.operations["submit"], "unknown_model")
    assert right is not None
    told = wrong(contract, right.name, probe="negative:model", expected="unknown_model")
    assert broken(told) == {}
    told = wrong(contract, "insufficient_balance", probe="negative:model", expected="unknown_model")
    assert word("NEG-02", told) == BROKEN


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_temporary_failure_shows_nothing_about_invalid_bodies(contract: Contract, status: int) -> None:
    told = wrong(contract, None, status=status, **HTML)
    add_wrong(told, None, 1, status=status, **HTML)
    assert word("NEG-02", told) == NOT_OBSERVED
    assert word("NEG-01", told) == PASSED


def test_one_internal_error_is_a_bad_day_and_two_of_them_a_habit(contract: Contract) -> None:
    told = wrong(contract, "server_error")
    assert word("NEG-02", told) == NOT_OBSERVED
    add_wrong(told, "server_error", 1)
    assert word("NEG-02", told) == BROKEN
    assert word("NEG-02", told.status("server_error")) == NOT_OBSERVED


# NEG-03


def at_bound(contract: Contract, situation: str | None, other: str = "accepted", **how: Any) -> Teller:
    """Add an accepted submission, and one at a bound of the schema."""
    pointer, value = duration(contract), _allowed(contract)
    told = Teller(contract).submit(other, a_job(contract) if other == "accepted" else None, probe="job", key="key-0")
    job = a_job(contract, 1) if situation == "accepted" else None
    said = {
        "probe": f"bound:{format_pointer(pointer)}:{value}",
        "expected": "accepted",
        "body": orjson.dumps(order(contract, pointer, value)),
    } | how
    return told.submit(situation, job, **said)


def _allowed(contract: Contract) -> Any:
    (inner,) = contract.models[0].parameters["duration"]
    said = contract.schemas.at(_schema(contract, inner))
    return said["enum"][0] if "enum" in said else said["minimum"]


def _schema(contract: Contract, inner: tuple[str, ...]) -> str:
    return contract.models[0].schema + format_pointer(tuple(part for one in inner for part in ("properties", one)))


def test_a_body_at_its_bound_is_accepted(contract: Contract) -> None:
    assert broken(at_bound(contract, "accepted")) == {}
    assert word("NEG-03", at_bound(contract, "accepted")) == PASSED


def test_a_refused_body_at_its_bound_is_reported(contract: Contract) -> None:
    told = at_bound(contract, "invalid_request")
    found = verdict("NEG-03", told)
    assert found.verdict == BROKEN
    (inner,) = contract.models[0].parameters["duration"]
    assert _schema(contract, inner) in found.breaches[0].places
    assert word("NEG-03", told, assuming(contract, found.breaches[0].places[0])) == LESSON
    assert word("NEG-03", told, assuming(contract, _schema(contract, inner))) == LESSON
    assert all(contract.schemas.at(place) for place in found.breaches[0].places)


def test_a_submission_refused_for_another_reason_shows_nothing_about_bounds(contract: Contract) -> None:
    names = {"insufficient_balance", "rate_limited", "forbidden", "unauthenticated", "overloaded", "model_unavailable"}
    for name in names & set(contract.operations["submit"].situations):
        assert word("NEG-03", at_bound(contract, name)) == NOT_OBSERVED
    assert word("NEG-03", at_bound(contract, "invalid_request", other="invalid_request")) == NOT_OBSERVED


def test_a_picture_may_be_refused_for_its_content(contract: Contract) -> None:
    (first, *_) = contract.models[0].parameters["first_frame"]
    pointer = format_pointer((*contract.operations["submit"].model_parameters.pointer, *first))
    assert word("NEG-03", at_bound(contract, "invalid_request", probe=f"bound:{pointer}:2048")) == NOT_OBSERVED


def documented(contract: Contract, status: int, count: int = 2) -> Teller:
    """Return a trace in which every documented submission gets one response."""
    told = Teller(contract, order_for(contract, contract.models[0]))
    for number in range(count):
        told.submit(
            None, None, status=status, answer=b"{}", probe="job" if number == 0 else "machine", key=f"k{number}"
        )
    return told


def test_an_endpoint_that_fails_for_every_documented_submission_is_reported(contract: Contract) -> None:
    assert word("NEG-03", documented(contract, 500)) == BROKEN
    assert word("NEG-03", documented(contract, 500, 1)) == NOT_OBSERVED
    for status in (402, 403, 429, 502, 503):
        assert word("NEG-03", documented(contract, status)) == NOT_OBSERVED


def test_a_refusal_that_may_be_about_the_picture_is_not_blamed(contract: Contract) -> None:
    meant = find_situation(contract.operations["submit"], "invalid_request")
    assert meant is not None
    assert word("NEG-03", documented(contract, meant.status)) == NOT_OBSERVED


def test_an_endpoint_that_refuses_every_documented_submission_is_reported(contract: Contract) -> None:
    """Only one of them may be refused for its picture."""
    meant = find_situation(contract.operations["submit"], "invalid_request")
    assert meant is not None
    (first, *_) = contract.models[0].parameters["first_frame"]
    pointer = (*contract.operations["submit"].model_parameters.pointer, *first)
    within = replaced(order_for(contract, contract.models[0]), pointer, "data:image/png;base64,iVBORw0KGgo=")
    told = documented(contract, meant.status)
    told.submit(None, None, status=meant.status, answer=b"{}", probe="job", body=orjson.dumps(within), key="k")
    assert word("NEG-03", told) == BROKEN


@contracts_that(lambda contract: "refusal_location" in contract.operations["submit"].bindings)
def test_a_refusal_of_a_documented_body_for_another_place_is_reported(contract: Contract) -> None:
    submit = contract.operations["submit"]
    meant = find_situation(submit, "invalid_request")
    assert meant is not None
    at = submit.bindings["refusal_location"].response[0].pointer
    body = replaced(contract.schemas.at(meant.example_at), at, ["body", "duration"])
    told = Teller(contract, order_for(contract, contract.models[0]))
    told.submit("invalid_request", None, answer=orjson.dumps(body), probe="job")
    assert word("NEG-03", told) == BROKEN


def together(contract: Contract, *alone: str | None) -> Teller:
    """Return a trace of an order at two bounds that is refused, and of the orders at each bound after it."""
    pointer, value = duration(contract), _allowed(contract)
    place, body = format_pointer(pointer), orjson.dumps(order(contract, pointer, value))
    told = Teller(contract).submit("accepted", a_job(contract), probe="job", key="key-0")
    probe = f"bounds:{place}={value},/other=1"
    told.submit("invalid_request", None, probe=probe, expected="accepted", body=body, key="key-1")
    for number, situation in enumerate(alone, start=2):
        job = a_job(contract, number) if situation == "accepted" else None
        label = f"bound:{place}:{value}" if number == 2 else "bound:/other:1"
        told.submit(situation, job, probe=label, expected="accepted", body=body, key=f"key-{number}")
    return told


def test_bounds_that_are_accepted_alone_are_accepted_together(contract: Contract) -> None:
    found = verdict("NEG-03", together(contract, "accepted", "accepted"))
    assert found.verdict == BROKEN
    assert "although each of its bounds is accepted alone" in found.breaches[0].message
    assert word("NEG-03", together(contract, "accepted")) == PASSED, "the second one was not tried"
    found = verdict("NEG-03", together(contract, "accepted", "invalid_request"))
    assert "although" not in " ".join(breach.message for breach in found.breaches)


def _resolution(contract: Contract) -> str:
    return _schema(contract, contract.models[0].parameters["resolution"][0])


@contracts_that(lambda contract: "enum" in contract.schemas.at(_resolution(contract)))
def test_a_word_that_a_list_lacks_is_a_documented_fact_of_its_own(contract: Contract) -> None:
    (inner,) = contract.models[0].parameters["resolution"]
    pointer = (*contract.operations["submit"].model_parameters.pointer, *inner)
    body = orjson.dumps(order(contract, pointer, "4k"))
    told = wrong(contract, "accepted", probe=f"negative:enum:{format_pointer(pointer)}", body=body)
    assert word("NEG-01", told, assuming(contract, home(contract, "submit", "invalid_request"))) == BROKEN
    assert word("NEG-01", told, assuming(contract, f"{_resolution(contract)}/enum")) == LESSON


def test_a_documented_submission_is_accepted_if_another_one_is(contract: Contract) -> None:
    def two(probe: str) -> Teller:
        told = Teller(contract, order_for(contract, contract.models[0]))
        told.submit("accepted", a_job(contract), probe="bound:/x:1", key="key-0")
        return told.submit("invalid_request", None, probe=probe, key="key-1")

    found = verdict("NEG-03", two("machine"))
    assert found.verdict == BROKEN
    assert "others are accepted" in found.breaches[0].message
    assert word("NEG-03", two("callback:order")) == PASSED


def beside_accepted(contract: Contract, probe: str, situation: str, accepted: str | None = "accepted") -> Teller:
    """Return a trace of an accepted or refused submission, and of one with the probe of a spelling or form."""
    told = Teller(contract, order_for(contract, contract.models[0]))
    told.submit(accepted, a_job(contract) if accepted == "accepted" else None, probe="job", key="key-0")
    job = a_job(contract, 1) if situation == "accepted" else None
    return told.submit(situation, job, probe=probe, expected="accepted", key="key-1")


def test_a_spelling_that_is_refused_is_reported(contract: Contract) -> None:
    for probe, words in (("spelling:charset", "media type"), ("spelling:escaped", "white space")):
        assert word("NEG-06", beside_accepted(contract, probe, "accepted")) == PASSED
        found = verdict("NEG-06", beside_accepted(contract, probe, "invalid_request"))
        assert found.verdict == BROKEN
        assert words in found.breaches[0].message
        nothing = beside_accepted(contract, probe, "invalid_request", "invalid_request")
        assert word("NEG-06", nothing) == NOT_OBSERVED, "an endpoint that accepts nothing shows nothing"
    # Only each way alone shows which one is refused.
    assert word("NEG-06", beside_accepted(contract, "spelling:charset,escaped", "invalid_request")) == NOT_OBSERVED


def test_a_form_that_is_refused_is_reported(contract: Contract) -> None:
    assert word("NEG-03", beside_accepted(contract, "form:other", "accepted")) == NOT_OBSERVED
    told = beside_accepted(contract, "form:other", "invalid_request")
    assert word("NEG-03", told) == BROKEN
    assert word("NEG-03", told, assuming(contract, "lifecycle.json#/operations/submit/forms")) == LESSON
