"""Routing: precedence of paths, path parameters, allowed methods, and the situation of a job in a stage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.contract.folder import build, load
from hobbyhorse.contract.forms.expressions import Message
from hobbyhorse.contract.routes import MOST_CACHED_PATHS, Routes
from hobbyhorse.contract.values import Contract
from tests import specimen

ACME = load(specimen.FOLDER)
ROUTES = Routes(ACME)


def role(method: str, path: str, routes: Routes = ROUTES) -> tuple[str, dict[str, str]] | None:
    found = routes.match(method, path)
    return found and (found[0].operation.role, dict(found[1]))


# ---- paths


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v1/jobs", ("submit", {})),
        ("GET", "/v1/jobs", ("list", {})),
        ("GET", "/v1/jobs/a", ("status", {"id": "a"})),
        ("GET", "/v1/jobs/result", ("status", {"id": "result"})),
        ("GET", "/v1/jobs/a/result", ("result", {"id": "a"})),
        ("GET", "/v1/models", ("models", {})),
        ("GET", "/v1/models/acme/move", ("model", {"model": "acme/move"})),
    ],
)
def test_a_path_has_its_operation_and_parameters(method: str, path: str, expected: Any) -> None:
    assert role(method, path) == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs/"),
        ("GET", "/v1/jobs/a/b"),
        ("GET", "/v1/jobs/a/result/"),
        ("GET", "/v1"),
        ("GET", "/V1/jobs"),
        ("PUT", "/v1/jobs"),
        ("get", "/v1/jobs"),
        ("GET", ""),
    ],
)
def test_another_path_or_method_has_none(method: str, path: str) -> None:
    assert role(method, path) is None


def with_paths(**paths: str) -> Routes:
    """Return the routes of the specimen with the paths of some operations moved."""
    changes, removed = {}, []
    documents = specimen.edited({})
    for old, new in paths.items():
        old = old.replace("__", "/")
        escaped = new.replace("~", "~0").replace("/", "~1")
        changes[f"openapi.json#/paths/{escaped}"] = documents["openapi.json"]["paths"][old]
        removed.append(f"openapi.json#/paths/{old.replace('/', '~1')}")
    return Routes(build(specimen.FOLDER, specimen.edited(changes, removed)))


def test_a_concrete_path_precedes_a_templated_one() -> None:
    routes = with_paths(__v1__health="/v1/jobs/health")
    assert role("GET", "/v1/jobs/health", routes) == ("health", {})
    assert role("GET", "/v1/jobs/healthy", routes) == ("status", {"id": "healthy"})


def test_the_longer_template_precedes_one_whose_parameter_spans_segments() -> None:
    routes = with_paths(__v1__models="/v1/models/{model}/list")
    assert role("GET", "/v1/models/move/list", routes) == ("models", {"model": "move"})
    assert role("GET", "/v1/models/acme/move/list", routes) == ("model", {"model": "acme/move/list"})


def test_every_operation_of_a_provider_is_found_by_its_own_path(contract: Contract) -> None:
    routes = Routes(contract)
    for operation in contract.operations.values():
        path = "/".join("a" if part.startswith("{") else part for part in operation.path.split("/"))
        found = routes.match(operation.method, path)
        assert found is not None
        assert (found[0].operation.method, found[0].operation.path) == (operation.method, operation.path)


@given(st.text(max_size=40))
def test_any_path_is_matched_or_not(path: str) -> None:
    found = ROUTES.match("GET", path)
    assert found is None or found[0].operation.pattern.fullmatch(path)


def test_the_cache_of_paths_is_bounded() -> None:
    routes = Routes(ACME)
    for number in range(2 * MOST_CACHED_PATHS):
        routes.match("GET", f"/v1/jobs/{number}")
    assert routes.match.cache_info().currsize == MOST_CACHED_PATHS


# ---- methods


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/v1/jobs", ["GET", "POST"]), ("/v1/jobs/a/cancel", ["POST"]), ("/v1/nothing", [])],
)
def test_the_allowed_methods_of_a_path_are_sorted(path: str, methods: list[str]) -> None:
    assert ROUTES.allowed(path) == methods


def test_methods_are_sorted_whatever_the_order_of_the_routes() -> None:
    routes = with_paths(__v1__run="/v1/a/longer/path/than/all/others")
    assert routes.allowed("/v1/jobs") == ["GET", "POST"]


# ---- situations


def situation(path: str, stage: str, **query: Any) -> str:
    found = ROUTES.match("GET", path)
    assert found is not None
    return found[0].situation(stage, Message({}, query, lambda name: None)).name


@pytest.mark.parametrize(
    ("query", "expected"),
    [({}, "done"), ({"verbose": False}, "done"), ({"verbose": True}, "done_verbose"), ({"verbose": "true"}, "done")],
)
def test_a_condition_that_is_met_selects_its_situation(query: dict[str, Any], expected: str) -> None:
    assert situation("/v1/jobs/a", "done", **query) == expected


def test_the_last_situation_of_a_stage_is_its_default_if_no_condition_is_met() -> None:
    condition = {"lifecycle.json#/operations/status/situations/done/when": {"$request.query.verbose": "no"}}
    routes = Routes(build(specimen.FOLDER, specimen.edited(condition)))
    found = routes.match("GET", "/v1/jobs/a")
    assert found is not None
    assert found[0].situation("done", Message({}, {}, lambda name: None)).name == "done"


def test_a_condition_is_about_its_own_stage_only() -> None:
    assert situation("/v1/jobs/a", "running", verbose=True) == "running"


def test_a_stage_without_a_situation_is_an_error() -> None:
    found = ROUTES.match("POST", "/v1/jobs")
    assert found is not None
    with pytest.raises(KeyError):
        found[0].situation("done", Message({}, {}, lambda name: None))


@pytest.mark.parametrize(
    ("method", "path", "plain"),
    [
        ("GET", "/v1/jobs/a/result", True),
        ("GET", "/v1/jobs/a", False),
        ("GET", "/v1/jobs", False),
        ("POST", "/v1/jobs", False),
    ],
)
def test_a_route_is_plain_if_only_the_path_decides(method: str, path: str, plain: bool) -> None:
    found = ROUTES.match(method, path)
    assert found is not None
    assert found[0].plain is plain
