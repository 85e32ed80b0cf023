"""uvicorn's HTTP protocol, extended for faults on the socket, and bounded in the bytes and the time of a request.

The protocol is subclassed because ASGI lacks two things. An application never sees the transport of its connection,
and without the transport no fault could reset a connection or end it inside a body (see `socket_faults`). Nor does it
learn that the peer has reset the connection after the response was sent, the only sign that the response was never
read.

Bounds. uvicorn bounds neither the length of a head nor the time until it is complete, and it keeps a connection that
never sends a byte. A request whose end has not been read is *open*, and one of three bounds applies to it:

* A head must be complete `HEAD_SECONDS` after its first bytes, within `MOST_HEAD_BYTES`. It is fed to the parser up to
  its last allowed byte and no further, so that the bound is exact.
* Between two pieces of a body, and after the last one, the same bound applies to everything that is no content: the
  sizes and extensions of chunks, and trailers.
* A body must go on within `BODY_SECONDS`. This bound waits while the server itself has stopped reading.

A request that arrives in one read, as most do, is open only during that read, and pays two comparisons.

Connections are bounded by the descriptors of the process, see `most_connections`: without a free one, files cannot be
opened either, and every request that needs a file fails.

A response has a bound, too: what a client does not read stays in memory, and holds up the close of its connection.
The server looks at all connections now and then, because a response may wait for its client in too many places.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hobbyhorse.clock.socket_queue import unacknowledged
from hobbyhorse.server.socket_faults import TRANSPORT
from hobbyhorse.worlds.journal import Handover

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Of a request line with its headers, or of trailers: as much as the largest that servers accept (8 to 64 KiB).
MOST_HEAD_BYTES = 64 * 1024
# A head has a few hundred bytes, and the slowest network carries them in a second.
HEAD_SECONDS = 10.0
# No network pauses for longer between two pieces of a body. Trailers that never come end after this time, too.
BODY_SECONDS = 20.0
# As long as nginx keeps an idle connection: clients wait between polls, some of them for a minute.
IDLE_SECONDS = 75

# Descriptors for everything but connections: files, workers, callbacks and fetches. A quarter of them, but at least 64.
RESERVED, LEAST_RESERVED = 0.25, 64

_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_LATE = b"408 Request Timeout"

_uses = itertools.count(1)


@lru_cache(maxsize=1)
def most_connections() -> int | None:
    """Return how many connections the limit of file descriptors (`ulimit -n`) permits, or None without a limit."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else max(1, limit - max(int(limit * RESERVED), LEAST_RESERVED))


@lru_cache(maxsize=1)
def _warn_once(logger: logging.Logger, most: int) -> None:
    logger.warning("%d connections are open, as many as the limit of file descriptors (ulimit -n) permits", most)


class OpenProtocol(HttpToolsProtocol):
    """Passes the transport to the application, bounds requests, and reports a response that the client did not read."""

    unread: Handover | None = None
    """The handover of the last response, until a sign that the client has read it."""
    # Whether the current message has begun and not ended, whether its head is complete, whether the part that is being
    # fed has brought it forward, and the bytes since the last one that did.
    _open = _headed = _brought = False
    _idle_bytes = 0
    _bound: asyncio.TimerHandle | None = None
    # The bytes that waited for the client at the last look.
    _waiting = 0
    # Grows with each request of any connection: the loop's clock has equal times within a millisecond.
    _used = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport of a new connection, and close it if no request comes."""
        super().connection_made(transport)
        most = most_connections()
        if most is not None and len(self.connections) > most:
            self._make_room(most)
        # One for all requests of the connection: the application keeps the caller of the last one there.
        self._extensions = {TRANSPORT: transport}
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _make_room(self, most: int) -> None:
        """Close the connection that has been idle longest, first of those without a request; or else this one."""
        idle = {
            one: (one.cycle is not None, one.timeout_keep_alive_task.when(), one._used)
            for one in self.connections
            if isinstance(one, OpenProtocol)
            and one.timeout_keep_alive_task is not None
            and not one.transport.is_closing()
        }
        min(idle, key=idle.__getitem__, default=self).transport.close()
        _warn_once(self.logger, most)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, within the bounds of an open request."""
        if not self._open and len(data) <= MOST_HEAD_BYTES:
            super().data_received(data)
            if self._open:
                self._stay_open(len(data))
            return
        at = 0
        while at < len(data) and not self.transport.is_closing():
            part = data[at : at + MOST_HEAD_BYTES - self._idle_bytes]
            at += len(part)
            self._brought = False
            super().data_received(part)
            self._stay_open(len(part))

    def _stay_open(self, size: int) -> None:
        """Bound the rest of a request, after `size` bytes of it were fed."""
        if not self._open:
            self._unbound()
            self._idle_bytes = 0
        elif self._brought:
            self._idle_bytes = 0
            self._within(BODY_SECONDS)
        else:
            if not self._idle_bytes:
                self._within(HEAD_SECONDS)
            self._idle_bytes += size
            if self._idle_bytes >= MOST_HEAD_BYTES:
                self._end(_TOO_LARGE)

    def _within(self, seconds: float) -> None:
        self._unbound()
        self._bound = self.loop.call_later(seconds, self._late, seconds)

    def _unbound(self) -> None:
        if self._bound is not None:
            self._bound.cancel()
            self._bound = None

    def _late(self, seconds: float) -> None:
        """End a request that is not complete in time."""
        # The client cannot go on while this side does not read, because its application has not asked for more.
        if self.flow.read_paused:
            self._within(seconds)
        else:
            self._end(_TOO_LATE)

    def _end(self, status: bytes) -> None:
        """Close the connection; with a response if the client is not in the middle of another one."""
        self._unbound()
        self._open = False
        if self.transport.is_closing():
            return
        if not self._headed and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: a server may ignore an Upgrade (RFC 9110, section 7.8), and a late CONNECT is refused."""

    def drop_unread(self) -> None:
        """Drop the connection if the client has taken nothing of what waits for it since the last call."""
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            # A client that reads slowly makes room in the socket long before this side can write again.
            waiting += unacknowledged(lambda: self.transport.get_extra_info("socket").fileno())
        if waiting and waiting == self._waiting:
            if self.unread is not None:
                self.unread.lost()
            self.transport.abort()
        self._waiting = waiting

    def on_message_begin(self) -> None:
        """Begin the scope of a request."""
        super().on_message_begin()
        # A client that sends its next request has read the response before it.
        self.unread = None
        self._open, self._headed = True, False
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._headed = self._brought = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a part of the body on."""
        self._brought = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._open, self._used = False, next(_uses)
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the connection; a reset means that the client left data unread."""
        self._unbound()
        # `exc` is None after a normal close, when the peer has read everything.
        if exc is not None and self.unread is not None:
            self.unread.lost()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
