"""The rule about the pages of a list, on traces written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from hobbyhorse.conformance.judge import BROKEN, LESSON, NOT_APPLICABLE, NOT_OBSERVED, PASSED
from hobbyhorse.conformance.server.rules.identity import LONG, PARTS, _order_places, jobs_of, requested
from hobbyhorse.contract.forms.expressions import replaced, resolve
from hobbyhorse.contract.values import Contract
from tests.conftest import contracts_that
from tests.judging import assuming, family, judged, knowing, named, verdict
from tests.judging import teller as ordered
from tests.tracing import JOB, Teller

RULE = named(family("IDN"), "IDN-06")
paged = contracts_that(lambda contract: "size" in getattr(contract.operations.get("list"), "bindings", {}))


def page(told: Teller, jobs: list[str], **query: object) -> Teller:
    """Add a request for a page, with the jobs on it."""
    operation = told.contract.operations["list"]
    assert operation.items is not None
    example = told.contract.schemas.at(operation.situations["listed"].example_at)
    item = resolve(example, (*operation.items.at.pointer, "0"))
    place = operation.items.bindings["job"].response[0]
    items = [replaced(item, place.pointer, job) for job in jobs]
    body = replaced(example, operation.items.at.pointer, items)
    names = {name: operation.bindings[name].request[0].name for name in query}
    text = "&".join(f"{names[name]}={value}" for name, value in query.items())
    url = f"{told.base}{operation.path}?{text}"
    return told.call("list", "listed", None, answer=orjson.dumps(body), url=url, probe="identity:pages")


def told(contract: Contract) -> Teller:
    return ordered(knowing(contract))


@paged
def test_a_page_has_at_most_the_requested_items(contract: Contract) -> None:
    assert verdict(RULE, page(told(contract), ["a", "b"], size=2)) == PASSED
    found = judged(RULE, page(told(contract), ["a", "b"], size=1))
    assert found.verdict == BROKEN
    assert "2 items; requested: 1" in found.breaches[0].message
    annotated = page(told(contract), ["a", "b"], size=1)
    annotated.contract = assuming(contract, "lifecycle.json#/operations/list/bindings/size")
    assert verdict(RULE, annotated) == LESSON


def pages(contract: Contract, *jobs: str) -> Any:
    annotated = told(contract)
    for job in jobs:
        page(annotated, [job], size=1)
    return verdict(RULE, annotated)


@paged
def test_another_page_has_other_jobs(contract: Contract) -> None:
    assert pages(contract, "a", "b", "a") == PASSED
    assert pages(contract, "a", "a", "a") == BROKEN
    # A new job moved every item: nothing is known.
    assert pages(contract, "a", "a", "c") == PASSED


@paged
def test_without_a_size_nothing_is_known(contract: Contract) -> None:
    assert verdict(RULE, told(contract)) == NOT_OBSERVED
    assert verdict(RULE, page(told(contract), ["a", "b"])) == NOT_OBSERVED


@contracts_that(lambda contract: "list" not in contract.operations)
def test_a_provider_without_a_list_has_no_pages(contract: Contract) -> None:
    assert verdict(RULE, told(contract)) == NOT_APPLICABLE


@paged
def test_the_query_and_the_jobs_of_a_page_are_read(contract: Contract) -> None:
    (step,) = page(told(contract), ["a", "b"], size=7).story().steps
    operation = contract.operations["list"]
    assert requested(operation, step, "size") == "7"
    assert requested(operation, step, "no-such-value") is None
    assert jobs_of(operation, step) == ["a", "b"]


# IDN-07


NEWEST = named(family("IDN"), "IDN-07")
OLD, NEW = (f"{JOB[:-1]}{letter}" for letter in "AB")
ordering = contracts_that(NEWEST.applies)
unordered = contracts_that(lambda contract: not NEWEST.applies(contract))


def two_jobs(contract: Contract, seconds: float = 5.0) -> Teller:
    return told(contract).submit(job=OLD, key="key-1").wait(seconds).submit(job=NEW, key="key-2").wait(1)


@ordering
def test_a_list_begins_with_the_newest_job(contract: Contract) -> None:
    assert verdict(NEWEST, page(two_jobs(contract), [NEW, OLD])) == PASSED
    found = judged(NEWEST, page(two_jobs(contract), [OLD, NEW]))
    assert found.verdict == BROKEN
    assert "submitted 5 s after" in found.breaches[0].message
    # Jobs of one second may be dated alike, and another client's jobs may stand between ours.
    assert verdict(NEWEST, page(two_jobs(contract, 0.5), [OLD, NEW])) == NOT_OBSERVED
    assert verdict(NEWEST, page(two_jobs(contract), [NEW, "another", OLD])) == PASSED


@ordering
def test_the_first_of_several_pages_has_the_newest_job(contract: Contract) -> None:
    assert verdict(NEWEST, page(two_jobs(contract).wait(20), [NEW], size=1)) == PASSED
    found = judged(NEWEST, page(two_jobs(contract).wait(20), [OLD], size=1))
    assert found.verdict == BROKEN
    assert "not on the first page" in found.breaches[0].message
    # Another page has older ones, and a list may lag, or have the jobs of others.
    assert verdict(NEWEST, page(two_jobs(contract).wait(20), [OLD], size=1, page=2)) == NOT_OBSERVED
    assert verdict(NEWEST, page(two_jobs(contract), [OLD], size=1)) == PASSED
    assert verdict(NEWEST, page(two_jobs(contract).wait(20), ["another"], size=1)) == NOT_OBSERVED


@unordered
def test_a_list_without_a_documented_order_may_have_any(contract: Contract) -> None:
    assert verdict(NEWEST, told(contract)) == NOT_APPLICABLE


beginning_with_the_newest = contracts_that(
    lambda contract: bool(contract.operations.get("list")) and bool(_order_places(contract))
)
LISTED = named(family("IDN"), "IDN-05")


def fresh(contract: Contract, jobs: list[str], **query: object) -> str:
    """Return the verdict on a list of unknown length that follows a submission."""
    return endless(page(told(contract).submit(job=JOB, probe="job"), jobs, **query), len(jobs), **query)


def endless(annotated: Teller, items: int, **query: object) -> str:
    """Return the verdict on the last list if it does not tell that it is complete."""
    contract = annotated.contract
    last = annotated.exchanges[-1]
    body = orjson.loads(last.answer)
    for name in ("total", "page", "size"):
        binding = contract.operations["list"].bindings.get(name)
        for place in binding.response if binding else ():
            body = replaced(body, place.pointer, {"total": 99, "page": query.get("page", 1), "size": items}[name])
    for name in ("next_cursor",):
        binding = contract.operations["list"].bindings.get(name)
        for place in binding.response if binding else ():
            body = replaced(body, place.pointer, "another page")
    annotated.exchanges[-1] = replace(last, probe="identity:fresh", answer=orjson.dumps(body))
    return verdict(LISTED, annotated)


@beginning_with_the_newest
def test_a_list_that_begins_with_the_newest_job_has_a_new_one_at_once(contract: Contract) -> None:
    assert fresh(contract, [JOB, "older"]) == PASSED
    assert fresh(contract, ["old", "older"]) == BROKEN
    assert fresh(contract, ["of-another-client"]) == NOT_OBSERVED
    part = next(name for name in PARTS if name in contract.operations["list"].bindings)
    assert fresh(contract, ["old", "older"], **{part: 2}) == NOT_OBSERVED


def test_only_the_suites_own_lists_are_judged(contract: Contract) -> None:
    assert verdict(LISTED, told(contract).submit(job=JOB, probe="job")) in (NOT_OBSERVED, NOT_APPLICABLE)


@beginning_with_the_newest
def test_a_repeated_submission_makes_no_job_the_newest(contract: Contract) -> None:
    def listed(jobs: list[str]) -> str:
        annotated = told(contract).submit(job=JOB, probe="job").submit(job="new", probe="job", key="k2")
        return endless(page(annotated.submit(job=JOB, probe="idempotency:late"), jobs), len(jobs))

    assert listed(["new", "older"]) != BROKEN
    assert listed(["older", "oldest"]) == BROKEN


OWN = ("a", "b", "c", "d")


def walked(contract: Contract, pages: list[list[str]], before: list[str], after: list[str] | None = None) -> Teller:
    """Return a trace with pages, the first one again, and a long page before and after them."""
    annotated = told(contract)
    for number, job in enumerate(reversed(OWN)):
        annotated.submit(job=job, probe="job", key=f"k{number}")
    last = before if after is None else after
    for jobs, size in [(before, 100), *((one, 1) for one in (*pages, pages[0])), (last, 100)]:
        page(annotated.wait(10), jobs, size=size)
    for number in (len(OWN), -1):
        annotated.exchanges[number] = replace(annotated.exchanges[number], probe=LONG)
    return annotated


def skipped(annotated: Teller) -> list[str]:
    """Return the findings about skipped jobs; the totals of the examples are too low."""
    return [one.message for one in judged(RULE, annotated).breaches if "total" not in one.message]


@paged
def test_the_pages_skip_no_job_that_a_long_page_has(contract: Contract) -> None:
    listed = list(OWN)
    for right in ([["a"], ["b"], ["c"]], [["a"], ["c"], ["b"]]):
        assert skipped(walked(contract, right, listed)) == []
    assert skipped(walked(contract, [["a"], ["b"]], ["a", "b"])) == []
    for wrong, words in (
        ([["a"], ["c"], ["d"]], "b after job a"),
        ([["a"], ["b"], ["d"]], "c after job b"),
        ([["a"], ["b"]], "c after job b"),
        ([["a"], [], ["b"]], "c after job b"),
        ([["a"]], "b after job a"),
    ):
        (message,) = skipped(walked(contract, wrong, listed))
        assert f"lists job {words}; no page up to" in message


@paged
def test_jobs_of_other_clients_and_a_list_that_moves_show_no_skipped_job(contract: Contract) -> None:
    listed, wrong = list(OWN), [["a"], ["c"], ["d"]]
    assert skipped(walked(contract, [["a"], ["b"], ["c"]], ["a", "x", "b", "y", "c", "d"])) == []
    assert skipped(walked(contract, [["x"], ["a"], ["b"]], ["x", *listed])) == []
    # Nobody knows where a job was that a long page lacks, or that has moved.
    assert skipped(walked(contract, [["a"], ["x"], ["c"]], listed)) == []
    assert skipped(walked(contract, wrong, listed, ["a", "c", "d", "b"])) == []
    assert skipped(walked(contract, wrong, ["a", "c", "d"], listed)) == []
    moved = walked(contract, wrong, listed)
    moved.exchanges[-2] = moved.exchanges[-3]
    assert skipped(moved) == []
    for number in (len(OWN), len(OWN) + 2, -1):
        refused = walked(contract, wrong, listed)
        refused.exchanges[number] = replace(refused.exchanges[number], status=429)
        assert skipped(refused) == []
