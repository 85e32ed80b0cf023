"""The limits of one key, and the queue of its jobs for a provider's workers. No contract, no HTTP, no clock."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from heapq import heapify, heappop, heappush, nlargest
from typing import Any

# Seconds before the start of a job in which no job of a rival is ahead of it: its position must reach 0 before it runs.
LAST_SECOND = 1.0
# Places from which the queue looks for ended jobs, to keep joining amortised O(1).
LEAST_CROWD = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one key. None means unlimited. Raises ValueError for an impossible value.

    `balance` is in USD. `rivals` is the largest number of jobs of other customers in the queue, which varies.
    """

    requests_per_second: float | None = None
    concurrent_jobs: int | None = None
    workers: int | None = None
    rivals: int = 0
    balance: Decimal | None = None

    def __post_init__(self) -> None:
        """Check each limit against its rule."""
        for name, (allows, allowed) in RULES.items():
            value = getattr(self, name)
            if not allows(value):
                raise ValueError(f"{name} is {value!r}; allowed: {allowed}")

    def to_json(self) -> dict[str, Any]:
        """Return the limits as `read_limits` reads them; the balance is a number."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: float(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def read_limits(found: Any) -> Limits:
    """Read limits from a JSON object. Raises ValueError with the name, its value and the allowed values."""
    if not isinstance(found, Mapping):
        raise ValueError(f"limits is {found!r}; allowed: an object with any of {', '.join(RULES)}")
    for name in found:
        if name not in RULES:
            raise ValueError(f"unknown limit {name!r}; allowed: {', '.join(RULES)}")
    values = dict(found)
    balance = values.get("balance")
    if isinstance(balance, (int, float)) and _from_zero(balance):
        # Through text: Decimal(0.1) would be 0.1000000000000000055...
        values["balance"] = Decimal(str(balance))
    return Limits(**values)


def _number(value: Any) -> bool:
    # bool is a subclass of int, but true is not a number in JSON.
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _from_zero(value: Any) -> bool:
    return _number(value) and 0 <= value < math.inf


def _rate(value: Any) -> bool:
    return value is None or (_from_zero(value) and value > 0)


def _balance(value: Any) -> bool:
    return value is None or (isinstance(value, Decimal) and value.is_finite() and value >= 0)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _none_or_whole(value: Any) -> bool:
    return value is None or _whole(value)


def _some(value: Any) -> bool:
    return value is None or (_whole(value) and value > 0)


RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "requests_per_second": (_rate, "a number greater than 0, or null"),
    "concurrent_jobs": (_none_or_whole, "a whole number from 0, or null"),
    "workers": (_some, "a whole number from 1, or null"),
    "rivals": (_whole, "a whole number from 0"),
    "balance": (_balance, "a number from 0, or null"),
}
"""Each limit's allowed values, as a check and in words."""


class Meter:
    """A token bucket: each granted request takes a token, and tokens return at the limited rate.

    The bucket starts full, with one second's worth of whole tokens, at least one. Sums are exact (fractions), so that a
    request exactly after its Retry-After is granted, and an earlier one is not.
    """

    def __init__(self) -> None:
        self._tokens: Fraction | None = None
        self._counted = 0.0

    def to_json(self) -> list[Any]:
        """Return the state of the bucket, for `restore`."""
        return [None if self._tokens is None else str(self._tokens), self._counted]

    def restore(self, found: list[Any]) -> None:
        """Go on with the bucket of an earlier process."""
        tokens, self._counted = found
        self._tokens = None if tokens is None else Fraction(tokens)

    def request(self, limits: Limits, now: float) -> float | None:
        """Return None if a request is granted, else the seconds until a request would be granted."""
        if limits.requests_per_second is None:
            # A later limit starts with a full bucket.
            self._tokens = None
            return None
        rate = Fraction(limits.requests_per_second)
        full = Fraction(max(1, math.ceil(rate)))
        tokens = full
        if self._tokens is not None:
            passed = max(Fraction(0), Fraction(now) - Fraction(self._counted))
            tokens = min(full, self._tokens + passed * rate)
        if tokens >= 1:
            self._tokens, self._counted = tokens - 1, now
            return None
        return _wait(now, Fraction(now) + (1 - tokens) / rate)


def _wait(now: float, moment: Fraction) -> float:
    """Return the smallest float whose float sum with `now` reaches the time `moment`."""
    moment = min(moment, Fraction(sys.float_info.max))
    # Rounding up twice: once for the goal, once for the difference. A wait that is one ulp short would be refused.
    goal = float(moment)
    if goal < moment:
        goal = math.nextafter(goal, math.inf)
    wait = goal - now
    while now + wait < goal:
        wait = math.nextafter(wait, math.inf)
    return wait


@dataclass(slots=True)
class QueuePosition:
    """A job's place in the queue: its earliest start, its duration on a worker in seconds, and its planned start."""

    ready: float
    rest: float
    start: float

    @property
    def end(self) -> float:
        """The time at which the job's worker becomes free."""
        return self.start + self.rest


class Queue:
    """The jobs of one world that wait for workers, first in, first out.

    The queue only plans. `join` returns the start of a new job; `leave` and `replan` return the jobs whose start has
    changed, with their new starts. Moments passed in never decrease. Without a limit of workers no job waits.
    """

    def __init__(self) -> None:
        self._places: dict[str, QueuePosition] = {}
        self._crowd = LEAST_CROWD

    def to_json(self) -> dict[str, Any]:
        """Return the places, for `restore`."""
        return {job_id: (place.ready, place.rest, place.start) for job_id, place in self._places.items()}

    def restore(self, found: Mapping[str, Any]) -> None:
        """Take over the places of an earlier process."""
        self._places = {job_id: QueuePosition(*place) for job_id, place in found.items()}

    def join(self, limits: Limits, job_id: str, created: float, pending: float, rest: float) -> float:
        """Add a job that is submitted now, and return the time at which a worker takes it.

        `pending` and `rest` are the seconds that it spends before a worker takes it and on the worker, if one is free.
        """
        if job_id in self._places:
            raise ValueError(f"job {job_id!r} is already in the queue")
        if len(self._places) >= self._crowd:
            self._forget(created)
        place = QueuePosition(created + pending, rest, 0.0)
        self._plan(limits.workers, [*self._places.values()], [place], created)
        self._places[job_id] = place
        return place.start

    def leave(self, limits: Limits, job_id: str, now: float) -> dict[str, float]:
        """Remove a job that ends now, waiting or on a worker; return the changed starts of other jobs, by job id."""
        if self._places.pop(job_id, None) is None:
            return {}
        return self.replan(limits, now)

    def replan(self, limits: Limits, now: float) -> dict[str, float]:
        """Plan the waiting jobs again under these limits; return the changed starts, by job id."""
        self._forget(now)
        waiting = {job_id: place for job_id, place in self._places.items() if place.start > now}
        before = {job_id: place.start for job_id, place in waiting.items()}
        at_work = [place for place in self._places.values() if place.start <= now]
        self._plan(limits.workers, at_work, [*waiting.values()], now)
        return {job_id: place.start for job_id, place in waiting.items() if place.start != before[job_id]}

    def ahead(self, limits: Limits, job_id: str, now: float) -> int:
        """Return the number of jobs ahead of a waiting job: earlier jobs of this world, and a varying number of rivals.

        The number of rivals changes with each second of the clock, upwards too: a position that only ever decreases
        would hide a client that relies on it. It is 0 in the last second before the start.
        """
        place = self._places.get(job_id)
        if place is None or place.start <= now:
            return 0
        own = 0
        if limits.workers is not None:
            for other_id, other in self._places.items():
                if other_id == job_id:
                    break
                own += other.start > now
        return own + (_drawn(job_id, now, limits.rivals) if place.start - now > LAST_SECOND else 0)

    def clear(self) -> None:
        """Remove every job."""
        self._places.clear()

    def _forget(self, now: float) -> None:
        """Forget jobs that have ended, because they do not affect the plan."""
        self._places = {job_id: place for job_id, place in self._places.items() if place.end > now or place.start > now}
        self._crowd = max(LEAST_CROWD, 2 * len(self._places))

    @staticmethod
    def _plan(workers: int | None, before: list[QueuePosition], waiting: list[QueuePosition], now: float) -> None:
        """Set each waiting job's start to the time when it is ready, it is next in order, and a worker is free."""
        if workers is None:
            for place in waiting:
                place.start = max(place.ready, now)
            return
        turn = max((place.start for place in before), default=now)
        # Only the last `workers` ends matter: any earlier one belongs to a worker that has a later job.
        ends = nlargest(workers, [place.end for place in before])
        heapify(ends)
        for place in waiting:
            free = heappop(ends) if len(ends) == workers else now
            place.start = turn = max(place.ready, turn, free)
            heappush(ends, place.end)


def _drawn(job_id: str, now: float, most: int) -> int:
    """Return a number from 0 to `most` for a job and a second of the clock, the same in each run."""
    # A hash and not a generator: a poll must not change what the next poll draws.
    digest = blake2b(f"{job_id} {math.floor(now)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (most + 1)
