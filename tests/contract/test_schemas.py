"""Schemas of a folder: addresses, references between files, and violations with their locations."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError
from hobbyhorse.contract.schemas import LONGEST_MESSAGE, Schemas, Violation, address

DOCUMENTS: dict[str, Any] = {
    "openapi.json": {
        "Job": {"type": "object", "required": ["id", "state"], "properties": {"id": {"$ref": "#/Id"}}},
        "Id": {"type": "string", "minLength": 2},
        "Order": {"properties": {"input": {"$ref": "models/move.json"}}},
        "Either": {"anyOf": [{"type": "string"}, {"$ref": "#/Count"}]},
        "Count": {"type": "integer", "minimum": 1},
        "Tier": {"enum": ["360P", "540P", "720P", "1080P", "4K"]},
        "Map": {"type": "object", "propertyNames": {"maxLength": 3}, "additionalProperties": {"type": "string"}},
        "Names": {"propertyNames": {"$ref": "#/Tier"}},
        "Spaced": {"$ref": "#/a%20b~1c"},
        "a b/c": {"const": 1},
        "Chain": {"$ref": "#/Link"},
        "Link": {"$ref": "models/move.json#/properties/seed"},
    },
    "models/move.json": {
        "properties": {"image": {"$ref": "parts.json#/Image"}, "seed": {"type": "integer"}},
        "required": ["image"],
    },
    "models/parts.json": {"Image": {"type": "string", "pattern": "^https?://"}},
}
SCHEMAS = Schemas(DOCUMENTS)
API = "openapi.json#"


def violations(place: str, value: Any) -> list[str]:
    return [str(found) for found in SCHEMAS.violations(API + place, value)]


def places(place: str, value: Any) -> tuple[str, ...]:
    (found,) = SCHEMAS.violations(API + place, value)
    return found.places


# ---- one violation


def test_one_violation_is_found_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"id": "x", "state": 1}
    whole = SCHEMAS.violations(API + "/Job", value)

    class One:
        """A validator that can only name the first error."""

        def __init__(self, schemas: Schemas, place: str) -> None:
            validator = schemas.validator(place)
            self.is_valid, self.validate = validator.is_valid, validator.validate

    one = One(SCHEMAS, API + "/Job")
    monkeypatch.setattr(Schemas, "validator", lambda schemas, place: one)
    assert SCHEMAS.violations(API + "/Job", value, most=1) == whole[:1]


# ---- addresses


def test_an_address_is_a_file_and_an_escaped_pointer() -> None:
    assert address("openapi.json", ("a b/c", "m~n")) == "openapi.json#/a b~1c/m~0n"
    assert SCHEMAS.at(address("openapi.json", ("a b/c",))) == {"const": 1}


@pytest.mark.parametrize("place", ["openapi.json#/nowhere", "nothing.json#", "nothing.json#/x"])
def test_an_address_of_nothing_is_missing(place: str) -> None:
    assert SCHEMAS.at(place) is MISSING


def test_a_malformed_address_is_an_error() -> None:
    with pytest.raises(ExpressionError):
        SCHEMAS.at("openapi.json#Job")


def test_a_document_that_does_not_exist_is_an_error() -> None:
    assert SCHEMAS.document("models/parts.json") is DOCUMENTS["models/parts.json"]
    with pytest.raises(KeyError):
        SCHEMAS.document("nothing.json")


def test_references_are_followed_to_the_final_schema_and_its_file() -> None:
    assert SCHEMAS.deref({"$ref": "#/Chain"}, "openapi.json") == ({"type": "integer"}, "models/move.json")
    image = {"$ref": "parts.json#/Image"}
    assert SCHEMAS.deref(image, "models/move.json")[1] == "models/parts.json"


def test_a_schema_without_a_reference_is_itself() -> None:
    assert SCHEMAS.deref({"type": "null"}, "openapi.json") == ({"type": "null"}, "openapi.json")
    assert SCHEMAS.deref(True, "openapi.json") == (True, "openapi.json")


def test_a_reference_to_nothing_is_missing() -> None:
    assert SCHEMAS.deref({"$ref": "#/nowhere"}, "openapi.json")[0] is MISSING


def test_a_validator_is_compiled_once() -> None:
    assert SCHEMAS.validator(API + "/Id") is SCHEMAS.validator(API + "/Id")


def test_an_address_with_characters_that_urls_escape_can_be_validated() -> None:
    assert SCHEMAS.violations(API + "/a b~1c", 1) == []
    assert SCHEMAS.violations(API + "/a b~1c", 2) != []


# ---- violations


def test_a_valid_value_has_no_violations() -> None:
    assert violations("/Job", {"id": "ab", "state": "x"}) == []


def test_each_missing_member_has_a_location_of_its_own() -> None:
    assert violations("/Job", {}) == ["id: is missing", "state: is missing"]


def test_a_violation_is_located_through_files() -> None:
    (found,) = SCHEMAS.violations(API + "/Order", {"input": {"image": "file:///a"}})
    assert found.location == ("input", "image")
    assert found.message == '"file:///a" does not match "^https?://"'


def test_the_value_itself_has_no_location() -> None:
    assert violations("/Id", "a") == ['value: "a" is shorter than 2 characters']


def test_all_values_of_an_enum_are_listed() -> None:
    assert violations("/Tier", "720p") == ['value: "720p" is not one of "360P", "540P", "720P", "1080P", "4K"']


def test_the_violations_of_all_branches_are_joined() -> None:
    assert violations("/Either", 0) == ['value: 0 is not of type "string" and 0 is less than the minimum of 1']


def test_a_name_that_breaks_its_schema_is_reported_by_the_name() -> None:
    assert violations("/Map", {"long": "x"}) == ['value: "long" is longer than 3 characters']
    assert violations("/Names", {"8K": 1}) == ['value: "8K" is not one of "360P", "540P", "720P", "1080P", "4K"']


def test_no_more_violations_are_returned_than_wanted() -> None:
    value = {"a": 1, "b": 2, "c": 3}
    assert len(SCHEMAS.violations(API + "/Map", value)) == 3
    assert len(SCHEMAS.violations(API + "/Map", value, most=2)) == 2


def test_a_long_message_keeps_both_ends_on_one_line() -> None:
    (found,) = SCHEMAS.violations(API + "/Tier", "x\n" * 1000)
    assert len(found.message) <= LONGEST_MESSAGE + 3
    assert found.message.startswith('"x\\nx')
    assert found.message.endswith('"1080P", "4K"')
    assert "\n" not in found.message


def test_a_value_deeper_than_the_validator_reads_is_a_violation() -> None:
    value: Any = 1
    for _ in range(300):
        value = {"a": value}
    assert violations("/Job", value) == ["value: is nested too deeply"]


# ---- places


def test_the_place_of_a_violation_is_its_keyword() -> None:
    assert places("/Id", "a") == ("openapi.json#/Id/minLength",)


def test_the_references_that_led_to_a_keyword_are_places_the_last_one_first() -> None:
    assert places("/Order", {"input": {"image": "x"}}) == (
        "models/parts.json#/Image/pattern",
        "models/move.json#/properties/image",
        "openapi.json#/Order/properties/input",
    )


def test_a_percent_encoded_reference_is_followed_to_the_keyword() -> None:
    assert places("/Spaced", 2) == ("openapi.json#/a b~1c/const", "openapi.json#/Spaced")


def test_the_keywords_of_all_branches_are_places() -> None:
    assert places("/Either", 0) == (
        "openapi.json#/Either/anyOf",
        "openapi.json#/Either/anyOf/0/type",
        "openapi.json#/Count/minimum",
    )


def test_places_do_not_distinguish_violations() -> None:
    assert Violation(("a",), "is missing", ("x",)) == Violation(("a",), "is missing", ("y",))


@pytest.mark.parametrize(
    ("kind", "text", "valid"),
    [
        ("integer", "2", True),
        (["integer", "null"], "2", True),
        ("integer", "soon", False),
        ("number", "0.5", True),
        ("boolean", "true", True),
        ("string", "2", True),
        ("integer", "9" * 5_000, False),
    ],
)
def test_the_text_of_a_header_is_read_by_its_type(kind: Any, text: str, valid: bool) -> None:
    schemas = Schemas({"a.json": {"header": {"$ref": "#/type"}, "type": {"type": kind}}})
    assert (schemas.text_violations("a.json#/header", text) == []) is valid
