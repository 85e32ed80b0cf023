"""The lines of requests, and of holds of the event loop."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from hobbyhorse.server.app import Fake
from hobbyhorse.server.observing.held_loop import HeldLoop
from hobbyhorse.server.observing.log import open_log
from hobbyhorse.server.observing.observed import Observed
from hobbyhorse.server.observing.request_log import RequestLog
from hobbyhorse.server.request import OperationRequest
from tests.server.observing.running import BODY, KEY, TASKS, running

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Close the log after each test."""
    logger = logging.getLogger("hobbyhorse")
    before = [*logger.handlers], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def block(seconds: float) -> None:
    time.sleep(seconds)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_a_request_is_one_line_at_debug_with_the_id_of_its_response() -> None:
    stream = io.StringIO()
    log = RequestLog(open_log("json", "debug", stream))
    async with running(Observed(Fake(), [log.setup])) as client:
        response = await client.post(TASKS, json=BODY)
        await client.get(f"{TASKS}/{KEY}")
    first, second, last = lines(stream)
    assert first.pop("ms") > 0
    assert first.pop("world") == second["world"]
    first.pop("time")
    assert first == {
        "level": "debug",
        "message": "request",
        "id": response.headers["x-mock-request-id"],
        "method": "POST",
        "path": TASKS,
        "provider": "hiapi",
        "operation": "submit",
        "situation": "accepted",
        "job": response.json()["data"]["taskId"],
        "status": 200,
    }
    assert (second["path"], second["status"]) == (f"{TASKS}/[key]", 404)
    assert (last["level"], last["message"]) == ("info", "stopped")
    assert KEY not in stream.getvalue()


async def test_a_request_has_no_line_at_info() -> None:
    stream = io.StringIO()
    log = RequestLog(open_log("json", "info", stream))
    async with running(Observed(Fake(), [log.setup])) as client:
        await client.post(TASKS, json=BODY)
    assert [one["message"] for one in lines(stream)] == ["stopped"]


async def test_a_slow_operation_is_one_warning_that_names_it() -> None:
    stream = io.StringIO()
    log = RequestLog(open_log("json", "info", stream))
    fake = Fake()
    handle = fake.handle

    async def slow(call: OperationRequest) -> None:
        block(0.08)
        await handle(call)

    fake.handle = slow
    async with running(Observed(fake, [log.setup], partial(HeldLoop, log.held))) as client:
        response = await client.post(TASKS, json=BODY)
    (found,) = [one for one in lines(stream) if one["message"] == "slow loop" and one["operation"] != "background"]
    assert found["held_ms"] >= 80
    assert found["level"] == "warning"
    assert (found["provider"], found["operation"]) == ("hiapi", "submit")
    assert found["id"] == response.headers["x-mock-request-id"]


def test_a_hold_outside_requests_is_called_background() -> None:
    stream = io.StringIO()
    RequestLog(open_log("json", "info", stream)).held(0.1234, 0.01, None)
    (found,) = lines(stream)
    assert (found["held_ms"], found["work_ms"], found["operation"]) == (123.4, 10.0, "background")
