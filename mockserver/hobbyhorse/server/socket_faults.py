"""What a move does to a connection: late, in drops, broken off, reset; through the server's own transport."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send

from hobbyhorse.clock.clock import Clock
from hobbyhorse.clock.race import client_gone, first_of
from hobbyhorse.scenarios.distort import Sent
from hobbyhorse.scenarios.scenario import Move
from hobbyhorse.worlds.journal import Handover

TRANSPORT = "hobbyhorse.server.transport"
"""The ASGI extension under which the server passes the connection itself."""
LATE_SECONDS, DRIP_SECONDS, DRIP_PIECES, HOLD_SECONDS = 5.0, 5.0, 10, 3_600.0
KEEP = 0.5
SILENT = frozenset({"timeout", "reset_peer", "empty", "accept_then_drop"})
"""The moves that send nothing at all."""


class Dropped(ConnectionError):
    """A connection that a move has broken off; only clients in the same process, which have none, see this."""


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """One client's side of an exchange: the ASGI callables, the connection, and the clock that waits are read from.

    `handover` is told when the answer has been handed over.
    """

    scope: Scope
    receive: Receive
    send: Send
    clock: Clock
    handover: Handover

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection, or None where client and server are one process."""
        return connection(self.scope)

    async def start(self, sent: Sent) -> None:
        """Send status and headers, with the length of the whole body."""
        headers = [*sent.headers, (b"content-length", str(len(sent.body)).encode())]
        self.handover.headers, self.handover.size = headers, len(sent.body)
        await self.send({"type": "http.response.start", "status": sent.status, "headers": headers})

    async def end(self, sent: Sent, body: bytes) -> None:
        """Send the last of a body."""
        there = is_there(self.transport)
        await self.send({"type": "http.response.body", "body": body})
        if there:
            hand_over(self.transport, self.handover, self.clock, sent.status)

    async def whole(self, sent: Sent) -> None:
        """Send an answer."""
        await self.start(sent)
        await self.end(sent, sent.body)

    async def hang_up(self, why: str, *, reset: bool = False) -> None:
        """Close the connection: what was written goes out first, or nothing does and the peer sees a reset."""
        transport = self.transport
        if transport is None:
            raise Dropped(why)
        if reset:
            connection = transport.get_extra_info("socket")
            if connection is not None:
                with suppress(OSError, ValueError):  # the client has closed it already
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
        await client_gone(self.receive)


def connection(scope: Scope) -> asyncio.Transport | None:
    """Return the connection that a request came over, or None where client and server are one process."""
    found: asyncio.Transport | None = scope.get("extensions", {}).get(TRANSPORT)
    return found


def is_there(transport: asyncio.Transport | None) -> bool:
    """Whether a client is still there, as far as its connection tells."""
    return transport is None or not transport.is_closing()


def hand_over(transport: asyncio.Transport | None, handover: Handover, clock: Clock, status: int) -> None:
    """Note that an answer has been handed over; its connection is to say if nobody has read it.

    Of a refusal, its status says everything.
    """
    handover.done(clock.now())
    if transport is not None and status < 300:
        transport.get_protocol().unread = handover  # type: ignore[attr-defined]


async def let_go(scope: Scope) -> None:
    """Close a connection as it is, because the server stops. Raises CancelledError where there is none."""
    transport = connection(scope)
    if transport is None:
        raise asyncio.CancelledError
    transport.abort()
    await asyncio.sleep(0)  # so that the server learns of it before its application returns


async def perform(move: Move, sent: Sent, line: ClientConnection) -> None:
    """Send an answer as a move has it; one that is no fault of the connection is sent whole.

    A server that stops meanwhile closes the connection as it is.
    """
    fault = FAULTS.get(move.kind)
    try:
        await (line.whole(sent) if fault is None else fault(sent, move.options, line))
    except asyncio.CancelledError:
        await let_go(line.scope)


WireFault = Callable[[Sent, Mapping[str, Any], ClientConnection], Awaitable[None]]


async def _latency(sent: Sent, options: Mapping[str, Any], line: ClientConnection) -> None:
    if await _waited(line, options.get("seconds", LATE_SECONDS)):
        await line.whole(sent)


async def _timeout(sent: Sent, options: Mapping[str, Any], line: ClientConnection) -> None:
    if await _waited(line, options.get("seconds", HOLD_SECONDS)):
        await line.hang_up("the server never answered")


async def _reset(sent: Sent, options: Mapping[str, Any], line: ClientConnection) -> None:
    await line.hang_up("the connection was reset", reset=True)


async def _close(sent: Sent, options: Mapping[str, Any], line: ClientConnection) -> None:
    await line.hang_up("the connection was closed without an answer")


async def _truncate(sent: Sent, options: Mapping[str, Any], line: ClientConnection) -> None:
    await line.start(sent)
    part = sent.body[: int(len(sent.body) * options.get("keep", KEEP))]
    await line.send({"type": "http.response.body", "body": part, "more_body": True})
    await line.hang_up("the body broke off")


async def _drip(sent: Sent, options: Mapping[str, Any], line: ClientConnection) -> None:
    pieces = options.get("pieces", DRIP_PIECES)
    pause = options.get("seconds", DRIP_SECONDS) / pieces
    size = -(-len(sent.body) // pieces) or 1
    await line.start(sent)
    for at in range(0, len(sent.body) - size, size):
        await line.send({"type": "http.response.body", "body": sent.body[at : at + size], "more_body": True})
        if not await _waited(line, pause):
            return
    await line.end(sent, sent.body[(len(sent.body) - 1) // size * size :])


async def _waited(line: ClientConnection, seconds: float) -> bool:
    """Wait so many seconds of the clock; False as soon as the client is gone."""
    return await first_of(client_gone(line.receive), line.clock.sleep_until(line.clock.now() + seconds)) == 1


FAULTS: Mapping[str, WireFault] = {
    "latency": _latency,
    "timeout": _timeout,
    "reset_peer": _reset,
    "empty": _close,
    "accept_then_drop": _close,
    "truncate": _truncate,
    "truncated": _truncate,
    "slow_body": _drip,
}
"""What each move does that is a fault of the connection."""
