"""Passes bytes between clients and one upstream, and reports each exchange. Knows no contract and judges nothing.

Each client connection has its own upstream connection; the pair is a `_Link` with an `_End` at each side. Whatever
happens at one end happens at the other: bytes, the end of the bytes, and a reset.

A link's upstream connection is

    idle         the client has not sent a complete head; there is nothing to pass on
    connecting   `_connecting` is set; `_waiting` collects bytes, and the client is not read
    connected    `upstream.transport` is set
    over         `upstream.over`

and independently of that, the link reads the passing bytes in one of three modes:

    framed       requests and responses are followed (`_requests`, `_responses`) and reported
    blind        after an upgrade, or bytes that cannot be parsed: passed on, not reported (`_blind`)
    refused      the proxy has sent its own 403, 421 or 502, or a reset; the client's bytes are dropped (`_refused`)

A link starts framed. It never leaves the modes blind and refused.

Invariants:

1. Every byte passes unchanged and in order. The one exception is the value of a request's Host, which must name the
   upstream. A request head is therefore the only thing that is framed before it is passed on. Responses are written
   to the client first and framed afterwards, so that not even a bug in the framing could change them.
2. Bytes are held in three places only: an incomplete request head in the framer, until it is complete, until the
   client ends its stream, or until it is too long for a head (MOST_HEAD); `_waiting`, for at most CONNECT_SECONDS; and
   the write buffers of the transports. The last two are bounded because an end is not read while the other is full or
   not yet connected. So a slow reader slows its sender, instead of filling the proxy's memory.
3. The judge never delays an exchange. `seen` runs after the bytes have been written; it may only store the exchange,
   and its exceptions end in `trouble`. A parse error turns the link blind; it never stops the bytes.
4. A half-closed connection stays half open: the end of one direction is passed on, and the other direction continues
   until it ends, too. A client may end its stream and still wait for the response; closing both would take it away.
   Only TLS cannot be half-closed; there the connection is closed.
5. Bytes precede the end: `close` and `reset` first flush the buffered bytes. Otherwise the client would lose the last
   bytes of a response that the upstream broke off.
6. A framed exchange is reported once: when its response and its request are complete, or when a connection ends. A
   response may end before its request does (`_early`). Exchanges in progress when the link turns blind or refused are
   not reported, because their responses can no longer be recognised; only the refused request itself is.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import unquote, urlsplit

from hobbyhorse.proxy.framing import (
    OPAQUE,
    Framer,
    Head,
    Piece,
    length_of_request,
    length_of_response,
    read_request,
    read_response,
)
from hobbyhorse.traces.exchange import Exchange, Headers

# Documented bodies have a few kilobytes; of longer ones, such as videos, the judge needs only the length.
KEPT_BODY_BYTES = 64 * 1024
# A slow upstream should still be reached; a client's own timeout usually ends the attempt sooner.
CONNECT_SECONDS = 30.0
# Closing a socket with unread bytes resets it, and a reset may destroy the refusal before the client has read it.
LINGER_SECONDS = 2.0

CONTROL_PATH, METRICS_PATH = "/_mock", "/metrics"
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::[0-9]{1,5})?")

CLIENT, UPSTREAM, PROXY = "client", "upstream", "proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedExchange:
    """An exchange that has passed, and how it passed.

    The exchange has no role, because the proxy knows no contract, and its URL is the request's target. Its bodies are
    without chunk framing and cut to 64 KB; `sent` is the full size of the request's body, and `sha256` the hash of one
    that is not kept in full. `request_complete` means that the request was sent to its end.

    `broken` names the side that ended the exchange early: the client, the upstream, or the proxy. `own` marks a
    response of the proxy itself, because the upstream cannot be reached.
    """

    exchange: Exchange
    sent: int = 0
    sha256: str = ""
    request_complete: bool = True
    broken: str = ""
    own: bool = False


@dataclass(frozen=True, slots=True)
class Upstream:
    """The origin that receives every request; `tls` is the TLS context, or None for plain HTTP."""

    host: str
    port: int
    authority: str
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str, trust: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> Upstream:
        """Return the upstream of a URL."""
        parts = urlsplit(url)
        secure = parts.scheme.lower() == "https"
        tls = trust() if secure else None
        if tls is not None:
            # Clients speak HTTP/1.1 to the proxy, and bytes are not translated to HTTP/2.
            tls.set_alpn_protocols(["http/1.1"])
        authority = parts.netloc.rpartition("@")[2]
        return cls(parts.hostname or "", parts.port or (443 if secure else 80), authority, tls)


@dataclass(slots=True)
class _Exchange:
    """An exchange in progress."""

    number: int
    arrived: float
    request: Head
    body: bytearray = field(default_factory=bytearray)
    sent: int = 0
    response: Head | None = None
    content: bytearray = field(default_factory=bytearray)
    size: int = 0
    request_complete: bool = False
    responded: float | None = None
    digest: Any = None

    def add_request_bytes(self, content: bytes) -> None:
        """Append to the request's body; bytes beyond the kept ones are only hashed."""
        self.sent += len(content)
        kept = content[: KEPT_BODY_BYTES - len(self.body)]
        self.body += kept
        if len(kept) < len(content):
            self.digest = self.digest or sha256(self.body)
            self.digest.update(content[len(kept) :])

    def observed(self, broken: str = "", own: bool = False) -> ObservedExchange:
        """Return the exchange as it is now."""
        head, response = self.request, self.response
        exchange = Exchange(
            number=self.number,
            arrived=self.arrived,
            role=None,
            method=head.method,
            url=head.target,
            headers=_lowered(head),
            body=bytes(self.body),
            status=response.status if response is not None else 0,
            answer_headers=_lowered(response) if response is not None else (),
            answer=bytes(self.content),
            answered=self.responded,
            whole=response is not None and self.request_complete and not broken,
            size=self.size,
        )
        return ObservedExchange(
            exchange=exchange,
            sent=self.sent,
            sha256=self.digest.hexdigest() if self.digest is not None else "",
            request_complete=self.request_complete,
            broken=broken,
            own=own,
        )


def _lowered(head: Head) -> Headers:
    return tuple((name.lower(), value) for name, value in head.headers)


def _is_control(head: Head) -> bool:
    """Whether a request is for the control plane of a mock server."""
    # As the server reads it: an escape may stand for any character.
    path = unquote(head.target.partition("?")[0])
    return path.startswith(CONTROL_PATH) or path == METRICS_PATH


def _is_for_this_machine(head: Head) -> bool:
    """Whether the Host of a request, its only one, is this machine by its spelling."""
    hosts = head.all("host")
    found = _AUTHORITY.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
    if found is None:
        return False
    try:
        return found[1] in ("localhost", "[::1]") or IPv4Address(found[1]).is_loopback
    except ValueError:
        return False


class _End(asyncio.Protocol):
    """One end of a link: the connection to the client, or to the upstream."""

    def __init__(self, link: _Link, name: str) -> None:
        self.link, self.name = link, name
        self.transport: asyncio.Transport | None = None
        self.full = self.over = self.resetting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the transport."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's transport is not a subclass of asyncio's
        self.link.made(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.name == CLIENT:
            self.link.from_client(data)
        else:
            self.link.from_upstream(data)

    def eof_received(self) -> bool:
        """Pass the end of the stream on; the other direction stays open if it can."""
        return self.link.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end of the connection on."""
        self.over = True
        self.link.lost(self, exc)

    def pause_writing(self) -> None:
        """Stop reading at the other end."""
        self.full = True
        self.link.balance()

    def resume_writing(self) -> None:
        """Resume reading at the other end, or perform a reset that waited for the buffer to drain."""
        self.full = False
        if self.resetting:
            self._reset()
        self.link.balance()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is ending."""
        if self.transport is not None and not self.over and not self.resetting:
            self.transport.write(data)

    def read(self, wanted: bool) -> None:
        """Start or stop reading."""
        if self.transport is not None and not self.over:
            with suppress(RuntimeError):  # it is closing
                self.transport.resume_reading() if wanted else self.transport.pause_reading()

    def write_eof(self) -> None:
        """End the outgoing stream, or close the connection if it cannot be half-closed."""
        if self.transport is not None and not self.over and not self.resetting:
            with suppress(OSError, RuntimeError):
                self.transport.write_eof() if self.transport.can_write_eof() else self.transport.close()

    def close(self) -> None:
        """Flush the buffer and close."""
        if self.transport is not None and not self.over and not self.resetting:
            self.transport.close()

    def reset(self) -> None:
        """Flush the buffer and reset the connection."""
        if self.transport is None or self.over or self.resetting:
            return
        self.resetting = True
        if self.transport.get_write_buffer_size():
            # `resume_writing` is then called when the buffer is empty.
            self.transport.set_write_buffer_limits(high=0)
        else:
            self._reset()

    def _reset(self) -> None:
        assert self.transport is not None
        found = self.transport.get_extra_info("socket")
        if found is not None:
            with suppress(OSError, ValueError):
                # A linger of 0 s makes the system send a reset instead of a normal end.
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class _Link:
    """A client's connection and its own upstream connection; see the module for its states."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client, self.upstream = _End(self, CLIENT), _End(self, UPSTREAM)
        self._requests, self._responses = Framer(), Framer()
        self._waiting: list[bytes] = []
        self._under_way: deque[_Exchange] = deque()
        self._early: list[_Exchange] = []
        self._current_request: _Exchange | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._blind = self._refused = False
        self._ended_sides: set[str] = set()

    def made(self, end: _End) -> None:
        """Register a connection; on the upstream's, send the waiting bytes."""
        if end is self.client:
            self.proxy.links.add(self)
            return
        for data in self._waiting:
            end.write(data)
        self._waiting.clear()
        # The client may have ended its stream, or left, during the connection attempt.
        if CLIENT in self._ended_sides:
            end.write_eof()
        if self.client.over:
            end.close()
        self.balance()

    def balance(self) -> None:
        """Read each end only while the other one can take the bytes."""
        connecting = self._connecting is not None and self.upstream.transport is None and not self._refused
        self.client.read(not connecting and not self.upstream.full)
        self.upstream.read(not self.client.full)

    # from the client

    def from_client(self, data: bytes) -> None:
        """Pass on the client's bytes."""
        if self._refused:
            return
        if self._blind:
            self._send(data)
            return
        # On an error the bytes not yet passed on are sent as they are, held ones included.
        whole, done = self._requests.held + data, 0
        try:
            for piece in self._requests.feed(data):
                if isinstance(piece, bytes):
                    self._request(piece)
                    done += len(piece)
                    if self._refused:
                        return
                else:
                    self._send(piece.raw)
                    done += len(piece.raw)
                    self._request_piece(piece)
        except Exception as error:
            self._go_blind(error)
            self._send(whole[done:])

    def _request(self, raw: bytes) -> None:
        head = read_request(raw)
        length = length_of_request(head)
        self._current_request = _Exchange(self.proxy.count(), self.proxy.now(), head)
        self._under_way.append(self._current_request)
        if not head.target.startswith(("/", "*")):
            # A refusal here would overtake the responses that the upstream still owes for earlier requests.
            if self._connecting is not None:
                self.client.reset()
                self._refused = True
                return
            self._refuse(
                421,
                "no_forward_proxy",
                f"this proxy serves {self.proxy.upstream.authority} only",
                "set it as the base URL of the client, not as the proxy of the system",
            )
            return
        if _is_control(head) and not _is_for_this_machine(head):
            # Behind this proxy, the control plane cannot see that a web page has rebound its domain to 127.0.0.1.
            if self._connecting is not None:
                self.client.reset()
                self._refused = True
                return
            self._refuse(
                403,
                "foreign_host",
                "a request to the control plane must name this machine as its Host",
                "address the proxy as localhost or 127.0.0.1, or the server itself",
            )
            return
        self._requests.body(length)
        self._current_request.request_complete = length == 0
        self._send(head.with_host(self.proxy.upstream.authority))

    def _request_piece(self, piece: Piece) -> None:
        one = self._current_request
        if one is None or one.request_complete:
            return
        one.add_request_bytes(piece.content)
        one.request_complete = piece.last
        if one.request_complete and one.responded is not None:
            self._early.remove(one)
            self.proxy.report(one.observed())

    def _send(self, data: bytes) -> None:
        if not data:
            return
        if self.upstream.transport is not None:
            self.upstream.write(data)
            return
        self._waiting.append(data)
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
            self.balance()

    async def _connect(self) -> None:
        to = self.proxy.upstream
        loop = asyncio.get_running_loop()
        name = to.host if to.tls is not None else None
        try:
            await asyncio.wait_for(
                loop.create_connection(lambda: self.upstream, to.host, to.port, ssl=to.tls, server_hostname=name),
                CONNECT_SECONDS,
            )
        except (OSError, asyncio.TimeoutError) as error:
            if self.upstream.transport is None:
                why = (
                    f"no connection within {CONNECT_SECONDS:g} s"
                    if isinstance(error, asyncio.TimeoutError)
                    else str(error)
                )
                self._refuse(
                    502,
                    "upstream_unreachable",
                    f"{to.authority} cannot be reached: {why}",
                    "check --upstream, and whether the server runs",
                )

    def _refuse(self, status: int, code: str, message: str, hint: str) -> None:
        """Respond in the proxy's own format; the client's further bytes are dropped."""
        self._refused = True
        body = json.dumps({"error": {"code": code, "message": message, "hint": hint}}).encode()
        reason = {403: "Forbidden", 421: "Misdirected Request", 502: "Bad Gateway"}[status]
        raw = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\nX-Hobbyhorse-Proxy: refused\r\n\r\n"
        ).encode()
        one = self._under_way[0] if self._under_way else None
        self.client.write(raw if one is not None and one.request.method == "HEAD" else raw + body)
        self._waiting.clear()
        if one is not None:
            one.response, one.content, one.size = read_response(raw), bytearray(body), len(body)
            one.responded = self.proxy.now()
            self.proxy.report(one.observed(own=True))
        self._under_way.clear()
        self.client.write_eof()
        self.balance()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.client.close)

    # from the upstream

    def from_upstream(self, data: bytes) -> None:
        """Pass on the upstream's bytes, and only then frame them."""
        self.client.write(data)
        if self._blind:
            return
        try:
            for piece in self._responses.feed(data):
                if isinstance(piece, bytes):
                    self._response_head(piece)
                else:
                    self._response_piece(piece.content, piece.last)
        except Exception as error:
            self._go_blind(error)

    def _response_head(self, raw: bytes) -> None:
        head = read_response(raw)
        if not self._under_way:
            raise ValueError("a response without a request")
        one = self._under_way[0]
        length = length_of_response(head, one.request.method)
        # An interim response (100, 103) has no body and does not end the exchange.
        if head.status < 200 and length != OPAQUE:
            return
        one.response = head
        self._responses.body(length)
        if length == OPAQUE:
            self._blind = True
        if length in (0, OPAQUE):
            self._finish()

    def _response_piece(self, content: bytes, last: bool) -> None:
        if self._under_way:
            one = self._under_way[0]
            one.size += len(content)
            one.content += content[: KEPT_BODY_BYTES - len(one.content)]
            if last:
                self._finish()

    def _finish(self) -> None:
        """Complete the response; it may end before its request does."""
        one = self._under_way.popleft()
        one.responded = self.proxy.now()
        if one.request_complete:
            self.proxy.report(one.observed())
        else:
            self._early.append(one)

    def _go_blind(self, error: Exception) -> None:
        """Pass all further bytes on without framing them."""
        self._blind = True
        self._under_way.clear()
        self.proxy.trouble(f"a connection is passed on without being read: {error}")

    # the end

    def ended(self, end: _End) -> bool:
        """Handle the end of one end's stream; return whether its other direction stays open."""
        self._ended_sides.add(end.name)
        if end is self.client:
            self._report_early()
            if self._refused or (self.upstream.transport is None and self._connecting is None):
                return False
            self._send(b"" if self._blind else self._requests.held)
        else:
            self._report_unfinished(end.name, clean=True)
        other = self.upstream if end is self.client else self.client
        if len(self._ended_sides) == 2:
            other.close()
            return False
        other.write_eof()
        return end.transport is not None and end.transport.can_write_eof()

    def lost(self, end: _End, exc: Exception | None) -> None:
        """End the other connection in the same way as this one."""
        self._report_early()
        self._report_unfinished(end.name, clean=exc is None)
        other = self.upstream if end is self.client else self.client
        if exc is not None:
            other.reset()
        else:
            other.close()
        if self.client.over and (self.upstream.over or self.upstream.transport is None):
            self.proxy.links.discard(self)

    def _report_unfinished(self, side: str, *, clean: bool) -> None:
        """Report the exchanges in progress when a connection ends; a response without a length is complete then."""
        if clean and side == UPSTREAM and self._responses.until_close and self._under_way:
            self._finish()
        # A client that has ended its stream and then sees the connection end gave up first.
        side = CLIENT if CLIENT in self._ended_sides else side
        while self._under_way:
            self.proxy.report(self._under_way.popleft().observed(side))

    def _report_early(self) -> None:
        """Report the exchanges whose response came before the end of their request, which will not come any more."""
        while self._early:
            self.proxy.report(self._early.pop(0).observed())

    def stop(self) -> None:
        """Reset both connections."""
        self._report_early()
        if self._connecting is not None:
            self._connecting.cancel()
        self._report_unfinished(PROXY, clean=False)
        for end in (self.client, self.upstream):
            end.reset()


class Proxy:
    """Passes all traffic of clients to one upstream, and calls `seen` with each exchange when it has ended.

    `seen` cannot stop an exchange: its exceptions are passed to `trouble`, as a sentence.
    """

    def __init__(
        self,
        upstream: Upstream,
        seen: Callable[[ObservedExchange], None],
        trouble: Callable[[str], None] = lambda message: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.upstream, self.trouble = upstream, trouble
        self.links: set[_Link] = set()
        self._seen, self._now = seen, now
        self._count = 0
        self._latest = 0.0

    def count(self) -> int:
        """Return the number of the next exchange, from 1."""
        self._count += 1
        return self._count

    def now(self) -> float:
        """Return the current time, strictly increasing by a few microseconds."""
        # The live judge finds an exchange again by its moment, rounded to a microsecond either way.
        self._latest = max(self._now(), self._latest + 4e-6)
        return self._latest

    def report(self, passed: ObservedExchange) -> None:
        """Report an exchange that has ended."""
        try:
            self._seen(passed)
        except Exception as error:
            self.trouble(f"exchange {passed.exchange.number} could not be recorded: {error!r}")

    async def run(self, bound: socket.socket, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Accept connections on a bound socket until `stop` is set; exchanges in progress are then broken off."""
        server = await asyncio.get_running_loop().create_server(lambda: _Link(self).client, sock=bound, backlog=1024)
        ready()
        await stop.wait()
        server.close()
        for link in list(self.links):
            link.stop()
        # Half a second for the resets to be sent; a peer that does not read must not block the exit.
        for _ in range(50):
            if not self.links:
                break
            await asyncio.sleep(0.01)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the fastest event loop available."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system; 3 ms
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class ProxyThread:
    """A proxy in its own thread, from construction until `stop`."""

    def __init__(self, proxy: Proxy, bound: socket.socket) -> None:
        self._proxy, self._bound = proxy, bound
        self._begun = threading.Event()
        self._loop = new_loop()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="hobbyhorse proxy", daemon=True)
        self._thread.start()
        self._begun.wait()

    def _run(self) -> None:
        async def run() -> None:
            self._stop = asyncio.Event()
            await self._proxy.run(self._bound, self._begun.set, self._stop)

        try:
            self._loop.run_until_complete(run())
        finally:
            self._begun.set()
            self._loop.close()

    def stop(self) -> None:
        """Stop the proxy and wait for its thread."""
        if self._thread.is_alive() and self._stop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._bound.close()
