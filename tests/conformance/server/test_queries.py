"""Queries at and beyond the documented bounds, and pages that a query selects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse.conformance.server.queries import Query, queries, written
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Parameter
from tests.conftest import CONTRACTS, contracts_that

listing = contracts_that(lambda contract: "list" in contract.operations)


def of(schema: dict[str, Any], part: str = "query") -> list[Query]:
    """Return the queries of a parameter with a schema."""
    contract = CONTRACTS[0]
    parameter = Parameter("n", part, False, str(schema.get("type")), "openapi.json#/schema")
    operation = replace(contract.operations["status"], parameters=(parameter,))
    return list(queries(replace(contract, schemas=Schemas({"openapi.json": {"schema": schema}})), operation))


def texts(found: list[Query], *, valid: bool) -> list[str]:
    return [one.value for one in found if (one.expected is None) is valid]


def test_a_number_is_tried_at_its_bounds_and_beyond_them() -> None:
    found = of({"type": "integer", "minimum": 1, "maximum": 500})
    assert texts(found, valid=True) == ["1", "500"]
    assert texts(found, valid=False) == ["no-such-value", "0", "501"]
    assert [one.probe for one in found][:2] == ["query:bound:n:minimum", "query:bound:n:maximum"]


def test_each_choice_is_tried_and_one_that_is_none() -> None:
    found = of({"type": "string", "enum": ["a", "b"]})
    assert (texts(found, valid=True), texts(found, valid=False)) == (["a", "b"], ["no-such-value"])


def test_a_boolean_is_written_as_in_json() -> None:
    assert texts(of({"type": "boolean"}), valid=True) == ["true", "false"]
    assert (written(True), written(3)) == ("true", "3")


@pytest.mark.parametrize("part", ["header", "path"])
def test_only_the_parameters_of_a_query_are_tried(part: str) -> None:
    assert of({"type": "integer", "minimum": 1}, part) == []


def test_a_text_has_no_bounds() -> None:
    assert of({"type": "string"}) == []
