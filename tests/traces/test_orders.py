"""The order that made a job, its key, and the schema places that a body breaks."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.orders import is_repeated, making, order_behind, order_of, own, reads_of, schema_places
from hobbyhorse.traces.trace import REDACTED
from tests.tracing import JOB, Teller


def ordered(contract: Contract) -> Teller:
    """Return a trace with an accepted submission of the cheapest order of the first model."""
    return Teller(contract, order_for(contract, contract.models[0])).submit()


def test_the_order_of_a_submission_is_read(contract: Contract) -> None:
    trace = ordered(contract).story()
    found = order_of(trace, trace.submits[0])
    assert found is not None
    assert found.model.id == contract.models[0].id
    assert order_behind(trace, JOB) == found


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"unknown": true}'])
def test_a_submission_that_is_incomplete_or_invalid_has_no_order(contract: Contract, body: bytes) -> None:
    trace = Teller(contract).submit(body=body).story()
    assert order_of(trace, trace.submits[0]) is None
    assert order_behind(trace, JOB) is None


def test_a_request_elsewhere_or_of_another_role_has_no_order(contract: Contract) -> None:
    told = ordered(contract)
    body = told.exchanges[0].body
    told.call("submit", "accepted", body=body, url="http://127.0.0.1:1/elsewhere").call("status", None, body=body)
    trace = told.call(None, None, body=body).story()
    assert [order_of(trace, step) for step in trace.steps[1:]] == [None, None, None]


def test_the_first_accepted_submission_made_a_job(contract: Contract) -> None:
    told = ordered(contract).submit(None, status=503, job=None).submit().submit(job="another")
    trace = told.story()
    made = [making(trace, job) for job in (JOB, "another", "unknown", None)]
    assert [step and step.number for step in made] == [1, 4, None, None]
    assert order_behind(trace, "unknown") is None


def test_the_reads_of_a_job_are_in_their_order(contract: Contract) -> None:
    told = ordered(contract).status(None, status=500).status(None, status=500, job="another").status(None, status=500)
    trace = told.story()
    assert [step.number for step in reads_of(trace, JOB)] == [2, 4]
    assert reads_of(trace, "unknown") == ()


def keyed(contract: Contract, value: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that give a key in each of a contract's schemes."""
    return tuple((name, before + value) for part, name, before in contract.security if part == "header")


def read_with(contract: Contract, key: str, job: str = JOB) -> tuple[AnnotatedTrace, bool]:
    told = Teller(contract, order_for(contract, contract.models[0]))
    told.submit(headers=keyed(contract, "mine")).status(None, status=404, job=job, headers=keyed(contract, key))
    trace = told.story()
    return trace, own(trace, trace.polls[0])


@pytest.mark.parametrize(("key", "expected"), [("mine", True), ("another", False), ("", False)])
def test_a_request_is_the_owners_if_it_has_the_key_of_the_submission(
    contract: Contract, key: str, expected: bool
) -> None:
    assert read_with(contract, key)[1] is expected


def test_a_request_about_an_unknown_job_has_no_owner(contract: Contract) -> None:
    assert not read_with(contract, "mine", job="unknown")[1]


def test_redacted_keys_do_not_show_that_they_are_equal(contract: Contract) -> None:
    told = Teller(contract, order_for(contract, contract.models[0]))
    headers = keyed(contract, REDACTED)
    trace = told.submit(headers=headers).status(None, status=404, headers=headers).story()
    assert not own(trace, trace.polls[0])


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["prompt"],
    "properties": {
        "prompt": {"$ref": "#/$defs/text"},
        "images": {"type": "array", "items": {"type": "string", "pattern": "^http"}},
        "seed": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"value": {"minimum": 0}}}]},
    },
    "$defs": {"text": {"type": "string", "maxLength": 3}},
}


def places(value: Any) -> tuple[str, ...]:
    schemas = Schemas({"s.json": SCHEMA})
    (violation,) = schemas.violations("s.json#", value, most=1)
    return schema_places(schemas, "s.json#", violation)


def test_a_broken_member_leads_to_the_keywords_behind_its_reference() -> None:
    assert places({"prompt": "long"}) == (
        "s.json#/$defs/text/type",
        "s.json#/$defs/text/maxLength",
        "s.json#/$defs/text",
    )


def test_a_missing_member_leads_to_the_list_of_required_members() -> None:
    assert places({}) == ("s.json#/required", "s.json#")


def test_a_broken_item_leads_to_the_schema_of_items() -> None:
    assert places({"prompt": "a", "images": ["http://x", "ftp://x"]}) == (
        "s.json#/properties/images/items/type",
        "s.json#/properties/images/items/pattern",
        "s.json#/properties/images/items",
    )


def test_a_submission_is_repeated_if_an_earlier_response_has_shown_its_job(contract: Contract) -> None:
    told = ordered(contract).submit().submit(job="another").submit(None, status=503, job=None)
    trace = told.status(None, status=200, answer=b"{}", job="a third").submit(job="a third").story()
    assert [step.number for step in trace.steps if is_repeated(trace, step)] == [2, 6]


def test_a_submission_that_overlaps_the_first_response_is_not_repeated(contract: Contract) -> None:
    told = ordered(contract)
    told.now -= 0.0015
    trace = told.submit().story()
    assert not any(is_repeated(trace, step) for step in trace.steps)
