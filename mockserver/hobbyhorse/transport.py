"""uvicorn's HTTP protocol, passing the connection on to the application: faults are to be real on the socket."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hobbyhorse.faults import TRANSPORT


class OpenProtocol(HttpToolsProtocol):
    """The same, with the transport as an ASGI extension."""

    def on_message_begin(self) -> None:
        """Begin a request's scope."""
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]
