"""A connection to Redis that all tasks of one event loop share. Knows no key and no world.

Everything that one turn of the event loop asks for leaves in one write, and Redis replies in the order of the commands.
So a command is one entry in one of two queues:

* `_waiting`: not written to the current transport. Flushed in the next turn if there is a transport, else when the next
  one is ready.
* `_sent`: written, in this order; the next reply belongs to the first entry.

When the transport is lost, nobody knows which of the sent commands Redis has carried out. Those that may be repeated
return to the front of `_waiting`, in their order; the others fail. So a command that may be repeated must have the same
effect the second time: it reads, or it carries an id that Redis remembers.

An entry that is late fails and stays in its queue: its reply, if it comes, must not be taken for that of the next one.
A new transport first authenticates, selects the database, and sends the commands of `checks`, while `_sent` and
`_waiting` stand still. If `accept` raises for their replies, the connection fails for good.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from hiredis import ProtocolError, Reader, pack_command

from hobbyhorse.state.errors import StoreFailure

Part: TypeAlias = bytes | str | int | float
Command: TypeAlias = tuple[Part, ...]

# The port that Redis documents.
PORT = 6379
# A request waits as long for Redis, then it is refused: clients give up after 10 to 30 s.
WAIT_SECONDS = 5.0
# Between two looks for late commands: a wait is longer by at most this.
WATCH_SECONDS = 0.25
# Before the next attempt to connect: at once after a lost connection, then ever later, but before a request gives up.
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.02, 0.5
# Replies to a new connection that mean "later": it loads its data, is not the primary yet, cannot write to its disk, or
# has too many connections.
LATER = ("LOADING", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MISCONF", "ERR max number of clients reached")

_MORE = object()


class RedisError(StoreFailure):
    """An error that Redis replied."""


class RedisUnavailable(StoreFailure):
    """Redis did not reply in time."""


class RedisRefused(StoreFailure):
    """Redis, or the `accept` of a connection, refuses the connection for good."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is, and how to enter it."""

    host: str
    port: int = PORT
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def read_address(url: str) -> RedisAddress:
    """Read `redis[s]://[[user]:password@]host[:port][/database]`. Raises ValueError, without the password."""
    allowed = "allowed: redis://[user:password@]host[:port][/database], or rediss:// for TLS"
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        raise ValueError(f"the URL of Redis has no valid host or port; {allowed}") from None
    database = parts.path.strip("/") or "0"
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or not database.isdecimal():
        raise ValueError(f"the URL of Redis cannot be read; {allowed}")
    user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    return RedisAddress(parts.hostname, port, user or None, password, int(database), parts.scheme == "rediss")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script, and the digest by which Redis knows it."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source.encode()).hexdigest())


@dataclass(slots=True)
class _Entry:
    """A command on its way. `in_full` replaces it if Redis does not know its script."""

    data: bytes
    reply: asyncio.Future[Any] | None
    until: float
    again: bool
    in_full: bytes | None = None


class RedisConnection(asyncio.Protocol):
    """A connection that is kept open: it reconnects, and repeats the commands whose replies were lost."""

    def __init__(
        self,
        address: RedisAddress,
        *,
        wait: float = WAIT_SECONDS,
        checks: Sequence[Command] = (),
        accept: Callable[[Sequence[Any]], None] = lambda replies: None,
        on_refused: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.address = address
        self._wait = wait
        self._checks, self._accept, self._on_refused = checks, accept, on_refused
        self._loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]  # set by `open`
        self._transport: asyncio.Transport | None = None
        self._ready = False
        self._waiting: deque[_Entry] = deque()
        self._sent: deque[_Entry] = deque()
        self._greeting: deque[asyncio.Future[Any]] = deque()
        self._reader = _reader()
        self._flushing = False
        self._watching: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._why = "it was not reached yet"

    # ---- for the caller

    async def open(self) -> None:
        """Connect. Raises RedisUnavailable after the wait, and RedisRefused."""
        self._loop = asyncio.get_running_loop()
        self._reconnect()
        await self.call("PING")

    @property
    def own_host(self) -> str:
        """The address of this side of the connection."""
        return "127.0.0.1" if self._transport is None else str(self._transport.get_extra_info("sockname")[0])

    def call(self, *command: Part, again: bool = True, seconds: float | None = None) -> asyncio.Future[Any]:
        """Send a command; the result is its reply. Raises RedisError, RedisUnavailable or RedisRefused when awaited.

        `again` permits to repeat it if its reply is lost. `seconds` replaces the usual wait.
        """
        return self._put(_Entry(_pack(*command), self._loop.create_future(), self._until(seconds), again))

    def run(self, script: Script, keys: Sequence[Part], arguments: Sequence[Part]) -> asyncio.Future[Any]:
        """Run a script that may be repeated; the result is its reply, as for `call`."""
        rest = (len(keys), *keys, *arguments)
        data = _pack("EVALSHA", script.sha, *rest)
        in_full = _pack("EVAL", script.source, *rest)
        return self._put(_Entry(data, self._loop.create_future(), self._until(None), True, in_full))

    def send(self, *command: Part) -> None:
        """Send a command whose reply nobody reads; it may be lost with the connection."""
        self._put(_Entry(_pack(*command), None, self._until(None), again=False))

    async def close(self) -> None:
        """Close the connection; whatever waits for a reply fails."""
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._connecting
        self._fail(RedisUnavailable("the connection was closed"))

    # ---- commands

    def _until(self, seconds: float | None) -> float:
        return self._loop.time() + (self._wait if seconds is None else seconds)

    def _put(self, entry: _Entry) -> asyncio.Future[Any]:
        reply = entry.reply
        if self._failure is not None:
            _end(entry, self._failure)
        else:
            self._waiting.append(entry)
            if not self._flushing:
                self._flushing = True
                self._loop.call_soon(self._flush)
            if self._watching is None:
                self._watching = self._loop.call_later(WATCH_SECONDS, self._watch)
        return reply  # type: ignore[return-value]  # None for `send`, which does not use it

    def _flush(self) -> None:
        """Write everything that waits, in one write."""
        self._flushing = False
        if not self._ready or self._transport is None:
            return
        # What was given up while it waited need not be sent.
        going = [entry for entry in self._waiting if entry.reply is None or not entry.reply.done()]
        self._waiting.clear()
        if going:
            self._sent.extend(going)
            self._transport.write(b"".join([entry.data for entry in going]))

    def _watch(self) -> None:
        """Fail the commands that are late; give up a connection on which Redis does not reply."""
        now, silent = self._loop.time(), False
        for entry in (*self._sent, *self._waiting):
            if entry.until <= now and (entry.reply is None or not entry.reply.done()):
                _end(entry, RedisUnavailable(f"Redis at {self.address} did not reply in time: {self._why}"))
        if self._sent and self._sent[0].until <= now:
            silent = True
        self._waiting = deque(entry for entry in self._waiting if entry.until > now)
        self._watching = None
        if silent and self._transport is not None:
            self._why = "it does not respond"
            self._transport.abort()
        if self._sent or self._waiting:
            self._watching = self._loop.call_later(WATCH_SECONDS, self._watch)

    def _fail(self, failure: Exception) -> None:
        """Fail for good."""
        self._failure = failure
        self._ready = False
        for entry in (*self._sent, *self._waiting):
            _end(entry, failure)
        self._sent.clear()
        self._waiting.clear()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if self._transport is not None:
            self._transport.close()

    # ---- the transport

    def _reconnect(self) -> None:
        if self._connecting is None or self._connecting.done():
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        """Connect until it succeeds or fails for good."""
        pause = FIRST_PAUSE_SECONDS
        while self._failure is None:
            try:
                await asyncio.wait_for(self._attempt(), self._wait)
                # It may be lost again already, while this task was still known to connect.
                if self._ready:
                    return
            except RedisRefused as refusal:
                self._fail(refusal)
                self._on_refused(refusal)
                return
            except (OSError, asyncio.TimeoutError, StoreFailure) as error:
                self._why = str(error) or type(error).__name__
                if self._transport is not None:
                    self._transport.abort()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    async def _attempt(self) -> None:
        """Open a transport, enter Redis, check it, and send what waits."""
        address = self.address
        secure = ssl.create_default_context() if address.tls else None
        self._reader = _reader()
        await self._loop.create_connection(lambda: self, address.host, address.port, ssl=secure)
        if address.password is not None:
            who = (address.user,) if address.user is not None else ()
            await self._entering("AUTH", *who, address.password)
        if address.database:
            await self._entering("SELECT", address.database)
        await self._entering("PING")
        replies = [await self._greet(*command) for command in self._checks]
        self._accept(replies)
        self._ready = True
        self._flush()

    async def _entering(self, *command: Part) -> None:
        """Send a command of the greeting. Raises RedisRefused if Redis refuses it for good."""
        try:
            await self._greet(*command)
        except RedisError as error:
            if str(error).startswith(LATER):
                raise
            # Its text names no password.
            raise RedisRefused(f"Redis at {self.address} refuses the connection: {error}") from None

    def _greet(self, *command: Part) -> Awaitable[Any]:
        """Send a command ahead of all that waits."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        if self._transport is None:
            raise RedisUnavailable(self._why)
        self._greeting.append(reply)
        self._transport.write(_pack(*command))
        return reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the new transport."""
        # uvloop's transports are of no class of asyncio.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand the replies to those that wait for them."""
        reader = self._reader
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _MORE:
                if self._greeting:
                    _set(self._greeting.popleft(), reply)
                else:
                    self._take(self._sent.popleft(), reply)
        except (ProtocolError, IndexError):
            # It is no Redis, or it replies more than it was asked.
            self._why = "it does not speak the protocol of Redis"
            if self._transport is not None:
                self._transport.abort()

    def _take(self, entry: _Entry, reply: Any) -> None:
        """Take the reply to a command."""
        if entry.in_full is not None and isinstance(reply, RedisError) and str(reply).startswith("NOSCRIPT"):
            # Redis has restarted, or forgotten its scripts: with the source it learns them again.
            entry.data, entry.in_full = entry.in_full, None
            self._put(entry)
        elif entry.reply is not None:
            _set(entry.reply, reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep what may be repeated, fail the rest, and connect again."""
        lost = RedisUnavailable(f"the connection to Redis at {self.address} was lost")
        self._transport, self._ready = None, False
        while self._greeting:
            _set(self._greeting.popleft(), lost)
        sent, self._sent = self._sent, deque()
        for entry in sent:
            if not entry.again:
                _end(entry, lost)
        self._waiting.extendleft(entry for entry in reversed(sent) if entry.again)
        if self._failure is None:
            self._reconnect()


def _pack(*command: Part) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its annotation has a tuple of one part
    return packed


def _reader() -> Reader:
    return Reader(replyError=RedisError, notEnoughData=_MORE)


def _set(future: asyncio.Future[Any], value: Any) -> None:
    """Set the result of a future, or its exception, unless nobody waits for it any more."""
    if future.done():
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)


def _end(entry: _Entry, error: Exception) -> None:
    """Fail a command."""
    if entry.reply is not None:
        _set(entry.reply, error)
