"""uvicorn's HTTP protocol, passing the connection on to the application: faults are to be real on the socket."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hobbyhorse.server.socket_faults import TRANSPORT
from hobbyhorse.worlds.journal import Handover


class OpenProtocol(HttpToolsProtocol):
    """The same, with the transport as an ASGI extension; an answer that its client did not read is said to be lost."""

    unread: Handover | None = None
    """The answer that was handed over last, as long as nothing says that it was read."""

    def on_message_begin(self) -> None:
        """Begin a request's scope."""
        super().on_message_begin()
        self.unread = None
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; a peer that resets it has left something unread."""
        if exc is not None and self.unread is not None:
            self.unread.lost()
        super().connection_lost(exc)
