"""Faults of a whole body: each changes what its name says, and nothing else."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.faults.body import HTML, NO_BODY, refuse_bodiless
from tests.deciding import REFUSED, decided, under
from tests.known_faults import OPERATION_FAULTS
from tests.scenarios.json_values import OBJECTS


@given(OBJECTS, st.integers(0, 9))
def test_malformed_json_is_the_beginning_of_the_response_and_never_valid(value: object, seed: int) -> None:
    body = orjson.dumps(value)
    broken = under("malformed_json", decided(body, seed=seed)).body
    assert broken
    assert body.startswith(broken)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(broken)


def test_pages_and_empty_bodies_have_their_status_and_type() -> None:
    page = under("html_page", decided(b"{}"), status=502)
    assert (page.status, dict(page.headers)[b"content-type"]) == (502, b"text/html; charset=utf-8")
    assert page.body == HTML
    assert page.situation is None
    assert under("html_page", decided(b"{}")).status == 200
    empty = under("empty_body", decided(b"{}"), status=204)
    assert (empty.status, empty.body) == (204, b"")
    assert under("empty_body", decided(b"{}")).status == 200


def test_an_error_envelope_has_the_body_of_an_error_and_a_status_of_success() -> None:
    sent = under("error_envelope", decided(b"{}"))
    assert (sent.status, sent.body, sent.headers, sent.situation) == (
        200,
        REFUSED.body,
        REFUSED.headers,
        REFUSED.situation,
    )


def test_an_error_envelope_needs_an_error_of_its_operation(contract: Contract) -> None:
    fault = OPERATION_FAULTS["error_envelope"]
    for operation in contract.operations.values():
        assert list(fault.misfits(fault, contract, operation, {"situation": next(iter(operation.situations))})) == []
        (why,) = fault.misfits(fault, contract, operation, {"situation": "moon"})
        assert why.startswith(f"{contract.key} {operation.role} has no situation 'moon'; it has ")


def test_a_page_cannot_have_a_status_without_a_body() -> None:
    for status in NO_BODY:
        invalid = refuse_bodiless({"status": status})
        assert invalid is not None
        assert (invalid.option, invalid.hint) == ("status", "use the move 'empty_body'")
    assert refuse_bodiless({"status": 502}) is refuse_bodiless({}) is None
