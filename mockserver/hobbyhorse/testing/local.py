"""The mock server as an object for tests: on a free port in a thread, or in process as an ASGI application."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, TypeVar

from hobbyhorse.clock.clock import Clock, ManualClock, RealClock, real_seconds
from hobbyhorse.clock.quiescence import RequestTracker, TimeStepper
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.scenario import Scenario, find, read_scenario
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.files.scratch import ScratchDirectory
from hobbyhorse.server.front.opening import Front, certificates_for, make_front
from hobbyhorse.server.front.variables import proxy_variables
from hobbyhorse.server.run import ServerThread, bind, bind_elsewhere
from hobbyhorse.testing.complaints import complaints_about
from hobbyhorse.testing.live import LiveExchange, armed_record, attempt_record, exchange_record, job_record
from hobbyhorse.testing.records import ArmedScenario, CallbackAttempt, Exchange, Job
from hobbyhorse.testing.world import EXCHANGE_FIELDS
from hobbyhorse.traces.trace import Trace
from hobbyhorse.worlds import jobs as live_jobs
from hobbyhorse.worlds.jobs import PACES
from hobbyhorse.worlds.journal import MOST_JOURNAL_BYTES, Journal
from hobbyhorse.worlds.ledger import Ledger
from hobbyhorse.worlds.limits import Limits, read_limits
from hobbyhorse.worlds.mistakes import COMPLAINTS
from hobbyhorse.worlds.world import RESETS, Ending, World

Value = TypeVar("Value")

IN_PROCESS_URL = "http://hobbyhorse.test"
# Real seconds between two reads of the journal: much shorter than a test may wait, and cheap (one hop to the server).
WAIT_POLL_SECONDS = 0.01


class MockServer:
    """A server of every provider, for tests.

    As a context manager it serves on a free port of the loopback interface, at `url`. Otherwise `asgi` is an
    application for clients in the same process and event loop, at `http://hobbyhorse.test`. `clock` is "real" or
    "manual"; a manual clock stands until a world's clock is advanced. With `elsewhere` it also serves at `origins`:
    `media` has the files, and scenarios point clients to `foreign`, `port` and `private`. `judge` returns the verdicts
    on a client from its trace. With `closed`, only keys that `world` was given together with a seed are accepted.
    With `plain_videos`, orders that differ in prompt, seed or watermark have videos that look alike. With `tls`, it
    also serves HTTPS and a forward proxy, and `origins` are https:// URLs; `variables` lead clients with fixed hosts
    here.
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
        plain_videos: bool = False,
        judge: Callable[[Contract, Trace], dict[str, Any]] | None = None,
        tls: bool = False,
    ) -> None:
        if clock not in ("real", "manual"):
            raise ValueError(f"'clock' is {clock!r}; allowed: 'real', 'manual'")
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
                plain_videos=plain_videos,
                judge=judge,
            ),
        )
        self._tracker = RequestTracker(self._fake)
        self._thread: ServerThread | None = None
        self._elsewhere, self._tls = elsewhere, tls
        self._front: Front | None = None
        self._scratch: ScratchDirectory | None = None
        self._numbers = itertools.count(1)
        self.origins: dict[str, str] = {}
        """The additional origins: `media`, `foreign`, `port`, and `private` if the system has the address."""

    @property
    def asgi(self) -> Fake:
        """The ASGI application."""
        return self._fake

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return IN_PROCESS_URL if self._thread is None else self._thread.url

    def start(self) -> MockServer:
        """Serve on a free port."""
        # Starting twice is allowed: `MockServer().start()` may also be used as a context manager.
        if self._thread is None:
            bound = bind_elsewhere() if self._elsewhere else {}
            more = tuple(found for one in bound.values() for found in one.sockets)
            scheme = "http"
            if self._tls:
                self._front, more, scheme = self._open_front(more), (), "https"
            self.origins = {kind: one.url.replace("http", scheme, 1) for kind, one in bound.items()}
            self._fake.add_origins(self.origins)
            self._thread = ServerThread(self._tracker, more=more, front=self._front)
        return self

    def _open_front(self, origins: Sequence[socket.socket]) -> Front:
        """Bind the ports for HTTPS and for the forward proxy. Raises CertificateError."""
        self._scratch = ScratchDirectory()
        contracts, tls = self._fake.contracts, bind("127.0.0.1", 0)
        names = {one.getsockname()[0] for one in origins}
        certificates = certificates_for(contracts, tls, self._scratch.path, names=names)
        proxy = bind("127.0.0.1", 0)
        return make_front(contracts, certificates, plain=(), tls=[tls, *origins], proxy=proxy)

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that lead clients with fixed hosts to a started server with `tls`."""
        if self._front is None:
            return {}
        addresses = self._front.addresses
        return proxy_variables(addresses["connect_proxy"] or "", addresses["ca"])

    def stop(self) -> None:
        """Stop serving and remove every file except the cache."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.cleanup()

    def world(self, api_key: str | None = None, seed: int | None = None) -> MockWorld:
        """Return the world of a key, or a new world with a new key.

        Two new worlds with the same `seed` make the same ids and videos.
        """
        return MockWorld(self, api_key or f"test-{next(self._numbers)}", seed)

    def forget(self, world: MockWorld) -> None:
        """Delete a world with everything in it; do not use it afterwards."""
        self.run(lambda: self._fake.forget(world._world))

    def timeline(self, world: MockWorld) -> TimeStepper:
        """Return the stepper of a world's manual clock, for use from another thread; its clients read that clock."""
        # Deadlines and dates of responses then follow the world's clock instead of real time.
        world._world.virtual = True
        return TimeStepper(world.clock.awaited, [self._tracker])

    def run(self, work: Callable[[], Value]) -> Value:
        """Call a function on the server's event loop, so that nothing changes meanwhile."""
        # Without a thread, the caller's event loop is the server's: nothing can change meanwhile.
        if self._thread is None:
            return work()

        async def call() -> Value:
            return work()

        return self.wait_for(call())

    def run_on_loop(self, work: Callable[[], Value]) -> Value:
        """Call a function that needs a running event loop: the server's or the current one."""

        async def call() -> Value:
            return work()

        return work() if self._thread is None and _loop_runs() else self.wait_for(call())

    def wait_for(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine on the server's event loop and return its result, for synchronous tests.

        Raises RuntimeError if an event loop runs here and the server has no thread: the loop would wait for itself.
        """
        if self._thread is None:
            if _loop_runs():
                # Closed, so that Python does not warn of a coroutine that was never awaited.
                work.close()
                raise RuntimeError(
                    "an event loop runs here, which this call would block; await world.clock.awaited.advance(...), "
                    "or serve from a thread with MockServer().start()"
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
        """The multiple of real time at which it runs; 0 is a clock that stands until it is advanced."""
        return self.world.clock.speed

    def set_speed(self, speed: float) -> None:
        """Run at a multiple of real time, or stand (0)."""
        self.server.run_on_loop(lambda: self.world.clock.set_speed(speed))

    @property
    def awaited(self) -> Clock:
        """The clock with an awaitable `advance` and `run_until_idle`, for clients in the same event loop."""
        return self.world.clock

    def advance(self, seconds: float) -> None:
        """Move it forward; everything that falls due on the way has happened when this returns."""
        self.server.wait_for(self.world.clock.advance(seconds))

    def run_until_idle(self) -> None:
        """Move it until every job has ended and every callback, with its retries, was delivered."""
        self.server.wait_for(self.world.run_until_idle())


class MockWorld:
    """The state of one API key: give the key to the client under test, and inspect here what it did.

    `AnyWorld` documents the members that a remote world has too.
    """

    def __init__(self, server: MockServer, api_key: str, seed: int | None = None) -> None:
        self._server = server
        self.api_key = api_key
        worlds = server.asgi.worlds
        found = worlds.of(api_key) if seed is None else worlds.seeded(api_key, seed)
        if found is None:
            raise ValueError(f"the key {api_key!r} is not accepted by this server")
        self._world = found

    def draw_ids_from(self, seed: str) -> None:
        """Draw the ids of jobs and callbacks from a seed of their own; all else still follows the seed of the world."""
        self._world.ids = Random(seed)

    def url(self, provider: str) -> str:
        """Return the URL that replaces a provider's base URL."""
        self._contract(provider)
        return f"{self._server.url}/{provider}"

    def env(self, provider: str) -> dict[str, str]:
        """Return the environment variables that point a provider's clients here, as `hobbyhorse env` prints them."""
        secret = self._server.asgi.options.callback_secret or ""
        return self._contract(provider).environment(self._server.url, self.api_key, secret)

    def _contract(self, provider: str) -> Contract:
        contracts = {contract.key: contract for contract in self._server.asgi.contracts}
        if provider not in contracts:
            raise KeyError(f"there is no provider {provider!r}; allowed: {', '.join(contracts)}")
        return contracts[provider]

    @property
    def clock(self) -> MockClock:
        """The clock of this world."""
        return MockClock(self._server, self._world)

    @property
    def jobs(self) -> list[Job]:
        """The jobs, oldest first."""

        def read() -> list[Job]:
            now = self._world.clock.now()
            return [job_record(job, now) for job in self._world.jobs.values()]

        return self._server.run(read)

    @property
    def journal(self) -> list[Exchange]:
        """The newest exchanges, oldest first."""
        return self._records(self._server.run(lambda: list(self._world.journal)))

    @property
    def journal_length(self) -> int:
        """The number of exchanges in the journal, without reading them. May be called from any thread."""
        return len(self._world.journal)

    def _records(self, exchanges: Iterable[LiveExchange]) -> list[Exchange]:
        contracts = {contract.key: contract for contract in self._server.asgi.contracts}
        return [exchange_record(one, contracts.get(one.provider or "")) for one in exchanges]

    @property
    def callbacks(self) -> list[CallbackAttempt]:
        """Every attempt to deliver a callback of this world's jobs."""
        attempts = self._server.run(lambda: self._server.asgi.callback_dispatcher().of(self._world))
        return [attempt_record(attempt) for attempt in attempts]

    @property
    def ledger(self) -> Ledger:
        """The jobs with their cost: which are billable, and which repeat an earlier order."""
        return self._server.run(self._world.ledger)

    @property
    def billed(self) -> Decimal:
        """The cost of the jobs that succeeded, in USD: one click that became four jobs shows here."""
        return self.ledger.usd

    def trace(self, provider: str, *, strangers: bool = True, issued: Callable[[str], bool] | None = None) -> Trace:
        """Return all exchanges between a provider and the client, without secrets.

        `strangers=False` leaves out unauthenticated requests, which may come from another concurrent client.
        `issued` tells whether a key in them was given to a client: it gets a number of its own.
        """
        contract, base = self._contract(provider), self.url(provider)
        return self._server.run(
            lambda: self._server.asgi.trace(self._world, contract, base, unauthenticated=strangers, issued=issued)
        )

    def arm(
        self,
        scenario: str | Mapping[str, Any] | Scenario,
        *,
        provider: str | None = None,
        jobs: int | str | None = 1,
        seed: int = 0,
    ) -> ArmedScenario:
        """Arm a scenario, by name or as a value, for the next `jobs` ("all" or None: every job).

        The record shows it as armed now; `armed` has its present state. Raises ScenarioError with the nearest names,
        or with the reasons why it applies to no provider.
        """
        if isinstance(scenario, str):
            scenario = find(self._server.asgi.catalogue(), scenario)
        elif not isinstance(scenario, Scenario):
            scenario = read_scenario(scenario)
        if provider is not None:
            self._contract(provider)
        found, count = scenario, None if jobs == "all" else jobs
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ValueError(f"'jobs' is {jobs!r}; allowed: a number from 1, or 'all'")
        contracts, armed = self._server.asgi.contracts, self._world.scenarios
        return self._server.run(
            lambda: armed_record(armed.arm(found, contracts, provider=provider, jobs=count, seed=seed))
        )

    @property
    def armed(self) -> list[ArmedScenario]:
        """The armed scenarios, with the faults that requests have met."""
        return self._server.run(lambda: [armed_record(armed) for armed in self._world.scenarios.armed])

    @property
    def unmet(self) -> list[str]:
        """The armed faults that no request has met, such as `job_slow: timeline slow`."""
        return self._server.run(
            lambda: [f"{armed.scenario.name}: {fault}" for armed, fault in self._world.scenarios.unmet()]
        )

    def disarm(self) -> int:
        """Disarm every scenario; return their number."""
        return self._server.run(self._world.scenarios.disarm)

    def limit(self, **limits: Any) -> None:
        """Set limits of this key, by the names of `Limits`; None removes a limit."""
        # Through the JSON form, so that one reader checks the limits of files, requests and tests.
        plain = {name: float(value) if isinstance(value, Decimal) else value for name, value in limits.items()}
        new = read_limits({**self._world.limits.to_json(), **plain})
        self._server.run(lambda: self._world.limit(new))

    @property
    def limits(self) -> Limits:
        """The limits of this key."""
        return self._world.limits

    @property
    def keys(self) -> Mapping[str, str]:
        """The key of each provider, if they have keys of their own."""
        return self._world.keys

    def share(self, keys: Mapping[str, str]) -> None:
        """Let each of some providers accept a key of its own; the first of them accepts `api_key`."""
        self._server.run(lambda: self._server.asgi.worlds.share(self._world, keys))

    def keep(self, most: int) -> None:
        """Start a new journal of the newest `most` exchanges, and count the client's connections.

        The old journal is dropped.
        """
        # Twice the usual bytes: the journal has many small exchanges.
        self._world.journal = Journal(most, 2 * MOST_JOURNAL_BYTES)
        self._world.connections = set()

    def shorten(self, share: float) -> None:
        """Let the stages of later jobs take this share of their usual durations."""
        self._world.share = share

    @property
    def pace(self) -> str:
        """The duration of stages: `instant`, `fast` or `realistic`."""
        return self._world.pace

    @pace.setter
    def pace(self, name: str) -> None:
        if name not in PACES:
            raise ValueError(f"'pace' is {name!r}; allowed: {', '.join(PACES)}")
        self._world.pace = name

    def transition(self, job: str, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Move a job to a stage that may follow its own. Raises LifecycleError, which names them, or KeyError."""
        self._server.run(lambda: self._world.transition(self._job(job), stage, code, message))

    def redeliver(self, job: str) -> None:
        """Deliver a job's callback again. Raises LookupError if there is none."""
        self._server.run_on_loop(lambda: self._server.asgi.callback_dispatcher().redeliver(self._world, self._job(job)))

    def _job(self, job: str) -> live_jobs.Job:
        if job not in self._world.jobs:
            raise KeyError(f"this world has no job {job!r}")
        return self._world.jobs[job]

    def reset(self, *what: str) -> None:
        """Forget `jobs`, `journal`, `scenarios` or the waiting actions of the `clock`; all of them by default."""
        self._server.run(lambda: self._server.asgi.reset(self._world, what or RESETS))

    def end_next_job(self, stage: str, code: str | None = None, message: str | None = None) -> None:
        """Set the terminal stage of the next job of a provider that has it, and the code and message of a failure."""
        # Checked here: a wrong stage would only fail at the next submission, inside the server.
        stages = {found.name for contract in self._server.asgi.contracts for found in contract.graph.terminals()}
        if stage not in stages:
            raise ValueError(f"no provider has a terminal stage {stage!r}; allowed: {', '.join(sorted(stages))}")
        self._server.run(lambda: self._world.end_next(Ending(stage, code, message)))

    def wait_for(self, count: int = 1, timeout: float = 5.0, **wanted: Any) -> list[Exchange]:
        """Wait in real time until `count` exchanges have the wanted fields, such as `role="submit"`; return all such.

        Raises TimeoutError, which lists the exchanges that there are, and ValueError for an unknown field.
        """
        if unknown := sorted(set(wanted) - set(EXCHANGE_FIELDS)):
            raise ValueError(f"cannot wait for {unknown[0]!r}; allowed: {', '.join(EXCHANGE_FIELDS)}")
        # As the control plane compares it.
        if "method" in wanted:
            wanted["method"] = str(wanted["method"]).upper()
        deadline = real_seconds() + timeout
        while True:
            everything = self._server.run(lambda: list(self._world.journal))
            found = [one for one in everything if all(getattr(one, name) == value for name, value in wanted.items())]
            if len(found) >= count:
                return self._records(found)
            if real_seconds() > deadline:
                seen = ", ".join(f"{one.method} {one.path} ({one.situation})" for one in everything) or "nothing"
                raise TimeoutError(f"{len(found)} of {count} exchanges with {wanted} after {timeout:g} s; seen: {seen}")
            time.sleep(WAIT_POLL_SECONDS)

    def complaints(self, about: Collection[str] = COMPLAINTS) -> list[str]:
        """Return the situations that a test most likely did not intend, each with the next step.

        `unmatched`: requests that match no operation; `invalid`: requests that break the contract; `unmet`: armed
        faults that no request has met; `uncollected`: jobs that were never seen to end.
        """
        return list(complaints_about(self, about))
