"""Reading an OpenAPI document: its roles by visible rules, and schemas that accept at least the same values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from hobbyhorse.contract.authoring.source import (
    Source,
    SourceError,
    choose_roles,
    find_member,
    is_id,
    is_stage,
    read_source,
    relaxed,
    sample,
)
from hobbyhorse.contract.lint import KEYWORDS


def operation(schema: Any = None, **more: Any) -> dict[str, Any]:
    content = {"content": {"application/json": {"schema": schema}}} if schema else {}
    return {"responses": {"200": {"description": "x", **content}}, **more}


def api(paths: dict[str, Any], **more: Any) -> Source:
    return Source({"openapi": "3.0.0", "paths": paths, **more})


WITH_ID: dict[str, Any] = {
    "type": "object",
    "properties": {"data": {"type": "object", "properties": {"task_id": {"type": "string"}}}},
}
WITH_STAGE = {"type": "object", "properties": {"status": {"type": "string"}}}


# ---- reading


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not valid JSON"),
        ("a: [", "is not valid YAML"),
        ("- 1", "it is not an object"),
        ("swagger: '2.0'", "is not an OpenAPI 3 document: it needs `openapi: 3.x` and `paths`"),
        ("openapi: 3.1.0\npaths: []", "it needs `openapi: 3.x` and `paths`"),
        ("openapi: 3.1.0\npaths: &a {x: *a}", "it is too large or contains itself"),
        ("openapi: 3.1.0\npaths: {x: &a [*a]}", "it is too large or contains itself"),
        (f"openapi: 3.1.0\npaths: {{x: {'[' * 210}{']' * 210}}}", "it is too large or contains itself"),
    ],
)
def test_what_is_not_an_openapi_document_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "api").write_text(text)
    with pytest.raises(SourceError) as raised:
        read_source(tmp_path / "api")
    assert says in str(raised.value)
    assert str(raised.value).startswith(str(tmp_path / "api"))
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read_source(tmp_path / "nothing")


def test_a_yaml_file_of_a_few_lines_with_a_billion_values_is_refused(tmp_path: Path) -> None:
    lines = ["openapi: 3.0.0", "paths: {}", "x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(SourceError, match="too large"):
        read_source(tmp_path / "bomb.yaml")


def test_yaml_and_json_are_the_same_document(tmp_path: Path) -> None:
    document = {
        "openapi": "3.0.0",
        "info": {"version": "2024-01-01"},
        "paths": {"/a": {"get": {"responses": {"200": {}}}}},
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "a.yaml").write_text(
        "openapi: 3.0.0\ninfo: {version: 2024-01-01}\npaths: {/a: {get: {responses: {200: {}}}}}"
    )
    assert read_source(tmp_path / "a.yaml").document == read_source(tmp_path / "a.json").document == document


def test_a_server_starts_without_a_reader_of_yaml() -> None:
    code = "import sys, hobbyhorse.cli.commands.serve, hobbyhorse.server.app; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- roles


def test_roles_are_guessed_by_visible_rules_and_each_guess_is_reported() -> None:
    source = api(
        {
            "/login": {"post": operation({"type": "object"}, operationId="login")},
            "/users/{u}": {"get": operation(operationId="getUser")},
            "/jobs": {"post": operation(WITH_ID, operationId="create"), "get": operation(WITH_ID, operationId="list")},
            "/jobs/{id}/log": {"get": operation(operationId="getLog")},
            "/jobs/{id}": {"get": operation(WITH_STAGE)},
            "/jobs/{id}/state": {"get": operation(WITH_STAGE, operationId="getState")},
        }
    )
    roles, notes = choose_roles(source, {})
    assert (roles["submit"].id, roles["status"].id) == ("create", "getJobsId")
    assert notes == [
        "submit: create, the first POST whose response has an id",
        "status: getJobsId, a GET with one path parameter",
    ]


def test_a_role_that_is_given_is_not_guessed() -> None:
    source = api({"/a": {"post": operation(operationId="a")}, "/b/{x}": {"get": operation(operationId="b")}})
    roles, notes = choose_roles(source, {"submit": "a", "status": "b"})
    assert (roles["submit"].path, roles["status"].path, notes) == ("/a", "/b/{x}", [])


@pytest.mark.parametrize(
    ("paths", "given", "says"),
    [
        ({}, {}, "no POST returns an id; choose the operation with --role submit=OPERATION_ID"),
        ({"/a": {"post": operation(WITH_ID)}}, {}, "no GET has one path parameter"),
        (
            {"/a": {"post": operation(operationId="a")}},
            {"submit": "b"},
            "--role submit=b: unknown operation; known: a",
        ),
        ({}, {"list": "x"}, "--role list=x: allowed: submit and status"),
        (
            {"/a": {"post": operation(WITH_ID), "get": operation(operationId="g")}},
            {"status": "g"},
            "status: the path /a must have exactly one parameter",
        ),
    ],
)
def test_a_role_that_stays_open_is_an_error(paths: dict[str, Any], given: dict[str, str], says: str) -> None:
    with pytest.raises(SourceError) as raised:
        choose_roles(api(paths), given)
    assert says in str(raised.value)


# ---- schemas


RICH = {
    "allOf": [{"$ref": "#/components/schemas/Base"}, {"required": ["b"], "properties": {"b": {"type": "number"}}}],
    "properties": {
        "choice": {"oneOf": [{"type": "string", "nullable": True}, {"type": "integer", "exclusiveMinimum": 3}]},
        "pattern": {"type": "string", "pattern": "("},
        "other": {"$ref": "elsewhere.json#/a"},
        "lost": {"$ref": "#/nowhere"},
    },
}
BASE = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string"}, "again": {"$ref": "#/components/schemas/Base"}},
}


def test_a_simple_schema_has_a_contracts_keywords_and_accepts_what_the_original_accepts() -> None:
    simple = api({}, components={"schemas": {"Base": BASE}}).simple(RICH)

    def names(schema: dict[str, Any]) -> set[str]:
        inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), schema.get("items", {})]
        return set(schema).union(*map(names, [one for one in inner if one]))

    assert names(simple) <= KEYWORDS
    assert simple["required"] == ["a", "b"]
    validator = jsonschema_rs.Draft202012Validator(simple)
    assert validator.is_valid({"a": "x", "b": 1.5, "choice": None, "pattern": "(", "other": 1, "again": {"a": "y"}})
    assert not validator.is_valid({"a": "x"})


def test_a_member_is_found_outermost_first() -> None:
    assert find_member(WITH_ID, is_id) == ("data", "task_id")
    assert find_member({"properties": {**WITH_ID["properties"], "id": {"type": "string"}}}, is_id) == ("id",)
    assert find_member(WITH_STAGE, is_stage) == ("status",)
    assert find_member({"properties": {"id": {"type": "integer"}, "idle": {"type": "string"}}}, is_id) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 9}, "b": {"type": ["integer", "null"]}}},
        {"enum": [3, 4]},
        {"const": None},
        {"anyOf": [{"type": "array", "items": {"type": "boolean"}, "minItems": 2}, {"type": "null"}]},
        {"type": "number", "maximum": -3},
        {"type": "integer", "minimum": 7},
        {"type": "string", "maxLength": 2},
        {},
    ],
)
def test_a_sample_keeps_its_schema(schema: dict[str, Any]) -> None:
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(sample(schema))


def test_a_sample_without_a_maximum_length_has_at_most_200_characters() -> None:
    lengths = [len(sample({"type": "string", "minLength": least})) for least in (0, 7, 200, 999)]
    assert lengths == [4, 7, 200, 200]


def test_a_relaxed_schema_has_names_and_types_only() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "string", "pattern": "^x$"}},
        "anyOf": [{"type": "object", "minProperties": 3}],
    }
    assert relaxed(schema) == {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "string"}},
        "anyOf": [{"type": "object"}],
    }
