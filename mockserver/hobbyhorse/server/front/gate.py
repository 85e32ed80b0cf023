"""Accepts connections for TLS and for the forward proxy, and gives each to a protocol by its first bytes.

Neither port has one protocol. The TLS port also gets plain HTTP by mistake, and must say so. The port of the proxy gets
requests in absolute form, and CONNECT, after which the client speaks TLS or plain HTTP in its tunnel.

A connection has up to three steps: its *opening* (the head of a CONNECT request, or the bytes that show that it is
another request), the first byte of its tunnel, and the handshake. Invariants:

* No step takes a byte from the socket that a later step needs. The opening is read with `MSG_PEEK`, and then taken up
  to its end. The first byte of TLS is only read. So the event loop can begin the handshake with a fresh socket. Bytes
  of HTTP that were taken go to its protocol as `begun`.
* Each step ends within `HEAD_SECONDS`. A connection has no protocol before, so nothing else would end it.
* Nothing here waits but in a task of this connection, so that no connection holds another.
* Whatever happens, the socket is closed or has an owner: a transport of the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from hobbyhorse.server.front.certificates import ServedCertificate
from hobbyhorse.server.front.destinations import Address, Destinations, read_authority
from hobbyhorse.server.front.protocols import ForwardProtocol, FrontProtocol
from hobbyhorse.server.transport import HEAD_SECONDS, MOST_HEAD_BYTES

logger = logging.getLogger("uvicorn.error")

# As uvicorn: the most connections that the system keeps for a server which has not accepted them yet.
BACKLOG = 2_048
# A process without free descriptors cannot accept; asyncio tries again after as long.
PAUSE_SECONDS = 1.0
# After a refusal: as long as a client takes to read it before the connection is gone, with everything it still sends.
LINGER_SECONDS = 1.0
# The first byte of a TLS connection: a record with a handshake (RFC 8446, section 5.1).
HANDSHAKE = b"\x16"
CONNECT, END = b"CONNECT ", b"\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
REASONS = {400: "Bad Request", 403: "Forbidden", 408: "Request Timeout", 431: "Request Header Fields Too Large"}
# Reasons of OpenSSL for the alerts of a client that does not trust the certificate.
DISTRUST = ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_UNKNOWN")


Opened = tuple[Callable[[], FrontProtocol], bool]
"""What makes the protocol of a connection, and whether TLS comes first."""


class Refused(Exception):
    """A connection is refused, with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Gone(Exception):
    """The client has closed its connection before it said anything."""


@dataclass(frozen=True, slots=True)
class Front:
    """The sockets of a gate, bound but not listening: those for TLS, and the forward proxy's.

    `addresses` are the members that they add to the server's ready line.
    """

    served: ServedCertificate
    tls: tuple[socket.socket, ...]
    proxy: socket.socket | None
    destinations: Destinations
    addresses: Mapping[str, str | None]

    def open(self, make: Callable[..., FrontProtocol]) -> Gate:
        """Accept connections on the running event loop. `make` makes a protocol of a given kind."""
        return Gate(self, make)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """All sockets."""
        return self.tls if self.proxy is None else (*self.tls, self.proxy)


class Gate:
    """Accepts the connections of a front; has the methods with which uvicorn closes a server."""

    def __init__(self, front: Front, make: Callable[..., FrontProtocol]) -> None:
        self._front, self._make = front, make
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._distrusted = False
        for one in front.sockets:
            one.setblocking(False)
            one.listen(BACKLOG)
            self._watch(one)

    def close(self) -> None:
        """Accept no more connections, and close those without a protocol."""
        for one in self._front.sockets:
            if one.fileno() >= 0:
                self._loop.remove_reader(one)
        for handle in self._paused.values():
            handle.cancel()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until no connection is without a protocol."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _watch(self, listening: socket.socket) -> None:
        self._paused.pop(listening, None)
        self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # another process has accepted it
            return
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            logger.warning("cannot accept a connection: %s", error.strerror)
            self._loop.remove_reader(listening)
            self._paused[listening] = self._loop.call_later(PAUSE_SECONDS, self._watch, listening)
            return
        client.setblocking(False)
        task = self._loop.create_task(self._serve(client, listening is self._front.proxy))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, client: socket.socket, forwards: bool) -> None:
        """Give a connection to its protocol, or refuse it."""
        given = False
        try:
            make, secure = await (self._open_proxy(client) if forwards else self._open_tls(client))
            given = True
            await self._hand_over(client, make, secure)
        except Refused as refused:
            await _refuse(client, refused)
        except (OSError, asyncio.TimeoutError, Gone):  # the client has left, or is too late in the middle of TLS
            pass
        finally:
            if not given:
                client.close()

    async def _open_tls(self, client: socket.socket) -> Opened:
        """Open a connection to the TLS port. Raises Refused and Gone."""
        if not await _begins_tls(client):
            raise Refused(400, "this port speaks HTTPS, and the request is plain HTTP; use https:// here")
        return partial(self._make, FrontProtocol), True

    async def _open_proxy(self, client: socket.socket) -> Opened:
        """Open a connection to the forward proxy. Raises Refused and Gone."""
        try:
            opening = await asyncio.wait_for(_read_opening(client), HEAD_SECONDS)
        except asyncio.TimeoutError:
            raise Refused(408, f"the request was not complete within {HEAD_SECONDS:g} s") from None
        if not opening.startswith(CONNECT):
            destinations = self._front.destinations
            return partial(self._make, ForwardProtocol, destinations=destinations, begun=opening), False
        destination = self._target(opening)
        await self._loop.sock_sendall(client, ESTABLISHED)
        # Node's fetch has a tunnel for http:// URLs too.
        return partial(self._make, FrontProtocol, destination=destination), await _begins_tls(client)

    def _target(self, head: bytes) -> Address:
        """Return the destination of a CONNECT request. Raises Refused."""
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        target = read_authority(words[1]) if len(words) == 3 and words[2].startswith("HTTP/1.") else None
        if target is None:
            raise Refused(400, "the first line is not a CONNECT request, such as CONNECT example.com:443 HTTP/1.1")
        found = self._front.destinations.find(*target)
        if found is None:
            raise Refused(403, self._front.destinations.refusal(*target))
        return found

    async def _hand_over(self, client: socket.socket, make: Callable[[], FrontProtocol], secure: bool) -> None:
        """Let the event loop own a connection; over TLS, after the handshake."""
        context, patience = (self._front.served.context, HEAD_SECONDS) if secure else (None, None)
        try:
            await self._loop.connect_accepted_socket(make, client, ssl=context, ssl_handshake_timeout=patience)
        except ssl.SSLError as error:
            authority = self._front.served.files.authority
            if error.reason in DISTRUST and authority is not None and not self._distrusted:
                self._distrusted = True
                logger.warning("a client does not trust the certificate of this server; let it trust %s", authority)


async def _readable(client: socket.socket) -> None:
    """Wait until a socket has bytes, or its end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(client, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(client)


async def _peek(client: socket.socket, most: int) -> bytes:
    """Return the bytes that a socket has, at least one, without taking them. Raises Gone and OSError."""
    while True:
        await _readable(client)
        with suppress(BlockingIOError):
            if not (seen := client.recv(most, socket.MSG_PEEK)):
                raise Gone
            return seen


async def _begins_tls(client: socket.socket) -> bool:
    """Whether the next bytes of a connection are TLS. Raises Gone, TimeoutError and OSError."""
    return await asyncio.wait_for(_peek(client, 1), HEAD_SECONDS) == HANDSHAKE


async def _read_opening(client: socket.socket) -> bytes:
    """Take the head of a CONNECT request, or the first bytes of another. Raises Refused, Gone and OSError."""
    opening = bytearray()
    while True:
        seen = await _peek(client, MOST_HEAD_BYTES)
        # The end may have begun in the bytes before.
        end = (opening[-3:] + seen).find(END)
        take = len(seen) if end < 0 else end + len(END) - len(opening[-3:])
        opening += client.recv(take)
        if end >= 0 or not CONNECT.startswith(opening[: len(CONNECT)]):
            return bytes(opening)
        if len(opening) >= MOST_HEAD_BYTES:
            raise Refused(431, f"the head of the request has more than {MOST_HEAD_BYTES} bytes")


async def _refuse(client: socket.socket, refused: Refused) -> None:
    """Send a refusal, and close the connection once the client has read it."""
    loop = asyncio.get_running_loop()
    # Some clients show only the status line of a refused CONNECT, so the sentence stands there too.
    head = f"HTTP/1.1 {refused.status} {REASONS[refused.status]}: {refused.sentence}\r\n"
    body = f"{refused.sentence}\n".encode()
    fields = f"content-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    with suppress(OSError, asyncio.TimeoutError):
        await loop.sock_sendall(client, head.encode() + fields.encode() + body)
        client.shutdown(socket.SHUT_WR)
        # A close with bytes unread resets the connection, and the client may lose the refusal.
        await asyncio.wait_for(_drain(client), LINGER_SECONDS)


async def _drain(client: socket.socket) -> None:
    with suppress(Gone):
        while True:
            await _peek(client, 1)
            client.recv(MOST_HEAD_BYTES)
