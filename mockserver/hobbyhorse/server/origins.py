"""Web pages and the providers: which pages may send requests, and the headers that let them read responses (CORS).

The real providers are for servers: a page that calls them shows its key to everybody. So a request that a browser sends
for a page elsewhere is refused, as the provider refuses what is forbidden. Pages on this machine pass, because the
proxies of development servers send the `Origin` of the page along; `--allow-origin` admits others, and lets them read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Message as Event
from starlette.types import Scope, Send

from hobbyhorse.server.control.access import is_local, origin_of
from hobbyhorse.server.request import header
from hobbyhorse.server.socket_faults import connection

ANY = "*"
# Ten minutes, as most browsers allow at least: a page that polls asks for permission once.
MAX_AGE = b"600"
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = b"*, Authorization, Content-Range, ETag, Link, Location, Retry-After"

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins of the web pages that may use the providers, in lower case; `*` is any."""

    allowed: frozenset[str] = frozenset()

    def admits(self, origin: str, own: str) -> bool:
        """Whether a page may send requests to the server at its `own` origin."""
        if self.allows(origin):
            return True
        found = origin_of(origin)
        return found is not None and (found == origin_of(own, whole=False) or is_local(found[1]))

    def allows(self, origin: str) -> bool:
        """Whether a page may also read the responses."""
        return ANY in self.allowed or origin.lower() in self.allowed

    async def open(self, scope: Scope, send: Send) -> Send | None:
        """Return the way to send a response with the headers for its page; None if the request was a preflight."""
        origin = header(scope["headers"], b"origin")
        if origin is None or not self.allows(origin):
            return send
        more = self._headers(origin)
        method = header(scope["headers"], b"access-control-request-method")
        if scope["method"] == "OPTIONS" and method is not None:
            await send({"type": "http.response.start", "status": 204, "headers": more + _preflight(scope["headers"])})
            await send({"type": "http.response.body"})
            return None
        more.append((b"access-control-expose-headers", EXPOSED))
        transport = connection(scope)
        if transport is not None:
            # Where faults that write their bytes themselves find them, too.
            cycle = transport.get_protocol().cycle  # type: ignore[attr-defined]
            cycle.default_headers = [*cycle.default_headers, *more]
            return send

        async def send_more(event: Event) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], *more]}
            await send(event)

        return send_more

    def _headers(self, origin: str) -> RawHeaders:
        # A page without an origin of its own has `null`, which must not be named: any sandboxed page has it.
        if ANY in self.allowed:
            return [(b"access-control-allow-origin", b"*")]
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]


def _preflight(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    given = list(headers)
    wanted = header(given, b"access-control-request-headers")
    found = [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-max-age", MAX_AGE),
        (b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    if wanted is not None:
        # Named one by one, because `*` does not include Authorization.
        found.append((b"access-control-allow-headers", wanted.encode("latin-1")))
    if header(given, b"access-control-request-private-network") == "true":
        found.append((b"access-control-allow-private-network", b"true"))
    return found
