"""The fake as an object for tests: on a free port in a thread, or in process as an ASGI application."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from hobbyhorse.clock.clock import Clock, ManualClock, RealClock
from hobbyhorse.clock.quiescence import RequestTracker, TimeStepper
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.nearest import nearest
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.armed import ArmedScenario
from hobbyhorse.scenarios.scenario import Scenario, find, read_scenario
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.callbacks import CallbackAttempt
from hobbyhorse.server.run import ServerThread, address, bind_elsewhere
from hobbyhorse.traces.trace import Trace
from hobbyhorse.worlds.jobs import PACES, Job
from hobbyhorse.worlds.journal import Exchange, Journal
from hobbyhorse.worlds.ledger import Ledger
from hobbyhorse.worlds.limits import Limits, read_limits
from hobbyhorse.worlds.mistakes import COMPLAINTS, INVALID, UNMATCHED, uncollected_complaint, unmet_complaint
from hobbyhorse.worlds.world import RESETS, Ending, World

Value = TypeVar("Value")

IN_PROCESS_URL = "http://hobbyhorse.test"
WAIT_POLL_SECONDS = 0.01


class MockServer:
    """Every provider, for tests.

    As a context manager it serves on a free port of the loopback interface, `url`. Without that, `asgi` is an
    application for clients in the same process and event loop, at the address `http://hobbyhorse.test`.
    `clock` is "real" or "manual": a manual one stands still until a world's clock is advanced.
    With `elsewhere` it is served at further addresses, `origins`: files are at `media`, `foreign` and `private` are
    where a scenario may point a client. `judge` says what a trace shows of a client. With `closed` it takes those keys
    only that `world` was given together with a seed.
    """

    def __init__(
        self,
        contracts: Path | Sequence[Contract] | None = None,
        *,
        pace: str = "fast",
        clock: str = "real",
        speed: float = 1.0,
        seed: int = 0,
        strict: bool = True,
        callback_secret: str | None = DEFAULT_SECRET,
        cache: Path | None = None,
        scenarios: Sequence[Path] = (),
        limits: Limits | None = None,
        elsewhere: bool = False,
        closed: bool = False,
        judge: Callable[[Contract, Trace], dict[str, Any]] | None = None,
    ) -> None:
        if clock not in ("real", "manual"):
            raise ValueError(f"clock {clock!r}; allowed are 'real' and 'manual'")
        loaded = load_all(contracts) if contracts is None or isinstance(contracts, Path) else list(contracts)
        self._fake = Fake(
            loaded,
            Options(
                pace=pace,
                seed=seed,
                strict=strict,
                callback_secret=callback_secret,
                cache=cache,
                scenarios=tuple(scenarios),
                limits=limits or Limits(),
                make_clock=ManualClock if clock == "manual" else lambda: RealClock(speed),
                closed=closed,
                judge=judge,
            ),
        )
        self._watch = RequestTracker(self._fake)
        self._thread: ServerThread | None = None
        self._elsewhere = elsewhere
        self._numbers = itertools.count(1)
        self.origins: dict[str, str] = {}
        """The further addresses that it is served at: `media`, `foreign`, and `private` where the system has one."""

    @property
    def asgi(self) -> Fake:
        """The application itself."""
        return self._fake

    @property
    def url(self) -> str:
        """Where the server is."""
        return IN_PROCESS_URL if self._thread is None else self._thread.url

    def start(self) -> MockServer:
        """Serve on a free port."""
        if self._thread is None:
            bound = bind_elsewhere() if self._elsewhere else {}
            self.origins = {kind: address(one) for kind, one in bound.items()}
            self._fake.add_origins(self.origins)
            self._thread = ServerThread(self._watch, more=tuple(bound.values()))
        return self

    def stop(self) -> None:
        """Stop serving; nothing that was made stays behind but the cache."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def world(self, api_key: str | None = None, seed: int | None = None) -> MockWorld:
        """Return the world of a key; a new world, with a key of its own, if none is given.

        Two new worlds with the same `seed` make the same ids and the same videos.
        """
        return MockWorld(self, api_key or f"test-{next(self._numbers)}", seed)

    def forget(self, world: MockWorld) -> None:
        """Forget a world altogether, with everything in it; it is not to be used any more."""
        self.run(lambda: self._fake.forget(world._world))

    def timeline(self, world: MockWorld) -> TimeStepper:
        """Return the time of a world with a manual clock, to be moved from another thread while this serves.

        Its clients read that clock, too.
        """
        world._world.virtual = True
        return TimeStepper(world.clock.awaited, [self._watch])

    def run(self, work: Callable[[], Value]) -> Value:
        """Do something where the server runs, so that nothing changes meanwhile."""
        if self._thread is None:
            return work()

        async def there() -> Value:
            return work()

        return self.wait_for(there())

    def run_on_loop(self, work: Callable[[], Value]) -> Value:
        """Do something that needs an event loop: the server's, or the one that runs here."""

        async def there() -> Value:
            return work()

        return work() if self._thread is None and _loop_runs() else self.wait_for(there())

    def wait_for(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine to its end where the server runs: for tests that are not asynchronous themselves.

        Raises RuntimeError where an event loop runs and the server has none of its own: it would wait for itself.
        """
        if self._thread is None:
            if _loop_runs():
                work.close()
                raise RuntimeError(
                    "an event loop runs here, which a plain call would block; await world.clock.awaited.advance(...), "
                    "or serve from a thread: MockServer().start()"
                )
            return asyncio.run(work)
        return asyncio.run_coroutine_threadsafe(work, self._thread.loop).result()

    def __enter__(self) -> MockServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> MockServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._fake.close()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class MockClock:
    """The clock of one world."""

    server: MockServer
    world: World

    def now(self) -> float:
        """Return the moment, in seconds since 1970."""
        return self.world.clock.now()

    @property
    def speed(self) -> float:
        """How many times faster than real time it runs; 0 is a clock that stands until it is moved."""
        return self.world.clock.speed

    def set_speed(self, speed: float) -> None:
        """Have it run so many times faster than real time, or stand at 0."""
        self.server.run_on_loop(lambda: self.world.clock.set_speed(speed))

    @property
    def awaited(self) -> Clock:
        """The clock itself, whose `advance` and `run_until_idle` are awaited: for clients in the same event loop."""
        return self.world.clock

    def advance(self, seconds: float) -> None:
        """Move it forward; on a clock that stands, what falls due on the way has happened when this returns."""
        self.server.wait_for(self.world.clock.advance(seconds))

    def run_until_idle(self) -> None:
        """Move it until every job has ended and nothing waits any more: callbacks and all their retries."""
        self.server.wait_for(self.world.run_until_idle())


class MockWorld:
    """What belongs to one API key: give the key to the client under test, and look here at what it did."""

    def __init__(self, server: MockServer, api_key: str, seed: int | None = None) -> None:
        self._server = server
        self.api_key = api_key
        worlds = server.asgi.worlds
        found = worlds.of(api_key) if seed is None else worlds.seeded(api_key, seed)
        if found is None:
            raise ValueError(f"the key {api_key!r} is not accepted by this server")
        self._world = found

    def url(self, provider: str) -> str:
        """Return what to put where a provider's base URL stood."""
        self._contract(provider)
        return f"{self._server.url}/{provider}"

    def env(self, provider: str) -> dict[str, str]:
        """Return the environment that points a provider's clients here, as `hobbyhorse env` prints it."""
        secret = self._server.asgi.options.callback_secret or ""
        return self._contract(provider).environment(self._server.url, self.api_key, secret)

    def _contract(self, provider: str) -> Contract:
        contracts = {contract.key: contract for contract in self._server.asgi.contracts}
        if provider not in contracts:
            raise KeyError(f"no provider {provider!r}; there are {', '.join(contracts)}")
        return contracts[provider]

    @property
    def clock(self) -> MockClock:
        """The clock that everything here reads."""
        return MockClock(self._server, self._world)

    @property
    def jobs(self) -> list[Job]:
        """The jobs, oldest first."""
        return self._server.run(lambda: list(self._world.jobs.values()))

    @property
    def journal(self) -> list[Exchange]:
        """The newest exchanges, oldest first."""
        return self._server.run(lambda: list(self._world.journal))

    @property
    def callbacks(self) -> list[CallbackAttempt]:
        """Every delivery of a callback that was tried for a job of this world."""
        return self._server.run(lambda: self._server.asgi.callback_dispatcher().of(self._world))

    @property
    def ledger(self) -> Ledger:
        """What was ordered, what of it is billable, and what orders the same as another job."""
        return self._server.run(self._world.ledger)

    @property
    def billed(self) -> Decimal:
        """What the jobs that have succeeded cost, in USD: one click that became four jobs shows here."""
        return self.ledger.usd

    def trace(self, provider: str, *, strangers: bool = True) -> Trace:
        """Return everything that passed between a provider and the client, without secrets.

        Without `strangers`, requests that have no key of anybody are left out: where several clients run at once.
        """
        contract, base = self._contract(provider), self.url(provider)
        return self._server.run(lambda: self._server.asgi.trace(self._world, contract, base, strangers))

    def arm(
        self,
        scenario: str | Mapping[str, Any] | Scenario,
        *,
        provider: str | None = None,
        jobs: int | str | None = 1,
        seed: int = 0,
    ) -> ArmedScenario:
        """Arm a scenario, by its name in the catalogue or as it is, for the next jobs ("all": for every one).

        Raises ScenarioError, which names the nearest scenarios, or says why no provider can play it.
        """
        if isinstance(scenario, str):
            scenario = find(self._server.asgi.catalogue(), scenario)
        elif not isinstance(scenario, Scenario):
            scenario = read_scenario(scenario)
        found, count = scenario, None if jobs == "all" else jobs
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"jobs {jobs!r}; it is a number from 1, or 'all'")
        contracts, plays = self._server.asgi.contracts, self._world.plays
        return self._server.run(lambda: plays.arm(found, contracts, provider=provider, jobs=count, seed=seed))

    @property
    def armed(self) -> list[ArmedScenario]:
        """Everything that was armed, and what of it was met."""
        return self._server.run(lambda: self._world.plays.armed)

    @property
    def unmet(self) -> list[str]:
        """Every move that was armed and that no request has met: such as `job_slow: timeline slow`."""
        return self._server.run(lambda: [f"{armed.scenario.name}: {what}" for armed, what in self._world.plays.unmet()])

    def disarm(self) -> int:
        """Disarm everything; how many scenarios that were."""
        return self._server.run(self._world.plays.disarm)

    def limit(self, **limits: Any) -> None:
        """Limit what this key may do from now on; the names are those of `Limits`, None takes a limit away."""
        plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in limits.items()}
        new = read_limits({**self._world.limits.to_json(), **plain})
        self._server.run(lambda: self._world.limit(new))

    @property
    def limits(self) -> Limits:
        """What this key is limited to."""
        return self._world.limits

    def keep(self, most: int) -> None:
        """Keep so many exchanges in the journal from now on; those that were there are forgotten."""
        self._world.journal = Journal(most)

    @property
    def pace(self) -> str:
        """How long stages last: `instant`, `fast` or `realistic`."""
        return self._world.pace

    @pace.setter
    def pace(self, name: str) -> None:
        if name not in PACES:
            raise ValueError(f"pace {name!r}; allowed are {', '.join(PACES)}")
        self._world.pace = name

    def transition(self, job: str, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage that may follow its own. Raises LifecycleError, which names those, or KeyError."""
        self._server.run(lambda: self._world.transition(self._job(job), stage, code, message))

    def redeliver(self, job: str) -> None:
        """Deliver a job's callback once more. Raises LookupError if there is none."""
        self._server.run_on_loop(lambda: self._server.asgi.callback_dispatcher().redeliver(self._world, self._job(job)))

    def _job(self, job: str) -> Job:
        if job not in self._world.jobs:
            raise KeyError(f"this world has no job {job!r}")
        return self._world.jobs[job]

    def reset(self, *what: str) -> None:
        """Forget `jobs`, `journal`, `scenarios`, what waits on the `clock`; everything, if nothing is named."""
        self._server.run(lambda: self._server.asgi.reset(self._world, what or RESETS))

    def end_next_job(self, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Have the next job end in a stage of its contract, with an error's code and message if it is a failure."""
        stages = {found.name for contract in self._server.asgi.contracts for found in contract.graph.terminals()}
        if stage not in stages:
            raise ValueError(f"no provider has a terminal stage {stage!r}; there are {', '.join(sorted(stages))}")
        self._server.run(lambda: self._world.endings.append(Ending(stage, code, message)))

    def wait_for(self, count: int = 1, timeout: float = 5.0, **wanted: Any) -> list[Exchange]:
        """Wait in real time until so many exchanges have the wanted fields, such as `role="submit"`; return them.

        Raises TimeoutError, which says what there was instead.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = [one for one in self.journal if all(getattr(one, name) == value for name, value in wanted.items())]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                seen = ", ".join(f"{one.method} {one.path} ({one.situation})" for one in self.journal) or "nothing"
                raise TimeoutError(f"{len(found)} of {count} exchanges with {wanted} after {timeout:g} s; seen: {seen}")
            time.sleep(WAIT_POLL_SECONDS)

    def complaints(self, about: Collection[str] = COMPLAINTS) -> list[str]:
        """Return what a test most likely did not mean, each with what to do about it.

        `unmatched`: requests that no operation takes; `invalid`: those that break the contract; `unmet`: armed moves
        that no request has met; `uncollected`: jobs whose end nobody was shown.
        """
        said = []
        for exchange in self.journal:
            what = f"{exchange.method} {exchange.path}: {'; '.join(exchange.notes) or exchange.situation}"
            if exchange.move is None and exchange.situation in UNMATCHED and "unmatched" in about:
                near = nearest(self._contract(str(exchange.provider)), exchange.method, exchange.path)
                said.append(f"{what}; the nearest is {near}; `hobbyhorse providers {exchange.provider}` lists them")
            elif exchange.move is None and exchange.situation in INVALID and "invalid" in about:
                said.append(f"{what}; the request breaks the contract")
        if "unmet" in about:
            said += [unmet_complaint(what) for what in self.unmet]
        if "uncollected" in about:
            now = self._world.clock.now()
            said += [
                uncollected_complaint(job.id, job.stage(now).name)
                for job in self.jobs
                if not job.collected and job.ends
            ]
        return said
