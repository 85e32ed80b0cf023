"""Forwards requests of a connection to the process that owns their world, byte for byte. Knows no world.

A request is forwarded as it came, and its response is written as it comes: no fault of the owner on its connection is
lost on the way. A response that ends early ends early here, a reset is a reset, and bytes that come late come late. And
if the client leaves, the owner sees it leave.

Each request is parsed here in any case, because its head tells whose it is, and its end tells where the next one
begins. The bytes of a request are remembered until it is known who serves it. From then on, they go to the parser,
which drops the body, and to the owner.

A connection to an owner belongs to one connection of a client, and lasts as long. Requests that are sent before the
response to the last one (pipelining, which no common client does) may be forwarded only if one process serves all.

A client polls with the same bytes again and again. Such a request goes to the last owner without being parsed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hobbyhorse.server.socket_faults import reset_connection
from hobbyhorse.server.transport import OpenProtocol

# A process of the same machine or network accepts a connection in milliseconds, or it is dead.
CONNECT_SECONDS = 1.0
# No response of HTTP begins like this.
DECLINED = b"\0hobbyhorse: not the owner\n"
# What precedes the first request of a connection to an owner whose client has used HTTPS.
SECURE = b"\0hobbyhorse: https\n"
BEGUN, CLOSED, RESET, NOT_OWNED = "begun", "closed", "reset", "not owned"
"""How a forwarded request went: its response has begun, or the connection ended before that, or it was declined."""


class SharedProtocol(OpenProtocol):
    """Serves a connection whose requests may belong to other processes."""

    # The bytes of the current request, until it is known who serves it; and of the last one that was forwarded whole.
    _raw: bytes | None = None
    _same: bytes | None = None
    _owner: OwnerConnection | None = None
    forwarding = False
    """Whether the last request was forwarded, so that whatever the owner sends is for the client."""

    # What another process had read of a connection when it handed the connection over.
    first = b""
    # The port at which other processes forward requests. Only they may name the scheme of a client; 0 permits nobody.
    peer_port = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection, with the bytes that another process has read before any that come now."""
        super().connection_made(transport)
        if self.first:
            self.data_received(self.first)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and the owner of a request that is being forwarded."""
        if data.startswith(SECURE) and self.server is not None and self.server[1] == self.peer_port:
            # Sent in one piece with the request, by another process. It changes nothing but the scheme in links.
            self.scheme, data = "https", data[len(SECURE) :]
        owner = self._owner
        if self._open and self.forwarding and owner is not None:
            owner.send(data)
        elif not self._open:
            if self.forwarding and owner is not None:
                if not owner.responded:
                    # Sent before the response: whose it is must not be found out, or the responses may change places.
                    owner.send(data)
                    return
                if data == self._same and not owner.lost:
                    owner.repeat(data)
                    return
            self._raw, self.forwarding = data, False
        elif self._raw is not None:
            self._raw += data
        super().data_received(data)

    def serve_here(self) -> None:
        """Serve the current request in this process."""
        self._raw = None

    def decline(self, receive: Any) -> None:
        """Tell the process that has forwarded the current request that this one does not own its world."""
        cycle = receive.__self__
        cycle.response_complete = cycle.disconnected = True
        self.transport.write(DECLINED)
        self.transport.close()

    def hand_over(self, give: Callable[[SharedProtocol, bytes], bool], receive: Any) -> bool:
        """Hand the connection over to another process, with the current request; return False if that is not possible.

        `give` does it, and returns whether it did.
        """
        # Requests that were sent before this response would be lost, or served twice.
        if self._raw is None or self.pipeline or self._owner is not None or not give(self, self._raw):
            return False
        self.forwarding, self._raw = False, None
        cycle = receive.__self__
        cycle.response_complete = cycle.disconnected = True
        return True

    async def forward(self, address: str, receive: Any, again: bool) -> bool:
        """Forward the current request to the owner at an address; return False if it should be tried elsewhere.

        `receive` is the request's own. `again` permits to repeat a request that the owner may have carried out.
        """
        if self._raw is None:
            # Part of it is not known any more: it was sent before the response to a request that is served here.
            self.transport.abort()
            return True
        cycle = receive.__self__
        secure = cycle.scope["scheme"] == "https"
        owner = await self._connection(address, secure)
        if owner is None:
            return self.transport.is_closing()
        # The server must neither respond nor keep the body.
        cycle.response_complete = cycle.disconnected = True
        cycle.body = type(cycle.body)()  # bytes or a bytearray, by the version of uvicorn
        self.pipeline.clear()
        self.forwarding = True
        self.flow.resume_reading()
        outcome = await owner.request(self._raw)
        if outcome == BEGUN or self.transport.is_closing():
            # A request without a body, if it came in one piece: the next poll is equal to it, byte for byte.
            self._same = self._raw if again and self._raw.endswith(b"\r\n\r\n") else None
            self._raw = None
            return True
        if outcome != NOT_OWNED and await self._connection(address, secure) is not None:
            # The owner lives: it has ended the connection on purpose, as a fault demands.
            self._end_as(outcome)
            return True
        self.forwarding = False
        if outcome == NOT_OWNED or again:
            cycle.response_complete = cycle.disconnected = False
            return False
        # The owner died, and may have carried the request out before: to the client, it is as if this process had.
        self._end_as(RESET)
        return True

    def look_again(self, data: bytes) -> None:
        """Find out anew who serves a request that was repeated to the last owner."""
        self._same, self.forwarding = None, False
        if not self.transport.is_closing():
            self.data_received(data)

    def _end_as(self, outcome: str) -> None:
        if outcome == RESET:
            reset_connection(self.transport)
        else:
            self.transport.close()

    async def _connection(self, address: str, secure: bool) -> OwnerConnection | None:
        """Return the connection to an owner, for requests over HTTPS or not, or None if it cannot be reached."""
        known, self._owner = self._owner, None
        if known is not None and (known.address, known.secure) == (address, secure) and not known.lost:
            self._owner = known
            return known
        if known is not None:
            known.leave()
        host, _, port = address.rpartition(":")
        connecting = self.loop.create_connection(
            lambda: OwnerConnection(self, address, secure), host.strip("[]"), int(port)
        )
        try:
            _, made = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError):
            return None
        if self.transport.is_closing():
            made.leave()
            return None
        self._owner = made
        return made

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the owner as the client has left."""
        if self._owner is not None:
            self._owner.leave(exc)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Take no more from the owner than the client takes."""
        super().pause_writing()
        if self._owner is not None:
            self._owner.pause(True)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._owner is not None:
            self._owner.pause(False)


class OwnerConnection(asyncio.Protocol):
    """The connection to the owner of a world, for one connection of a client."""

    def __init__(self, client: SharedProtocol, address: str, secure: bool = False) -> None:
        self._client, self.address, self.secure = client, address, secure
        self._begun = False
        self._transport: asyncio.Transport | None = None
        self._response: asyncio.Future[str] | None = None
        self._repeated: bytes | None = None
        self.responded = True
        """Whether the response to the last request has begun."""
        self.lost = False

    def request(self, data: bytes) -> asyncio.Future[str]:
        """Send a request; the result is how it went."""
        self._response, self.responded = asyncio.get_running_loop().create_future(), False
        self.send(SECURE + data if self.secure and not self._begun else data)
        self._begun = True
        if self.lost:
            self._went(CLOSED)
        return self._response

    def repeat(self, data: bytes) -> None:
        """Send a safe request that is equal to the last one: it has the same owner, unless that declines it."""
        self._repeated, self._response, self.responded = data, None, False
        self.send(data)

    def send(self, data: bytes) -> None:
        """Send bytes of the client."""
        if self._transport is not None:
            self._transport.write(data)

    def leave(self, exc: Exception | None = None) -> None:
        """Close the connection as the client has closed its own."""
        transport, self._transport, self.lost = self._transport, None, True
        if transport is None:
            return
        if exc is None:
            transport.close()
        else:
            reset_connection(transport)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading() if paused else self._transport.resume_reading()

    def _decline(self) -> None:
        """Have the last request served by another owner."""
        repeated, self._repeated = self._repeated, None
        if repeated is None:
            self._went(NOT_OWNED)
        else:
            self._client.look_again(repeated)

    def _went(self, outcome: str) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_result(outcome)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are of no class of asyncio.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Write a part of a response to the client."""
        if not self._client.forwarding:
            # Nobody has asked for it.
            self.leave()
            return
        if not self.responded:
            if data == DECLINED:
                self.leave()
                self._decline()
                return
            self.responded, self._repeated = True, None
            self._went(BEGUN)
        self._client.transport.write(data)

    def pause_writing(self) -> None:
        """Take no more from the client than the owner takes."""
        self._client.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._client.flow.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the client's connection as the owner has ended this one, unless its request can be tried elsewhere."""
        left, self._transport, self.lost = self._transport is None, None, True
        if not self.responded and self._repeated is not None:
            if not left:
                self._decline()
        elif not self.responded:
            self._went(CLOSED if exc is None else RESET)
        elif not left and self._client.forwarding and not self._client.transport.is_closing():
            if exc is None:
                self._client.transport.close()
            else:
                reset_connection(self._client.transport)
