"""Run clients against a fake server: a callable in virtual time, a command in real time. Each test case gives a trace.

A `FakeSession` is one server for many runs. Each run has its own API key and therefore its own world, so that runs of
commands can overlap. A client is watched after its end, so that requests of leftover threads and processes count.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from hobbyhorse.conformance.client.cases import (
    CROWD,
    EQUAL,
    FOLDER,
    HAPPY,
    KILLED,
    LONG,
    MEMBERS,
    MOVED,
    ONCE,
    PAIR_KINDS,
    PICTURES,
    PROMPTS,
    RECOVERY,
    TOGETHER,
    TWICE,
    Case,
)
from hobbyhorse.conformance.client.diagnosis import Fit
from hobbyhorse.conformance.client.order_cases import fullest_and_least
from hobbyhorse.conformance.client.planning import HALF_SENT, KILLING
from hobbyhorse.conformance.client.reasons import mentioned, reasons_in
from hobbyhorse.conformance.client.search import STUCK_JOB
from hobbyhorse.conformance.client.variations import has_dates
from hobbyhorse.contract.example_orders import documented_jobs, order_as, order_for
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners import callable as callables
from hobbyhorse.runners.callable import Client
from hobbyhorse.runners.command import ClientTask, CommandError, Finished, Launch, Running, Target, start, with_ids
from hobbyhorse.runners.deferred_certificates import deferred_certificates
from hobbyhorse.runners.example_keys import example_key
from hobbyhorse.runners.saved_file import still_there
from hobbyhorse.runners.surroundings import NAMED_ZONES, DateWatch, free_port, in_zone, steps_of, zone_of
from hobbyhorse.runners.virtual_time import Ran, Stuck, VirtualTime
from hobbyhorse.testing.local import MockServer, MockWorld
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.pair import annotated, attributed, each_half, paired
from hobbyhorse.traces.trace import Outcome, Run, Trace

# Virtual seconds for which a client is watched after its run. A leftover thread that polls less often is not noticed; a
# longer watch costs real time for each client that leaves threads behind.
WATCH_SECONDS = 60.0
# Real seconds for which a command's leftover processes are watched before they are killed. Each such run takes that
# much longer. At the usual speeds of commands, it corresponds to seconds on the server's clock.
REAL_QUIET_SECONDS = 0.2
# Real seconds in which a command saves the half of a file that it has received, before it is killed.
REAL_SAVING_SECONDS = 0.1
# Number of clients that submit concurrently. If only one job may run, two of them must wait, so they also compete.
CROWD_SIZE = 3
CROWD_NUMBERS = tuple(range(1, CROWD_SIZE + 1))
# Runs of a callable that fail before the run that must succeed: one more than the connections in the pools of common
# HTTP libraries, so that a pool that loses one in each failure is empty. A command begins each run with a new process.
FAILING_RUNS, FAILING_COMMANDS = 11, 1
# Virtual seconds before the run that must succeed. A client may refuse to work for some minutes after many failures.
RECOVERY_SECONDS = 900.0
# Virtual seconds between two runs of a callable, so that each request can be attributed to its run by time.
BETWEEN_SECONDS = 1.0
# Number of exchanges kept for a run: enough to judge a client that floods by all of its requests.
MOST_RUN_EXCHANGES = 20_000
# Maximum number of requests of a callable, for each of the runs of a case. Polling every second for the longest allowed
# time takes fewer.
MOST_REQUESTS = 3_000
# Virtual seconds of a run if the contract only assumes the longest wait: twelve hours. A client that counts its polls,
# say 200 of them, with growing pauses and waits that Retry-After requests, ends by itself before; one that does not
# end has sent hundreds of requests until then.
HORIZON_SECONDS = 43_200.0
# A run may take this multiple of the contract's longest wait. A client may poll for one longest wait; the rest shows
# whether the client ever gives up.
LONGEST_WAITS = 2.0
# Added to that limit, because downloads and their retries follow the wait for the job. A larger value costs real time
# only with clients that never give up, because they poll until the limit.
SPARE_SECONDS = 900.0
# Real seconds that a command may take, unless --limit sets another number.
COMMAND_SECONDS = 30.0
# Number of concurrent commands, unless --parallel sets another. More than the cores, because commands mostly sleep.
PARALLEL = 8


def run_limit(contract: Contract) -> float:
    """Return the virtual seconds after which a run of a callable is cut off."""
    limit = contract.polling.longest_wait * LONGEST_WAITS + SPARE_SECONDS
    return limit if contract.polling_documented else max(limit, HORIZON_SECONDS)


@dataclass(slots=True)
class FakeSession:
    """A fake server for many runs of one client, each run in its own world. A context manager.

    `second` is the provider that the client falls back to, with its model.
    """

    contract: Contract
    model: Model
    seed: int = 0
    clock: str = "manual"
    speed: float = 1.0
    pace: str = "realistic"
    fit: Fit = field(default_factory=Fit)
    second: tuple[Contract, Model] | None = None
    tls: bool = False
    """Whether clients use the providers' own https:// hosts, and reach the server through its forward proxy."""
    place: str = ""
    """The name of this session among those of one suite: two sessions never give equal ids to jobs and callbacks."""
    server: MockServer = field(init=False)
    _number: int = 0
    # The API keys of the current runs, and whether each run has been alone since its start: an unauthenticated request
    # belongs to a run only if no other run could have sent it.
    _open: dict[str, bool] = field(default_factory=dict)
    _issued: set[str] = field(default_factory=set)
    _begun: Counter[str] = field(default_factory=Counter)
    """The runs of each case until now, by the case's key."""
    _fullest_and_least: tuple[dict[str, Any], ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.server = MockServer(
            [contract for contract, _ in self.providers],
            pace=self.pace,
            clock=self.clock,
            speed=self.speed,
            seed=self.seed,
            strict=False,
            elsewhere=True,
            closed=True,
            plain_videos=True,
            tls=self.tls,
        )

    def __enter__(self) -> FakeSession:
        self.server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.stop()

    @property
    def providers(self) -> tuple[tuple[Contract, Model], ...]:
        """The providers of the client, each with its model."""
        first = (self.contract, self.model)
        return (first,) if self.second is None else (first, self.second)

    def world(self, case: Case) -> MockWorld:
        """Return a new world for a test case, with the case's scenario armed."""
        with self._lock:
            self._number += len(self.providers)
            keys = {one.key: example_key(one, self._number + at) for at, (one, _) in enumerate(self.providers)}
            key = keys[self.contract.key]
            self._issued.update(keys.values())
            self._open = {**dict.fromkeys(self._open, False), key: not self._open}
            self._begun[case.key] += 1
            run = self._begun[case.key]
        world = self.server.world(key, seed=self.seed)
        # No provider gives one id twice, and a client may remember, for longer than a run, what it did for the id of a
        # job or of a callback.
        world.draw_ids_from(f"{self.seed}:{self.place}:{case.key}:{run}")
        if self.second is not None:
            world.share(keys)
        world.keep(MOST_RUN_EXCHANGES)
        world.shorten(self.fit.share)
        if case.scenario:
            # In cases with one submission, only one job has faults. A client that resubmits gets a second job without
            # faults, and the trace shows both.
            jobs = 1 if case.kind in (ONCE, LONG, KILLED, MOVED) else "all"
            world.arm(case.scenario, provider=self.contract.key, jobs=jobs, seed=self.seed)
        if case.second and self.second is not None:
            jobs = 1 if case.kind in (ONCE, LONG) else "all"
            world.arm(case.second, provider=self.second[0].key, jobs=jobs, seed=self.seed)
        if case.kind == CROWD:
            world.limit(concurrent_jobs=1)
        return world

    def request(self, case: Case, number: int = 1, place: int = 0) -> dict[str, Any]:
        """Return the order of a run: the case's own, or the plain one with a prompt and a picture for each number.

        `place` is that of the provider.
        """
        contract, model = self.providers[place]
        if case.order is not None:
            return order_as(contract, model, case.order, self.fit.role)
        if case.kind == MEMBERS:
            return order_as(contract, model, self._member(number), self.fit.role)
        words = 1 if case.kind in (EQUAL, PICTURES) else number
        picture = 1 if case.kind in (EQUAL, PROMPTS) else number
        long = case.kind == LONG
        role = "submit" if place else self.fit.role
        return order_for(contract, model, role=role, mark=f"run {words}", long=long, picture=picture)

    def _member(self, number: int) -> dict[str, Any]:
        """Return the order of a run in a case about members."""
        # Made once: trying which members an order may have takes as long as some runs in virtual time.
        if not self._fullest_and_least:
            self._fullest_and_least = fullest_and_least(self.contract, self.model)
        return self._fullest_and_least[number % 2]

    def targets(self, world: MockWorld, case: Case, number: int = 1) -> tuple[Target, ...]:
        """Return where a client sends its order in a run, and how: a target for each provider."""
        keys = world.keys
        return tuple(
            Target(
                contract.key,
                self.base(world, contract),
                keys.get(contract.key, world.api_key),
                self.request(case, number, place),
                model.id,
                *callback(contract),
            )
            for place, (contract, model) in enumerate(self.providers)
        )

    def base(self, world: MockWorld, contract: Contract) -> str:
        """Return the base URL of a provider, as the client uses it."""
        return f"https://{contract.hosts[0]}" if self.tls else world.url(contract.key)

    def trace(self, world: MockWorld, case: Case, runs: Iterable[Run], watched: float = 0.0) -> Trace:
        """Return the trace of a case's runs, at least up to the time `watched`, and delete the world."""
        ended = max(world.clock.now(), watched)
        with self._lock:
            alone = self._open.pop(world.api_key)
        found = [
            replace(
                world.trace(contract.key, strangers=alone, issued=self._issued.__contains__),
                ended=ended,
                model=model.id,
                drill=case.kind,
                point=case.point,
                scenario=scenario,
                order=case.order,
            )
            for (contract, model), scenario in zip(self.providers, (case.scenario, case.second), strict=False)
        ]
        trace, runs = replace(found[0], runs=tuple(runs)), tuple(runs)
        if self.second is not None:
            base = self.base(world, self.second[0])
            # The n-th run of each kind with two providers has the n-th order.
            at_second = (replace(run, base=base, request=self.request(case, n, 1)) for n, run in enumerate(runs, 1))
            trace = paired(trace, replace(found[1], runs=tuple(at_second)))
        self.server.forget(world)
        return trace

    def finished(self, trace: Trace, exposing: Callable[[AnnotatedTrace], Iterable[Run]]) -> Trace:
        """Return a trace whose runs have the ids and the reasons that `exposing` finds in their errors."""
        contracts = {contract.key: contract for contract, _ in self.providers}

        def exposed(half: Trace) -> Trace:
            return replace(half, runs=tuple(exposing(AnnotatedTrace(contracts[half.provider], half))))

        return attributed(each_half(trace, exposed))

    def read(self, trace: Trace) -> AnnotatedTrace:
        """Read a trace through the contract of the first provider."""
        return annotated([contract for contract, _ in self.providers], trace)[0]


def callback(contract: Contract) -> tuple[str | None, str | None]:
    """Return the URL for callbacks and the secret that signs them, or None for each if the provider sends none."""
    if contract.callbacks is None:
        return None, None
    return f"http://127.0.0.1:{free_port()}/callback", DEFAULT_SECRET


@dataclass(slots=True)
class CallableRunner:
    """Runs test cases with a Python callable, in this process and in virtual time."""

    session: FakeSession
    client: Client
    fresh: bool = True
    """Whether the last run left no threads behind. Otherwise, the next one may differ from a run in a new process."""

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        """Run cases sequentially; yield their traces."""
        for case in cases:
            yield self.run(case)

    def fit(self) -> Fit:
        """Adapt the test cases to the client, by a run without faults and one with a stuck job; return the fit."""
        session = self.session
        session.fit = session.fit.with_role(session.read(self.run(HAPPY)))
        session.fit = session.fit.with_share(session.read(self.run(STUCK_JOB)))
        return session.fit

    def run(self, case: Case) -> Trace:
        """Run a case and return its trace.

        A run that takes too much real time is run again: only a client that does so twice is the cause.
        """
        with in_zone(zone_of(case)):
            trace, overran = self._run(case)
            if overran:
                is_fresh = self.fresh
                trace, _ = self._run(case)
                self.fresh = self.fresh and is_fresh
            return trace

    def _run(self, case: Case) -> tuple[Trace, bool]:
        """Run a case once; return its trace, and whether the client took too much real time."""
        world = self.session.world(case)
        # A client may wait for one provider, and then for the other.
        limit = sum(run_limit(contract) for contract, _ in self.session.providers)
        watch = DateWatch() if has_dates(case.scenario) else None
        numbers = {TOGETHER: CROWD_NUMBERS, CROWD: CROWD_NUMBERS, RECOVERY: (1,) * FAILING_RUNS + (2,)}
        numbers |= {**dict.fromkeys((TWICE, *PAIR_KINDS), (1, 2)), MEMBERS: (1, 2, 3)}
        targets = [self.session.targets(world, case, number) for number in numbers.get(case.kind, (1,))]
        virtual_time = VirtualTime(
            self.session.server.timeline(world),
            limit=limit,
            most_requests=min(MOST_REQUESTS * len(targets), MOST_RUN_EXCHANGES),
            steps=steps_of(case, self.session.fit.share),
        )
        call = partial(self._call, watch)
        done = [_CallableRun(call, one, lambda: virtual_time.cut) for one in targets]
        with deferred_certificates():
            if case.kind in (TOGETHER, CROWD):
                ran = virtual_time.run(partial(_at_once, done, world.clock.now))
            else:
                ran = self._in_sequence(case, world, virtual_time, done)
        watched, overran = world.clock.now(), virtual_time.overran
        left = virtual_time.drain(0 if ran.over else WATCH_SECONDS)
        self.fresh = not left and not virtual_time.forced
        watched += 0 if ran.over else WATCH_SECONDS
        for one in done:
            one.look_again()
        runs = [run for one in done if (run := one.run(ran)) is not None]
        real_dates = watch is None or watch.read or not watch.watches
        trace = self.session.trace(world, case, runs, watched)
        trace = each_half(trace, lambda half: replace(half, virtual=True, real_dates=real_dates))
        return self.session.finished(trace, lambda half: self._exposing(half, done)), overran

    def _in_sequence(self, case: Case, world: MockWorld, virtual_time: VirtualTime, done: list[_CallableRun]) -> Ran:
        """Run a client several times. The first run that does not end is the last one."""
        for one in done:
            pause = 0.0 if one is done[0] else BETWEEN_SECONDS
            if case.kind == RECOVERY and one is done[-1]:
                world.disarm()
                pause = RECOVERY_SECONDS
            ran = virtual_time.run(partial(one, world.clock.now, pause))
            if one.outcome is None:
                break
        return ran

    def _exposing(self, trace: AnnotatedTrace, done: list[_CallableRun]) -> Iterator[Run]:
        """Yield the runs of a trace, each with the ids and the reasons that its error exposes."""
        jobs = [job.id for job in trace.trace.jobs or ()]
        # Every response must be read for them.
        reasons = reasons_in(trace) if any(one.exposed is not None for one in done) else ()
        for run, one in zip(trace.runs, done, strict=False):
            outcome = run.outcome
            if outcome is not None and one.exposed is not None:
                outcome = callables.with_ids(outcome, one.exposed, jobs)
                outcome = replace(outcome, reasons=mentioned(reasons, one.exposed))
            yield replace(run, outcome=outcome)

    def _call(self, watch: DateWatch | None, targets: tuple[Target, ...]) -> Any:
        process = os.getpid()
        if watch is not None:
            watch.begin()
        try:
            return callables.call_at(self.client, targets)
        finally:
            if watch is not None:
                watch.end()
            if os.getpid() != process:
                os._exit(0)  # a process that the client forked; the suite is not its to continue


@dataclass(slots=True)
class _CallableRun:
    """One run of a callable, with its outcome once it has ended. Called in a thread of the client.

    `cut` returns the error with which the runner ended the run, if it did. `exposed` is what the client's error tells
    its caller.
    """

    call: Callable[[tuple[Target, ...]], Any]
    targets: tuple[Target, ...]
    cut: Callable[[], BaseException | None]
    begun: float | None = None
    outcome: Outcome | None = None
    exposed: str | None = None

    def __call__(self, now: Callable[[], float], pause: float = 0.0) -> None:
        if pause:
            time.sleep(pause)
        self.begun = now()
        value, error = None, None
        try:
            value = self.call(self.targets)
        except BaseException as raised:  # also KeyboardInterrupt and others that a client may raise
            error = raised
        # A client that has caught RunOver or Stuck has not ended by itself, whatever it raised or returned then.
        if (cut := self.cut()) is not None:
            raise cut
        # In this thread, because the methods of a client's value or error may take forever.
        if error is None:
            self.outcome = callables.success(value, now())
        else:
            self.exposed = callables.exposed_text(error)
            secrets = [secret for one in self.targets for secret in (one.api_key, one.callback_secret) if secret]
            self.outcome = callables.failure(error, now(), secrets)

    def look_again(self) -> None:
        """Find out whether the file that the run returned is still the same."""
        if self.outcome is not None and self.outcome.replaced is not None:
            self.outcome = replace(self.outcome, replaced=not still_there(self.outcome.saved, self.outcome.sha256))

    def run(self, ran: Ran) -> Run | None:
        """Return the run, or None if it has not begun. `ran` is the end of all runs."""
        if self.begun is None:
            return None
        cut = ran.error or self.cut()
        message = callables.reason(cut)
        unfinished = Outcome("unfinished", ran.ended, message=message, stuck=isinstance(cut, Stuck))
        first = self.targets[0]
        return Run(self.begun, first.base_url, first.request, self.outcome or unfinished)


def _at_once(done: Iterable[_CallableRun], now: Callable[[], float]) -> None:
    """Run a client several times concurrently, each in a thread of its own."""
    threads = [threading.Thread(target=one, args=(now,)) for one in done]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass(slots=True)
class Batch:
    """The commands of one call of a runner. Once it is stopped, none of them runs, and none starts."""

    running: list[Running] = field(default_factory=list)
    stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, begin: Callable[[], Running]) -> Running:
        """Start a command. Raises CommandError if the batch is stopped."""
        if self.stopped:
            raise CommandError("the suite was stopped")
        found = begin()
        with self._lock:
            self.running = [*(one for one in self.running if not one.ended), found]
        # Again, after the command is listed: either `stop` has seen it there, or this thread sees that it is stopped.
        if self.stopped:
            found.kill()
        return found

    def stop(self) -> None:
        """Kill the commands that are running."""
        self.stopped = True
        with self._lock:
            running = list(self.running)
        for one in running:
            one.kill()


@dataclass(slots=True)
class CommandRunner:
    """Runs test cases with a command in any language, up to `parallel` concurrently, on the session's clock."""

    session: FakeSession
    argv: Sequence[str]
    resume: Sequence[str] | None = None
    limit: float = COMMAND_SECONDS
    parallel: int = PARALLEL
    _zones: dict[str, str] = field(default_factory=dict)
    """The time zones of the current runs, by API key."""
    _batches: dict[str, Batch] = field(default_factory=dict)
    """The batches of the current runs, by API key."""

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        """Run cases concurrently; yield their traces in the order of the cases.

        If the caller is interrupted, or does not want the other traces, the commands that are running are ended.
        """
        batch, pool = Batch(), ThreadPoolExecutor(self.parallel)
        try:
            yield from pool.map(partial(self._run, batch), cases)
        except BaseException:
            batch.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def fit(self) -> Fit:
        """Adapt the requests to the client, by a run without faults, if there are several kinds of them."""
        session = self.session
        if len({operation.role for operation, _, _ in documented_jobs(session.contract)}) > 1:
            session.fit = session.fit.with_role(session.read(self.run(HAPPY)))
        return session.fit

    @property
    def in_virtual_time(self) -> bool:
        """Whether the commands run in virtual time."""
        return False

    def late_notes(self) -> tuple[str, ...]:
        """Return notes on the runs, after their end."""
        return ()

    def run(self, case: Case) -> Trace:
        """Run the command as the kind of the case requires, and return the trace."""
        return self._run(Batch(), case)

    def _run(self, batch: Batch, case: Case) -> Trace:
        return self._run_in(self.session.world(case), batch, case)

    def _run_in(self, world: MockWorld, batch: Batch, case: Case, watched: float = 0.0) -> Trace:
        """Run the command in a new world, which is observed for `watched` seconds after the end of the run."""
        self._zones[world.api_key] = zone_of(case, NAMED_ZONES)
        self._batches[world.api_key] = batch
        # A killed process may still write into the folder while the folder is removed.
        with tempfile.TemporaryDirectory(prefix="hobbyhorse-", ignore_cleanup_errors=True) as folder:
            ways: dict[str, Callable[[MockWorld, Case, Path], list[tuple[Run, Finished | None]]]] = {
                **dict.fromkeys((TWICE, *PAIR_KINDS), self._twice),
                TOGETHER: self._crowd,
                CROWD: self._crowd,
                RECOVERY: self._recovery,
                KILLED: self._killed,
                MOVED: self._killed,
            }
            ended = ways.get(case.kind, self._once)(world, case, Path(folder))
        del self._zones[world.api_key], self._batches[world.api_key]
        trace = self.session.trace(world, case, [run for run, _ in ended], world.clock.now() + watched)
        finished = [done for _, done in ended]
        return self.session.finished(trace, lambda half: _exposing(half, finished))

    def _start(
        self, world: MockWorld, targets: tuple[Target, ...], folder: Path, argv: Sequence[str] | None = None
    ) -> Running:
        folder.mkdir(exist_ok=True)
        first, zone = targets[0], self._zones.get(world.api_key)
        task = ClientTask(
            first.base_url,
            first.api_key,
            first.request,
            first.model,
            first.callback_url,
            first.callback_secret,
            self.session.speed,
            zone,
            targets if len(targets) > 1 else (),
            self.session.server.variables,
        )
        launch = self._launch(world)
        begin = partial(start, argv or self.argv, task, self.limit, now=world.clock.now, folder=folder, launch=launch)
        return self._batches[world.api_key].start(begin)

    def _run_command(self, world: MockWorld, targets: tuple[Target, ...], folder: Path) -> tuple[Run, Finished]:
        begun = world.clock.now()
        with self._start(world, targets, folder) as running:
            done = running.wait()
            self._watch(world, running)
        return Run(begun, targets[0].base_url, targets[0].request, done.outcome), done

    def _launch(self, world: MockWorld) -> Launch | None:
        """Return how the commands of a world are started; None as ordinary processes."""
        return None

    def _watch(self, world: MockWorld, running: Running) -> None:
        """Let the processes that have outlived a command run on for a while."""
        if running.leftovers():
            time.sleep(REAL_QUIET_SECONDS)

    def _pass_time(self, world: MockWorld, seconds: float) -> None:
        """Let time pass between two runs, if that costs nothing."""

    def _expect(self, world: MockWorld, count: int) -> None:
        """Note that so many commands are about to start together."""

    def _once(self, world: MockWorld, case: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        return [self._run_command(world, self.session.targets(world, case), folder)]

    def _twice(self, world: MockWorld, case: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        # A client that keeps its state beside its output finds the files of the first run there.
        folders = [folder if case.kind == FOLDER else folder / str(number) for number in (1, 2)]
        first = self._run_command(world, self.session.targets(world, case, 1), folders[0])
        self._pass_time(world, BETWEEN_SECONDS)
        return [first, self._run_command(world, self.session.targets(world, case, 2), folders[1])]

    def _recovery(self, world: MockWorld, case: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        """Run the command under faults, then without any: what the first runs left behind must not stop the last."""
        targets = self.session.targets(world, case)
        failed = [self._run_command(world, targets, folder / str(n)) for n in range(FAILING_COMMANDS)]
        world.disarm()
        self._pass_time(world, RECOVERY_SECONDS)
        return [*failed, self._run_command(world, self.session.targets(world, case, 2), folder / "last")]

    def _crowd(self, world: MockWorld, case: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        def one(number: int) -> tuple[Run, Finished | None]:
            return self._run_command(world, self.session.targets(world, case, number), folder / str(number))

        self._expect(world, CROWD_SIZE)
        with ThreadPoolExecutor(CROWD_SIZE) as pool:
            return list(pool.map(one, CROWD_NUMBERS))

    def _killed(self, world: MockWorld, case: Case, folder: Path) -> list[tuple[Run, Finished | None]]:
        """Kill the client while it waits for a response or the rest of one, then start the resuming command."""
        begun, (target,) = world.clock.now(), self.session.targets(world, case)
        with self._start(world, (target,), folder) as running:
            held = self._await_held_response(world, running)
            running.kill()
            first = Run(begun, target.base_url, target.request, running.wait().outcome)
        if not held:
            return [(first, None)]
        # A job that the second start submits has no faults, even if the first start has not used up the scenario.
        world.disarm()
        other_origin = self.session.server.origins["foreign"] + f"/{self.session.contract.key}"
        again = replace(target, base_url=other_origin) if case.kind == MOVED else target
        begun = world.clock.now()
        with self._start(world, (again,), folder, self.resume) as running:
            done = running.wait()
        return [(first, None), (Run(begun, again.base_url, again.request, done.outcome, resumed=True), done)]

    def _await_held_response(self, world: MockWorld, running: Running) -> bool:
        """Wait until the client waits for what is held back; return False if the client ends first."""
        until = time.monotonic() + self.limit
        while time.monotonic() < until:
            moves = {exchange.move for exchange in world.journal}
            if moves & KILLING:
                time.sleep(REAL_SAVING_SECONDS if HALF_SENT["move"] in moves else 0)
                return True
            if running.ended:
                return False
            time.sleep(0.01)
        return False


def _exposing(trace: AnnotatedTrace, finished: Sequence[Finished | None]) -> Iterator[Run]:
    """Yield the runs of a trace, each with the ids and the reasons that its output contains."""
    jobs, reasons = [job.id for job in trace.trace.jobs or ()], reasons_in(trace)
    for run, done in zip(trace.runs, finished, strict=True):
        yield replace(run, outcome=_exposed(done, jobs, reasons)) if done else run


def _exposed(done: Finished, jobs: Sequence[str], reasons: Sequence[str]) -> Outcome:
    """Return a command's outcome with the ids and the reasons that its output contains."""
    outcome = with_ids(done, jobs)
    if outcome.kind in ("success", "unfinished"):
        return outcome
    return replace(outcome, reasons=mentioned(reasons, f"{done.stdout}\n{done.stderr}"))
