"""What was asked and answered, in bounded memory; knows no contract."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MOST_EXCHANGES = 1_000
MOST_JOURNAL_BODY_BYTES = 64 * 1024
SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization", "x-mock-control-key"})
"""The headers that are never shown."""

RawHeaders = Iterable[tuple[bytes, bytes]]


next_number = itertools.count(1).__next__
"""Gives each request its number, in the order in which they arrive at whatever world."""


@dataclass(slots=True)
class Handover:
    """When a request arrived (clock), and what became of its answer: its headers, the size of its body, its end.

    `answered` is when the last byte was handed over, to a client that was still there; None as long as it was not.
    `dated` is when the request arrived by the clock that the client reads, which may be another one.
    """

    arrived: float
    number: int = field(default_factory=next_number)
    headers: RawHeaders = ()
    size: int = 0
    answered: float | None = None
    dated: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the answer was handed over to its last byte."""
        return self.answered is not None

    def done(self, now: float) -> None:
        """Note that the answer has been handed over."""
        self.answered = now

    def lost(self) -> None:
        """Note that the client went away without having read what was handed over."""
        self.answered = None


class Exchange(NamedTuple):
    """One request and its answer: provider, role, job, bodies cut at 64 KB, what was noted.

    `root` is the address that its path is below: origin and the provider's prefix. `made` is the job that a submission
    made, whether its client was told or not.

    A request for a file has the role `media`, no situation and no bodies. `move` is what a scenario made of the answer;
    a `status` of 0 is none that was sent.

    `raw_query` and `raw_headers` are as they came; `query` and `headers` are what may be shown.
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
        """When it arrived (clock)."""
        return self.handover.arrived

    @property
    def query(self) -> str:
        """Return the query, without its question mark."""
        return self.raw_query.decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return the request's headers, secrets redacted."""
        return [(name, "[redacted]" if name in SECRET_HEADERS else value) for name, value in decoded(self.raw_headers)]


def decoded(headers: RawHeaders) -> Iterator[tuple[str, str]]:
    """Yield headers as text, their names in lower case."""
    return ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)


class Journal:
    """The newest exchanges; older ones are forgotten, and counted."""

    def __init__(self, most: int = MOST_EXCHANGES) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=most)
        self._waiters: set[asyncio.Future[None]] = set()
        self.total = 0

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange."""
        self.total += 1
        self._exchanges.append(exchange)
        if self._waiters:
            for waiter in tuple(self._waiters):
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    async def changed(self) -> None:
        """Return when the next exchange has been added."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def __len__(self) -> int:
        return len(self._exchanges)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(tuple(self._exchanges))

    def clear(self) -> None:
        """Forget everything."""
        self._exchanges.clear()
        self.total = 0


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
