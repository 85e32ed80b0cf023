"""Values that are almost valid: which ones are tried for each kind of schema, and that most contracts refuse them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.server.near_misses import near_misses, near_misses_in, sample_of
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract, Model
from tests.conformance.server.test_suite import models


def tried(schema: dict[str, Any], value: Any) -> list[Any]:
    """Return the values tried in place of a member, as pairs with their keywords."""
    schemas = Schemas({"a.json": {"type": "object", "properties": {"x": schema}}})
    found = near_misses(schemas, "a.json#", {"x": value})
    return [(one.keyword, resolve(one.parameters, ("x",))) for one in found if one.pointer == ("x",)]


def test_a_number_is_tried_as_a_text_with_a_fraction_and_just_outside_its_bounds() -> None:
    found = tried({"type": "integer", "minimum": 3, "maximum": 15}, 5)
    assert {("minimum", 2), ("maximum", 16), ("type", "5"), ("type", 5.5), ("type", True)} <= set(map(_hashable, found))


def _hashable(pair: tuple[str, Any]) -> tuple[str, Any]:
    keyword, value = pair
    return keyword, value if not isinstance(value, list | dict) else repr(value)


def test_a_choice_of_numbers_is_tried_just_outside_it() -> None:
    assert {("enum", 2), ("enum", 6)} <= set(map(_hashable, tried({"type": "integer", "enum": [3, 4, 5]}, 4)))


def test_a_word_is_tried_in_another_case_and_with_a_letter_more_or_less() -> None:
    found = tried({"type": "string", "enum": ["720p"]}, "720p")
    assert [value for keyword, value in found if keyword == "enum"] == ["720P", " 720p", "720", "720ps"]
    assert ("const", "FIRST") in tried({"type": "string", "const": "first"}, "first")


def test_a_boolean_is_tried_as_a_text_and_as_a_number() -> None:
    assert tried({"type": "boolean"}, True) == [("type", "true"), ("type", 1), ("type", "yes")]


def test_a_text_is_tried_one_character_beyond_its_limits() -> None:
    found = dict(tried({"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^a"}, "abc"))
    assert (found["minLength"], found["maxLength"]) == ("a", "abcxx")
    assert ("pattern", "") in tried({"type": "string", "pattern": "^https?://"}, "https://x")
    assert ("pattern", "x") in tried({"type": "string", "pattern": "^https?://"}, "https://x")


def test_a_list_is_tried_with_an_item_too_many_too_few_and_as_its_item() -> None:
    found = tried({"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "string"}}, ["a"])
    assert {("maxItems", "['a', 'a']"), ("minItems", "[]"), ("type", "a")} <= set(map(_hashable, found))


def test_a_required_member_is_tried_as_null_as_missing_and_at_another_level() -> None:
    inner = {"type": "object", "required": ["y"], "properties": {"y": {"type": "string"}}}
    schemas = Schemas({"a.json": {"type": "object", "required": ["x"], "properties": {"x": inner}}})
    found = [one.parameters for one in near_misses(schemas, "a.json#", {"x": {"y": "z"}})]
    expected: list[Any] = [{}, {"x": None}, {"x": {}}, {"x": {"y": None}}]
    expected += [{"x": {}, "y": "z"}, {"input": {"x": {"y": "z"}}}]
    for body in expected:
        assert body in found


def test_an_optional_member_that_the_value_lacks_is_tried_too() -> None:
    schemas = Schemas({"a.json": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}})
    assert {"n": -1} in [one.parameters for one in near_misses(schemas, "a.json#", {})]


def test_a_closed_object_is_tried_with_a_member_in_another_case() -> None:
    schema = {"type": "object", "additionalProperties": False, "properties": {"x": {"type": "string"}}}
    found = [one.parameters for one in near_misses(Schemas({"a.json": schema}), "a.json#", {"x": "y"})]
    assert {"x": "y", "X": "y"} in found


@models
def test_each_contract_refuses_most_near_misses_and_each_differs_from_the_order(
    contract: Contract, model: Model
) -> None:
    submit, order = contract.operations["submit"], order_for(contract, model)
    around = submit.model_parameters.pointer
    inner = resolve(order, around) if around else order
    found = list(near_misses(contract.schemas, model.schema, inner))
    bodies = [replaced(order, around, one.parameters) if around else one.parameters for one in found]
    refused = [isinstance(try_order(contract, submit, model.id, body), Refusal) for body in bodies]
    assert MISSING not in bodies
    assert all(orjson.dumps(body) != orjson.dumps(order) for body in bodies)
    assert sum(refused) > 0.6 * len(refused)
    keywords = {one.keyword for one, is_refused in zip(found, refused, strict=True) if is_refused}
    assert {"type", "required"} <= keywords


@pytest.mark.parametrize("schema", [True, {"type": "string"}, {"type": "object"}])
def test_a_schema_without_members_has_no_near_misses(schema: Any) -> None:
    assert list(near_misses(Schemas({"a.json": schema}), "a.json#", {"x": 1})) == []


def test_an_optional_object_is_tried_inside_the_input() -> None:
    url = {"type": "string", "examples": ["https://x.example"]}
    hook = {"type": "object", "required": ["url"], "properties": {"url": url}}
    schema = {"type": "object", "properties": {"input": {"type": "object"}, "hook": hook}}
    found = list(near_misses(Schemas({"a.json": schema}), "a.json#", {"input": {"a": 1}}))
    moved = [one.parameters for one in found if one.pointer == ("input", "hook")]
    assert moved == [{"input": {"a": 1, "hook": {"url": "https://x.example"}}}]


@pytest.mark.parametrize(
    ("schema", "sample"),
    [
        ({"type": ["string", "null"], "maxLength": 255}, "x"),
        ({"type": "string", "examples": ["a name"]}, "a name"),
        ({"type": ["object", "null"]}, {}),
        ({"type": ["integer", "null"], "minimum": 3}, 3),
        ({"type": "string", "pattern": "^https?://"}, MISSING),
        ({"type": "string", "format": "uri"}, MISSING),
        ({"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}, MISSING),
        (True, MISSING),
    ],
)
def test_an_optional_member_has_a_sample_if_its_schema_leaves_no_doubt(schema: Any, sample: Any) -> None:
    assert sample_of(Schemas({"a.json": {}}), schema, "a.json") == sample


def test_a_schema_that_is_a_part_of_a_file_has_near_misses_too() -> None:
    schema = {"properties": {"x": {"type": ["string", "null"], "maxLength": 3}}}
    found = near_misses_in(Schemas({"a.json": {}}), schema, "a.json", {"x": "x"})
    assert ("maxLength", {"x": "xxxx"}) in [(one.keyword, one.parameters) for one in found]
