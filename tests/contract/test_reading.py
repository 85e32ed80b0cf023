"""Responses read by a contract's bindings, also those that no contract documents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.folder import load, load_all
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.reading import as_json, message_of, read_answer, read_callback, read_items
from hobbyhorse.contract.values import Contract
from tests import specimen

ACME = load(specimen.FOLDER)
STATUS = ACME.operations["status"]


def status(body: Any, code: int = 200) -> Any:
    return read_answer(ACME.schemas, STATUS, code, message_of([], body))


# ---- bodies and headers


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b"NaN", b"{}{}"])
def test_a_body_that_is_not_json_is_missing(body: bytes) -> None:
    assert as_json(body) is MISSING


@pytest.mark.parametrize("body", [b"null", b"[1]", b'{"a": 1}', b" 3 "])
def test_any_json_value_is_a_body(body: bytes) -> None:
    assert as_json(body) == orjson.loads(body)


def test_headers_are_found_in_lower_case_whatever_their_spelling() -> None:
    message = message_of([("Retry-AFTER", "1")], {})
    assert message.header("retry-after") == "1"
    assert message.header("other") is None


# ---- values


def test_values_are_decoded_by_their_formats() -> None:
    found = status({"id": "job-1", "state": "done", "ended": 1777370490})
    assert found.values == {"job": "job-1", "stage": "done", "finished_at": 1777370490.0}


def test_a_malformed_value_is_returned_unchanged() -> None:
    assert status({"id": "job-1", "state": "done", "ended": "soon"}).values["finished_at"] == "soon"


@pytest.mark.parametrize("body", [{"id": None, "state": "queued"}, {"state": "queued"}])
def test_null_and_absent_read_the_same(body: Any) -> None:
    assert "job" not in status(body).values


@pytest.mark.parametrize("body", [MISSING, None, [], "text", 3, {"error": "text"}])
def test_a_body_of_another_shape_has_no_values(body: Any) -> None:
    assert status(body).values == {}


def test_of_several_places_the_first_that_has_a_value_is_read() -> None:
    job = STATUS.bindings["job"]
    other = replace(job, response=(*job.response, replace(job.response[0], pointer=("task", "id"))))
    operation = replace(STATUS, bindings={**STATUS.bindings, "job": other})
    for body, expected in (({"id": "a", "task": {"id": "b"}}, "a"), ({"task": {"id": "b"}}, "b")):
        assert read_answer(ACME.schemas, operation, 200, message_of([], body)).values["job"] == expected


# ---- situations and stages


@pytest.mark.parametrize("state", ["queued", "running", "failed", "cancelled"])
def test_the_word_of_the_stage_identifies_the_situation(state: str) -> None:
    found = status({"id": "x", "state": state})
    assert (found.situations, found.stages) == ((state,), frozenset({state}))


def test_situations_with_the_same_words_are_all_reported() -> None:
    assert status({"id": "x", "state": "done"}).situations == ("done", "done_verbose")


def test_the_status_must_be_that_of_the_situation() -> None:
    assert status({"id": "x", "state": "done"}, 404).situations == ()


def test_a_refusal_is_identified_by_its_code() -> None:
    body = ACME.schemas.at(STATUS.situations["unknown_job"].example_at)
    assert status(body, 404).situations == ("unknown_job",)
    assert status({"error": {**body["error"], "code": "something else"}}, 404).situations == ()


def test_a_word_in_several_examples_reads_as_every_stage_that_it_may_mean(contract: Contract) -> None:
    operation = contract.operations["status"]
    for stage in contract.graph:
        situation = next(found for found in operation.situations.values() if stage.name in found.stages)
        body = contract.schemas.at(situation.example_at)
        reading = read_answer(contract.schemas, operation, situation.status, message_of([], body))
        assert stage.name in reading.stages


def test_an_undocumented_response_has_no_situations_and_no_stages(contract: Contract) -> None:
    operation = contract.operations["status"]
    reading = read_answer(contract.schemas, operation, 299, message_of([], {"surprise": True}))
    assert reading.situations == ()
    assert reading.stages == frozenset()


# ---- callbacks and lists


def test_a_callback_is_read_as_a_request_without_a_status() -> None:
    assert ACME.callbacks is not None
    body = {"id": "job-1", "state": "failed", "error": {"code": "moderated", "message": "No."}, "ended": 5}
    found = read_callback(ACME.schemas, ACME.callbacks, message_of([], body))
    assert (found.situations, found.stages) == (("failed",), frozenset({"failed"}))
    assert found.values["error_code"] == "moderated"
    assert found.values["finished_at"] == 5.0


def test_each_item_of_a_list_is_read() -> None:
    body = {"jobs": [{"id": "a", "state": "done", "cost": "0.70"}, {"id": "b", "cost": None}, "junk"], "total": 3}
    first, second, third = read_items(ACME.operations["list"], message_of([], body))
    assert {name: str(value) for name, value in first.items()} == {"job": "a", "stage": "done", "cost": "0.70"}
    assert (second, third) == ({"job": "b"}, {})


@pytest.mark.parametrize("body", [{}, {"jobs": None}, {"jobs": {"id": "a"}}, MISSING])
def test_a_body_without_the_list_has_no_items(body: Any) -> None:
    assert read_items(ACME.operations["list"], message_of([], body)) == []


def test_an_operation_without_a_list_has_no_items() -> None:
    assert read_items(STATUS, message_of([], {"jobs": [{"id": "a"}]})) == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["id", "state", "error", "code", "ended", "jobs"]), inner)
        ),
    ),
    st.integers(100, 599),
)
def test_any_json_of_any_status_can_be_read(body: Any, code: int) -> None:
    for operation in ACME.operations.values():
        read_answer(ACME.schemas, operation, code, message_of([], body))
        read_items(operation, message_of([], body))


@pytest.mark.parametrize("contract", load_all(), ids=lambda contract: contract.key)
def test_a_refusal_is_identified_if_its_objects_have_further_members(contract: Contract) -> None:
    """A provider may write an object where another response has the stage's word."""

    def wider(value: Any) -> Any:
        return {**{name: wider(inner) for name, inner in value.items()}, "x": 1} if isinstance(value, dict) else value

    operation = contract.operations["submit"]
    for situation in operation.situations.values():
        message = message_of((), wider(contract.schemas.at(situation.example_at)))
        found = read_answer(contract.schemas, operation, situation.status, message)
        assert situation.name in found.situations
