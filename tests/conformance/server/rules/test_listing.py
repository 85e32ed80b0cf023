"""The server rules about lists and queries, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.server.queries import FIRST, NEXT, query_name
from hobbyhorse.contract.forms.expressions import replaced, resolve
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

RULES = family("LST")
PAGE, PAGES, GRANTED, REFUSED = RULES


def listing(contract: Contract) -> Operation:
    return contract.operations["list"]


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


def page(told: Teller, probe: str, items: slice, **values: Any) -> Teller:
    """Add a request for a page, whose response has some of the example's items and the given values."""
    told.call("list", "listed", job=None, probe=probe, url=url(told, **values))
    last, operation = told.exchanges[-1], listing(told.contract)
    assert operation.items is not None
    body = orjson.loads(last.answer)
    at = operation.items.at.pointer
    job = operation.items.bindings["job"].response[0].pointer
    listed = [replaced(item, job, f"job-{number}") for number, item in enumerate(resolve(body, at))]
    body = replaced(body, at, listed[items])
    for name, value in values.items():
        for place in operation.bindings[name].response:
            body = replaced(body, place.pointer, value)
    told.exchanges[-1] = replace(last, answer=orjson.dumps(body))
    return told


@unpaged
def test_a_contract_without_queries_has_nothing_to_judge(contract: Contract) -> None:
    assert {verdict(rule, teller(contract).submit()) for rule in RULES} == {NOT_APPLICABLE}


@paged
def test_a_list_without_a_query_shows_nothing(contract: Contract) -> None:
    told = teller(contract).submit().call("list", "listed", job=None, probe="identity:list")
    assert {verdict(rule, told) for rule in RULES} == {NOT_OBSERVED}


@paged
def test_a_page_has_at_most_the_requested_number_of_items(contract: Contract) -> None:
    assert verdict(PAGE, page(teller(contract), FIRST, slice(1), size=1)) == PASSED
    assert verdict(PAGE, page(teller(knowing(contract)), FIRST, slice(2), size=1)) == BROKEN


@paged
def test_a_page_repeats_the_requested_size(contract: Contract) -> None:
    known = knowing(contract)
    if not listing(contract).bindings["size"].response:
        return
    told = page(teller(known), FIRST, slice(1), size=1)
    body = replaced(orjson.loads(told.exchanges[-1].answer), listing(contract).bindings["size"].response[0].pointer, 20)
    told.exchanges[-1] = replace(told.exchanges[-1], answer=orjson.dumps(body))
    assert verdict(PAGE, told) == BROKEN


@paged
def test_successive_pages_have_other_items(contract: Contract) -> None:
    told = page(teller(contract), FIRST, slice(0, 1), size=1)
    assert verdict(PAGES, page(told, NEXT, slice(1, 2), size=1)) == PASSED
    same = page(teller(knowing(contract)), FIRST, slice(0, 1), size=1)
    assert verdict(PAGES, page(same, NEXT, slice(0, 1), size=1)) == BROKEN


@with_cursors
def test_a_page_of_some_jobs_has_the_cursor_of_the_next_page(contract: Contract) -> None:
    place = listing(contract).bindings["next_cursor"].response[0].pointer
    for cursor, jobs, word in (("abc", 2, PASSED), (None, 2, BROKEN), (None, 1, NOT_OBSERVED)):
        told = teller(knowing(contract))
        for number in range(jobs):
            told.submit(job=f"tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JV{number}")
        page(told, FIRST, slice(1), size=1)
        last = told.exchanges[-1]
        told.exchanges[-1] = replace(last, answer=orjson.dumps(replaced(orjson.loads(last.answer), place, cursor)))
        assert verdict(PAGES, told) == word


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
