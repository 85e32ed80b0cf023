"""Worlds: the state of one API key, separate from that of every other key. No HTTP."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from hobbyhorse.clock.clock import Action, Clock
from hobbyhorse.contract.forms.ids import ID_BITS, ID_FORMS
from hobbyhorse.contract.lifecycle import Graph, LifecycleError, Stage, Timeline, cut, lay
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import ActiveScenario, ArmedScenarios, id_tail, lay_troubled
from hobbyhorse.state.errors import StateError
from hobbyhorse.worlds.idempotency import IdempotencyKeys, UsedKey
from hobbyhorse.worlds.job_table import JobIndex, JobTable
from hobbyhorse.worlds.jobs import Job, SubmittedRequest, pace
from hobbyhorse.worlds.journal import Entry, Journal, next_number
from hobbyhorse.worlds.ledger import Ledger, Totals
from hobbyhorse.worlds.limits import Limits, Meter, Queue
from hobbyhorse.worlds.signed_links import signer

if TYPE_CHECKING:  # for servers with a kept state alone
    from hobbyhorse.worlds.unkept import Unkept

RESETS = ("jobs", "journal", "scenarios", "clock")
# The kinds of records that each part of a reset erases. Callbacks go with their jobs.
ERASED = {"jobs": ("job", "key", "due", "attempt"), "journal": ("exchange",), "scenarios": (), "clock": ("due",)}
# Bytes of the orders of a world that has a bound for its jobs: as many as 100,000 ordinary ones have.
MOST_JOB_BYTES = 128 << 20
# Hexadecimal digits of the hash of a key: no two keys of a server will share them.
HASH_DIGITS = 16
# The ends that wait for their jobs. A kept state has all of them in one record, which each of them writes anew.
MOST_ENDINGS = 100


@dataclass(frozen=True, slots=True)
class Ending:
    """The intended end of a job: terminal stage, error code and message."""

    stage: str
    code: str | None = None
    message: str | None = None


class Connection(Protocol):
    """A connection of a client, as far as a world knows it."""

    def is_closing(self) -> bool:
        """Whether either side has closed it."""


@dataclass(slots=True)
class World:
    """The state of one key. `jobs` maps ids to jobs.

    Each of the `endings` applies to the next job of a provider that has its stage; the other jobs succeed.
    """

    key: str = field(repr=False)
    handle: str
    clock: Clock
    random: Random
    pace: str
    jobs: JobTable = field(default_factory=JobTable)
    journal: Journal = field(default_factory=Journal)
    idempotency: IdempotencyKeys = field(default_factory=IdempotencyKeys)
    endings: deque[Ending] = field(default_factory=deque)
    scenarios: ArmedScenarios = field(default_factory=ArmedScenarios)
    limits: Limits = field(default_factory=Limits)
    meter: Meter = field(default_factory=Meter)
    queue: Queue = field(default_factory=Queue)
    since: int = field(default_factory=next_number)
    """The number of the last request, of any world, before this world's journal began."""
    virtual: bool = False
    """Whether its clients read this world's clock instead of real time."""
    share: float = 1.0
    """The share of their usual durations that the stages of later jobs take."""
    connections: set[Connection] | None = None
    """The open connections on which requests came; None if nobody counts them, which would cost time."""
    initial: tuple[str, Limits] | None = None
    """The initial pace and limits, which a full reset restores."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The key that each provider accepts, if the client has one for each; by default, all accept `key`."""
    on_move: Callable[[World, Job], None] = lambda world, job: None
    """Called with each job after a change of its timeline, except at its submission."""
    keep_jobs: int | None = None
    """The number of jobs from which the oldest ended ones are forgotten; None for no bound, also not in bytes."""
    on_forget: Callable[[World, Collection[Job]], None] = lambda world, jobs: None
    """Called with the jobs that the world has forgotten."""
    ids: Random | None = None
    """The generator of ids, if those of another run with the same seed must differ."""
    used: int = field(default_factory=next_number)
    """The number of the last request of this world; an idle world with the lowest one is forgotten first."""
    unkept: Unkept | None = None
    """The changes that are not kept yet; None if the state is in memory only."""
    begun: int = 0
    """The number of jobs that were ever submitted, also before a reset; counted only if the state is kept."""
    random_seed: int = 0
    """The server's seed."""
    generation: int = 0
    """The number of resets of its jobs."""
    used_at: float = field(default_factory=time.time)
    """The moment of the last request on the clients' clock, which is real time on a shared server."""
    label: str | None = None
    """A name by which people recognize it."""
    strangers: dict[str, Job] = field(default_factory=dict)
    """Jobs that were never submitted, of which callbacks have told: only their files exist. Not kept."""
    key_hash: str = ""
    """The hash of its API key, also if the key itself is not known any more."""

    def file_job(self, job_id: str) -> Job | None:
        """Return the job of a file; None if there is none."""
        return self.jobs.get(job_id) or self.strangers.get(job_id)

    def clients_now(self) -> float:
        """Return the time on the clients' clock: real time, or in virtual time this world's clock."""
        return self.clock.now() if self.virtual else time.time()

    def count(self, connection: Connection | None) -> int:
        """Return the number of the client's open connections, with one on which a request came; 0 if not counted."""
        if self.connections is None or connection is None:
            return 0
        self.connections = {connection, *(one for one in self.connections if not one.is_closing())}
        return len(self.connections)

    def new_id(self, form: str, now: float) -> str:
        """Return a new id in one of `ID_FORMS`."""
        if self.ids is None:
            return ID_FORMS[form](self.random, now)
        # Drawn from the seed in any case, so that everything after it, such as a stage's duration, is the same.
        self.random.getrandbits(ID_BITS[form])
        return ID_FORMS[form](self.ids, now)

    def arrival(self) -> Entry:
        """Return the record of a request that has just arrived and of its response."""
        self.used_at = now = self.clients_now()
        entry = Entry(self.clock.now(), dated=now)
        self.used = entry.number
        return entry

    @property
    def idle(self) -> bool:
        """Whether no job runs, and nothing waits."""
        self.jobs.settle(self.clock.now())
        return self.clock.idle and not self.journal.awaited and not self.jobs.running

    def draw_anew(self) -> None:
        """Begin a job's own random choices, so that they are the same in a server that was restarted in between."""
        if self.unkept is not None:
            name = f"{self.random_seed}:{self.handle}:{self.begun}".encode()
            # Seeded again, because a new generator takes thrice as long.
            self.random.seed(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big"))
            self.begun += 1

    def changed(self, job: Job | None = None, *, urgent: bool = True) -> None:
        """Note that the world has changed, or one of its jobs."""
        if self.unkept is not None:
            if job is None:
                self.unkept.touch()
            else:
                self.unkept.job(job, urgent)

    def show(self, job: Job, stage: Stage) -> None:
        """Record that a response or a callback has shown a job in a stage to the client."""
        collected = job.collected
        job.show(stage)
        if self.unkept is not None and job.collected is not collected:
            self.unkept.job(job, urgent=False)

    def use(self, contract: Contract, key: str, used: UsedKey) -> None:
        """Record the use of an idempotency key."""
        self.idempotency.remember(contract.key, key, used)
        if self.unkept is not None:
            self.unkept.key(contract.key, key, used)

    def met(self, active: ActiveScenario) -> None:
        """Note that a request has met an active scenario, which all its jobs share."""
        if self.unkept is not None:
            self.unkept.touch()
            for job_id in self.scenarios.meet(active):
                if (job := self.jobs.get(job_id)) is not None:
                    self.unkept.job(job)

    def schedule(self, moment: float, action: Action, kind: str, job: Job, values: Mapping[str, Any]) -> None:
        """Schedule an action on the clock that goes on in the next process: `kind` and `values` describe it there."""
        if self.unkept is None:
            self.clock.at(moment, action)
        else:
            self.resume(moment, action, self.unkept.due(moment, kind, job.id, values))

    def forget_due(self, number: int) -> None:
        """Forget an action of an earlier process that has nothing to do any more."""
        if self.unkept is not None:
            self.unkept.finish(number)

    def resume(self, moment: float, action: Action, number: int) -> None:
        """Schedule an action whose due has a number."""
        unkept = self.unkept

        async def run() -> None:
            await action()
            # An action that is cancelled because the server stops goes on in the next one.
            if unkept is not None:
                unkept.finish(number)

        self.clock.at(moment, run)

    def _forget_jobs(self) -> None:
        """Forget the oldest ended jobs beyond the bounds."""
        most, full = self.keep_jobs, self._is_full()
        if most is None or (len(self.jobs) <= most and not full):
            return
        # Many at once, because the table looks at every number; so not for a few that have ended beside running ones.
        if len(self.jobs) - len(self.jobs.running) > (0 if full else most // 1_000):
            size = self.jobs.kept_bytes - MOST_JOB_BYTES + MOST_JOB_BYTES // 100 if full else 0
            forgotten = self.jobs.forget(len(self.jobs) - most + most // 1_000, size)
            if self.unkept is not None:
                self.unkept.forget(job.number for job in forgotten)
            self.on_forget(self, forgotten)

    def _is_full(self) -> bool:
        """Whether the orders of the kept jobs have more bytes than they may have."""
        return self.keep_jobs is not None and self.jobs.kept_bytes > MOST_JOB_BYTES

    def limit(self, limits: Limits) -> None:
        """Set the limits from now on, and plan the jobs that wait for a worker again."""
        self.limits = limits
        self.changed()
        self._replan(self.queue.replan(limits, self.clock.now()))

    def refuses(self, order: Order) -> str | None:
        """Return the situation that refuses an order because it would exceed a limit, or None."""
        limits = self.limits
        if limits.concurrent_jobs is None and limits.balance is None and not self._is_full():
            return None
        self.jobs.settle(self.clock.now())
        self._forget_jobs()
        if self._is_full():
            return "overloaded"
        if limits.concurrent_jobs is not None and len(self.jobs.running) >= limits.concurrent_jobs:
            return "rate_limited"
        # Jobs under way count with their price: they may still succeed, and be billed.
        price = order.model.cost(order.resolution, order.seconds)
        if limits.balance is not None and self.jobs.committed + price > limits.balance:
            return "insufficient_balance"
        return None

    def end_next(self, ending: Ending) -> int:
        """Set the end of the next job of a provider that has its stage; return the number of ends that wait.

        Raises ValueError if too many wait.
        """
        if len(self.endings) >= MOST_ENDINGS:
            raise ValueError(f"{len(self.endings)} ends wait for their jobs, and no more may")
        self.endings.append(ending)
        return len(self.endings)

    def _take_ending(self, graph: Graph) -> Ending | None:
        """Take the first end that a job with these stages can have. The ends of other providers' jobs keep waiting."""
        for ending in self.endings:
            stage = graph.stages.get(ending.stage)
            if stage is not None and stage.terminal:
                self.endings.remove(ending)
                return ending
        return None

    def submit(
        self,
        contract: Contract,
        order: Order,
        active: ActiveScenario | None = None,
        submission: SubmittedRequest | None = None,
    ) -> Job:
        """Create and return the job of an order, under an active scenario if given."""
        now = self.clock.now()
        self.draw_anew()
        job_id = contract.job_id_prefix + self.new_id(contract.job_id_form, now)
        seed = self.random.getrandbits(31) if order.seed is None else order.seed
        ending = self._take_ending(contract.graph) if self.endings else None
        if ending is not None:
            self.changed()
        # A scenario draws from its own generator: arming one must not change the ids of later jobs.
        lasting = pace(self.pace, self.random if active is None else active.random, self.share)
        error: tuple[str | None, str | None] = (ending.code, ending.message) if ending else (None, None)
        if active is not None and (trouble := active.scenario.timeline) is not None:
            timeline, error = lay_troubled(contract.graph, now, lasting, trouble, contract.polling.longest_wait)
            job_id += id_tail(trouble)
        else:
            timeline = lay(contract.graph, now, lasting, ending.stage if ending else None)
        job = Job(job_id, contract, order, timeline, seed, error, active_scenario=active, submission=submission)
        if active is not None:
            active.add_job(job.id)
        if self.limits.workers is not None or self.limits.rivals:
            self._queue(job)
        self.jobs.settle(now)
        self.jobs.add(job)
        self._forget_jobs()
        self.changed(job)
        return job

    def cancel(self, job: Job) -> bool:
        """Cancel a job if its stage allows it; return whether it was cancelled."""
        now = self.clock.now()
        stage = job.stage(now)
        if not stage.cancellable:
            return False
        graph = job.contract.graph
        target = next((name for name in stage.next if graph[name].kind == "cancelled"), None)
        if target is None:
            raise LifecycleError(
                f"stage {stage.name!r} is cancellable but none of its next stages is of kind 'cancelled'"
            )
        self._move(job, cut(graph, job.timeline, now, target))
        return True

    def _queue(self, job: Job) -> None:
        """Queue a job for a worker, and delay its timeline until one takes it."""
        start, end = job.timeline[_start_of(job)][0], job.finished
        if job.contract.graph[job.timeline[0][1]].kind != "pending":
            # Without a pending stage there is nothing to wait in: the job occupies a worker from its acceptance.
            start = job.created
        begins = self.queue.join(self.limits, job.id, job.created, start - job.created, end - start)
        job.timeline, job.begins = _shifted(job, begins - start), begins
        self.wait_in_queue(job)

    def wait_in_queue(self, job: Job) -> None:
        """Let a job show its position in the queue."""
        job.ahead = lambda now: self.queue.ahead(self.limits, job.id, now)

    def _move(self, job: Job, timeline: Timeline) -> None:
        """Replace a job's timeline; if it ends earlier, jobs queued after it start earlier."""
        job.move(timeline)
        self._moved(job)
        # A job that is stuck keeps its worker.
        if job.ahead is not None and job.ends:
            self._replan(self.queue.leave(self.limits, job.id, self.clock.now()))

    def _replan(self, starts: Mapping[str, float]) -> None:
        for job_id, begins in starts.items():
            job = self.jobs.get(job_id)
            if job is not None:
                timeline, job.begins = _shifted(job, begins - job.begins), begins
                job.move(timeline)
                self._moved(job)

    def _moved(self, job: Job) -> None:
        self.jobs.plan(job)
        self.changed(job)
        self.on_move(self, job)

    def transition(self, job: Job, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage now. From a non-terminal stage, the job continues on the usual path to success.

        Raises LifecycleError, which names the stages that may follow.
        """
        now, graph = self.clock.now(), job.contract.graph
        timeline = cut(graph, job.timeline, now, stage)
        if not graph[stage].terminal:
            rest = graph.path(stage)[1:]
            lasting = pace(self.pace, self.random, self.share)
            moment = now + lasting(graph[stage])
            for name in rest:
                timeline = (*timeline, (moment, name))
                moment += lasting(graph[name])
        if graph[stage].kind in ("failure", "expired"):
            job.error = (code, message)
        self._move(job, timeline)

    async def run_until_idle(self) -> None:
        """Advance the clock until every job that ends has ended and no action waits."""
        await self.clock.run_until_idle()
        # A job without a callback has no entry on the clock: its end is only a time in its timeline.
        while ends := self._planned_ends():
            await self.clock.advance(max(ends) - self.clock.now())
            await self.clock.run_until_idle()

    def _planned_ends(self) -> list[float]:
        """Return the times at which jobs will end."""
        now = self.clock.now()
        self.jobs.settle(now)
        return [job.finished for job in self.jobs.running.values() if job.ends and job.finished > now]

    def reset(self, what: Collection[str]) -> None:
        """Forget `jobs`, `journal`, `scenarios`, or the actions that wait on the `clock`, as named.

        Resetting all of them also restores the initial pace and limits.
        """
        if unknown := sorted(set(what) - set(RESETS)):
            raise ValueError(f"cannot reset {unknown[0]!r}; allowed: {', '.join(RESETS)}")
        if "jobs" in what:
            self.jobs = self.jobs.empty()
            self.idempotency = IdempotencyKeys()
            self.endings.clear()
            self.strangers.clear()
            self.queue.clear()
            self.scenarios.forget_jobs()
            self.generation += 1
        if "journal" in what:
            self.journal.clear()
            # Requests under way have lower numbers: they stay out of the trace of the new journal.
            self.since = next_number()
        if "scenarios" in what:
            self.scenarios.clear()
        if "clock" in what:
            self.clock.close()
            self.clock.follow()
        if self.unkept is not None:
            self.unkept.erase(*(kind for part in what for kind in ERASED[part]))
        if set(what) == set(RESETS) and self.initial is not None:
            self.pace, limits = self.initial
            self.limit(limits)

    def ledger(self, numbers: Iterable[int] | None = None) -> Ledger:
        """Return the ledger of all jobs, or of those with these numbers: costs, and repeated billable orders."""
        now = self.clock.now()
        self.jobs.settle(now)
        chosen = self.jobs.numbers() if numbers is None else numbers
        return Ledger(tuple(self.jobs.entry(self.jobs.at(number), now) for number in chosen))

    def totals(self) -> Totals:
        """Return the totals of the ledger of all jobs."""
        self.jobs.settle(self.clock.now())
        return self.jobs.totals()

    def snapshot(self) -> World:
        """Return a copy that other threads may read: requests add no jobs to it."""
        self.journal.load()
        return replace(self, jobs=self.jobs.snapshot(), unkept=None)

    def find(self, contract: Contract, job_id: str) -> Job | None:
        """Return a provider's job by id, or None."""
        # The jobs of all providers share one world; to a provider, the job of another one is unknown.
        job = self.jobs.get(job_id)
        # By key, because the contract may have been read again since the submission.
        return job if job is not None and (job.contract is contract or job.contract.key == contract.key) else None


def hash_of(key: str) -> str:
    """Return the beginning of the SHA-256 of an API key, by which its holder recognizes it."""
    return hashlib.sha256(key.encode()).hexdigest()[:HASH_DIGITS]


def excess(idle: int, most: int) -> int:
    """Return how many of the idle worlds have to go before a new one is opened, if `most` may be kept.

    A hundredth more go than need to, because every world is looked at then: with 10,000, for every 100th new one.
    """
    return max(0, idle - most + 1 + most // 100)


def _start_of(job: Job) -> int:
    """Return the index of the first entry of a job's timeline that needs a worker; at least 1 if there are several."""
    graph = job.contract.graph
    kinds = [graph[name].kind for _, name in job.timeline]
    # The first entry is the acceptance, which no queue can move; a job stuck while pending has no entry for a worker.
    return min(next((at for at, kind in enumerate(kinds) if at and kind != "pending"), len(kinds)), len(kinds) - 1)


def _shifted(job: Job, seconds: float) -> Timeline:
    """Return a job's timeline with the entries that need a worker moved by `seconds`."""
    at = _start_of(job)
    if at == 0:
        return job.timeline
    return (*job.timeline[:at], *((moment + seconds, name) for moment, name in job.timeline[at:]))


class Archive(Protocol):
    """The kept state of worlds, as far as `Worlds` needs it."""

    def open(self, world: World) -> None:
        """Fill a new world with what runs in a kept one, and have its changes kept."""

    def wake(self, world: World) -> Iterator[None]:
        """Fill a world with the rest of what is kept of it, in steps that take some milliseconds each."""

    def knows(self, handle: str) -> bool:
        """Whether a world is kept."""

    def has(self, provider: str, job_id: str) -> bool:
        """Whether any kept world has a provider's job."""

    def drop(self, world: World) -> None:
        """Forget a world entirely."""

    def make_room(self, most: int) -> None:
        """Forget the kept worlds that were used least recently and are not open, if there are as many as allowed."""


class Worlds:
    """The worlds by API key. A new key opens a new world, unless `accepted` lists the only allowed keys.

    If `closed`, requests open no world: only keys with an existing world are accepted. `run` differs in each run of a
    server that must never make an id twice; None leaves the ids to the seed.
    """

    def __init__(
        self,
        make_clock: Callable[[], Clock],
        pace: str = "fast",
        seed: int = 0,
        *,
        accepted: frozenset[str] = frozenset(),
        limits: Limits | None = None,
        closed: bool = False,
        keep_worlds: int | None = None,
        keep_jobs: int | None = None,
        run: str | None = None,
    ) -> None:
        self._closed, self._run = closed, run
        self._keep_worlds, self._keep_jobs = keep_worlds, keep_jobs
        self.on_full: Callable[[World], None] = self.drop
        """Called with each world that is forgotten because there are too many; it must drop the world."""
        self.on_forget: Callable[[World, Collection[Job]], None] = lambda world, jobs: None
        self._make_clock = make_clock
        self._pace = pace
        self._seed = seed
        self._accepted = accepted
        self._limits = limits or Limits()
        self.on_move: Callable[[World, Job], None] = lambda world, job: None
        self.signer = signer(seed)
        self._by_key: dict[str, World] = {}
        self._by_handle: dict[str, World] = {}
        # The worlds of an earlier process in which something runs, by handle, until somebody needs all of one.
        self._asleep: dict[str, World] = {}
        # What is left to do for worlds that are being woken.
        self._waking: dict[str, Iterator[None]] = {}
        # The worlds that could not be forgotten when all were looked at last.
        self._busy = 0
        # Why the rest of a world cannot be read.
        self._damaged: dict[str, str] = {}
        self._index = JobIndex()
        self.archive: Archive | None = None
        """The kept state of worlds, if there is one."""
        self.keyless = self._open("")
        """The world of requests that need no key."""

    def of(self, key: str) -> World | None:
        """Return the world of a key, opened on first use, or None if the key is not accepted."""
        if (world := self._by_key.get(key)) is not None:
            return world
        if self._closed or (self._accepted and key not in self._accepted):
            return None
        return self._opened(key)

    def _opened(self, key: str) -> World:
        # It may have been opened by its handle: keys are not kept.
        if self.archive is not None and (world := self.by_handle(self._identity(key)[1])) is not None:
            self._by_key[key], world.key, world.key_hash = world, key, hash_of(key)
            return world
        self._make_room()
        self._by_key[key] = world = self._open(key)
        return world

    def _make_room(self) -> None:
        """Forget the idle worlds that were used least recently, if there are as many as may be kept.

        A world that cannot go takes no place from the idle ones: otherwise enough of them would let each new key
        push out all others.
        """
        most = self._keep_worlds
        if most is not None and self.archive is not None:
            self.archive.make_room(most)
        # Without the world of requests that need no key.
        if most is None or len(self._by_handle) - 1 - self._busy < most:
            return
        every = list(self)
        idle = sorted((world for world in every if world.idle), key=lambda world: world.used)
        self._busy = len(every) - len(idle)
        for world in idle[: excess(len(idle), most)]:
            self.on_full(world)

    def seeded(self, key: str, seed: int) -> World | None:
        """Open a world whose ids and videos are the same as those of any other world with this seed.

        Returns None if the key is not accepted. Raises ValueError if the key has a world.
        """
        if key in self._by_key:
            raise ValueError(f"the key {key!r} already has a world; use a new key for a seed")
        if self._accepted and key not in self._accepted:
            return None
        world = self._opened(key)
        world.random = Random(seed)
        return world

    def share(self, world: World, keys: Mapping[str, str]) -> None:
        """Let each of some providers accept a key of its own in a world, which has one clock for all of them."""
        world.keys = dict(keys)
        self._by_key |= dict.fromkeys(keys.values(), world)

    def accepts(self, key: str) -> bool:
        """Whether a key has a world, or may open one."""
        return key in self._by_key or not (self._closed or (self._accepted and key not in self._accepted))

    def handle(self, key: str) -> str:
        """Return the handle of the world of a key, also if it is not open."""
        world = self._by_key.get(key)
        return self._identity(key)[1] if world is None else world.handle

    def known(self, key: str) -> World | None:
        """Return the existing world of a key, or None."""
        return self._by_key.get(key)

    def drop(self, world: World) -> None:
        """Forget a world entirely. If its key is used again, it opens a new world."""
        # Cancels sleepers and pending callbacks, which would keep the world alive.
        world.reset(RESETS)
        if self.archive is not None and world.unkept is not None:
            self.archive.drop(world)
        for key in {world.key, *world.keys.values()}:
            self._by_key.pop(key, None)
        self._by_handle.pop(world.handle, None)
        self._asleep.pop(world.handle, None)
        self._waking.pop(world.handle, None)
        self._damaged.pop(world.handle, None)

    def _identity(self, key: str) -> tuple[Random, str]:
        """Return the generator and the handle of the world of a key."""
        # Derived from seed and key, not drawn in order of arrival: concurrent tests get the same worlds in each run.
        identity = hashlib.sha256(f"{self._seed}:{key}".encode()).digest()
        return Random(int.from_bytes(identity[:16], "big")), identity[16:24].hex()

    def _open(self, key: str, handle: str | None = None) -> World:
        """Open the world of a key, or a kept one by its handle."""
        (random, known), table = self._identity(key), JobTable(self._index)
        handle = handle or known
        world = World(key, handle, self._make_clock(), random, self._pace, table, limits=self._limits)
        world.initial, world.key_hash = (self._pace, self._limits), hash_of(key)
        world.keep_jobs = self._keep_jobs
        if self._run is not None:
            # With a number, because a world that was forgotten may be opened again.
            world.ids = Random(f"{self._run}:{handle}:{next_number()}")
        world.on_forget = lambda world, jobs: self.on_forget(world, jobs)
        # Late-bound: the server sets `on_move` after the constructor has opened the keyless world.
        world.on_move = lambda world, job: self.on_move(world, job)
        world.random_seed = self._seed
        self._by_handle[world.handle] = world
        if self.archive is not None:
            try:
                self.archive.open(world)
            except StateError:
                # It must not be used, because half of a world would be kept in place of the whole one.
                del self._by_handle[world.handle]
                world.clock.close()
                raise
        return world

    def by_handle(self, handle: str) -> World | None:
        """Return the world of a media URL's handle, or None. A kept one that is not ready is read at once."""
        for _ in self.waking(handle):
            pass
        return self._by_handle.get(handle)

    def is_ready(self, handle: str) -> bool:
        """Whether nothing has to be read before a world can be used: it is open, or nothing of it is kept."""
        if handle in self._by_handle or self.archive is None:
            return True
        return handle not in self._asleep and not self.archive.knows(handle)

    def waking(self, handle: str) -> Iterator[None]:
        """Read what is kept of a world in short steps, until it is ready.

        Several may take the steps of one world in turn. The steps end early if the world is forgotten meanwhile.
        Raises StateError if a part of it is damaged.
        """
        if self.archive is None or self.is_ready(handle):
            return
        if handle not in self._asleep:
            self.restore(handle)
        world = self._asleep[handle]
        steps = self._waking.get(handle)
        if steps is None:
            steps = self._waking[handle] = self.archive.wake(world)
        if handle in self._damaged:
            raise StateError(self._damaged[handle])
        try:
            for _ in steps:
                yield
                if self._asleep.get(handle) is not world:
                    return
        except StateError as error:
            # The steps cannot be taken again, and without the rest the world is not ready.
            self._damaged[handle] = str(error)
            raise
        del self._asleep[handle], self._waking[handle]
        self._by_handle[handle] = world

    def restore(self, handle: str) -> None:
        """Open a kept world in which something runs, asleep until somebody needs all of it."""
        self._asleep[handle] = self._open("", handle)
        del self._by_handle[handle]

    def opened(self, handle: str) -> World | None:
        """Return a world that is open, without waking it."""
        return self._by_handle.get(handle) or self._asleep.get(handle)

    def is_asleep(self, world: World) -> bool:
        """Whether only the running jobs of a world have been read."""
        return world.handle in self._asleep

    def has(self, contract: Contract, job_id: str) -> bool:
        """Whether any world has a provider's job."""
        here = self._index.has(contract.key, job_id)
        return here or (self.archive is not None and self.archive.has(contract.key, job_id))

    def __iter__(self) -> Iterator[World]:
        # Each once: a world may have several keys.
        return iter([world for world in tuple(self._by_handle.values()) if world is not self.keyless])

    def close(self) -> None:
        """Stop every clock."""
        for world in (*self, *self._asleep.values()):
            world.clock.close()
