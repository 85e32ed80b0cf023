"""HTTP on connections that came through the gate: over TLS, in a tunnel, or in the absolute form of a forward proxy.

Everything that faults do to a connection they do here too: the application gets the same kind of transport. Three
things differ from a connection to the plain port.

* A request in a tunnel, or in absolute form, was meant for an address of the client's choice. The application sees that
  address as the server's, so that the other origins are recognized.
* A peer need not confirm the end of TLS. Its silence is no reset, so it does not mean that a response was left unread.
* In absolute form the target decides, not the Host header (RFC 9112, section 3.2.2), and the headers that are meant
  for a proxy end there, as at a proxy that forwards.
"""

from __future__ import annotations

from typing import Any

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send

from hobbyhorse.server.front.destinations import WEB_PORTS, Address, Destinations
from hobbyhorse.server.transport import OpenProtocol

# At the stop of the server: enough for the bytes that end TLS, and nothing to wait for.
GOODBYE_SECONDS = 0.05
# Headers from the client to its proxy.
FOR_PROXY = (b"proxy-authorization", b"proxy-connection")


class FrontProtocol(OpenProtocol):
    """HTTP on a connection whose first bytes, `begun`, have been read, and that was meant for `destination`."""

    def __init__(self, *rest: Any, destination: Address | None = None, begun: bytes = b"", **named: Any) -> None:
        super().__init__(*rest, **named)
        self._destination, self._begun = destination, begun

    def connection_made(self, transport: Any) -> None:
        """Begin with the bytes that have been read already."""
        super().connection_made(transport)
        if self._destination is not None:
            self.server = self._destination
        if self._begun:
            self.data_received(self._begun)

    def shutdown(self) -> None:
        """Close an idle connection, also if its peer does not confirm the end of TLS."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the connection; only a reset means that the client left data unread."""
        if not isinstance(exc, ConnectionError):
            self.unread = None
        super().connection_lost(exc)


class ForwardProtocol(FrontProtocol):
    """HTTP on a connection to the forward proxy: each request names its target with scheme and host."""

    def __init__(self, *rest: Any, destinations: Destinations, **named: Any) -> None:
        super().__init__(*rest, **named)
        self._destinations = destinations

    def on_headers_complete(self) -> None:
        """Begin the request at its target, or refuse it."""
        refusal, application = self._aim(), self.app
        if refusal is not None:
            self.app = refusal
        super().on_headers_complete()
        self.app = application

    def _aim(self) -> ASGIApp | None:
        """Direct the request to its target; return the application that refuses it, or None."""
        if self.parser.get_method() == b"CONNECT":
            self.url = b"/"
            return refuse_with(400, "CONNECT has to be the first request of a connection")
        target = httptools.parse_url(self.url)
        scheme, host = (target.schema or b"").decode("latin-1").lower(), (target.host or b"").decode("latin-1")
        self.url = (target.path or b"/") + (b"?" + target.query if target.query else b"")
        if scheme not in ("http", "https") or not host:
            return refuse_with(
                400, "this port is a forward proxy; a request here names its target, such as http://HOST/PATH"
            )
        port = target.port or WEB_PORTS[scheme == "https"]
        found = self._destinations.find(host, port)
        if found is None:
            return refuse_with(403, self._destinations.refusal(host, port))
        named = f"[{host}]" if ":" in host else host
        authority = named if target.port is None else f"{named}:{port}"
        kept = [header for header in self.headers if header[0] not in (b"host", *FOR_PROXY)]
        # In place: the scope refers to this list.
        self.headers[:] = [(b"host", authority.encode("latin-1")), *kept]
        self.scope["scheme"], self.scope["server"] = scheme, found
        return None


def refuse_with(status: int, sentence: str) -> ASGIApp:
    """Return an application that refuses every request with a sentence, and closes the connection."""
    body = f"{sentence}\n".encode()

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return refuse
