"""The journal of requests and responses, in bounded memory. Knows no contract."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

# Exchanges kept per world: far more than one test makes, and at most some 130 MB with two full bodies each.
MOST_EXCHANGES = 1_000
# Bytes kept of each body. JSON of a provider fits many times over; a picture sent inline is cut.
MOST_JOURNAL_BODY_BYTES = 64 * 1024
SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization", "x-mock-control-key"})
"""The headers with secret values, which are never shown."""

RawHeaders = Iterable[tuple[bytes, bytes]]


next_number = itertools.count(1).__next__
"""Return the number of the next request, in order of arrival, across all worlds."""


@dataclass(slots=True)
class Handover:
    """The arrival of a request (moment of the world's clock) and the delivery of its response.

    `answered` is the moment at which the last byte was handed to the transport while the client was connected; None
    until then. `dated` is the arrival on the clock that the client reads, which may be real time.
    """

    arrived: float
    number: int = field(default_factory=next_number)
    headers: RawHeaders = ()
    size: int = 0
    answered: float | None = None
    dated: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the response was handed over to its last byte."""
        return self.answered is not None

    def done(self, now: float) -> None:
        """Record that the response has been handed over."""
        self.answered = now

    def lost(self) -> None:
        """Record that the client disconnected before it read the response."""
        self.answered = None


class Exchange(NamedTuple):
    """One request and its response; bodies are cut at MOST_JOURNAL_BODY_BYTES.

    `root` is the base URL that `path` is relative to: origin and the provider's prefix. `made` is the job of a
    submission, even if the client never received its id. `move` is the fault that was applied to the response. A
    `status` of 0 means that none was sent. `notes` explain refusals.

    A request for a file has the role `media`, no situation and no bodies.

    `raw_query` and `raw_headers` are as received; `query` and `headers` have no secrets.
    """

    provider: str | None
    role: str | None
    situation: str | None
    job: str | None
    method: str
    path: str
    raw_query: bytes
    raw_headers: RawHeaders
    body: bytes
    status: int
    answer: bytes
    root: str
    handover: Handover
    notes: tuple[str, ...] = ()
    move: str | None = None
    made: str | None = None

    @property
    def moment(self) -> float:
        """The moment of arrival."""
        return self.handover.arrived

    @property
    def query(self) -> str:
        """The query, without its question mark."""
        return self.raw_query.decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The request's headers, with secrets redacted."""
        return [(name, "[redacted]" if name in SECRET_HEADERS else value) for name, value in decoded(self.raw_headers)]


def decoded(headers: RawHeaders) -> Iterator[tuple[str, str]]:
    """Yield headers as text, with names in lower case."""
    # Header bytes are opaque; latin-1 maps each byte to one character (RFC 9110, section 5.5).
    return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)


class Journal:
    """The newest `most` exchanges; `total` counts the dropped ones too."""

    def __init__(self, most: int = MOST_EXCHANGES) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=most)
        self._waiters: set[asyncio.Future[None]] = set()
        self.total = 0

    def add(self, exchange: Exchange) -> None:
        """Append an exchange and wake the waiters."""
        self.total += 1
        self._exchanges.append(exchange)
        if self._waiters:
            # A waiter may belong to another event loop: a test's, while the server runs in a thread.
            for waiter in tuple(self._waiters):
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def changed(self) -> None:
        """Wait until the next exchange is added."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def __len__(self) -> int:
        return len(self._exchanges)

    def __iter__(self) -> Iterator[Exchange]:
        # A copy: a deque must not change during iteration, and requests keep arriving.
        return iter(tuple(self._exchanges))

    def clear(self) -> None:
        """Drop every exchange and restart the count."""
        self._exchanges.clear()
        self.total = 0


def _wake(waiter: asyncio.Future[None]) -> None:
    # It may have been cancelled since the call was scheduled.
    if not waiter.done():
        waiter.set_result(None)
