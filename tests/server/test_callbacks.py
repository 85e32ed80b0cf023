"""A callback follows the end of its job, signed, with the values of a poll, and is retried until acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, get_args

import orjson
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hobbyhorse.clock.quiescence import ActivityGroup, held, together, unheld
from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, verify
from hobbyhorse.contract.reading import message_of, read_callback
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.effects import (
    AfterNext,
    CallbackEffect,
    Copies,
    FalseFirst,
    Postponed,
    Rewritten,
    Unsent,
)
from hobbyhorse.scenarios.fault import CALLBACK
from hobbyhorse.scenarios.fields import payload_places
from hobbyhorse.scenarios.scenario import ScenarioError, read_scenario
from hobbyhorse.server.callbacks import MOST_STRANGERS
from hobbyhorse.worlds.jobs import MediaLinks
from hobbyhorse.worlds.world import Ending
from tests.conftest import contracts_that
from tests.known_faults import CALLBACK_FAULTS
from tests.world import Mock, documented

pytestmark = pytest.mark.anyio

calling = contracts_that(lambda contract: contract.callbacks is not None)


class Receiver:
    """An independent receiver of callbacks; responds with the given statuses, then with 200."""

    def __init__(self, server: HTTPServer, *statuses: int) -> None:
        self.url = server.url_for("/callback")
        self.received: list[tuple[dict[str, str], bytes]] = []
        self._statuses = list(statuses)
        server.clear()
        server.expect_request("/callback", method="POST").respond_with_handler(self._receive)

    def _receive(self, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((headers, request.get_data()))
        return Response(status=self._statuses.pop(0) if self._statuses else 200)


async def order(mock: Mock, contract: Contract, url: str, **members: Any) -> str:
    """Submit the documented job with a callback URL."""
    operation, model, body = documented(contract)
    place = operation.bindings["callback_url"].request[0]
    for name, value in members.items():
        body = replaced(body, operation.bindings[name].request[0].pointer, value)
    body = replaced(body, place.pointer, url)
    reply = await mock.call(contract, "submit", path={"model": model.id}, body=body)
    assert reply.reading is not None
    assert "accepted" in reply.reading.situations, reply.body
    return str(reply.reading.values["job"])


@calling
async def test_a_callback_follows_the_end_of_the_job_with_the_values_of_a_poll(
    contract: Contract, httpserver: HTTPServer
) -> None:
    assert contract.callbacks is not None
    mock, receiver = Mock([contract]), Receiver(httpserver)
    job = await order(mock, contract, receiver.url)
    finished = mock.world.jobs[job].finished
    await mock.clock.advance(finished - mock.clock.now() - 0.001)
    assert receiver.received == [], "none before the job has ended"
    await mock.clock.advance(0.001)
    assert len(receiver.received) == 1
    told = read_callback(contract.schemas, contract.callbacks, message_of([], orjson.loads(receiver.received[0][1])))
    poll = await mock.call(contract, "status", path={"job": job})
    assert poll.reading is not None
    assert told.values["job"] == job
    assert told.stages <= poll.reading.stages
    shared = set(told.values) & set(poll.reading.values) - {"stage"}
    assert {"job", "video_url"} <= shared
    for name in shared:
        assert told.values[name] == poll.reading.values[name], name
    await mock.clock.advance(10 * 86_400)
    assert len(receiver.received) == 1, "none after an acknowledgement"


@calling
@pytest.mark.parametrize("kind", ["success", "failure"])
async def test_a_callbacks_message_matches_its_schema_for_every_end(
    kind: str, contract: Contract, httpserver: HTTPServer
) -> None:
    assert contract.callbacks is not None
    met = []
    for stage in contract.graph.terminals():
        told = [one for one in contract.callbacks.situations.values() if stage.name in one.stages]
        if stage.kind != kind or not told:
            continue
        mock, receiver = Mock([contract]), Receiver(httpserver)
        mock.world.endings.append(
            Ending(stage.name, "SOME_CODE", "some words") if kind == "failure" else Ending(stage.name)
        )
        await order(mock, contract, receiver.url)
        await mock.clock.advance(3_600)
        body = orjson.loads(receiver.received[-1][1])
        assert not contract.schemas.violations(told[0].schema, body)
        reading = read_callback(contract.schemas, contract.callbacks, message_of([], body))
        assert stage.name in reading.stages
        assert ("video_url" in reading.values) == (kind == "success")
        if kind == "failure":
            assert b"some words" in receiver.received[-1][1]
        met.append(stage.name)
    assert met


@calling
async def test_a_callback_that_is_not_acknowledged_comes_again_by_the_schedule(
    contract: Contract, httpserver: HTTPServer
) -> None:
    assert contract.callbacks is not None
    retries = contract.callbacks.retries
    mock, receiver = Mock([contract]), Receiver(httpserver, *([500, 404, 302][: len(retries)]))
    job = await order(mock, contract, receiver.url)
    finished = mock.world.jobs[job].finished
    await mock.clock.run_until_idle()
    attempts = [attempt for attempt in mock.fake.callback_dispatcher().attempts if attempt.job == job]
    moments = [attempt.moment for attempt in attempts]
    expected = [finished]
    for pause in retries[: len(attempts) - 1]:
        expected.append(expected[-1] + pause)
    assert moments == pytest.approx(expected)
    assert [attempt.acknowledged for attempt in attempts] == [False] * (len(attempts) - 1) + [True]
    assert len({body for _, body in receiver.received}) == 1, "each attempt has the same body"


@calling
async def test_a_callback_that_is_never_acknowledged_ends_with_the_schedule(
    contract: Contract, httpserver: HTTPServer
) -> None:
    assert contract.callbacks is not None
    attempts = 1 + len(contract.callbacks.retries)
    mock, receiver = Mock([contract]), Receiver(httpserver, *[503] * (attempts + 5))
    await order(mock, contract, receiver.url)
    await mock.clock.run_until_idle()
    assert len(receiver.received) == attempts


@calling
async def test_a_receiver_that_is_not_there_is_tried_again_and_noted(contract: Contract) -> None:
    assert contract.callbacks is not None
    mock = Mock([contract])
    await order(mock, contract, "http://127.0.0.1:1/nobody")
    await mock.clock.run_until_idle()
    attempts = list(mock.fake.callback_dispatcher().attempts)
    assert len(attempts) == 1 + len(contract.callbacks.retries)
    assert all(attempt.status is None and "Connect" in str(attempt.error) for attempt in attempts)


@calling
async def test_a_signature_verifies_and_any_change_breaks_it(contract: Contract, httpserver: HTTPServer) -> None:
    assert contract.callbacks is not None
    signature = contract.callbacks.signature
    assert signature is not None
    mock, receiver = Mock([contract]), Receiver(httpserver)
    await order(mock, contract, receiver.url)
    await mock.clock.run_until_idle()
    headers, body = receiver.received[0]
    now = mock.clock.now()
    assert verify(signature, DEFAULT_SECRET, body, headers, now=now)
    assert not verify(signature, DEFAULT_SECRET, body + b" ", headers, now=now)
    assert not verify(signature, "another secret", body, headers, now=now)
    if signature.tolerance is not None:
        assert not verify(signature, DEFAULT_SECRET, body, headers, now=now + signature.tolerance + 1)


@calling
async def test_a_signature_equals_the_one_that_a_receiver_computes_by_hand(
    contract: Contract, httpserver: HTTPServer
) -> None:
    """The digest of the documented content, computed here with `hmac` alone."""
    assert contract.callbacks is not None
    signature = contract.callbacks.signature
    assert signature is not None
    assert (signature.encoding, signature.secret) == ("hex", "text")
    mock, receiver = Mock([contract], callback_secret="by hand"), Receiver(httpserver)
    await order(mock, contract, receiver.url)
    await mock.clock.run_until_idle()
    headers, body = receiver.received[0]
    name = next(name for name, value in signature.headers.items() if "{signature}" in value).lower()
    stamp = next((headers[key.lower()] for key, value in signature.headers.items() if value == "{timestamp}"), "")
    signed = (f"{stamp}.".encode() if "{timestamp}." in signature.content else b"") + body
    assert headers[name] == hmac.new(b"by hand", signed, hashlib.sha256).hexdigest()


@calling
async def test_without_a_secret_a_callback_is_not_signed(contract: Contract, httpserver: HTTPServer) -> None:
    assert contract.callbacks is not None
    assert contract.callbacks.signature is not None
    mock, receiver = Mock([contract], callback_secret=None), Receiver(httpserver)
    await order(mock, contract, receiver.url)
    await mock.clock.run_until_idle()
    names: Mapping[str, str] = contract.callbacks.signature.headers
    assert not {name.lower() for name in names} & set(receiver.received[0][0])


@calling
@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "not a url", "", "//host/x", "file:///etc/passwd", 7])
async def test_a_callback_url_that_is_not_http_is_refused(url: object, contract: Contract) -> None:
    operation, model, body = documented(contract)
    place = operation.bindings["callback_url"].request[0]
    mock = Mock([contract])
    body = replaced(body, place.pointer, url)
    reply = await mock.call(contract, "submit", path={"model": model.id}, body=body)
    assert reply.reading is not None
    assert "invalid_request" in reply.reading.situations, reply.body
    assert not mock.world.jobs


@calling
@pytest.mark.parametrize("url", ["http://", "http:///nohost", "http://[::1", "http://\x00/", "https://exa mple/"])
async def test_a_callback_url_that_no_client_can_call_breaks_nothing(url: str, contract: Contract) -> None:
    operation, model, body = documented(contract)
    mock = Mock([contract])
    body = replaced(body, operation.bindings["callback_url"].request[0].pointer, url)
    reply = await mock.call(contract, "submit", path={"model": model.id}, body=body)
    assert reply.status < 500
    await mock.clock.run_until_idle()
    assert not [attempt for attempt in mock.fake.callback_dispatcher().attempts if attempt.acknowledged]


@contracts_that(lambda contract: contract.callbacks is not None and contract.idempotency.mode == "replay")
async def test_a_replayed_submission_sends_one_callback(contract: Contract, httpserver: HTTPServer) -> None:
    assert contract.idempotency.key is not None
    mock, receiver = Mock([contract]), Receiver(httpserver)
    operation, model, body = documented(contract)
    body = replaced(body, operation.bindings["callback_url"].request[0].pointer, receiver.url)
    headers = {contract.idempotency.key.name: "once"}
    for _ in range(3):
        await mock.call(contract, "submit", path={"model": model.id}, body=body, headers=headers)
    await mock.clock.run_until_idle()
    assert len(receiver.received) == 1


@calling
async def test_a_job_whose_end_was_planned_twice_sends_one_callback(contract: Contract, httpserver: HTTPServer) -> None:
    """As when it is cancelled: the first attempt is still planned."""
    mock, receiver = Mock([contract]), Receiver(httpserver)
    job = mock.world.jobs[await order(mock, contract, receiver.url)]
    links = MediaLinks("http://mock.test", mock.world.handle, mock.fake.worlds.signer)
    mock.fake.callback_dispatcher().schedule(mock.world, job, "http://mock.test", links)
    await mock.clock.run_until_idle()
    assert len(receiver.received) == 1


async def played(mock: Mock, contract: Contract, receiver: Receiver, move: str, **options: Any) -> str:
    """Submit a job under a callback fault, and run until nothing is due."""
    mock.world.scenarios.arm(read_scenario({"moves": {CALLBACK: [{"move": move, **options}]}}), [contract])
    job = await order(mock, contract, receiver.url)
    await mock.clock.run_until_idle()
    return job


@calling
@pytest.mark.parametrize("move", sorted(CALLBACK_FAULTS))
async def test_each_attempt_has_its_kind_and_the_moment_of_its_response(
    move: str, contract: Contract, httpserver: HTTPServer
) -> None:
    mock, receiver = Mock([contract]), Receiver(httpserver)
    try:
        job = await played(mock, contract, receiver, move)
    except ScenarioError:
        return  # a signature without an age
    attempts = list(mock.fake.callback_dispatcher().attempts)
    false = [move] if move in ("forged", "stale", "unsigned", "unknown_job") else []
    assert [one.kind for one in attempts if one.false] == false
    assert {one.kind for one in attempts if not one.false} == {"genuine"}
    assert {one.job for one in attempts} == {job}
    assert [one.answered for one in attempts] == [one.moment if one.acknowledged else None for one in attempts]


EFFECTS: list[CallbackEffect] = [
    Unsent(),
    Copies(3),
    Postponed(5.0),
    AfterNext(5.0, "a note"),
    FalseFirst(signed=False),
    Rewritten(bytes.upper),
]


@calling
@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: type(effect).__name__)
async def test_the_dispatcher_performs_every_effect(
    effect: CallbackEffect, contract: Contract, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An effect that the dispatcher forgets to perform would make no attempt at all."""
    name = "late"
    made_up = replace(CALLBACK_FAULTS[name], effect=lambda callbacks, options: effect)
    monkeypatch.setattr("hobbyhorse.server.callbacks.faults_at", lambda place: {**CALLBACK_FAULTS, name: made_up})
    mock, receiver = Mock([contract]), Receiver(httpserver)
    await played(mock, contract, receiver, name)
    notes = [(one.note, one.kind) for one in mock.fake.callback_dispatcher().attempts]
    genuine, false = (name, "genuine"), (name, name)
    assert sorted(notes) == sorted(
        {
            Unsent: [genuine],
            Copies: [("", "genuine"), genuine, genuine],
            Postponed: [genuine],
            AfterNext: [("a note", "genuine")],
            FalseFirst: [false, ("", "genuine")],
            Rewritten: [genuine],
        }[type(effect)]
    )
    bodies = [body for _, body in receiver.received]
    assert len(bodies) == (0 if isinstance(effect, Unsent) else len(notes))
    assert [body == body.upper() for body in bodies] == [isinstance(effect, Rewritten)] * len(bodies)


@calling
async def test_the_true_callback_may_come_a_while_after_the_false_one(
    contract: Contract, httpserver: HTTPServer
) -> None:
    mock, receiver = Mock([contract]), Receiver(httpserver)
    job = await played(mock, contract, receiver, "unknown_job", apart=20)
    false, true = mock.fake.callback_dispatcher().attempts
    assert (false.kind, true.kind, true.job) == ("unknown_job", "genuine", job)
    assert true.moment - false.moment == pytest.approx(20)


def test_every_effect_on_a_callback_is_among_them() -> None:
    assert {type(effect) for effect in EFFECTS} == {*get_args(CallbackEffect)}


@calling
async def test_a_payload_that_was_null_comes_with_the_next_try_if_it_was_not_acknowledged(
    contract: Contract, httpserver: HTTPServer
) -> None:
    assert contract.callbacks is not None
    mock, receiver = Mock([contract]), Receiver(httpserver, 500)
    job = await played(mock, contract, receiver, "null_payload")
    first, second = (orjson.loads(body) for _, body in receiver.received)
    assert first != second
    for name, binding in contract.callbacks.bindings.items():
        for place in binding.request:
            told = resolve(second, place.pointer)
            kept = name in ("job", "stage", "event") or told is MISSING
            assert resolve(first, place.pointer) == (told if kept else None)
    violations = contract.schemas.violations
    schemas = [situation.schema for situation in contract.callbacks.situations.values()]
    assert any(not violations(schema, second) for schema in schemas)
    assert all(place in payload_places(contract.callbacks) for place in places_of(first, second))
    assert mock.world.jobs[job].collected


def places_of(one: Any, other: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the places at which two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys()
        return [place for name in one for place in places_of(one[name], other[name], (*at, name))]
    if isinstance(one, list) and isinstance(other, list):
        assert len(one) == len(other)
        return [place for index in range(len(one)) for place in places_of(one[index], other[index], (*at, str(index)))]
    return [at] if one != other else []


@calling
async def test_a_callback_of_an_unknown_job_keeps_the_documented_form(
    contract: Contract, httpserver: HTTPServer
) -> None:
    assert contract.callbacks is not None
    signature = contract.callbacks.signature
    mock, receiver = Mock([contract]), Receiver(httpserver)
    job = await played(mock, contract, receiver, "unknown_job")
    (headers, body), (_, true) = receiver.received
    schemas = [situation.schema for situation in contract.callbacks.situations.values()]
    assert any(not contract.schemas.violations(schema, orjson.loads(body)) for schema in schemas)
    assert job.encode() not in body
    assert job.encode() in true
    assert signature is not None
    assert verify(signature, DEFAULT_SECRET, body, headers, now=mock.world.jobs[job].finished)
    assert list(mock.world.jobs) == [job]


@calling
async def test_the_video_of_an_unknown_job_can_be_fetched_and_the_request_is_recorded(
    contract: Contract, httpserver: HTTPServer
) -> None:
    """A client that takes another job's video for its own must be seen to do so."""
    mock, receiver = Mock([contract]), Receiver(httpserver)
    await played(mock, contract, receiver, "unknown_job", apart=20)
    (stranger,) = mock.world.strangers.values()
    own = next(iter(mock.world.jobs.values()))
    assert (stranger.id, stranger.seed) != (own.id, own.seed)
    link = MediaLinks("http://mock.test", mock.world.handle, mock.fake.worlds.signer).url(stranger, "video.mp4")
    reply = await mock.send("GET", link.removeprefix("http://mock.test"))
    assert (reply.status, reply.headers["content-type"]) == (200, "video/mp4")
    assert [entry.job for entry in mock.world.journal][-1] == stranger.id
    mock.world.reset(["jobs"])
    assert (await mock.send("GET", link.removeprefix("http://mock.test"))).status == 404


@calling
async def test_the_oldest_attempts_are_dropped_when_their_bodies_have_too_many_bytes(
    contract: Contract, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock, receiver = Mock([contract]), Receiver(httpserver)
    job = await order(mock, contract, receiver.url)
    await mock.clock.advance(86_400)
    dispatcher = mock.fake.callback_dispatcher()
    (first,) = dispatcher.attempts
    monkeypatch.setattr("hobbyhorse.server.callbacks.MOST_ATTEMPT_BYTES", 3 * len(first.body))
    for _ in range(4):
        dispatcher.redeliver(mock.world, mock.world.jobs[job])
        await mock.clock.advance(1)
    assert len(receiver.received) == 5
    assert [attempt.number for attempt in dispatcher.attempts] == [0, 0, 0]


@calling
async def test_few_unknown_jobs_are_remembered(contract: Contract, httpserver: HTTPServer) -> None:
    mock, receiver = Mock([contract]), Receiver(httpserver)
    for _ in range(MOST_STRANGERS + 2):
        await played(mock, contract, receiver, "unknown_job")
    assert len(mock.world.strangers) == MOST_STRANGERS


class Slow:
    """A receiver that responds a number of clock seconds after the request."""

    def __init__(self, mock: Mock, seconds: float) -> None:
        self._clock, self._seconds = mock.clock, seconds
        self.url = ""
        self.called: list[float] = []
        self._calls: set[asyncio.Task[None] | None] = set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._calls.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            (size,) = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(size)
            self.called.append(self._clock.now())
            await self._clock.sleep_until(self._clock.now() + self._seconds)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
        try:
            yield
        finally:
            self._clock.close()
            server.close()
            await asyncio.gather(*(call for call in self._calls if call), return_exceptions=True)
            await asyncio.sleep(0)  # the connections are closed in the next turn


async def until(holds: Callable[[], object]) -> None:
    """Run the event loop until a condition holds; a hanging test is ended by its runner."""
    while not holds():  # noqa: ASYNC110 - the condition has no event
        await asyncio.sleep(0.001)


@calling
@pytest.mark.parametrize(("seconds", "in_time"), [(0.0, True), (9.5, True), (10.5, False), (30.0, False)])
async def test_in_virtual_time_the_deadline_of_a_receiver_is_on_the_worlds_clock(
    seconds: float, in_time: bool, contract: Contract
) -> None:
    assert contract.callbacks is not None
    assert contract.callbacks.deadline == 10.0
    mock = Mock([contract])
    mock.world.virtual = True
    attempts = mock.fake.callback_dispatcher().of_world(mock.world)
    slow = Slow(mock, seconds)
    async with slow.listening():
        job = mock.world.jobs[await order(mock, contract, slow.url)]
        begun = job.finished
        mock.clock.step(begun)
        await until(lambda: slow.called or attempts)
        assert slow.called == [begun], "who steps does not wait for the receiver"
        await until(lambda: attempts or mock.clock.waiting == 2)
        for later in () if attempts else (begun + min(seconds, 10.0) - 0.25, begun + min(seconds, 10.0)):
            assert not attempts
            mock.clock.step(later)
        await until(lambda: attempts)
        assert mock.clock.next_due == (None if in_time else begun + contract.callbacks.retries[0])
    first = attempts[0]
    assert (first.moment, first.acknowledged) == (begun, in_time)
    assert first.answered == (begun + seconds if in_time else None)
    assert first.error == (None if in_time else "TimeoutError: no response within 10 s")


@calling
async def test_in_real_time_the_deadline_of_a_receiver_is_real(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = []

    usual = asyncio.wait_for

    async def wait_for(work: Coroutine[Any, Any, None], bound: float) -> None:
        bounds.append(bound)
        await usual(work, bound)

    mock = Mock([contract])
    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    for virtual in (False, True):
        mock.world.virtual = virtual
        await order(mock, contract, "http://127.0.0.1:1/nobody")
        await mock.clock.advance(100_000)
    await mock.fake.callback_dispatcher().close()
    assert contract.callbacks is not None
    assert set(bounds[: len(bounds) // 2]) == {contract.callbacks.deadline}
    assert set(bounds[len(bounds) // 2 :]) == {60.0}


async def test_a_concurrent_delivery_that_waits_hides_no_other_one() -> None:
    work, goes_on, done = ActivityGroup(), [asyncio.Event(), asyncio.Event()], []

    async def deliver(number: int) -> None:
        with held() if number == 0 else unheld():
            await goes_on[number].wait()
        done.append(number)

    async def act() -> None:
        with work.activity():
            await together(deliver(0), deliver(1))

    task = asyncio.ensure_future(act())
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.busy == 1, "the second one is busy"
    goes_on[1].set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.busy == 0, "the first delivery waits"
    goes_on[0].set()
    await task
    assert (work.busy, done) == (0, [1, 0])
    await together(deliver(0), deliver(1))
    assert done == [1, 0, 0, 1], "without a group they simply run"
