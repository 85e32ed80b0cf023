"""Each wire effect is what its record says on a real socket; in process it raises, or waits on the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, get_args

import pytest
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from hobbyhorse.clock.clock import ManualClock, RealClock
from hobbyhorse.scenarios.effects import Close, Delay, Drip, Framed, Hold, IdleClose, Reset, Sent, Truncate, WireEffect
from hobbyhorse.server.run import ServerThread
from hobbyhorse.server.socket_faults import (
    ClientConnection,
    Dropped,
    abandon,
    connection,
    is_open,
    send_with_fault,
)
from hobbyhorse.worlds.journal import Handover
from tests.raw_client import RawClient, Seen

pytestmark = pytest.mark.anyio

WAITING: list[WireEffect] = [Hold(3_600), Delay(3_600), Drip(3_600, 10)]
SENT = Sent(200, ((b"content-type", b"text/plain"),), b"0123456789")


class Faulty:
    """An ASGI application that sends `SENT` with one effect, and keeps the handovers."""

    def __init__(self, effect: WireEffect | None) -> None:
        self.effect = effect
        self.handovers: list[Handover] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.handovers.append(handover := Handover(0.0))
        await send_with_fault(self.effect, SENT, ClientConnection(scope, receive, send, RealClock(), handover))


@contextmanager
def served(effect: WireEffect | None) -> Iterator[tuple[Faulty, str]]:
    app = Faulty(effect)
    server = ServerThread(app)
    try:
        yield app, server.url
    finally:
        server.stop()


def read(effect: WireEffect | None) -> tuple[Seen, Handover]:
    """Return a client's view of an effect on a real socket, and the handover of the response."""
    with served(effect) as (app, url), RawClient("GET", url) as client:
        return client.read(), app.handovers[0]


def test_a_response_without_an_effect_is_sent_whole() -> None:
    seen, handover = read(None)
    assert (seen.end, seen.status, seen.body, handover.whole) == ("whole", 200, b"0123456789", True)


def test_a_closed_connection_ends_without_a_byte() -> None:
    seen, handover = read(Close())
    assert (seen.end, seen.head, handover.whole) == ("eof", b"", False)


def test_a_reset_reaches_the_client_as_a_reset() -> None:
    seen, handover = read(Reset())
    assert (seen.end, seen.head, handover.whole) == ("reset", b"", False)


def test_a_held_connection_closes_without_a_byte_when_the_hold_ends() -> None:
    seen, handover = read(Hold(0))
    assert (seen.end, seen.head, handover.whole) == ("eof", b"", False)


@pytest.mark.parametrize(("keep", "body"), [(0.0, b""), (0.5, b"01234"), (0.99, b"012345678")])
def test_a_truncated_body_is_shorter_than_declared(keep: float, body: bytes) -> None:
    seen, handover = read(Truncate(keep))
    assert (seen.end, seen.length, seen.body, handover.whole) == ("eof", 10, body, False)


@pytest.mark.parametrize("pieces", [1, 3, 10, 50])
def test_a_slow_body_arrives_whole(pieces: int) -> None:
    seen, handover = read(Drip(0, pieces))
    assert (seen.end, seen.body, handover.whole) == ("whole", b"0123456789", True)


def test_a_late_response_arrives_whole() -> None:
    seen, handover = read(Delay(0))
    assert (seen.end, seen.body, handover.whole) == ("whole", b"0123456789", True)


@pytest.mark.parametrize("effect", WAITING, ids=str)
def test_a_server_that_stops_aborts_the_connections_that_an_effect_holds(effect: WireEffect) -> None:
    with served(effect) as (app, url), RawClient("GET", url) as client:
        while not app.handovers:
            client.readable(0.01)
    assert client.seen.end == "open"
    assert not app.handovers[0].whole


# ---- in process


class InProcess:
    """One exchange without a socket, on a manual clock; `leave` disconnects the client."""

    def __init__(self, sent: Sent = SENT) -> None:
        self.sent, self.clock, self.events = sent, ManualClock(), list[Event]()
        self.handover = Handover(self.clock.now())
        self._left = asyncio.Event()
        self.client = ClientConnection({}, self._receive, self._send, self.clock, self.handover)

    async def _receive(self) -> Event:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: Event) -> None:
        self.events.append(event)

    def leave(self) -> None:
        self._left.set()

    def begin(self, effect: WireEffect) -> asyncio.Task[None]:
        return asyncio.ensure_future(send_with_fault(effect, self.sent, self.client))

    async def advance(self, seconds: float) -> None:
        """Advance the clock, and let the fault run until its next wait."""
        await self.clock.advance(seconds)
        await turns()

    @property
    def bodies(self) -> list[bytes]:
        return [event["body"] for event in self.events if event["type"] == "http.response.body"]


async def turns(count: int = 20) -> None:
    """Let the event loop run everything that is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_latency_sends_nothing_before_its_seconds_have_passed() -> None:
    exchange = InProcess()
    task = exchange.begin(Delay(7))
    await turns()
    await exchange.clock.advance(6.9)
    assert exchange.events == []
    await exchange.clock.advance(0.1)
    await task
    assert exchange.bodies == [SENT.body]
    assert exchange.handover.delivery.answered == exchange.handover.arrived + 7


async def test_a_slow_body_sends_its_pieces_at_equal_distances() -> None:
    exchange = InProcess()
    task = exchange.begin(Drip(8, 4))
    await turns()
    assert exchange.bodies == [b"012"]
    await exchange.advance(1.9)
    assert exchange.bodies == [b"012"]
    await exchange.advance(0.1)
    assert exchange.bodies == [b"012", b"345"]
    for _ in range(2):
        await exchange.advance(2)
    assert task.done()
    assert exchange.bodies == [b"012", b"345", b"678", b"9"]
    assert [event.get("more_body", False) for event in exchange.events[1:]] == [True, True, True, False]
    assert dict(exchange.events[0]["headers"])[b"content-length"] == b"10"


@pytest.mark.parametrize(("size", "pieces"), [(0, 10), (1, 10), (10, 3), (10, 10), (10, 11), (100, 7)])
async def test_the_pieces_of_a_slow_body_are_the_body(size: int, pieces: int) -> None:
    exchange = InProcess(Sent(200, (), bytes(range(size))))
    task = exchange.begin(Drip(1, pieces))
    await turns()
    for _ in range(pieces):
        await exchange.advance(1)
    assert task.done()
    assert b"".join(exchange.bodies) == exchange.sent.body
    assert len(exchange.bodies) <= pieces


@pytest.mark.parametrize("effect", WAITING, ids=str)
async def test_a_wait_ends_when_the_client_leaves(effect: WireEffect) -> None:
    exchange = InProcess()
    task = exchange.begin(effect)
    await turns()
    exchange.leave()
    await asyncio.wait_for(task, 30)
    assert not exchange.handover.whole
    assert not exchange.events or exchange.events[-1].get("more_body")


@pytest.mark.parametrize(
    ("effect", "message"),
    [(Close(), "without a response"), (Reset(), "was reset"), (Truncate(0.5), "broke off")],
    ids=str,
)
async def test_an_effect_that_ends_the_connection_raises_dropped(effect: WireEffect, message: str) -> None:
    exchange = InProcess()
    with pytest.raises(Dropped, match=message):
        await exchange.begin(effect)
    assert not exchange.handover.whole


@pytest.mark.parametrize("kind", get_args(WireEffect))
async def test_the_server_performs_every_effect(kind: type[WireEffect]) -> None:
    """An effect that the server forgets to perform would send nothing, and leave no trace of that."""
    exchange = InProcess()
    values: dict[str, Any] = {} if kind is Framed else {one.name: 1 for one in fields(kind)}
    task = exchange.begin(kind(**values))
    await turns()
    await exchange.advance(1)
    assert (task.exception() is not None) or exchange.bodies


async def test_a_timeout_raises_dropped_when_it_ends() -> None:
    exchange = InProcess()
    task = exchange.begin(Hold(60))
    await turns()
    await exchange.clock.advance(60)
    with pytest.raises(Dropped, match="never responded"):
        await task
    assert exchange.events == []


async def test_in_process_there_is_no_connection_and_an_abandoned_request_is_cancelled() -> None:
    assert connection({"type": "http"}) is None
    assert is_open(None)
    with pytest.raises(asyncio.CancelledError):
        await abandon({"type": "http"})


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_connection_that_stays_idle_is_closed_after_the_response(seconds: float) -> None:
    with served(IdleClose(seconds)) as (app, url), RawClient("GET", url) as client:
        seen = client.read()
        assert (seen.end, seen.body, app.handovers[0].whole) == ("whole", b"0123456789", True)
        assert client.readable(30)
        assert client._socket.recv(1) == b""


def test_a_connection_that_is_used_again_is_not_closed_by_the_response_before() -> None:
    with served(IdleClose(0.3)) as (_, url), RawClient("GET", url) as client:
        client.read()
        time.sleep(0.2)
        client._socket.sendall(b"GET / HTTP/1.1\r\nHost: mock.test\r\n\r\n")
        assert client._socket.recv(4096).startswith(b"HTTP/1.1 200")
        # The first response would close it by now; the second one does later.
        assert not client.readable(0.15)
        assert client.readable(30)
