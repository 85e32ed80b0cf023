"""Worlds: everything that belongs to one API key, apart from every other; knows no HTTP."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from hobbyhorse.clock import Clock
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.ids import FORMS
from hobbyhorse.jobs import Job, pace
from hobbyhorse.journal import Journal
from hobbyhorse.lifecycle import LifecycleError, cut, lay
from hobbyhorse.links import signer


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job is to end: as which stage, and with which error code and message."""

    stage: str
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """A used idempotency key: what was asked with it, the job that it made, and until when it holds."""

    fingerprint: bytes
    job: str
    until: float


class Idempotency:
    """The idempotency keys of one world, those of requests that are still being read among them."""

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str], Remembered] = {}
        self._in_flight: set[tuple[str, str]] = set()

    def begin(self, provider: str, key: str) -> bool:
        """Claim a key for a request that is being read; False if another request holds it."""
        if (provider, key) in self._in_flight:
            return False
        self._in_flight.add((provider, key))
        return True

    def end(self, provider: str, key: str) -> None:
        """Give up the claim."""
        self._in_flight.discard((provider, key))

    def recall(self, provider: str, key: str, now: float) -> Remembered | None:
        """Return what a key was used for, while that holds."""
        found = self._remembered.get((provider, key))
        if found is not None and found.until <= now:
            del self._remembered[provider, key]
            return None
        return found

    def remember(self, provider: str, key: str, used: Remembered) -> None:
        """Keep what a key was used for."""
        self._remembered[provider, key] = used


@dataclass(slots=True)
class World:
    """One key's jobs (by id), journal, clock, generator and idempotency keys.

    `endings` says how the next jobs end, in order; without one a job goes well.
    """

    handle: str
    clock: Clock
    random: Random
    pace: str
    jobs: dict[str, Job] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)
    idempotency: Idempotency = field(default_factory=Idempotency)
    endings: deque[Ending] = field(default_factory=deque)

    def submit(self, contract: Contract, order: Order) -> Job:
        """Make a job of an order."""
        now = self.clock.now()
        job_id = contract.job_id_prefix + FORMS[contract.job_id_form](self.random, now)
        seed = self.random.getrandbits(31) if order.seed is None else order.seed
        ending = self.endings.popleft() if self.endings else None
        lasting = pace(self.pace, self.random)
        timeline = lay(contract.graph, now, lasting, ending.stage if ending else None)
        job = Job(job_id, contract, order, timeline, seed)
        if ending is not None:
            job.error = (ending.code, ending.message)
        self.jobs[job_id] = job
        return job

    def cancel(self, job: Job) -> bool:
        """Cancel a job if its stage allows it; whether that changed anything."""
        now = self.clock.now()
        stage = job.stage(now)
        if not stage.cancellable:
            return False
        graph = job.contract.graph
        target = next((name for name in stage.next if graph[name].kind == "cancelled"), None)
        if target is None:
            raise LifecycleError(f"{stage.name!r} is cancellable but leads to no cancelled stage")
        job.timeline = cut(graph, job.timeline, now, target)
        return True

    def find(self, contract: Contract, job_id: str) -> Job | None:
        """Return this world's job of a provider, or None."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.contract is contract else None


class Worlds:
    """The worlds by API key; a new key opens a new one, unless only some keys are accepted."""

    def __init__(
        self,
        make_clock: Callable[[], Clock],
        pace: str = "fast",
        seed: int = 0,
        accepted: frozenset[str] = frozenset(),
    ) -> None:
        self._make_clock = make_clock
        self._pace = pace
        self._seed = seed
        self._accepted = accepted
        self.signer = signer(seed)
        self._by_key: dict[str, World] = {}
        self._by_handle: dict[str, World] = {}
        self.anybody = self._open("")
        """The world of requests that need no key."""

    def of(self, key: str) -> World | None:
        """Return the world of a key, or None if the key is not accepted."""
        if (world := self._by_key.get(key)) is not None:
            return world
        if self._accepted and key not in self._accepted:
            return None
        self._by_key[key] = world = self._open(key)
        return world

    def _open(self, key: str) -> World:
        identity = hashlib.sha256(f"{self._seed}:{key}".encode()).digest()
        random = Random(int.from_bytes(identity[:16], "big"))
        world = World(identity[16:24].hex(), self._make_clock(), random, self._pace)
        self._by_handle[world.handle] = world
        return world

    def by_handle(self, handle: str) -> World | None:
        """Return the world that a media address names."""
        return self._by_handle.get(handle)

    def owner(self, contract: Contract, job_id: str) -> World | None:
        """Return the world that has a provider's job, whichever it is."""
        return next((world for world in self if world.find(contract, job_id)), None)

    def __iter__(self) -> Iterator[World]:
        return iter(tuple(self._by_key.values()))

    def close(self) -> None:
        """Stop every clock."""
        for world in self:
            world.clock.close()
