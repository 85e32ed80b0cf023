"""Worlds: everything that belongs to one API key, apart from every other; knows no HTTP."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from hobbyhorse.clock.clock import Clock
from hobbyhorse.contract.forms.ids import ID_FORMS
from hobbyhorse.contract.lifecycle import LifecycleError, Timeline, cut, lay
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import ActiveScenario, ArmedScenarios, lay_troubled
from hobbyhorse.worlds.idempotency import IdempotencyKeys
from hobbyhorse.worlds.jobs import Job, pace
from hobbyhorse.worlds.journal import Handover, Journal, next_number
from hobbyhorse.worlds.ledger import Ledger, LedgerEntry
from hobbyhorse.worlds.limits import Limits, Meter, Queue
from hobbyhorse.worlds.signed_links import signer

RESETS = ("jobs", "journal", "scenarios", "clock")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job is to end: as which stage, and with which error code and message."""

    stage: str
    code: str | None = None
    message: str | None = None


@dataclass(slots=True)
class World:
    """One key's jobs (by id), journal, clock, generator and idempotency keys.

    `endings` says how the next jobs end, in order; without one a job goes well.
    """

    key: str = field(repr=False)
    handle: str
    clock: Clock
    random: Random
    pace: str
    jobs: dict[str, Job] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)
    idempotency: IdempotencyKeys = field(default_factory=IdempotencyKeys)
    endings: deque[Ending] = field(default_factory=deque)
    scenarios: ArmedScenarios = field(default_factory=ArmedScenarios)
    limits: Limits = field(default_factory=Limits)
    meter: Meter = field(default_factory=Meter)
    queue: Queue = field(default_factory=Queue)
    since: int = field(default_factory=next_number)
    """The number of the last request before its journal began, in whatever world."""
    virtual: bool = False
    """Whether its clients read its clock, and nothing of the real one."""
    born: tuple[str, Limits] | None = None
    """The pace and the limits that it began with."""
    on_move: Callable[[World, Job], None] = lambda world, job: None
    """Told of each job whose timeline is changed after its submission."""

    def clients_now(self) -> float:
        """Return the moment that a client reads on its own clock: the real one, or this world's in virtual time."""
        return self.clock.now() if self.virtual else time.time()

    def handover(self) -> Handover:
        """Begin to note what becomes of the answer to a request that has just arrived."""
        return Handover(self.clock.now(), dated=self.clients_now())

    def limit(self, limits: Limits) -> None:
        """Limit what this key may do from now on; jobs that wait for a worker are planned anew."""
        self.limits = limits
        self._replan(self.queue.replan(limits, self.clock.now()))

    def refuses(self, order: Order) -> str | None:
        """Return the situation that refuses an order for a limit that it would break, or None."""
        limits = self.limits
        if limits.concurrent_jobs is None and limits.balance is None:
            return None
        now = self.clock.now()
        stages = [(job, job.stage(now)) for job in self.jobs.values()]
        under_way = [job for job, stage in stages if not stage.terminal]
        if limits.concurrent_jobs is not None and len(under_way) >= limits.concurrent_jobs:
            return "rate_limited"
        if limits.balance is not None:
            spent = sum(
                (job.cost for job, stage in stages if not stage.terminal or stage.kind == "success"), Decimal(0)
            )
            if spent + order.model.cost(order.resolution, order.seconds) > limits.balance:
                return "insufficient_balance"
        return None

    def submit(self, contract: Contract, order: Order, play: ActiveScenario | None = None) -> Job:
        """Make a job of an order, in the play of a scenario if one is given."""
        now = self.clock.now()
        job_id = contract.job_id_prefix + ID_FORMS[contract.job_id_form](self.random, now)
        seed = self.random.getrandbits(31) if order.seed is None else order.seed
        ending = self.endings.popleft() if self.endings else None
        lasting = pace(self.pace, self.random if play is None else play.random)
        error: tuple[str | None, str | None] = (ending.code, ending.message) if ending else (None, None)
        if play is not None and (trouble := play.scenario.timeline) is not None:
            timeline, error = lay_troubled(contract.graph, now, lasting, trouble, contract.polling.longest_wait)
        else:
            timeline = lay(contract.graph, now, lasting, ending.stage if ending else None)
        job = Job(job_id, contract, order, timeline, seed, error, active_scenario=play)
        if play is not None:
            play.bound = True
        self.jobs[job_id] = job
        if self.limits.workers is not None or self.limits.rivals:
            self._queue(job)
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
        self._move(job, cut(graph, job.timeline, now, target))
        return True

    def _queue(self, job: Job) -> None:
        """Have a job wait for a worker."""
        start, end = job.timeline[_start_of(job)][0], job.finished
        if job.contract.graph[job.timeline[0][1]].kind != "pending":
            start = job.created
        begins = self.queue.join(self.limits, job.id, job.created, start - job.created, end - start)
        job.timeline, job.begins = _shifted(job, begins - start), begins
        job.ahead = lambda now: self.queue.ahead(self.limits, job.id, now)

    def _move(self, job: Job, timeline: Timeline) -> None:
        """Give a job another future; where it ends earlier, those behind it come earlier, too."""
        job.move(timeline)
        self.on_move(self, job)
        if job.ahead is not None and job.ends:
            self._replan(self.queue.leave(self.limits, job.id, self.clock.now()))

    def _replan(self, starts: Mapping[str, float]) -> None:
        for job_id, begins in starts.items():
            job = self.jobs.get(job_id)
            if job is not None:
                timeline, job.begins = _shifted(job, begins - job.begins), begins
                job.move(timeline)
                self.on_move(self, job)

    def transition(self, job: Job, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage now; where that is not its end, the job goes on from there as usual.

        Raises LifecycleError, which names the stages that are legal next.
        """
        now, graph = self.clock.now(), job.contract.graph
        timeline = cut(graph, job.timeline, now, stage)
        if not graph[stage].terminal:
            rest = graph.path(stage)[1:]
            lasting = pace(self.pace, self.random)
            moment = now + lasting(graph[stage])
            for name in rest:
                timeline = (*timeline, (moment, name))
                moment += lasting(graph[name])
        if graph[stage].kind in ("failure", "expired"):
            job.error = (code, message)
        self._move(job, timeline)

    async def run_until_idle(self) -> None:
        """Move the clock until every job that ends has ended and nothing waits, by 30 days at most at a time."""
        await self.clock.run_until_idle()
        while ends := [job.finished for job in self.jobs.values() if job.ends and job.finished > self.clock.now()]:
            await self.clock.advance(max(ends) - self.clock.now())
            await self.clock.run_until_idle()

    def reset(self, what: Collection[str]) -> None:
        """Forget what is named: `jobs`, `journal`, `scenarios`, and what waits for its moment on the `clock`.

        With all of them, pace and limits are what they were at first.
        """
        if unknown := sorted(set(what) - set(RESETS)):
            raise ValueError(f"cannot reset {unknown[0]!r}; allowed are {', '.join(RESETS)}")
        if "jobs" in what:
            self.jobs.clear()
            self.idempotency = IdempotencyKeys()
            self.endings.clear()
            self.queue.clear()
        if "journal" in what:
            self.journal.clear()
            self.since = next_number()
        if "scenarios" in what:
            self.scenarios.clear()
        if "clock" in what:
            self.clock.close()
        if set(what) == set(RESETS) and self.born is not None:
            self.pace, limits = self.born
            self.limit(limits)

    def ledger(self) -> Ledger:
        """Return what was ordered, and what it costs."""
        now = self.clock.now()
        entries: list[LedgerEntry] = []
        paid: dict[object, str] = {}
        for job in self.jobs.values():
            stage = job.stage(now)
            billed = stage.kind == "success"
            asked = (job.contract.key, *job.order.identity)
            lost = stage.terminal and not billed
            entries.append(
                LedgerEntry(
                    job.id,
                    job.contract.key,
                    job.order.model.id,
                    job.created,
                    stage.name,
                    job.cost if billed else Decimal(0),
                    billed,
                    not lost,
                    paid.get(asked) if not lost else None,
                )
            )
            if not lost:
                paid.setdefault(asked, job.id)
        return Ledger(tuple(entries))

    def find(self, contract: Contract, job_id: str) -> Job | None:
        """Return this world's job of a provider, or None."""
        job = self.jobs.get(job_id)
        return job if job is not None and job.contract is contract else None


def _start_of(job: Job) -> int:
    """Return which step of a job's timeline is the first that needs a worker; the one after the first at least."""
    graph = job.contract.graph
    kinds = [graph[name].kind for _, name in job.timeline]
    return min(next((at for at, kind in enumerate(kinds) if at and kind != "pending"), len(kinds)), len(kinds) - 1)


def _shifted(job: Job, seconds: float) -> Timeline:
    """Return a job's timeline with everything that needs a worker so many seconds later."""
    at = _start_of(job)
    if at == 0:
        return job.timeline
    return (*job.timeline[:at], *((moment + seconds, name) for moment, name in job.timeline[at:]))


class Worlds:
    """The worlds by API key; a new key opens a new one, unless only some keys are accepted.

    Where they are `closed`, no request opens one: only those keys are accepted that were given a world before.
    """

    def __init__(
        self,
        make_clock: Callable[[], Clock],
        pace: str = "fast",
        seed: int = 0,
        accepted: frozenset[str] = frozenset(),
        limits: Limits | None = None,
        closed: bool = False,
    ) -> None:
        self._closed = closed
        self._make_clock = make_clock
        self._pace = pace
        self._seed = seed
        self._accepted = accepted
        self._limits = limits or Limits()
        self.on_move: Callable[[World, Job], None] = lambda world, job: None
        self.signer = signer(seed)
        self._by_key: dict[str, World] = {}
        self._by_handle: dict[str, World] = {}
        self.keyless = self._open("")
        """The world of requests that need no key."""

    def of(self, key: str) -> World | None:
        """Return the world of a key, or None if the key is not accepted."""
        if (world := self._by_key.get(key)) is not None:
            return world
        if self._closed or (self._accepted and key not in self._accepted):
            return None
        return self._opened(key)

    def _opened(self, key: str) -> World:
        self._by_key[key] = world = self._open(key)
        return world

    def seeded(self, key: str, seed: int) -> World | None:
        """Return the new world of a key, with a seed of its own: what it makes is the same as in another with the same.

        None if the key is not accepted. Raises ValueError if it has a world.
        """
        if key in self._by_key:
            raise ValueError(f"the key {key!r} has a world already; a seed is for a new one")
        if self._accepted and key not in self._accepted:
            return None
        world = self._opened(key)
        world.random = Random(seed)
        return world

    def known(self, key: str) -> World | None:
        """Return the world of a key that has one, or None; none is opened."""
        return self._by_key.get(key)

    def drop(self, world: World) -> None:
        """Forget a world altogether; its key, used again, opens a new one."""
        world.reset(RESETS)
        self._by_key.pop(world.key, None)
        self._by_handle.pop(world.handle, None)

    def _open(self, key: str) -> World:
        identity = hashlib.sha256(f"{self._seed}:{key}".encode()).digest()
        random = Random(int.from_bytes(identity[:16], "big"))
        world = World(key, identity[16:24].hex(), self._make_clock(), random, self._pace, limits=self._limits)
        world.born = (self._pace, self._limits)
        world.on_move = lambda world, job: self.on_move(world, job)
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
