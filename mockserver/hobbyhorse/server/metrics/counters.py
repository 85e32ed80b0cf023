"""The counters of one process: plain numbers, so that counting costs the path of a request next to nothing.

Every key consists of names that the contracts and the code define: providers, roles, situations, faults, outcomes. No
text of a client becomes a key, so neither the memory nor the number of time series depends on the clients, and no
secret can be in one. Counters of several processes can be added.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, ...]

# Seconds. A poll takes less than a millisecond; a request that a fault delays, or that waits for its job, takes longer.
REQUEST_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
# Seconds. A rendering takes some tenths on an idle machine.
RENDER_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Seconds. From 50 ms on, a slow turn of the event loop delays every client.
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
NONE = "none"
"""The label of a request that matches no operation, or of a response in no situation."""


class Histogram:
    """How many observations were at most each bound, not cumulated; the last count is of those above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...], counts: Iterable[int] = (), total: float = 0.0) -> None:
        self.bounds = bounds
        self.counts = [*counts] or [0] * (len(bounds) + 1)
        self.total = total

    def observe(self, value: float) -> None:
        """Count an observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Add the observations of another histogram with the same bounds."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self.counts)


@dataclass(slots=True)
class Counters:
    """Everything that this process has counted since its start.

    `requests` is by provider, role and situation; `faults` by provider and fault; `callbacks` by provider and outcome;
    `renders` by kind of file and outcome; `images` by outcome, which is "stored" or the code of a refusal.
    """

    requests: dict[Key, Histogram] = field(default_factory=dict)
    faults: Counter[Key] = field(default_factory=Counter)
    callbacks: Counter[Key] = field(default_factory=Counter)
    renders: dict[Key, Histogram] = field(default_factory=dict)
    images: Counter[Key] = field(default_factory=Counter)
    lag: Histogram = field(default_factory=lambda: Histogram(LAG_BOUNDS))

    def request(self, provider: str, role: str | None, situation: str | None, seconds: float) -> None:
        """Count a request to a provider and its duration."""
        key = (provider, role or NONE, situation or NONE)
        found = self.requests.get(key)
        if found is None:
            found = self.requests[key] = Histogram(REQUEST_BOUNDS)
        # As `observe` does, without the call: this is on the path of every request.
        found.counts[bisect_left(REQUEST_BOUNDS, seconds)] += 1
        found.total += seconds

    def render(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a rendering and its duration."""
        key = (kind, outcome)
        if key not in self.renders:
            self.renders[key] = Histogram(RENDER_BOUNDS)
        self.renders[key].observe(seconds)

    def add(self, other: Counters) -> None:
        """Add the counters of another process."""
        for mine, theirs in ((self.requests, other.requests), (self.renders, other.renders)):
            for key, histogram in theirs.items():
                if key not in mine:
                    mine[key] = Histogram(histogram.bounds)
                mine[key].add(histogram)
        self.faults.update(other.faults)
        self.callbacks.update(other.callbacks)
        self.images.update(other.images)
        self.lag.add(other.lag)

    def to_json(self) -> dict[str, Any]:
        """Return the counters as JSON, for another process."""
        histograms: dict[str, dict[Key, Histogram]] = {
            "requests": self.requests,
            "renders": self.renders,
            "lag": {(): self.lag},
        }
        counts = {"faults": self.faults, "callbacks": self.callbacks, "images": self.images}
        found: dict[str, Any] = {
            name: [[list(key), one.counts, one.total] for key, one in values.items()]
            for name, values in histograms.items()
        }
        return found | {name: [[list(key), count] for key, count in values.items()] for name, values in counts.items()}


def read_counters(value: Any) -> Counters:
    """Return the counters of `Counters.to_json`."""
    found = Counters()
    for key, counts, total in value["requests"]:
        found.requests[tuple(key)] = Histogram(REQUEST_BOUNDS, counts, total)
    for key, counts, total in value["renders"]:
        found.renders[tuple(key)] = Histogram(RENDER_BOUNDS, counts, total)
    for _, counts, total in value["lag"]:
        found.lag = Histogram(LAG_BOUNDS, counts, total)
    for name in ("faults", "callbacks", "images"):
        getattr(found, name).update({tuple(key): count for key, count in value[name]})
    return found
