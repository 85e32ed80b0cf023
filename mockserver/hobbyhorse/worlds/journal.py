"""The journal of requests and responses, in bounded memory. Knows no contract."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, NamedTuple
from urllib.parse import quote

from hobbyhorse.traces.exchange import SECRET_HEADERS, Exchange, RawHeaders

# Exchanges kept per world: far more than one test makes.
MOST_EXCHANGES = 1_000
# Bytes kept per world: 16 KiB for each of its exchanges, of which most have less than two.
MOST_JOURNAL_BYTES = 16 << 20
# Bytes kept of each body. JSON of a provider fits many times over; a picture sent inline is cut.
MOST_JOURNAL_BODY_BYTES = 64 * 1024

# The part of a journal that is for requests without a key: anybody who knows a link can send them.
KEYLESS_PART = 1 / 20

# The characters that RFC 3986 allows unencoded in a path.
PATH_SAFE = "/:@!$&'()*+,;=-._~"


_numbers = [itertools.count(1)]


def next_number() -> int:
    """Return the number of the next request, in order of arrival, across all worlds."""
    return next(_numbers[0])


def resume_numbers(after: int) -> None:
    """Number the next requests beyond those of an earlier process."""
    _numbers[0] = itertools.count(max(after + 1, next_number()))


class Delivery(NamedTuple):
    """The delivery of a response: the headers and the length of the body that were sent.

    `answered` is the moment at which the last byte was handed to the transport while the client was connected; None
    until then.
    """

    headers: RawHeaders = ()
    size: int = 0
    answered: float | None = None


UNSENT = Delivery()
"""No byte has been sent."""


class JournalNote(NamedTuple):
    """The part of an exchange that the server decides: its response, and why it is that one.

    `situation` and `move` are None if the response is in no situation or met no fault. A `status` of 0 means that none
    is sent. `notes` explain refusals.
    """

    situation: str | None = None
    job: str | None = None
    status: int = 0
    body: bytes = b""
    notes: tuple[str, ...] = ()
    move: str | None = None


@dataclass(slots=True)
class Handover:
    """The arrival of a request (moment of the world's clock) and, when it is known, the delivery of its response.

    `dated` is the arrival on the clock that the client reads, which may be real time.
    """

    arrived: float
    number: int = field(default_factory=next_number)
    dated: float | None = None
    delivery: Delivery = UNSENT

    @property
    def whole(self) -> bool:
        """Whether the response was handed over to its last byte."""
        return self.delivery.answered is not None

    def begin(self, headers: RawHeaders, size: int) -> None:
        """Record the head of the response, and the length of its body."""
        self.delivery = Delivery(headers, size)

    def done(self, now: float) -> None:
        """Record that the response has been handed over."""
        headers, size, _ = self.delivery
        self.delivery = Delivery(headers, size, now)

    def lost(self) -> None:
        """Record that the client disconnected before it read the response."""
        headers, size, _ = self.delivery
        self.delivery = Delivery(headers, size)


@dataclass(slots=True)
class Entry(Handover):
    """An exchange in progress, in raw bytes: made when its request arrives, noted before its response is sent.

    It is noted before it is delivered, so the journal keeps this holder, not the frozen record. To replace a record
    instead, the journal would have to find it again, among the newest ones or dropped already.

    Most entries are never read. So they become an `Exchange` when the journal is read, not on the path of the request.
    """

    # Not set before `noted`: an entry that is not in a journal has none of these.
    provider: str | None = field(init=False)
    role: str | None = field(init=False)
    method: str = field(init=False)
    root: str = field(init=False)
    path: str = field(init=False)
    query: bytes = field(init=False)
    headers: RawHeaders = field(init=False)
    body: bytes = field(init=False)
    made: str | None = field(init=False)
    note: JournalNote = field(init=False)
    _read: tuple[Delivery, Exchange] | None = field(init=False)
    connections: int = 0
    """The open connections of the client, its own included; 0 if they are not counted."""
    size: int = 0
    """The bytes that it has in the journal."""
    line: int = 0
    """The position in the journal, counted from 0 since it began."""
    keyless: bool = False
    """Whether it is in the journal of a world although its sender has shown no key."""
    kept: bool = False
    """Whether it was kept before its delivery was known."""

    def noted(
        self,
        note: JournalNote,
        scope: Mapping[str, Any],
        *,
        provider: str | None,
        role: str | None,
        root: str,
        path: str,
        body: bytes = b"",
        made: str | None = None,
    ) -> Entry:
        """Note the request, an ASGI scope with its body, and the response that it will get; return this entry.

        `path` is below `root`, the base URL. `made` is the job of a submission.
        """
        self.method, self.query, self.headers = scope["method"], scope["query_string"], scope["headers"]
        self.provider, self.role, self.root, self.path = provider, role, root, path
        self.body, self.made, self.note, self._read = body[:MOST_JOURNAL_BODY_BYTES], made, note, None
        if len(note.body) > MOST_JOURNAL_BODY_BYTES:
            self.note = note._replace(body=note.body[:MOST_JOURNAL_BODY_BYTES])
        return self

    def exchange(self) -> Exchange:
        """Return the exchange as it is now; one read twice is the same object, until its delivery is known."""
        if self._read is None or self._read[0] is not self.delivery:
            self._read = self.delivery, self._exchange()
        return self._read[1]

    def _exchange(self) -> Exchange:
        note, delivery = self.note, self.delivery
        query = f"?{self.query.decode('latin-1')}" if self.query else ""
        return Exchange(
            arrived=self.arrived,
            role=self.role,
            method=self.method,
            url=self.root + quote(self.path, safe=PATH_SAFE) + query,
            headers=tuple(
                (name, "[redacted]" if name in SECRET_HEADERS else value) for name, value in decoded(self.headers)
            ),
            body=self.body,
            status=note.status,
            answer_headers=(*decoded(delivery.headers), *self._date()),
            answer=note.body,
            answered=delivery.answered,
            whole=delivery.answered is not None,
            size=delivery.size,
            job=note.job,
            made=self.made,
            situation=note.situation,
            move=note.move,
            number=self.number,
            provider=self.provider,
            root=self.root,
            notes=note.notes,
            raw_headers=self.headers,
            connections=self.connections,
        )

    def _date(self) -> Iterator[tuple[str, str]]:
        """Yield a Date header if the client reads another clock: dates in the response are then compared with it."""
        # HTTP dates have whole seconds; a smaller difference does not show.
        if self.dated is not None and abs(self.dated - self.arrived) >= 1:
            yield "date", formatdate(self.dated, usegmt=True)


def decoded(headers: RawHeaders) -> Iterator[tuple[str, str]]:
    """Yield headers as text, with names in lower case."""
    # Header bytes are opaque; latin-1 maps each byte to one character (RFC 9110, section 5.5).
    return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)


@dataclass(slots=True, eq=False)
class _Wait:
    """A wait until `count` entries match, of which the journal has `found`."""

    count: int
    wanted: Callable[[Entry], bool]
    done: asyncio.Future[None]
    found: int = 0


class Journal:
    """The newest `most` exchanges, with at most `most_bytes`; `total` counts the dropped ones too."""

    def __init__(self, most: int = MOST_EXCHANGES, most_bytes: int = MOST_JOURNAL_BYTES) -> None:
        self._entries: deque[Entry] = deque()
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        # The headers that were weighed last, and their bytes.
        self._weighed: tuple[RawHeaders, int] = ((), 0)
        self._keyless = 0
        self._waits: set[_Wait] = set()
        self.total = 0
        self._older: Callable[[], Iterable[Entry]] | None = None

    def restore(self, total: int, older: Callable[[], Iterable[Entry]]) -> None:
        """Go on with the journal of an earlier process, whose entries are read when somebody reads the journal."""
        self.total, self._older = total, older

    def load(self) -> None:
        """Read the entries of an earlier process, if they have not been read yet."""
        if self._older is None:
            return
        older, self._older = self._older, None
        newer, self._bytes = self._entries, 0
        self._entries = deque(older())
        self._entries.extend(newer)
        self._bytes = sum(self._weigh(entry) for entry in self._entries)
        self._trim()

    def add(self, entry: Entry) -> None:
        """Append an exchange, and end the waits that it completes."""
        entry.line = self.total
        self.total += 1
        self._entries.append(entry)
        self._bytes += self._weigh(entry)
        self._trim()
        if self._waits:
            self._count(entry)

    def add_keyless(self, entry: Entry) -> bool:
        """Append an exchange whose sender has shown no key, unless their part of the journal is full; return whether.

        The holder of the key would otherwise lose its own exchanges to strangers.
        """
        if self._keyless >= max(1, self._most * KEYLESS_PART):
            return False
        self._keyless += 1
        entry.keyless = True
        self.add(entry)
        return True

    def _trim(self) -> None:
        while len(self._entries) > self._most or self._bytes > self._most_bytes:
            dropped = self._entries.popleft()
            self._bytes -= dropped.size
            self._keyless -= dropped.keyless
            if self._waits:
                for wait in tuple(self._waits):
                    wait.found -= wait.wanted(dropped)

    def _weigh(self, entry: Entry) -> int:
        """Set and return the bytes of an entry."""
        headers, note = entry.headers, entry.note
        # The polls of a connection share one list of headers, which is added up once.
        if headers is not self._weighed[0]:
            self._weighed = headers, sum(len(name) + len(value) for name, value in headers)
        size = self._weighed[1] + len(entry.root) + len(entry.path) + len(entry.query)
        size += len(entry.body) + len(note.body)
        # The common case, a poll, has none.
        if note.notes:
            size += sum(map(len, note.notes))
        entry.size = size
        return size

    def _count(self, entry: Entry) -> None:
        """Count a new entry for the waits that want it."""
        for wait in tuple(self._waits):
            if wait.wanted(entry):
                wait.found += 1
                if wait.found >= wait.count:
                    # It may belong to another event loop: a test's, while the server runs in a thread.
                    wait.done.get_loop().call_soon_threadsafe(_wake, wait.done)

    async def until(self, count: int, wanted: Callable[[Entry], bool]) -> None:
        """Wait until at least `count` entries match. Each new entry is matched once, and each dropped one."""
        self.load()
        wait = _Wait(count, wanted, asyncio.get_running_loop().create_future())
        wait.found = sum(map(wanted, self._entries))
        if wait.found >= count:
            return
        self._waits.add(wait)
        try:
            await wait.done
        finally:
            self._waits.discard(wait)

    def __len__(self) -> int:
        self.load()
        return len(self._entries)

    def __iter__(self) -> Iterator[Exchange]:
        self.load()
        # A copy: a deque must not change during iteration, and requests keep arriving.
        return (entry.exchange() for entry in tuple(self._entries))

    def newest(
        self, most: int, before: int | None = None, wanted: Callable[[Entry], bool] = lambda entry: True
    ) -> tuple[list[tuple[int, Entry]], bool]:
        """Return the newest entries that match, newest first, and whether there are older ones.

        Each is after its position since the journal began; only positions less than `before` count.
        """
        self.load()
        found: list[tuple[int, Entry]] = []
        position = self.total
        for entry in reversed(tuple(self._entries)):
            position -= 1
            if (before is None or position < before) and wanted(entry):
                if len(found) == most:
                    return found, True
                found.append((position, entry))
        return found, False

    def of(self, wanted: Callable[[Entry], bool], most: int) -> Journal:
        """Return a journal of the newest entries that match."""
        found, _ = self.newest(most, wanted=wanted)
        made = Journal(max(most, 1), self._most_bytes)
        for _, entry in reversed(found):
            # Its line stays the one of this journal.
            line = entry.line
            made.add(entry)
            entry.line = line
        return made

    def clear(self) -> None:
        """Drop every exchange and restart the count."""
        self._entries.clear()
        self._older = None
        self.total = self._bytes = self._keyless = 0
        for wait in self._waits:
            wait.found = 0

    @property
    def in_memory(self) -> int:
        """The number of exchanges in memory, without those of an earlier process that were not read yet."""
        return len(self._entries)

    @property
    def kept_bytes(self) -> int:
        """The bytes of the exchanges that are kept."""
        return self._bytes

    @property
    def awaited(self) -> bool:
        """Whether a request waits for exchanges."""
        return bool(self._waits)

    @property
    def waits(self) -> int:
        """The number of requests that wait for exchanges."""
        return len(self._waits)


def _wake(waiter: asyncio.Future[None]) -> None:
    # It may have been cancelled since the call was scheduled.
    if not waiter.done():
        waiter.set_result(None)
