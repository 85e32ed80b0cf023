"""Measures how late the event loop runs a timer: the time by which it delays every client at that moment."""

from __future__ import annotations

import asyncio
import time

from hobbyhorse.server.metrics.counters import Histogram

# Seconds between two measurements: ten in a scrape interval of 5 s, at a cost of some 20 microseconds a second.
INTERVAL = 0.5


class LoopLag:
    """Observes the lag of the event loop in which it was started, until it is closed."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start on the running event loop. Does nothing if it has started."""
        if self._timer is None:
            self._plan(asyncio.get_running_loop())

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not the loop's own time: uvloop reads it once a turn, so it stands while the loop is held up.
        due = time.perf_counter() + INTERVAL
        self._timer = loop.call_later(INTERVAL, self._measure, loop, due)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._histogram.observe(max(0.0, time.perf_counter() - due))
        self._plan(loop)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
