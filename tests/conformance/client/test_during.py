"""What a client was doing when it broke a rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hobbyhorse.conformance.client.during import CALLBACK, CANCEL, DOWNLOAD, POLL, RESULT, SUBMIT, during
from hobbyhorse.conformance.rule import Breach
from hobbyhorse.contract.values import Contract
from hobbyhorse.traces.trace import Delivery, Exchange, Trace

ROLES = ("submit", "status", "list", "result", "media", "cancel", "run", None)


def trace(*moved: int, scenario: object = None, **more: object) -> Trace:
    """Return a trace with a request of each role; faults affect the numbered ones."""
    exchanges = tuple(
        Exchange(arrived=float(at), method="GET", url="http://x", role=role, move="html_page" if at in moved else None)
        for at, role in enumerate(ROLES, 1)
    )
    return replace(Trace("p", "http://x", exchanges), **({"scenario": scenario or {}} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("number", "operation"),
    [(1, SUBMIT), (2, POLL), (3, POLL), (4, RESULT), (5, DOWNLOAD), (6, CANCEL), (7, SUBMIT)],
)
def test_the_first_request_that_the_message_names_decides(number: int, operation: str) -> None:
    breach = Breach(f"request {number} failed once (no response), but request 1 submits again")
    assert during(breach, trace(2)) == operation


def test_a_request_without_an_operation_leaves_the_decision_to_the_next_one() -> None:
    assert during(Breach("request 8 goes elsewhere after request 5"), trace()) == DOWNLOAD
    assert during(Breach("request 99 does not exist"), trace(4)) == RESULT


@pytest.mark.parametrize(
    ("message", "operation"),
    [
        ("a repeated callback was answered with 500; expected: 2xx", CALLBACK),
        ("one order was submitted with 5 idempotency keys", SUBMIT),
        ("3 polls were sent less than 2 s after the previous poll", POLL),
        ("the result was not ready, but was not requested again", RESULT),
        ("the client reports success, but has not fetched the video", DOWNLOAD),
        ("the cancellation was refused", CANCEL),
    ],
)
def test_a_message_without_a_request_may_mention_the_operation(message: str, operation: str) -> None:
    assert during(Breach(message), trace(1, 2, 4, 5)) == operation


def test_the_last_fault_decides_if_the_message_names_no_request() -> None:
    breach = Breach("the error does not expose the job id")
    assert during(breach, trace(1, 4)) == RESULT
    delivery = Delivery(sent=5.5, job=None, number=1, note="twice")
    assert during(breach, trace(1, 4, deliveries=(delivery,))) == CALLBACK
    assert during(breach, trace(1, 6, deliveries=(delivery,))) == CANCEL


def test_a_timeline_is_seen_in_polls() -> None:
    assert during(Breach("it never ended"), trace(scenario={"timeline": {"move": "stuck"}})) == POLL
    assert during(Breach("it never ended"), trace(5, scenario={"timeline": {"move": "stuck"}})) == DOWNLOAD


def test_without_any_hint_the_last_request_decides(contract: Contract) -> None:
    assert during(Breach("it failed"), trace()) == SUBMIT
    assert during(Breach("it failed"), Trace(contract.key, "http://x")) == SUBMIT
