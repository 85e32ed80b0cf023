"""The server rules about queries, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

from typing import Any

import pytest

from hobbyhorse.contract.values import Contract, Operation
from tests.conftest import contracts_that
from tests.judging import (
    BROKEN,
    LESSON,
    NOT_APPLICABLE,
    NOT_OBSERVED,
    PASSED,
    assuming,
    family,
    judged,
    knowing,
    teller,
    verdict,
)
from tests.tracing import Teller

GRANTED, REFUSED = RULES = family("NEG")[3:5]


def listing(contract: Contract) -> Operation:
    return contract.operations["list"]


def query_name(operation: Operation, bound: str) -> str | None:
    """Return the name of the query parameter that is bound to a value."""
    binding = operation.bindings.get(bound)
    return next((place.name for place in (binding.request if binding else ()) if place.part == "query"), None)


def has_pages(contract: Contract) -> bool:
    return "list" in contract.operations and query_name(listing(contract), "size") is not None


def has_no_queries(contract: Contract) -> bool:
    operations = contract.operations.values()
    return not any(one.part == "query" for operation in operations for one in operation.parameters)


paged = contracts_that(has_pages)
with_cursors = contracts_that(lambda contract: has_pages(contract) and "next_cursor" in listing(contract).bindings)
unpaged = contracts_that(has_no_queries)


def url(told: Teller, **values: Any) -> str:
    """Return the URL of a list with query parameters, given by the values that they are bound to."""
    names = {query_name(listing(told.contract), bound): value for bound, value in values.items()}
    query = "&".join(f"{name}={value}" for name, value in names.items())
    return f"{told.base}{listing(told.contract).path}?{query}"


@unpaged
def test_a_contract_without_queries_has_nothing_to_judge(contract: Contract) -> None:
    assert {verdict(rule, teller(contract).submit()) for rule in RULES} == {NOT_APPLICABLE}


@paged
def test_a_list_without_a_query_shows_nothing(contract: Contract) -> None:
    told = teller(contract).submit().call("list", "listed", job=None, probe="identity:list")
    assert {verdict(rule, told) for rule in RULES} == {NOT_OBSERVED}


def probe(told: Teller, label: str, situation: str) -> Teller:
    """Add a list without a query, and one with a query of the size."""
    told.call("list", "listed", job=None)
    name = query_name(listing(told.contract), "size")
    there = url(told, size=label)
    return told.call("list", situation, job=None, probe=f"query:{label}".replace("NAME", str(name)), url=there)


@paged
def test_a_query_at_a_bound_is_granted(contract: Contract) -> None:
    assert verdict(GRANTED, probe(teller(contract), "bound:NAME:maximum", "listed")) == PASSED
    assert verdict(GRANTED, probe(teller(knowing(contract)), "bound:NAME:maximum", "invalid_request")) == BROKEN


@paged
def test_a_query_is_not_refused_for_its_value_if_the_list_is_refused_anyway(contract: Contract) -> None:
    told = probe(teller(knowing(contract)), "bound:NAME:maximum", "invalid_request")
    del told.exchanges[0]
    assert verdict(GRANTED, told) == NOT_OBSERVED


@paged
def test_a_query_beyond_a_bound_is_refused_as_documented(contract: Contract) -> None:
    assert verdict(REFUSED, probe(teller(contract), "negative:NAME:maximum", "invalid_request")) == PASSED
    assert verdict(REFUSED, probe(teller(knowing(contract)), "negative:NAME:maximum", "listed")) == BROKEN
    assert verdict(REFUSED, probe(teller(knowing(contract)), "negative:NAME:maximum", "unauthenticated")) == BROKEN


@paged
def test_a_bound_that_is_assumed_is_a_lesson(contract: Contract) -> None:
    name = query_name(listing(contract), "size")
    schema = next(one.schema for one in listing(contract).parameters if one.name == name)
    told = probe(teller(assuming(contract, f"{schema}/maximum")), "negative:NAME:maximum", "listed")
    assert judged(REFUSED, told).verdict == LESSON


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_failure_of_the_server_shows_nothing(rule: Any) -> None:
    contract = next(one for one in paged.args[1] if one.key)
    told = probe(teller(contract), "negative:NAME:maximum", "server_error")
    assert verdict(rule, told) == NOT_OBSERVED
