"""Where clients run against the fake: a Python callable in virtual time, a command in real time; each drill a trace."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from hobbyhorse.conformance.client.cases import CROWD, KILLED, LONG, MOVED, ONCE, TWICE, Case
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners import callable as callables
from hobbyhorse.runners.callable import CallbackTarget, Client
from hobbyhorse.runners.command import ClientTask, Finished, Running, start, with_ids
from hobbyhorse.runners.virtual_time import VirtualTime
from hobbyhorse.testing.local import MockServer, MockWorld
from hobbyhorse.traces.trace import Outcome, Run, Trace

WATCH_SECONDS = 60.0
"""How long a client is watched after its run, in seconds of the virtual clock."""
REAL_QUIET_SECONDS = 0.2
CROWD_SIZE = 3
MOST_RUN_EXCHANGES = 20_000
"""How much of a run is kept: a client that floods is judged by all that it did."""
MOST_REQUESTS = 3_000
"""How many requests a callable may make in one run; polling each second for as long as it may takes fewer."""
PATIENCES = 2.0
"""How many times the longest wait of the contract a run may take."""
SPARE_SECONDS = 900.0
COMMAND_SECONDS = 30.0
PARALLEL = 8


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(slots=True)
class FakeSession:
    """One fake for many runs of one client; each run has a world of its own. A context manager."""

    contract: Contract
    model: Model
    seed: int = 0
    clock: str = "manual"
    speed: float = 1.0
    pace: str = "realistic"
    server: MockServer = field(init=False)
    _number: int = 0
    _playing: dict[str, bool] = field(default_factory=dict)
    """The keys of the worlds of which something runs, and whether each was the only one all the time.

    Then requests without a key are its.
    """
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.server = MockServer(
            [self.contract],
            pace=self.pace,
            clock=self.clock,
            speed=self.speed,
            seed=self.seed,
            strict=False,
            elsewhere=True,
            closed=True,
        )

    def __enter__(self) -> FakeSession:
        self.server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.stop()

    def world(self, drill: Case) -> MockWorld:
        """Open the world of a drill, with its scenario armed."""
        with self._lock:
            self._number += 1
            key = f"hh-test-key-{self._number:06}"
            self._playing = {**dict.fromkeys(self._playing, False), key: not self._playing}
        world = self.server.world(key, seed=self.seed)
        world.keep(MOST_RUN_EXCHANGES)
        if drill.scenario:
            jobs = 1 if drill.kind in (ONCE, LONG, KILLED, MOVED) else "all"
            world.arm(drill.scenario, provider=self.contract.key, jobs=jobs, seed=self.seed)
        if drill.kind == CROWD:
            world.limit(concurrent_jobs=1)
        return world

    def request(self, drill: Case, mark: str = "run 1") -> dict[str, Any]:
        """Return what the client is asked to order."""
        return order_for(self.contract, self.model, mark=mark, long=drill.kind == LONG)

    def callback(self) -> CallbackTarget | None:
        """Return where the client may listen."""
        if self.contract.callbacks is None:
            return None
        return CallbackTarget(f"http://127.0.0.1:{free_port()}/callback", DEFAULT_SECRET)

    def trace(self, world: MockWorld, drill: Case, runs: Iterable[Run], watched: float = 0.0) -> Trace:
        """Return what was seen of the runs of a drill up to a moment, and forget the world."""
        ended = max(world.clock.now(), watched)
        with self._lock:
            alone = self._playing.pop(world.api_key)
        found = world.trace(self.contract.key, strangers=alone)
        self.server.forget(world)
        return replace(
            found,
            runs=tuple(runs),
            ended=ended,
            model=self.model.id,
            drill=drill.kind,
            point=drill.point,
            scenario=drill.scenario,
        )


@dataclass(slots=True)
class CallableRunner:
    """Plays drills with a Python callable, in this process and in virtual time."""

    arena: FakeSession
    client: Client

    def __call__(self, drills: Sequence[Case]) -> Iterator[Trace]:
        """Play drills, one after the other."""
        for drill in drills:
            yield self.play(drill)

    def play(self, drill: Case) -> Trace:
        """Run the client once, and return what was seen."""
        world = self.arena.world(drill)
        base = world.url(self.arena.contract.key)
        limit = self.arena.contract.polling.longest_wait * PATIENCES + SPARE_SECONDS
        time_ = VirtualTime(self.arena.server.timeline(world), limit=limit, most_requests=MOST_REQUESTS)
        marks = {TWICE: ["run 1", "run 2"], CROWD: [f"run {n}" for n in range(1, CROWD_SIZE + 1)]}
        requests = [self.arena.request(drill, mark) for mark in marks.get(drill.kind, ["run 1"])]
        runs: list[Run] = []
        errors: list[BaseException | None] = []

        def once(request: dict[str, Any], at: int) -> None:
            begun, value = world.clock.now(), None
            error: BaseException | None = None
            try:
                value = self._call(world, base, request)
            except (Exception, SystemExit) as raised:
                error = raised
            ended = world.clock.now()
            outcome = callables.success(value, ended) if error is None else callables.failure(error, ended)
            runs[at] = Run(begun, base, request, outcome)
            errors[at] = error

        def work() -> None:
            if drill.kind != CROWD:
                for at, request in enumerate(requests):
                    once(request, at)
                return
            threads = [threading.Thread(target=once, args=(request, at)) for at, request in enumerate(requests)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        started = world.clock.now()
        runs += [Run(started, base, request) for request in requests]
        errors += [None] * len(requests)
        ran = time_.run(work)
        for at, run in enumerate(runs):
            if run.outcome is None:
                words = f"{type(ran.error).__name__}: {ran.error}" if ran.error is not None else ""
                outcome = Outcome("unfinished", ran.ended, message=words)
                runs[at] = replace(run, outcome=outcome)
        watched = world.clock.now()
        if not ran.over:
            time_.drain(WATCH_SECONDS)
            watched += WATCH_SECONDS
        trace = self.arena.trace(world, drill, runs, watched)
        jobs = [job.id for job in trace.jobs or ()]
        named = [_named(run, error, jobs) for run, error in zip(runs, errors, strict=True)]
        return replace(trace, runs=tuple(named))

    def _call(self, world: MockWorld, base: str, request: Mapping[str, Any]) -> Any:
        model = self.arena.model.id
        return callables.call(self.client, base, world.api_key, request, model=model, callback=self.arena.callback())


def _named(run: Run, error: BaseException | None, jobs: list[str]) -> Run:
    if run.outcome is None or error is None:
        return run
    return replace(run, outcome=callables.with_ids(run.outcome, error, jobs))


@dataclass(slots=True)
class CommandRunner:
    """Plays drills with a command in any language, several at once, in real time or `speed` times as fast."""

    arena: FakeSession
    argv: Sequence[str]
    resume: Sequence[str] | None = None
    limit: float = COMMAND_SECONDS
    parallel: int = PARALLEL

    def __call__(self, drills: Sequence[Case]) -> Iterator[Trace]:
        """Play drills, several at once; what was seen comes in their order."""
        with ThreadPoolExecutor(self.parallel) as pool:
            yield from pool.map(self.play, drills)

    def play(self, drill: Case) -> Trace:
        """Run the command as a drill has it, and return what was seen."""
        world = self.arena.world(drill)
        with tempfile.TemporaryDirectory(prefix="hobbyhorse-", ignore_cleanup_errors=True) as folder:
            plays: dict[str, Callable[[MockWorld, Case, Path], list[tuple[Run, Finished | None]]]] = {
                TWICE: self._twice,
                CROWD: self._crowd,
                KILLED: self._killed,
                MOVED: self._killed,
            }
            ended = plays.get(drill.kind, self._once)(world, drill, Path(folder))
        trace = self.arena.trace(world, drill, [run for run, _ in ended])
        jobs = [job.id for job in trace.jobs or ()]
        runs = [replace(run, outcome=with_ids(done, jobs)) if done else run for run, done in ended]
        return replace(trace, runs=tuple(runs))

    def _start(
        self, world: MockWorld, request: Mapping[str, Any], folder: Path, base: str, argv: Sequence[str] | None = None
    ) -> Running:
        folder.mkdir(exist_ok=True)
        callback = self.arena.callback()
        task = ClientTask(
            base,
            world.api_key,
            request,
            self.arena.model.id,
            callback.url if callback else None,
            callback.secret if callback else None,
            self.arena.speed,
        )
        return start(argv or self.argv, task, self.limit, now=world.clock.now, folder=folder)

    def _run(self, world: MockWorld, request: Mapping[str, Any], folder: Path) -> tuple[Run, Finished]:
        base, begun = world.url(self.arena.contract.key), world.clock.now()
        with self._start(world, request, folder, base) as running:
            done = running.wait()
            if running.leftovers():
                time.sleep(REAL_QUIET_SECONDS)
        return Run(begun, base, request, done.outcome), done

    def _once(self, world: MockWorld, drill: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        return [self._run(world, self.arena.request(drill), folder)]

    def _twice(self, world: MockWorld, drill: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        return [self._run(world, self.arena.request(drill, f"run {n}"), folder / str(n)) for n in (1, 2)]

    def _crowd(self, world: MockWorld, drill: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        def one(number: int) -> tuple[Run, Finished | None]:
            return self._run(world, self.arena.request(drill, f"run {number}"), folder / str(number))

        with ThreadPoolExecutor(CROWD_SIZE) as pool:
            return list(pool.map(one, range(1, CROWD_SIZE + 1)))

    def _killed(self, world: MockWorld, drill: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        """Kill the client while the server holds an answer back, and start it again with the command that resumes."""
        base, begun, request = world.url(self.arena.contract.key), world.clock.now(), self.arena.request(drill)
        with self._start(world, request, folder, base) as running:
            held = self._held(world, running)
            running.kill()
            first = Run(begun, base, request, running.wait().outcome)
        if not held:
            return [(first, None)]
        world.disarm()
        elsewhere = self.arena.server.origins["foreign"] + f"/{self.arena.contract.key}"
        again = elsewhere if drill.kind == MOVED else base
        begun = world.clock.now()
        with self._start(world, request, folder, again, self.resume) as running:
            done = running.wait()
        return [(first, None), (Run(begun, again, request, done.outcome, resumed=True), done)]

    def _held(self, world: MockWorld, running: Running) -> bool:
        """Wait until the client waits for an answer that will not come; False if it ends before."""
        until = time.monotonic() + self.limit
        while time.monotonic() < until:
            if any(exchange.move == "timeout" for exchange in world.journal):
                return True
            if running.ended:
                return False
            time.sleep(0.01)
        return False
