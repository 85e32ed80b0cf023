"""Operations, responses and examples of openapi.json."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.documents.operations import (
    declared_operations,
    examples_at,
    follow,
    has_example,
    json_body,
    json_content,
    json_type,
)

SHOWN = {"content": {"application/json": {"schema": {}, "examples": {"a": {"value": None}, "b": {}}}}}
OPENAPI: dict[str, Any] = {
    "paths": {
        "/jobs": {
            "parameters": [],
            "post": {
                "operationId": "create",
                "responses": {
                    "200": SHOWN,
                    "204": {"description": "x"},
                    "404": {"$ref": "#/components/responses/a~1b"},
                },
                "callbacks": {"done": {"{$request.body#/url}": {"post": {"operationId": "ended"}}}},
            },
            "get": {"operationId": "list"},
        }
    },
    "components": {"responses": {"a/b": SHOWN}},
}
HERE = ("paths", "/jobs", "post", "responses", "200", "content", "application/json")
THERE = ("components", "responses", "a/b", "content", "application/json")


def test_every_operation_is_found_and_callbacks_follow_their_own() -> None:
    found = list(declared_operations(OPENAPI))
    assert [one.spec["operationId"] for one in found] == ["list", "create", "ended"]
    assert found[2].pointer == ("paths", "/jobs", "post", "callbacks", "done", "{$request.body#/url}", "post")
    assert (found[1].method, found[1].path) == ("post", "/jobs")
    assert list(declared_operations({})) == []


def test_a_response_is_found_where_it_stands() -> None:
    create = list(declared_operations(OPENAPI))[1]
    assert json_content(OPENAPI, create, 200) == HERE
    assert json_content(OPENAPI, create, 404) == THERE
    assert json_content(OPENAPI, create, 204) is None
    assert json_content(OPENAPI, create, 500) is None


def test_a_reference_is_followed_to_its_object() -> None:
    assert follow(OPENAPI, {"$ref": "#/components/responses/a~1b"}, ("x",)) == (SHOWN, THERE[:3])
    assert follow(OPENAPI, SHOWN, ("x",)) == (SHOWN, ("x",))


def test_an_example_needs_a_value_which_may_be_null() -> None:
    assert set(examples_at(OPENAPI, HERE)) == {"a", "b"}
    assert has_example(OPENAPI, HERE, "a")
    assert not has_example(OPENAPI, HERE, "b")
    assert not has_example(OPENAPI, HERE, "c")
    assert examples_at(OPENAPI, ("nowhere",)) == {}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["text/html", "application/problem+json", "application/json"], "application/json"),
        (["application/json; charset=utf-8"], "application/json; charset=utf-8"),
        (["application/a+json", "application/b+json"], "application/a+json"),
        (["text/html"], None),
        ([], None),
    ],
)
def test_json_is_its_own_media_type_or_one_with_its_suffix(names: list[str], found: str | None) -> None:
    content: dict[str, Any] = {name: {} for name in names}
    assert json_type(content) == found
    assert json_body({"response": {"content": content}}, ("response",))[-1] == (found or "application/json")
