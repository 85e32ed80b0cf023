"""Nearest operations and differences, for every contract."""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.forms.nearest import Difference, difference, nearest
from hobbyhorse.contract.values import Contract, Operation
from tests.conftest import CONTRACTS, contracts_that
from tests.world import documented


def path_of(operation: Operation) -> str:
    """Return a path that matches an operation."""
    return "/".join("a" if part.startswith("{") else part for part in operation.path.split("/"))


def names_several(operation: Operation) -> bool:
    """Whether a parameter in an operation's path may span several segments."""
    return any(parameter.multi_segment for parameter in operation.parameters)


def headers(**values: str) -> Callable[[str], str | None]:
    return lambda name: values.get(name.replace("-", "_"))


def test_a_path_that_meets_an_operation_differs_in_nothing(contract: Contract) -> None:
    for operation in contract.operations.values():
        found = nearest(contract, operation.method, path_of(operation))
        assert found.differences == ()
        assert found.operation.method == operation.method


def test_a_slip_in_a_literal_segment_names_the_segment(contract: Contract) -> None:
    operation = contract.operations["submit"]
    parts = operation.path.split("/")
    at = max(number for number, part in enumerate(parts) if part and not part.startswith("{"))
    wrong = [*parts[:at], parts[at][:-1], *parts[at + 1 :]]
    path = "/".join("a" if part.startswith("{") else part for part in wrong)
    found = nearest(contract, operation.method, path)
    assert found.operation is operation
    assert found.differences == (
        Difference("path", str(at), f"path segment {at} is {parts[at][:-1]!r}, not {parts[at]!r}"),
    )
    assert str(found) == f"submit {operation.method} {operation.path}, {found.differences[0].message}"


def test_another_method_is_named(contract: Contract) -> None:
    operation = contract.operations["status"]
    found = nearest(contract, "PROPFIND", path_of(operation))
    assert [one.part for one in found.differences] == ["method"]
    assert found.differences[0].message == f"the method is PROPFIND, not {operation.method}"


def test_a_segment_too_many_and_one_that_is_missing_are_named(contract: Contract) -> None:
    operation = contract.operations["submit"]
    count = operation.path.count("/")
    doubled = nearest(contract, operation.method, operation.path.replace("/", "/api/", 1))
    assert [(one.part, one.at) for one in doubled.differences] == [("path", "1")]
    assert doubled.differences[0].message == "path segment 1, 'api', is one too many"
    first = operation.path.split("/")[1]
    short = nearest(contract, operation.method, path_of(operation).removeprefix(f"/{first}"))
    assert count == 1 or Difference("path", "1", f"path segment 1, {first!r}, is missing") in short.differences


@contracts_that(lambda contract: any(names_several(operation) for operation in contract.operations.values()))
def test_a_multi_segment_parameter_is_no_difference(contract: Contract) -> None:
    for operation in filter(names_several, contract.operations.values()):
        path = "/".join("a/b/c" if part.startswith("{") else part for part in operation.path.split("/"))
        found = nearest(contract, operation.method, f"/x{path}")
        assert found.operation is operation
        assert [(one.part, one.at) for one in found.differences] == [("path", "1")]


@given(st.integers(0, len(CONTRACTS) - 1), st.text(max_size=9), st.text(max_size=60).map(lambda text: f"/{text}"))
def test_anything_comes_nearest_to_something(number: int, method: str, path: str) -> None:
    contract = CONTRACTS[number]
    found = nearest(contract, method, path)
    met = any(one.method == method and one.pattern.fullmatch(path) for one in contract.operations.values())
    assert met or found.differences
    assert "\n" not in str(found)


def test_only_the_first_segments_of_a_long_path_are_compared(contract: Contract) -> None:
    found = nearest(contract, "GET", "/a" * 30_000)
    assert len(found.differences) < 40


def test_a_missing_member_of_a_body_is_reported_as_a_field(contract: Contract) -> None:
    operation, model, body = documented(contract)
    path = path_of(operation).replace("/a", f"/{model.id}") if "{" in operation.path else operation.path
    json = headers(content_type="application/json")
    assert difference(contract, operation, path, "", header=json, body=orjson.dumps(body)) is None
    found = difference(contract, operation, path, "", header=json, body=b"{}")
    assert found is not None
    assert found.part == "field"
    assert found.message


@pytest.mark.parametrize("kind", ["text/plain", ""])
def test_another_content_type_is_a_header(contract: Contract, kind: str) -> None:
    operation, model, body = documented(contract)
    path = path_of(operation).replace("/a", f"/{model.id}") if "{" in operation.path else operation.path
    found = difference(contract, operation, path, "", header=headers(content_type=kind), body=orjson.dumps(body))
    assert found is not None
    assert (found.part, found.at) == ("header", "content-type")


def test_a_body_that_is_not_valid_json_is_reported_as_such(contract: Contract) -> None:
    operation, _, _ = documented(contract)
    found = difference(
        contract, operation, path_of(operation), "", header=headers(content_type="application/json"), body=b"{"
    )
    assert found is not None
    assert (found.part, found.at) == ("field", "")
    assert "is not valid JSON" in found.message


def test_a_query_parameter_without_a_value_is_a_difference(contract: Contract) -> None:
    for operation in contract.operations.values():
        for parameter in operation.parameters:
            if parameter.part == "query" and parameter.type == "integer":
                found = difference(
                    contract, operation, path_of(operation), f"{parameter.name}=", header=headers(), body=b""
                )
                assert found is not None, parameter.name
