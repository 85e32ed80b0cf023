"""The server rules about the values of responses, on hand-written traces: kept, broken, learned and not observed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from hobbyhorse.conformance.rule import Rule
from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import MISSING, Place, replaced, resolve
from hobbyhorse.contract.values import Contract, Operation, Situation
from tests.conftest import CONTRACTS, contracts_that
from tests.judging import BROKEN, LESSON, NOT_OBSERVED, PASSED, assuming, family, judged, knowing, teller, verdict
from tests.tracing import JOB, Teller

HEADERS, SAME, SHOWN, ORDER, LINKS, DURATION = family("VAL")
OTHER = f"{JOB[:-1]}Z"


def with_headers(contract: Contract) -> list[tuple[str, Situation]]:
    """Return the situations of submissions that have headers, with their operation."""
    return [
        (role, one)
        for role, operation in contract.operations.items()
        for one in operation.situations.values()
        if one.headers and one.status < 500
    ]


def times(operation: Operation) -> list[str]:
    names = ("created_at", "started_at", "finished_at")
    return [name for name in names if name in operation.bindings and operation.bindings[name].format]


def reads(contract: Contract) -> str:
    """Return the operation that shows the times of a job."""
    return next((role for role in ("status", "result") if times(contract.operations.get(role, _none(contract)))), "")


def _none(contract: Contract) -> Operation:
    return replace(contract.operations["submit"], bindings={})


heading = contracts_that(lambda contract: bool(with_headers(contract)))
dating = contracts_that(lambda contract: bool(reads(contract)))


def success(contract: Contract) -> str:
    situations = contract.operations[reads(contract)].situations.values()
    return next(one.name for one in situations if {contract.graph[name].kind for name in one.stages} == {"success"})


def written(told: Teller, name: str, value: Any) -> Teller:
    """Write a value into each of its places in the last response, or drop it."""
    operation, last = told.contract.operations[told.exchanges[-1].role or ""], told.exchanges[-1]
    body = orjson.loads(last.answer)
    for place in operation.bindings[name].response:
        if resolve(body, place.pointer[:-1]) is not MISSING:
            form = operation.bindings[name].format
            text = value if value is MISSING or form is None else FORMATS[form].write(value)
            body = replaced(body, place.pointer, text)
    told.exchanges[-1] = replace(last, answer=orjson.dumps(body))
    return told


def end(told: Teller, name: str = "", value: Any = None, job: str = JOB) -> Teller:
    """Add a response about a job that has succeeded, with another value than its example."""
    told.call(reads(told.contract), success(told.contract), job=job)
    return written(told, name, value) if name else told


def optional(contract: Contract) -> list[str]:
    """Return the times without which the response about a success still fits its schema."""
    if not reads(contract):
        return []
    operation = contract.operations[reads(contract)]
    situation = operation.situations[success(contract)]

    def fits(name: str) -> bool:
        body = orjson.loads(end(teller(contract), name, MISSING).exchanges[-1].answer)
        return not contract.schemas.violations(situation.schema, body)

    return [name for name in (*times(operation), "expires_at") if name in operation.bindings and fits(name)]


optionally = contracts_that(lambda contract: bool(optional(contract)))


@pytest.mark.parametrize("rule", [HEADERS, SAME, SHOWN, ORDER], ids=lambda rule: rule.id)
def test_a_refusal_shows_nothing(rule: Rule, contract: Contract) -> None:
    told = teller(contract).call("status", "unauthenticated", job=None)
    assert verdict(rule, told) not in (BROKEN, LESSON, PASSED)


@heading
def test_a_response_has_the_headers_of_its_situation(contract: Contract) -> None:
    role, situation = with_headers(contract)[0]
    sent = tuple((name.lower(), value) for name, value in situation.headers)
    for headers, word in ((sent, PASSED), ((), BROKEN)):
        told = teller(knowing(contract))
        told.call(role, situation.name, job=None, expected=situation.name, answer_headers=headers)
        assert verdict(HEADERS, told) == word


@heading
def test_a_header_that_its_schema_forbids_is_a_breach(contract: Contract) -> None:
    for role, situation in with_headers(contract):
        if situation.name == "replayed":
            sent = tuple((name.lower(), "no") for name, _ in situation.headers)
            told = teller(contract).submit().call(role, "replayed", expected="replayed", answer_headers=sent)
            assert verdict(HEADERS, told) == BROKEN


@heading
def test_a_response_that_may_have_two_situations_needs_no_header(contract: Contract) -> None:
    role, situation = with_headers(contract)[0]
    names = [one.name for one in contract.operations[role].situations.values() if one.status == situation.status]
    if len(names) > 1:
        told = teller(knowing(contract)).call(role, situation.name, job=None)
        assert verdict(HEADERS, told) in (NOT_OBSERVED, BROKEN)


@dating
def test_a_job_has_the_same_times_in_each_response(contract: Contract) -> None:
    name = times(contract.operations[reads(contract)])[0]
    told = end(end(teller(contract), name, 1_790_000_000.0), name, 1_790_000_001.0)
    assert verdict(SAME, told) == PASSED
    told = end(end(teller(knowing(contract)), name, 1_790_000_000.0), name, 1_790_003_600.0)
    assert verdict(SAME, told) == BROKEN


@contracts_that(lambda contract: bool(reads(contract)) and "created_at" in contract.operations["submit"].bindings)
def test_the_response_to_a_submission_has_the_times_of_its_job(contract: Contract) -> None:
    for later, expected in ((0.0, PASSED), (3600.0, BROKEN)):
        told = written(teller(knowing(contract)).submit(), "created_at", 1_790_000_000.0)
        # The request has no job yet: only the response names it.
        told.exchanges[-1] = replace(told.exchanges[-1], job=None)
        assert verdict(SAME, end(told, "created_at", 1_790_000_000.0 + later)) == expected


@dating
def test_a_response_that_names_no_job_is_about_the_one_that_was_asked_for(contract: Contract) -> None:
    name = times(contract.operations[reads(contract)])[0]
    told = teller(knowing(contract))
    for moment in (1_790_000_000.0, 1_790_003_600.0):
        written(end(told, name, moment), "job", MISSING)
    assert verdict(SAME, told) == BROKEN


@pytest.mark.parametrize("apart", [-1, 1])
@dating
def test_two_times_that_are_apart_by_rounding_are_the_same(contract: Contract, apart: int) -> None:
    name = times(contract.operations[reads(contract)])[0]
    for seconds, expected in ((1, PASSED), (3, BROKEN)):
        told = end(teller(knowing(contract)), name, 1_790_000_000.0)
        assert verdict(SAME, end(told, name, 1_790_000_000.0 + apart * seconds)) == expected


@dating
def test_two_jobs_may_have_different_times(contract: Contract) -> None:
    name = times(contract.operations[reads(contract)])[0]
    told = end(teller(knowing(contract)), name, 1_790_000_000.0)
    assert verdict(SAME, end(told, name, 1_790_003_600.0, OTHER)) in (NOT_OBSERVED, PASSED)


@dating
def test_a_list_has_the_values_of_the_responses(contract: Contract) -> None:
    operation = contract.operations.get("list")
    shared = set(operation.items.bindings) & {"created_at", "model"} if operation and operation.items else set()
    for name in shared & set(contract.operations[reads(contract)].bindings):
        assert operation is not None
        assert operation.items is not None
        binding, told = operation.items.bindings[name], end(teller(knowing(contract)))
        told.call("list", "listed", job=None)
        body = orjson.loads(told.exchanges[-1].answer)
        at = operation.items.at.pointer
        item = replaced(resolve(body, at)[0], operation.items.bindings["job"].response[0].pointer, JOB)
        other = FORMATS[binding.format].write(1_790_000_000.0) if binding.format else "another"
        item = replaced(item, binding.response[0].pointer, other)
        told.exchanges[-1] = replace(told.exchanges[-1], answer=orjson.dumps(replaced(body, at, [item])))
        assert verdict(SAME, told) == BROKEN


def costs_in_lists(contract: Contract) -> bool:
    listing = contract.operations.get("list")
    shown = "cost" in contract.operations[reads(contract)].bindings if reads(contract) else False
    return shown and listing is not None and listing.items is not None and "cost" in listing.items.bindings


@contracts_that(costs_in_lists)
def test_the_cost_that_a_list_shows_before_the_end_is_an_estimate(contract: Contract) -> None:
    listing = contract.operations["list"].items
    assert listing is not None
    running = next(one.name for one in contract.graph if one.kind == "running")
    for runs in (True, False):
        told = teller(knowing(contract)).submit().status(running)
        stage = told.story().steps[-1].stage
        told = told if runs else end(told)
        stage = stage if runs else told.story().steps[-1].stage
        told.call("list", "listed", job=None)
        body = orjson.loads(told.exchanges[-1].answer)
        item = resolve(body, listing.at.pointer)[0]
        for name, value in (("job", JOB), ("stage", stage), ("cost", "9.99")):
            item = replaced(item, listing.bindings[name].response[0].pointer, value)
        told.exchanges[-1] = replace(
            told.exchanges[-1], answer=orjson.dumps(replaced(body, listing.at.pointer, [item]))
        )
        found = judged(SAME, end(told))
        assert any("cost is" in breach.message for breach in found.breaches) is not runs


@optionally
def test_a_response_has_the_values_of_its_example(contract: Contract) -> None:
    assert verdict(SHOWN, end(teller(contract))) == PASSED
    assert verdict(SHOWN, end(teller(knowing(contract)), optional(contract)[0], MISSING)) == BROKEN


def callback_with(contract: Contract, name: str | None, value: Any) -> Teller:
    """Add the callback of a success, in which a value is another one, or missing."""
    assert contract.callbacks is not None
    situations = contract.callbacks.situations.values()
    situation = next(one for one in situations if {contract.graph[stage].kind for stage in one.stages} == {"success"})
    told = teller(contract).submit().callback(situation.name, body=b"")
    body = contract.schemas.at(situation.example_at)
    for place in contract.callbacks.bindings[name].request if name is not None else ():
        body = replaced(body, place.pointer, value)
    told.deliveries[-1] = replace(told.deliveries[-1], body=orjson.dumps(body))
    return told


@contracts_that(lambda contract: contract.callbacks is not None and "video_url" in contract.callbacks.bindings)
def test_a_callback_has_the_values_of_its_example(contract: Contract) -> None:
    known = knowing(contract)
    assert verdict(SHOWN, callback_with(known, None, None)) == PASSED
    for value in (MISSING, None):
        found = judged(SHOWN, callback_with(known, "video_url", value))
        assert found.verdict == BROKEN
        assert found.breaches[0].message.startswith("callback 1: no video_url at ")
    assert verdict(SHOWN, callback_with(known, "video_url", "https://other.example/video.mp4")) == PASSED


def in_second_items(contract: Contract) -> list[tuple[str, Place]]:
    """Return the places of values in the second items of lists, with their operation."""
    return [
        (role, place)
        for role, operation in contract.operations.items()
        for binding in operation.bindings.values()
        for place in binding.response
        if role in ("status", "result") and place.part == "body" and "1" in map(str, place.pointer)
    ]


@contracts_that(lambda contract: bool(in_second_items(contract)))
def test_a_list_may_have_fewer_items_than_the_example(contract: Contract) -> None:
    role, place = in_second_items(contract)[0]
    told = teller(contract).submit().call(role, success(contract))
    body, at = orjson.loads(told.exchanges[-1].answer), place.pointer[: [*map(str, place.pointer)].index("1")]
    assert len(resolve(body, at)) > 1
    shorter = orjson.dumps(replaced(body, at, resolve(body, at)[:1]))
    told.exchanges[-1] = replace(told.exchanges[-1], answer=shorter, size=len(shorter))
    assert verdict(SHOWN, told) == PASSED


@optionally
def test_a_value_that_is_only_assumed_to_be_shown_is_a_lesson(contract: Contract) -> None:
    name = optional(contract)[0]
    place = f"lifecycle.json#/operations/{reads(contract)}/bindings/{name}"
    assert judged(SHOWN, end(teller(assuming(contract, place)), name, MISSING)).verdict == LESSON


def two_jobs(contract: Contract, apart: float, later: float) -> Teller:
    """Add two submissions and their ends; the second job is created `later` than the first."""
    told = teller(contract)
    for job, created, pause in ((JOB, 1_790_000_000.0, 0.0), (OTHER, 1_790_000_000.0 + later, apart)):
        told.wait(pause).submit(job=job)
        if "created_at" in contract.operations["submit"].bindings:
            written(told, "created_at", created)
    return end(end(told, "created_at", 1_790_000_000.0), "created_at", 1_790_000_000.0 + later, OTHER)


@dating
def test_a_job_that_is_submitted_later_is_created_later(contract: Contract) -> None:
    assert verdict(ORDER, two_jobs(contract, 60, 60)) == PASSED
    assert verdict(ORDER, two_jobs(knowing(contract), 60, 0)) == BROKEN
    assert verdict(ORDER, two_jobs(knowing(contract), 60, -60)) == BROKEN


@dating
def test_jobs_of_the_same_second_show_nothing_about_their_order(contract: Contract) -> None:
    assert verdict(ORDER, two_jobs(knowing(contract), 0.5, 0)) == NOT_OBSERVED


# VAL-02: the expiry of links


expiring = contracts_that(lambda contract: "expires_at" in contract.operations["status"].bindings)


@expiring
def test_the_expiry_of_a_link_moves_with_the_clock_only(contract: Contract) -> None:
    start = 1_800_000_000.0

    def expiries(seconds: float, later: float, *, anew: bool = True) -> str:
        told = end(teller(knowing(contract)).submit(), "expires_at", start).wait(seconds)
        told = end(told, "expires_at", start + later)
        return verdict(SAME, written(told, "video_url", "https://media.example/signed-anew") if anew else told)

    assert expiries(600, 0, anew=False) == PASSED
    assert expiries(600, 0) == PASSED
    assert expiries(600, 600) == PASSED
    assert expiries(600, 600, anew=False) == BROKEN, "one link has one expiry"
    assert expiries(600, -86_400) == BROKEN
    assert expiries(0, 86_400) == BROKEN


# VAL-05


linking = contracts_that(lambda contract: "status_url" in contract.operations["submit"].bindings)


@linking
def test_a_link_leads_to_its_own_operation(contract: Contract) -> None:
    assert verdict(LINKS, teller(contract).submit()) == PASSED
    others = [name for name in ("result_url", "cancel_url") if name in contract.operations["submit"].bindings]
    for name in others:
        told = teller(knowing(contract)).submit()
        assert verdict(LINKS, written(told, "status_url", told.links()[name])) == BROKEN
    # A provider may have another path for the same thing; then the link has to be followed.
    elsewhere = written(teller(contract).submit(), "status_url", "https://queue.example/1")
    assert verdict(LINKS, elsewhere) == PASSED


# The id of another job.
ANOTHER = "tk-hiapi-01KQ7CV7BEG9D9ZJXW8TD15JVZ"


@linking
def test_a_link_names_its_own_job_in_each_stage(contract: Contract) -> None:
    running = next(one.name for one in contract.operations["status"].situations.values() if one.stages)

    def linking_to(job: str) -> Teller:
        told = teller(knowing(contract)).submit().submit(job=ANOTHER, key=None).status(running)
        return written(told, "result_url", told.links(job)["result_url"])

    assert verdict(LINKS, linking_to(JOB)) == PASSED
    assert verdict(LINKS, linking_to(ANOTHER)) == BROKEN
    assert verdict(LINKS, linking_to("an-alias-of-the-job")) == PASSED


@linking
def test_a_followed_link_shows_the_job(contract: Contract) -> None:
    first = next(one.name for one in contract.operations["status"].situations.values() if one.stages)
    told = teller(knowing(contract)).submit().status(first, probe="link:status_url")
    assert verdict(LINKS, told) == PASSED
    assert verdict(LINKS, told.status("unknown_job", probe="link:status_url")) == BROKEN
    assert verdict(LINKS, teller(contract).submit().status(None, status=503, probe="link:status_url")) == PASSED


# VAL-01: the headers of another situation


@contracts_that(lambda contract: "replayed" in contract.operations["submit"].situations)
def test_a_first_response_has_no_header_of_a_repetition(contract: Contract) -> None:
    headers = contract.operations["submit"].situations["replayed"].headers
    marked = tuple((name.lower(), value) for name, value in headers)

    def first(**how: Any) -> Teller:
        return teller(knowing(contract)).submit(expected="accepted", key="key-9", **how)

    assert verdict(HEADERS, first()) == NOT_OBSERVED
    assert verdict(HEADERS, first(answer_headers=marked)) == BROKEN
    # The second of two submissions with one key may be marked, and so may either of two that overlap.
    again = first().submit(expected="accepted", key="key-9", answer_headers=marked)
    assert verdict(HEADERS, again) == NOT_OBSERVED


lasting = contracts_that(lambda contract: DURATION.applies(contract))


@lasting
@pytest.mark.parametrize(
    ("began", "took", "word"),
    [
        (0.0, 60.0, PASSED),
        (0.0, 60.4, PASSED),
        (0.0, 0.06, BROKEN),
        (0.0, 60_000.0, BROKEN),
        # The time in the queue may be left out.
        (20.0, 40.0, PASSED),
        (20.0, 30.0, BROKEN),
    ],
)
def test_a_duration_agrees_with_the_timestamps_beside_it(
    contract: Contract, began: float, took: float, word: str
) -> None:
    told = end(teller(contract))
    for name, value in (
        ("created_at", 1000.25),
        ("started_at", 1000.25 + began),
        ("finished_at", 1060.25),
        ("elapsed", took),
    ):
        written(told, name, value)
    assert verdict(DURATION, told) == word
    told.contract = assuming(contract, f"lifecycle.json#/operations/{reads(contract)}/bindings/elapsed")
    assert verdict(DURATION, told) == (LESSON if word == BROKEN else PASSED)


@lasting
def test_a_duration_beside_a_timestamp_that_is_missing_shows_nothing(contract: Contract) -> None:
    assert verdict(DURATION, end(teller(contract), "finished_at", MISSING)) == NOT_OBSERVED


def test_only_examples_can_relate_a_duration_to_timestamps() -> None:
    assert {contract.key for contract in CONTRACTS if DURATION.applies(contract)} == {
        contract.key
        for contract in CONTRACTS
        if any({"elapsed", "created_at", "finished_at"} <= set(one.bindings) for one in contract.operations.values())
    }
