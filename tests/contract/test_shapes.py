"""Shapes: the part of OpenAPI that contracts need, and violations that name the intended alternative."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.folder import read_documents
from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, replaced
from hobbyhorse.contract.schemas import LONGEST_MESSAGE
from hobbyhorse.contract.shapes import METHODS, OPENAPI_SHAPE, compile_shape, shape_violations
from tests import specimen
from tests.conftest import DIRECTORY

OPENAPI = compile_shape(OPENAPI_SHAPE)
API = read_documents(specimen.FOLDER)["openapi.json"]
JOB = "/paths/~1v1~1jobs~1{id}"


def broken(pointer: str, value: Any) -> list[tuple[str, str]]:
    """Return the violations of the specimen's document with one place changed."""
    document = replaced(API, parse_pointer(pointer), value)
    return [("/".join(map(str, found.location)), found.message) for found in shape_violations(OPENAPI, document)]


def test_every_document_of_the_project_has_the_shape() -> None:
    for folder in (specimen.FOLDER, *sorted(path.parent for path in DIRECTORY.glob("*/openapi.json"))):
        assert shape_violations(OPENAPI, read_documents(folder)["openapi.json"]) == []


@pytest.mark.parametrize(
    ("pointer", "value", "place", "message"),
    [
        ("/openapi", MISSING, "", '"openapi" is a required property'),
        ("/info/version", MISSING, "info", '"version" is a required property'),
        ("/servers/0/url", 3, "servers/0/url", '3 is not of type "string"'),
        (f"{JOB}/get/responses/200/description", MISSING, "paths//v1/jobs/{id}/get/responses/200", '"description" is'),
        (f"{JOB}/get/parameters/0/in", "cookie", "paths//v1/jobs/{id}/get/parameters/0/in", '"cookie" is not one of'),
        (f"{JOB}/get/parameters/0/name", "", "paths//v1/jobs/{id}/get/parameters/0/name", '"" is shorter than 1'),
        ("/components/securitySchemes/header/name", MISSING, "components/securitySchemes/header", '"name" is a req'),
        ("/components/schemas/Job", "x", "components/schemas/Job", '"x" is not of types "boolean", "object"'),
    ],
)
def test_a_document_of_another_shape_is_reported_with_its_place(
    pointer: str, value: Any, place: str, message: str
) -> None:
    ((where, said),) = broken(pointer, value)
    assert where == place
    assert said.startswith(message)


def test_a_path_begins_with_a_slash() -> None:
    ((where, said),) = broken("/paths/jobs", {})
    assert where == "paths"
    assert '"^/"' in said


@pytest.mark.parametrize("kind", ["parameters", "responses"])
def test_a_reference_must_be_to_a_component_of_its_kind(kind: str) -> None:
    pointer = f"{JOB}/get/parameters/0" if kind == "parameters" else f"{JOB}/get/responses/404"
    assert broken(pointer, {"$ref": f"#/components/{kind}/Any"}) == []
    ((_, said),) = broken(pointer, {"$ref": "#/components/schemas/Any"})
    assert said.startswith('"#/components/schemas/Any" does not match')


@pytest.mark.parametrize("method", METHODS)
def test_an_operation_of_each_method_is_checked(method: str) -> None:
    assert broken(f"{JOB}/{method}", {"operationId": 3}) == [
        (f"paths//v1/jobs/{{id}}/{method}/operationId", '3 is not of type "string"')
    ]


def test_other_members_are_ignored() -> None:
    assert broken("/x-anything", {"at": ["all"]}) == []
    assert broken(f"{JOB}/get/tags", 5) == []


# ---- the intended alternative

EITHER = compile_shape(
    {
        "properties": {
            "at": {
                "oneOf": [
                    {"type": "string", "pattern": "^[$]"},
                    {"type": "object", "required": ["at", "as"], "properties": {"as": {"enum": ["unix"]}}},
                ]
            }
        }
    }
)


@pytest.mark.parametrize(
    ("value", "place", "message"),
    [
        ("x", ("at",), '"x" does not match "^[$]"'),
        ({"at": "$x"}, ("at",), '"as" is a required property'),
        ({"at": "$x", "as": "iso"}, ("at", "as"), '"iso" is not one of "unix"'),
        (5, ("at",), "5 is not valid under any of the schemas listed in the 'oneOf' keyword"),
    ],
)
def test_the_alternative_of_the_values_own_type_is_reported(value: Any, place: Any, message: str) -> None:
    (found,) = shape_violations(EITHER, {"at": value})
    assert (found.location, found.message) == (place, message)


def test_a_long_message_keeps_both_ends_on_one_line() -> None:
    (found,) = shape_violations(EITHER, {"at": "x\n" * 1000})
    assert len(found.message) <= LONGEST_MESSAGE + 3
    assert found.message.endswith('does not match "^[$]"')
