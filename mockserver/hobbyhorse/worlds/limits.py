"""What a provider limits per key, and how jobs queue for its workers; knows no contract, no HTTP and reads no clock."""

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

LAST_SECOND = 1.0
"""How long before its start, in seconds, nobody of the other customers is ahead of a job any more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is limited for one key; None where nothing is. Raises ValueError for what cannot be a limit.

    `balance` is what may be spent, in USD; `rivals` is how many jobs of other customers come and go in the queue.
    """

    requests_per_second: float | None = None
    concurrent_jobs: int | None = None
    workers: int | None = None
    rivals: int = 0
    balance: Decimal | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a limit."""
        for name, (allows, allowed) in RULES.items():
            value = getattr(self, name)
            if not allows(value):
                raise ValueError(f"{name}: got {value!r}; it is {allowed}")

    def to_json(self) -> dict[str, Any]:
        """Return what `read_limits` reads; the balance is a number there."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: float(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def read_limits(found: Any) -> Limits:
    """Read limits from the names and values of a JSON object; ValueError says which is none, and what is allowed."""
    if not isinstance(found, Mapping):
        raise ValueError(f"limits: got {found!r}; they are an object with any of {', '.join(RULES)}")
    for name in found:
        if name not in RULES:
            raise ValueError(f"{name}: no limit has this name; there are {', '.join(RULES)}")
    values = dict(found)
    balance = values.get("balance")
    if isinstance(balance, (int, float)) and _from_zero(balance):
        values["balance"] = Decimal(str(balance))
    return Limits(**values)


def _number(value: Any) -> bool:
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
"""The limits by name: what each may be, as a check and in words."""


class Meter:
    """A bucket of tokens: each request that is granted takes one, and they come back at the limited rate.

    A full bucket, which is what there is at first, holds a second's worth of whole tokens, but at least one. The
    sums are exact, so that the wait that is told is too.
    """

    def __init__(self) -> None:
        self._tokens: Fraction | None = None
        self._counted = 0.0

    def request(self, limits: Limits, now: float) -> float | None:
        """Return None if a request at a moment is granted, else in how many seconds one would be."""
        if limits.requests_per_second is None:
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
    """Return the least number of seconds that, added to now, does not fall short of a moment, if that is finite."""
    moment = min(moment, Fraction(sys.float_info.max))
    goal = float(moment)
    if goal < moment:
        goal = math.nextafter(goal, math.inf)
    wait = goal - now
    while now + wait < goal:
        wait = math.nextafter(wait, math.inf)
    return wait


@dataclass(slots=True)
class QueuePosition:
    """A job's place in a queue: when it could start at the earliest, when it starts, and when it ends."""

    ready: float
    rest: float
    start: float

    @property
    def end(self) -> float:
        """The moment at which its worker is free again."""
        return self.start + self.rest


class Queue:
    """The jobs of one world on their way to the workers, in order of submission: none starts before an earlier one.

    It only plans: who joins is told when it starts; who moves forward because another has left is told so by
    `leave` and `replan`. All moments are the clock's, and never go back. Without a limit of workers nobody waits for
    anybody.
    """

    def __init__(self) -> None:
        self._places: dict[str, QueuePosition] = {}
        self._crowd = 64

    def join(self, limits: Limits, job_id: str, created: float, pending: float, rest: float) -> float:
        """Return when a job that is submitted now leaves its pending stages.

        `pending` and `rest` say how long it is to stay in those and in what follows, in seconds, if no worker is
        missing.
        """
        if job_id in self._places:
            raise ValueError(f"job {job_id!r} is in the queue already")
        if len(self._places) >= self._crowd:
            self._forget(created)
        place = QueuePosition(created + pending, rest, 0.0)
        self._plan(limits.workers, [*self._places.values()], [place], created)
        self._places[job_id] = place
        return place.start

    def leave(self, limits: Limits, job_id: str, now: float) -> dict[str, float]:
        """Take out a job that ends now, waiting or worked on; return who is to start at another moment, and when."""
        if self._places.pop(job_id, None) is None:
            return {}
        return self.replan(limits, now)

    def replan(self, limits: Limits, now: float) -> dict[str, float]:
        """Plan anew for those that still wait, as for other limits; return who starts at another moment, and when."""
        self._forget(now)
        waiting = {job_id: place for job_id, place in self._places.items() if place.start > now}
        before = {job_id: place.start for job_id, place in waiting.items()}
        at_work = [place for place in self._places.values() if place.start <= now]
        self._plan(limits.workers, at_work, [*waiting.values()], now)
        return {job_id: place.start for job_id, place in waiting.items() if place.start != before[job_id]}

    def ahead(self, limits: Limits, job_id: str, now: float) -> int:
        """Return how many are ahead of a job: those of this world that still wait, and some of the rivals.

        How many rivals there are changes with every second of the clock, upwards too; there are none in the last
        second before the start. None is ahead of a job that does not wait.
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
        """Forget every job."""
        self._places.clear()

    def _forget(self, now: float) -> None:
        """Forget who has ended: that changes no plan."""
        self._places = {job_id: place for job_id, place in self._places.items() if place.end > now or place.start > now}
        self._crowd = max(64, 2 * len(self._places))

    @staticmethod
    def _plan(workers: int | None, before: list[QueuePosition], waiting: list[QueuePosition], now: float) -> None:
        """Give a start to each that waits: as soon as it is ready, its turn has come and a worker is free."""
        if workers is None:
            for place in waiting:
                place.start = max(place.ready, now)
            return
        turn = max((place.start for place in before), default=now)
        ends = nlargest(workers, [place.end for place in before])
        heapify(ends)
        for place in waiting:
            free = heappop(ends) if len(ends) == workers else now
            place.start = turn = max(place.ready, turn, free)
            heappush(ends, place.end)


def _drawn(job_id: str, now: float, most: int) -> int:
    """Draw a number from 0 to `most` for a job in a second of the clock: the same one whenever it is drawn."""
    digest = blake2b(f"{job_id} {math.floor(now)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (most + 1)
