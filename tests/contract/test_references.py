"""References in documents: found where they are keywords, and reported if they cannot be followed."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.references import broken_references, files_referred_to, keyword_objects, references
from tests import specimen

REF = {"$ref": "#/a"}


def faults(documents: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(file, "/".join(pointer), fault) for file, pointer, fault in broken_references(documents)]


# ---- where references are


@pytest.mark.parametrize("member", ["example", "examples", "default", "const", "enum", "value"])
def test_a_ref_inside_a_value_is_data(member: str) -> None:
    assert list(references({member: {"deep": [REF]}, "items": REF})) == [(("items",), "#/a")]


@pytest.mark.parametrize("member", ["properties", "schemas", "parameters", "responses", "headers", "content", "paths"])
def test_a_member_may_be_called_like_a_keyword(member: str) -> None:
    document = {member: {"$ref": {"items": REF}, "example": REF}}
    assert list(references(document)) == [((member, "$ref", "items"), "#/a"), ((member, "example"), "#/a")]


def test_properties_of_properties_are_keywords_again() -> None:
    assert list(references({"properties": {"properties": REF}})) == [(("properties", "properties"), "#/a")]


def test_a_ref_that_is_not_a_string_is_not_a_reference() -> None:
    assert list(references({"$ref": 3, "items": {"$ref": None}})) == []


def test_objects_come_in_the_order_of_the_document() -> None:
    document: dict[str, Any] = {"b": [{"x": {}}, {}], "a": {}}
    pointers = [pointer for pointer, _ in keyword_objects(document)]
    assert pointers == [(), ("b", "0"), ("b", "0", "x"), ("b", "1"), ("a",)]


def test_a_document_nested_deeper_than_python_recurses_is_walked() -> None:
    document: Any = REF
    for _ in range(5_000):
        document = {"items": document}
    assert [text for _, text in references(document)] == ["#/a"]


# ---- files


def test_files_are_named_relative_to_the_file_of_the_reference() -> None:
    documents = {"openapi.json": {"$ref": "models/a.json#/x"}, "models/a.json": {"items": {"$ref": "b.json"}}}
    assert files_referred_to(documents) == {"models/a.json", "models/b.json"}


def test_a_reference_without_a_file_is_to_its_own() -> None:
    assert files_referred_to({"models/a.json": {"$ref": "#/x"}}) == {"models/a.json"}


# ---- broken references


def test_the_specimen_has_no_broken_references() -> None:
    assert faults(specimen.edited({})) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("#/nowhere", "'#/nowhere' does not exist; expected a file of the folder, # and a JSON Pointer"),
        ("b.json", "'b.json' does not exist; expected a file of the folder, # and a JSON Pointer"),
        ("#anchor", "'#anchor' is not a valid reference: 'anchor' is not a JSON Pointer; "),
        ("#/text", "'#/text' is a plain value; allowed: a schema, a parameter or a response"),
    ],
)
def test_a_reference_that_cannot_be_followed_is_reported_with_its_place(text: str, fault: str) -> None:
    ((file, place, message),) = faults({"a.json": {"x": {"items": {"$ref": text}}, "text": "plain"}})
    assert (file, place) == ("a.json", "x/items/$ref")
    assert message.startswith(fault)


def test_a_percent_encoded_pointer_is_decoded() -> None:
    assert faults({"a.json": {"x": {"$ref": "#/a%20b"}, "a b": {}}}) == []


def test_a_boolean_schema_may_be_referred_to() -> None:
    assert faults({"a.json": {"x": {"$ref": "#/never"}, "never": False}}) == []


@pytest.mark.parametrize(
    "schemas",
    [
        {"a": {"$ref": "#/a"}},
        {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/a"}]}},
        {"a": {"anyOf": [{"anyOf": [{"$ref": "#/a"}]}]}},
    ],
)
def test_a_schema_that_applies_to_the_same_value_without_end_is_reported(schemas: Any) -> None:
    assert [fault for _, _, fault in faults({"a.json": schemas})] == ["'#/a' refers back to itself"]


def test_each_reference_of_a_cycle_over_two_files_is_reported() -> None:
    documents = {"a.json": {"x": {"$ref": "b.json#/y"}}, "b.json": {"y": {"$ref": "a.json#/x"}}}
    assert [fault for _, _, fault in faults(documents)] == [
        "'b.json#/y' refers back to itself",
        "'a.json#/x' refers back to itself",
    ]


def test_a_reference_that_only_leads_into_a_cycle_is_not_reported() -> None:
    schemas = {"first": {"$ref": "#/in"}, "in": {"$ref": "#/a"}, "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}}
    assert [place for _, place, _ in faults({"a.json": schemas})] == ["in/$ref", "a/$ref", "b/$ref"]


@pytest.mark.parametrize("member", ["items", "additionalProperties"])
def test_a_recursive_schema_is_not_a_cycle(member: str) -> None:
    assert faults({"a.json": {"tree": {"type": "array", member: {"$ref": "#/tree"}}}}) == []


def test_a_broken_reference_inside_the_target_is_reported_once() -> None:
    documents = {"a.json": {"x": {"$ref": "#/y"}, "y": {"$ref": "#bad"}}}
    assert [place for _, place, _ in faults(documents)] == ["y/$ref"]
