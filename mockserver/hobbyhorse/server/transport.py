"""uvicorn's HTTP protocol, extended for faults on the socket.

The protocol is subclassed because ASGI lacks two things. An application never sees the transport of its connection,
and without the transport no fault could reset a connection or end it inside a body (see `socket_faults`). Nor does it
learn that the peer has reset the connection after the response was sent, the only sign that the response was never
read.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hobbyhorse.server.socket_faults import TRANSPORT
from hobbyhorse.worlds.journal import Handover


class OpenProtocol(HttpToolsProtocol):
    """Passes the transport to the application, and reports a response that the client did not read."""

    unread: Handover | None = None
    """The handover of the last response, until a sign that the client has read it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport of a new connection."""
        super().connection_made(transport)
        # One for all requests of the connection: the application keeps the caller of the last one there.
        self._extensions = {TRANSPORT: transport}

    def on_message_begin(self) -> None:
        """Begin the scope of a request."""
        super().on_message_begin()
        # A client that sends its next request has read the response before it.
        self.unread = None
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the connection; a reset means that the client left data unread."""
        # `exc` is None after a normal close, when the peer has read everything.
        if exc is not None and self.unread is not None:
            self.unread.lost()
        super().connection_lost(exc)
