"""Performs the effects on a connection: late, slow, broken off, reset; through the server's own transport.

`scenarios/effects.py` defines the effects. It has no socket, and this module knows no fault. A fault without an effect
on the connection changes bytes: the response is sent whole.

ASGI has no event for any of this; an application can only send a response or raise, and then the server responds 500.
So `server.transport` passes the asyncio transport of each connection in an ASGI extension, and the effects act on it:

* A close flushes the bytes that were written, then sends FIN. The client sees a body that is too short.
* A reset sets `SO_LINGER` to zero before it aborts, so that the kernel sends RST and discards the unsent bytes.
  Without it the client would see a normal end.

Waits are on the clock of the world, so that virtual time passes through them, and each ends as soon as the client
leaves. In process, the transport is None: a fault that ends the connection raises `Dropped`, which a client sees as
the connection error that it would have met on a socket.

A response counts as delivered when its last byte was written to a connection that was still open, unless the peer
then resets the connection: TCP does that to a socket that is closed with unread data, so the response was not read.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send

from hobbyhorse.clock.clock import Clock
from hobbyhorse.clock.race import client_gone, first_of
from hobbyhorse.contract.documents.operations import bodiless
from hobbyhorse.scenarios.effects import (
    Close,
    Delay,
    Drip,
    Framed,
    Hold,
    IdleClose,
    Reset,
    Sent,
    Truncate,
    WireEffect,
    in_case,
)
from hobbyhorse.worlds.journal import Handover

TRANSPORT = "hobbyhorse.server.transport"
"""The name of the ASGI extension that holds the connection's transport."""
# The most writes of one response: a file in pieces of one byte would take seconds.
MOST_SEGMENTS = 400
# The window of zlib, and 16 for the header and the trailer of gzip.
GZIP_BITS = 15 + 16


def _gzipped(body: bytes) -> bytes:
    """Return bytes in the coding gzip. zlib writes no time, so that equal bodies are equal bytes."""
    packer = zlib.compressobj(wbits=GZIP_BITS)
    return packer.compress(body) + packer.flush()


# `deflate` is the zlib form (RFC 9110, section 8.4.1.2).
CODERS: Mapping[str, Callable[[bytes], bytes]] = {"gzip": _gzipped, "deflate": zlib.compress}


class Dropped(ConnectionError):
    """A fault ended the connection; raised only in process, where no connection can be closed."""


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """The client's side of one exchange: the ASGI callables, the clock of its waits, and the handover to complete."""

    scope: Scope
    receive: Receive
    send: Send
    clock: Clock
    handover: Handover

    @property
    def transport(self) -> asyncio.Transport | None:
        """The transport of the connection, or None in process."""
        return connection(self.scope)

    async def start(self, sent: Sent) -> None:
        """Send the status and headers, with the length of the whole body."""
        headers = with_length(sent)
        self.handover.begin(headers, len(sent.body))
        await self.send({"type": "http.response.start", "status": sent.status, "headers": headers})

    async def end(self, sent: Sent, body: bytes) -> None:
        """Send the last part of a body, and complete the handover."""
        was_open = is_open(self.transport)
        await self.send({"type": "http.response.body", "body": body})
        if was_open:
            hand_over(self.transport, self.handover, self.clock, sent.status)

    async def whole(self, sent: Sent) -> None:
        """Send a complete response."""
        await self.start(sent)
        await self.end(sent, sent.body)

    def handed_over(self, sent: Sent) -> None:
        """Complete the handover of a response that was written to the transport."""
        self.handover.begin(with_length(sent), len(sent.body))
        hand_over(self.transport, self.handover, self.clock, sent.status)

    def close_when_idle(self, seconds: float) -> None:
        """Close the connection in some seconds, unless another request has come. Does nothing in process."""
        transport = self.transport
        if transport is None:
            return
        protocol = transport.get_protocol()
        last = protocol.cycle  # type: ignore[attr-defined]

        async def action() -> None:
            if protocol.cycle is last and not transport.is_closing():  # type: ignore[attr-defined]
                transport.close()

        self.clock.at(self.clock.now() + seconds, action)

    async def hang_up(self, why: str, *, reset: bool = False) -> None:
        """Close the connection after the written bytes, or reset it. Raises Dropped in process."""
        transport = self.transport
        if transport is None:
            raise Dropped(why)
        if reset:
            reset_connection(transport)
        else:
            transport.close()
        # An application that returns without a response makes uvicorn send 500; wait until the connection is gone.
        await client_gone(self.receive)


def with_length(sent: Sent) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response, with the length of its body if its status allows one."""
    if bodiless(sent.status):
        return list(sent.headers)
    return [*sent.headers, (b"content-length", str(len(sent.body)).encode())]


def reset_connection(transport: asyncio.Transport) -> None:
    """Reset a connection: its peer sees an error, and never the unsent bytes."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError, ValueError):  # the peer has closed the socket already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def stamp(scope: Scope, moment: float) -> None:
    """Let the response to a request carry a date of virtual time, not of the machine. Does nothing in process.

    A client computes the wait of a `Retry-After` date from it.
    """
    transport = connection(scope)
    if transport is not None:
        # The date is uvicorn's only default header: `run` turns off the other one.
        date = formatdate(moment, usegmt=True).encode()
        transport.get_protocol().cycle.default_headers = [(b"date", date)]  # type: ignore[attr-defined]


def connection(scope: Scope) -> asyncio.Transport | None:
    """Return the transport that a request arrived on, or None in process."""
    found: asyncio.Transport | None = scope.get("extensions", {}).get(TRANSPORT)
    return found


def is_open(transport: asyncio.Transport | None) -> bool:
    """Whether the connection is open, as far as the server knows; always true in process."""
    return transport is None or not transport.is_closing()


def hand_over(transport: asyncio.Transport | None, handover: Handover, clock: Clock, status: int) -> None:
    """Mark a response as delivered, until its connection reports that the client did not read it."""
    handover.done(clock.now())
    # A client may close the connection without reading the body of a refusal: the status is all that it needs.
    if transport is not None and status < 300:
        transport.get_protocol().unread = handover  # type: ignore[attr-defined]


async def abandon(scope: Scope) -> None:
    """Abort a connection because the server stops. Raises CancelledError in process."""
    transport = connection(scope)
    if transport is None:
        raise asyncio.CancelledError
    transport.abort()
    await asyncio.sleep(0)  # uvicorn must see the lost connection first, or it logs a missing response


async def send_with_fault(effect: WireEffect | None, sent: Sent, client: ClientConnection) -> None:
    """Send a response with an effect on its connection; without one it is sent whole."""
    if bodiless(sent.status):
        sent = replace(sent, body=b"")
    try:
        await (client.whole(sent) if effect is None else _perform(effect, sent, client))
    except asyncio.CancelledError:  # the server stops while the fault waits
        await abandon(client.scope)


async def _perform(effect: WireEffect, sent: Sent, client: ClientConnection) -> None:
    match effect:
        case Delay(seconds):
            if await _waited(client, seconds):
                await client.whole(sent)
        case Hold(seconds):
            if await _waited(client, seconds):
                await client.hang_up("the server never responded")
        case Reset():
            await client.hang_up("the connection was reset", reset=True)
        case Close():
            await client.hang_up("the connection was closed without a response")
        case Truncate(keep):
            await client.start(sent)
            part = sent.body[: int(len(sent.body) * keep)]
            await client.send({"type": "http.response.body", "body": part, "more_body": True})
            await client.hang_up("the body broke off")
        case _:
            await _perform_whole(effect, sent, client)


async def _perform_whole(effect: WireEffect, sent: Sent, client: ClientConnection) -> None:
    """Perform an effect that leaves the response as it is: in pieces, in another form, before the connection ends."""
    match effect:
        case Drip(seconds, pieces):
            await _drip(sent, seconds, pieces, client)
        case IdleClose(seconds):
            await client.whole(sent)
            client.close_when_idle(seconds)
        case Framed():
            await _write_framed(effect, sent, client)


async def _write_framed(framed: Framed, sent: Sent, client: ClientConnection) -> None:
    """Write a response in another form.

    uvicorn writes every response in one form. So the bytes are written to the transport here, and uvicorn sends the
    same response into the void: its bookkeeping (keep-alive, the next request, the end of the cycle) stays right.
    """
    transport = client.transport
    if transport is None:
        await client.whole(sent)
        return
    cycle = transport.get_protocol().cycle  # type: ignore[attr-defined]
    closes = framed.ends != "" or framed.framing == "close" or framed.version == "1.0"
    told = replace(sent, headers=(*sent.headers, (b"connection", b"close"))) if closes else sent
    parts = tuple(_segments(written(framed, sent, cycle.default_headers, client.scope["method"]), framed.segment))
    for at, part in enumerate(parts, 1):
        if transport.is_closing():
            return
        transport.write(part)
        if at == len(parts):
            # Before any other turn: the client may have read the last part by then, and be gone.
            client.handed_over(told)
        # A turn of the loop, so that each part leaves by itself.
        await asyncio.sleep(0)
    cycle.transport = Void(transport)
    await client.send({"type": "http.response.start", "status": told.status, "headers": with_length(told)})
    await client.send({"type": "http.response.body", "body": told.body})


class Void:
    """A transport that drops the bytes which are written to it; everything else reaches the real one."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Drop the bytes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def written(framed: Framed, sent: Sent, usual: Iterable[tuple[bytes, bytes]], method: str) -> bytes:
    """Return the bytes of a response in another form; `usual` are the headers of every response."""
    headers, body = [*usual, *sent.headers], sent.body
    if framed.coding and body:
        body = CODERS[framed.coding.lower()](body)
        # They describe the body before its coding.
        headers = [header for header in headers if header[0] not in (b"etag", b"accept-ranges", b"content-length")]
        headers += [(b"content-encoding", framed.coding.encode()), (b"vary", b"accept-encoding")]
    chunked = framed.framing == "chunked" and framed.version != "1.0" and not bodiless(sent.status)
    if chunked:
        headers += [(b"transfer-encoding", b"chunked"), (b"trailer", b"x-trailer")]
    elif framed.framing != "close" and not bodiless(sent.status):
        headers.append((b"content-length", str(len(body)).encode()))
    if framed.ends == "announced":
        headers.append((b"connection", b"close"))
    lines = [f"HTTP/{framed.version or '1.1'} {sent.status} {_reason(sent.status)}".encode()]
    lines += [_cased(name, framed.names) + b": " + value for name, value in headers]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if method == "HEAD":
        return head
    return head + (_chunked(body) if chunked else body)


def _cased(name: bytes, case: str) -> bytes:
    return in_case(name.decode("latin-1"), case).encode("latin-1")


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _chunked(body: bytes) -> bytes:
    """Return a body in chunks of growing size with extensions, and a trailer (RFC 9112, section 7.1)."""
    parts: list[bytes] = []
    at, size = 0, 1
    while at < len(body):
        chunk = body[at : at + size]
        # Not a quoted value with a space in it: that is legal, but Node's parser refuses it.
        parts.append(b"%x;part=%d\r\n%b\r\n" % (len(chunk), len(parts), chunk))
        at, size = at + size, size * 3
    return b"".join(parts) + b"0\r\nX-Trailer: end\r\n\r\n"


def _segments(data: bytes, size: int) -> Iterator[bytes]:
    """Yield the parts that are written at once: of a given size, or larger if there would be too many."""
    size = max(size, -(-len(data) // MOST_SEGMENTS)) if size else len(data)
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def _drip(sent: Sent, seconds: float, pieces: int, client: ClientConnection) -> None:
    # Rounded up, so that there are at most `pieces`; at least one byte, so that an empty body ends.
    size = -(-len(sent.body) // pieces) or 1
    await client.start(sent)
    for at in range(0, len(sent.body) - size, size):
        await client.send({"type": "http.response.body", "body": sent.body[at : at + size], "more_body": True})
        if not await _waited(client, seconds / pieces):
            return
    await client.end(sent, sent.body[(len(sent.body) - 1) // size * size :])


async def _waited(client: ClientConnection, seconds: float) -> bool:
    """Wait on the clock; return False as soon as the client has disconnected."""
    return await first_of(client_gone(client.receive), client.clock.sleep_until(client.clock.now() + seconds)) == 1
