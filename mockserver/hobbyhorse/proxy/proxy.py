"""Passes bytes between clients and one upstream, and tells what has gone by; knows no contract and judges nothing.

Each connection of a client has one of its own to the upstream, and what happens to one happens to the other: what is
sent, in both directions, the end of what is sent, and a reset. The only bytes that are not those that came are the
value of a request's Host.
"""

from __future__ import annotations

import asyncio
import json
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
from typing import Any
from urllib.parse import urlsplit

from hobbyhorse.proxy.framing import (
    OPAQUE,
    Framer,
    Head,
    Piece,
    length_of_answer,
    length_of_request,
    read_answer,
    read_request,
)

KEPT_BODY_BYTES = 64 * 1024
"""How much of a body is kept for those who are told."""
CONNECT_SECONDS = 30.0
LINGER_SECONDS = 2.0
"""How long a client that was refused may go on sending."""

CLIENT, UPSTREAM, PROXY = "client", "upstream", "proxy"


@dataclass(frozen=True, slots=True)
class ObservedExchange:
    """A request that has gone by, and its answer; bodies without chunks, the first 64 KB, and how long they were.

    `broken` says who ended it before its time: the client, the upstream, or the proxy. `own` is an answer of the
    proxy's, for the upstream cannot be reached. `asked` says that the whole request had come, and
    `sha256` is that of a body that is not kept whole. Moments are seconds since 1970.
    """

    number: int
    arrived: float
    request: Head
    body: bytes = b""
    sent: int = 0
    answer: Head | None = None
    content: bytes = b""
    size: int = 0
    answered: float | None = None
    broken: str = ""
    own: bool = False
    asked: bool = True
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where everything goes: an origin; `tls` says how it is trusted, None for plain HTTP."""

    host: str
    port: int
    authority: str
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str, trust: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> Upstream:
        """Return the upstream at an address."""
        parts = urlsplit(url)
        secure = parts.scheme.lower() == "https"
        tls = trust() if secure else None
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])
        authority = parts.netloc.rpartition("@")[2]
        return cls(parts.hostname or "", parts.port or (443 if secure else 80), authority, tls)


@dataclass(slots=True)
class _Exchange:
    """An exchange that is under way."""

    number: int
    arrived: float
    request: Head
    body: bytearray = field(default_factory=bytearray)
    sent: int = 0
    answer: Head | None = None
    content: bytearray = field(default_factory=bytearray)
    size: int = 0
    asked: bool = False
    answered: float | None = None
    digest: Any = None

    def ask(self, content: bytes) -> None:
        """Take in what the request goes on with; of what is not kept, a hash is."""
        self.sent += len(content)
        kept = content[: KEPT_BODY_BYTES - len(self.body)]
        self.body += kept
        if len(kept) < len(content):
            self.digest = self.digest or sha256(self.body)
            self.digest.update(content[len(kept) :])

    def passed(self, broken: str = "", own: bool = False) -> ObservedExchange:
        """Return it as it is now."""
        return ObservedExchange(
            number=self.number,
            arrived=self.arrived,
            request=self.request,
            body=bytes(self.body),
            sent=self.sent,
            answer=self.answer,
            content=bytes(self.content),
            size=self.size,
            answered=self.answered,
            broken=broken,
            own=own,
            asked=self.asked,
            sha256=self.digest.hexdigest() if self.digest is not None else "",
        )


class _End(asyncio.Protocol):
    """One end of a link: a connection to the client, or to the upstream."""

    def __init__(self, link: _Link, name: str) -> None:
        self.link, self.name = link, name
        self.transport: asyncio.Transport | None = None
        self.full = self.over = self.resetting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's
        self.link.made(self)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.name == CLIENT:
            self.link.from_client(data)
        else:
            self.link.from_upstream(data)

    def eof_received(self) -> bool:
        """Pass the end of what is sent on; the other direction stays open, where it can."""
        return self.link.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end on."""
        self.over = True
        self.link.lost(self, exc)

    def pause_writing(self) -> None:
        """Stop reading at the other end."""
        self.full = True
        self.link.balance()

    def resume_writing(self) -> None:
        """Go on reading at the other end; a reset that has waited is made."""
        self.full = False
        if self.resetting:
            self._reset()
        self.link.balance()

    def write(self, data: bytes) -> None:
        """Send bytes, as long as that can be done."""
        if self.transport is not None and not self.over and not self.resetting:
            self.transport.write(data)

    def read(self, wanted: bool) -> None:
        """Read on, or stop reading."""
        if self.transport is not None and not self.over:
            with suppress(RuntimeError):  # it is closing
                self.transport.resume_reading() if wanted else self.transport.pause_reading()

    def write_eof(self) -> None:
        """End what is sent; where only both directions can be ended, close."""
        if self.transport is not None and not self.over and not self.resetting:
            with suppress(OSError, RuntimeError):
                self.transport.write_eof() if self.transport.can_write_eof() else self.transport.close()

    def close(self) -> None:
        """Send what there is to send, and close."""
        if self.transport is not None and not self.over and not self.resetting:
            self.transport.close()

    def reset(self) -> None:
        """Send what there is to send, and break the connection off."""
        if self.transport is None or self.over or self.resetting:
            return
        self.resetting = True
        if self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(high=0)
        else:
            self._reset()

    def _reset(self) -> None:
        assert self.transport is not None
        found = self.transport.get_extra_info("socket")
        if found is not None:
            with suppress(OSError, ValueError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class _Link:
    """A client's connection and the one to the upstream that it has for itself."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.client, self.upstream = _End(self, CLIENT), _End(self, UPSTREAM)
        self._requests, self._answers = Framer(), Framer()
        self._waiting: list[bytes] = []
        self._under_way: deque[_Exchange] = deque()
        self._early: list[_Exchange] = []
        self._asking: _Exchange | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._blind = self._refused = False
        self._over: set[str] = set()

    def made(self, end: _End) -> None:
        """Take up a connection."""
        if end is self.client:
            self.proxy.links.add(self)
            return
        for data in self._waiting:
            end.write(data)
        self._waiting.clear()
        if CLIENT in self._over:
            end.write_eof()
        if self.client.over:
            end.close()
        self.balance()

    def balance(self) -> None:
        """Read at each end as long as the other takes it."""
        connecting = self._connecting is not None and self.upstream.transport is None and not self._refused
        self.client.read(not connecting and not self.upstream.full)
        self.upstream.read(not self.client.full)

    # from the client

    def from_client(self, data: bytes) -> None:
        """Pass on what a client sends."""
        if self._refused:
            return
        if self._blind:
            self._send(data)
            return
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
                    self._asked(piece)
        except Exception as error:
            self._look_away(error)
            self._send(whole[done:])

    def _request(self, raw: bytes) -> None:
        head = read_request(raw)
        length = length_of_request(head)
        self._asking = _Exchange(self.proxy.count(), self.proxy.now(), head)
        self._under_way.append(self._asking)
        if not head.target.startswith(("/", "*")):
            if self._connecting is not None:
                self.client.reset()
                self._refused = True
                return
            self._refuse(
                421,
                "no_forward_proxy",
                f"this stands for {self.proxy.upstream.authority} alone",
                "use it as the base URL of your client, not as the proxy of your system",
            )
            return
        self._requests.body(length)
        self._asking.asked = length == 0
        self._send(head.with_host(self.proxy.upstream.authority))

    def _asked(self, piece: Piece) -> None:
        one = self._asking
        if one is None or one.asked:
            return
        one.ask(piece.content)
        one.asked = piece.last
        if one.asked and one.answered is not None:
            self._early.remove(one)
            self.proxy.tell(one.passed())

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
                why = "no connection in time" if isinstance(error, asyncio.TimeoutError) else str(error)
                self._refuse(502, "upstream_unreachable", f"{to.authority} cannot be reached: {why}", "is it up?")

    def _refuse(self, status: int, code: str, message: str, hint: str) -> None:
        """Answer in the proxy's own shape; what the client goes on to send is not read by anybody."""
        self._refused = True
        body = json.dumps({"error": {"code": code, "message": message, "hint": hint}}).encode()
        reason = {421: "Misdirected Request", 502: "Bad Gateway"}[status]
        raw = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\nX-Hobbyhorse-Proxy: refused\r\n\r\n"
        ).encode()
        one = self._under_way[0] if self._under_way else None
        self.client.write(raw if one is not None and one.request.method == "HEAD" else raw + body)
        self._waiting.clear()
        if one is not None:
            one.answer, one.content, one.size = read_answer(raw), bytearray(body), len(body)
            one.answered = self.proxy.now()
            self.proxy.tell(one.passed(own=True))
        self._under_way.clear()
        self.client.write_eof()
        self.balance()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.client.close)

    # from the upstream

    def from_upstream(self, data: bytes) -> None:
        """Pass on what the upstream sends, and then look at it."""
        self.client.write(data)
        if self._blind:
            return
        try:
            for piece in self._answers.feed(data):
                if isinstance(piece, bytes):
                    self._answer(piece)
                else:
                    self._told(piece.content, piece.last)
        except Exception as error:
            self._look_away(error)

    def _answer(self, raw: bytes) -> None:
        head = read_answer(raw)
        if not self._under_way:
            raise ValueError("an answer to no request")
        one = self._under_way[0]
        length = length_of_answer(head, one.request.method)
        if head.status < 200 and length != OPAQUE:
            return
        one.answer = head
        self._answers.body(length)
        if length == OPAQUE:
            self._blind = True
        if length in (0, OPAQUE):
            self._finish()

    def _told(self, content: bytes, last: bool) -> None:
        if self._under_way:
            one = self._under_way[0]
            one.size += len(content)
            one.content += content[: KEPT_BODY_BYTES - len(one.content)]
            if last:
                self._finish()

    def _finish(self) -> None:
        """Take the answer as come to its end; it may have come before all of the request had."""
        one = self._under_way.popleft()
        one.answered = self.proxy.now()
        if one.asked:
            self.proxy.tell(one.passed())
        else:
            self._early.append(one)

    def _look_away(self, error: Exception) -> None:
        """Go on passing bytes without looking at them."""
        self._blind = True
        self._under_way.clear()
        self.proxy.trouble(f"a connection is passed on unread: {error}")

    # the end

    def ended(self, end: _End) -> bool:
        """Take the end of what one end sends; return whether it stays open for the other direction."""
        self._over.add(end.name)
        if end is self.client:
            self._asked_no_more()
            if self._refused or (self.upstream.transport is None and self._connecting is None):
                return False
            self._send(b"" if self._blind else self._requests.held)
        else:
            self._left_over(end.name, clean=True)
        other = self.upstream if end is self.client else self.client
        if len(self._over) == 2:
            other.close()
            return False
        other.write_eof()
        return end.transport is not None and end.transport.can_write_eof()

    def lost(self, end: _End, exc: Exception | None) -> None:
        """End the other connection as this one has ended."""
        self._asked_no_more()
        self._left_over(end.name, clean=exc is None)
        other = self.upstream if end is self.client else self.client
        if exc is not None:
            other.reset()
        else:
            other.close()
        if self.client.over and (self.upstream.over or self.upstream.transport is None):
            self.proxy.links.discard(self)

    def _left_over(self, who: str, *, clean: bool) -> None:
        """Tell what was under way when a connection ended; an answer without a length has come to its end."""
        if clean and who == UPSTREAM and self._answers.until_close and self._under_way:
            self._finish()
        who = CLIENT if CLIENT in self._over else who
        while self._under_way:
            self.proxy.tell(self._under_way.popleft().passed(who))

    def _asked_no_more(self) -> None:
        """Tell what was answered before all of its request had come, for no more of that will come."""
        while self._early:
            self.proxy.tell(self._early.pop(0).passed())

    def stop(self) -> None:
        """End both connections."""
        self._asked_no_more()
        if self._connecting is not None:
            self._connecting.cancel()
        self._left_over(PROXY, clean=False)
        for end in (self.client, self.upstream):
            end.reset()


class Proxy:
    """Passes everything that clients send to one upstream, and tells `seen` of each exchange when it is over.

    Nothing that `seen` does stops an exchange: what it raises goes to `trouble`, as a sentence.
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
        """Return the moment; no two are the same, to a microsecond."""
        self._latest = max(self._now(), self._latest + 4e-6)
        return self._latest

    def tell(self, passed: ObservedExchange) -> None:
        """Tell of an exchange."""
        try:
            self._seen(passed)
        except Exception as error:
            self.trouble(f"exchange {passed.number} could not be looked at: {error!r}")

    async def run(self, bound: socket.socket, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Accept connections on a bound socket until told to stop; what is under way then is broken off."""
        server = await asyncio.get_running_loop().create_server(lambda: _Link(self).client, sock=bound, backlog=1024)
        ready()
        await stop.wait()
        server.close()
        for link in list(self.links):
            link.stop()
        for _ in range(50):
            if not self.links:
                break
            await asyncio.sleep(0.01)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return the fastest event loop there is."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class ProxyThread:
    """A proxy in a thread of its own, from when it is made until it is stopped."""

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
        """Stop, and wait for the thread."""
        if self._thread.is_alive() and self._stop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._bound.close()
