"""Marks: taken off without a trace, put on again as they were, and only where they are not data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hobbyhorse.contract.documents.marks import MARK, holders, key_of, mark_for, marked, steps_of, unmarked
from hobbyhorse.contract.folder import build, load, read_documents
from hobbyhorse.contract.forms.expressions import ExpressionError
from tests import specimen
from tests.conftest import CONTRACTS, DIRECTORY

FOLDERS = [specimen.FOLDER, *(DIRECTORY / contract.key for contract in CONTRACTS)]

each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def marks_of(file: str, document: Any) -> list[tuple[str, str]]:
    """Return pointer and reason of each mark of a document."""
    _, marks, malformed = unmarked({file: document})
    assert malformed == []
    return [("/".join(mark.pointer), mark.reason) for mark in marks]


@each_folder
def test_marks_that_are_taken_off_can_be_put_on_again(folder: Path) -> None:
    documents = read_documents(folder)
    clean, marks, malformed = unmarked(documents)
    assert malformed == []
    assert marked(clean, marks) == documents
    assert MARK not in str(clean)
    assert unmarked(clean) == (clean, [], [])


def test_a_text_marks_the_object_and_an_object_its_members() -> None:
    assert marks_of("lifecycle.json", {"a": {MARK: "r", "b": 1}}) == [("a", "r")]
    assert marks_of("lifecycle.json", {MARK: {"a": "r", "/b/0/c": "s", "": "t"}}) == [
        ("a", "r"),
        ("b/0/c", "s"),
        ("", "t"),
    ]


def test_marks_are_found_in_schemas_responses_and_examples() -> None:
    example = {"value": {MARK: "data"}, MARK: {"/value/x": "r"}}
    content = {"application/json": {"schema": {"properties": {MARK: {MARK: "s"}}}, "examples": {"e": example}}}
    document = {"components": {"responses": {"R": {"content": content, MARK: "t"}}}}
    start = "components/responses/R"
    assert sorted(marks_of("openapi.json", document)) == [
        (start, "t"),
        (f"{start}/content/application/json/examples/e/value/x", "r"),
        (f"{start}/content/application/json/schema/properties/{MARK}", "s"),
    ]


@pytest.mark.parametrize("name", ["default", "const", "enum", "example", "examples"])
def test_a_value_in_a_schema_has_no_marks(name: str) -> None:
    schema = {name: {MARK: "data"}} if name != "examples" else {name: [{MARK: "data"}]}
    assert marks_of("models/m.schema.json", schema) == []


@pytest.mark.parametrize("name", ["set", "when", "headers", "environment", "price"])
def test_names_of_the_providers_own_are_not_reserved(name: str) -> None:
    assert marks_of("lifecycle.json", {"x": {name: {MARK: "data"}}}) == []


@pytest.mark.parametrize("value", [1, None, [], {"a": 1}, {"/~2": "r"}])
def test_a_malformed_mark_is_returned_with_its_place(value: Any) -> None:
    clean, marks, malformed = unmarked({"lifecycle.json": {"a": {MARK: value}}})
    assert (clean, marks) == ({"lifecycle.json": {"a": {}}}, [])
    assert malformed == [("lifecycle.json", ("a", MARK))]


def test_a_mark_is_placed_on_the_nearest_object_that_can_have_it() -> None:
    document: dict[str, Any] = {"paths": {"/v1": {"get": {"responses": {"200": {"content": {}}}}}}}
    for pointer, holder, key in (
        (("paths", "/v1"), ("paths", "/v1"), ""),
        (("paths", "/v1", "get", "responses"), ("paths", "/v1", "get"), "responses"),
        (("paths",), (), "paths"),
        (("paths", "/v2", "x"), (), "/paths/~1v2/x"),
    ):
        mark = mark_for("openapi.json", document, pointer, "r")
        assert (mark.holder, mark.key, mark.pointer) == (holder, key, pointer)


@pytest.mark.parametrize("steps", [(), ("a",), ("a", "0"), ("/a",), ("",), ("a~b", "c/d")])
def test_a_key_is_read_as_it_is_written(steps: tuple[str, ...]) -> None:
    assert steps_of(key_of(steps)) == steps


def test_a_key_that_is_no_pointer_is_refused() -> None:
    with pytest.raises(ExpressionError):
        steps_of("/~")


def test_an_object_comes_before_those_inside_it() -> None:
    found = list(holders("lifecycle.json", {"a": {"b": [{"c": {}}]}, "d": 1}))
    assert found == [(), ("a",), ("a", "b", "0"), ("a", "b", "0", "c")]


def test_a_contract_has_the_reasons_in_order_with_the_places_that_they_mark() -> None:
    first, second = load(specimen.FOLDER).assumptions
    assert (first.variant, first.at) == (
        "failed-in-short",
        ("lifecycle.json#/operations/status/situations/failed/example",),
    )
    assert (second.variant, second.at) == (None, ("openapi.json#", "lifecycle.json#"))


def test_a_reason_may_be_about_what_is_left_out() -> None:
    changes = {"lifecycle.json#/x-assumed": {"": "made-up", "callbacks": "made-up"}}
    contract = build(specimen.FOLDER, specimen.shortened(changes, ["lifecycle.json#/callbacks"]))
    assert "lifecycle.json#/callbacks" in contract.assumptions[1].at
    assert contract.callbacks is None
