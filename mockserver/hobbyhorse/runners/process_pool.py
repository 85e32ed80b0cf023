"""A pool of processes that run test cases with a Python callable. Each process has its own fake server.

A run in virtual time keeps one core busy, so only more processes make a suite faster. A process also contains whatever
a client does: it may end itself, crash in C, close every file or never return. Invariants:

* The traces equal those of a single process, in the order of the cases. Each process builds its session from the same
  `WorkerSetup`, and the session's seed, not the process, determines ids and random numbers.
* Each case gives a trace. If the process ends in a run, or takes too long, the run is `unfinished`, its message names
  the reason, and the next case gets a new process. So does the case after a run that left threads behind.
* No process outlives the pool, whatever a client left running: the pool joins its workers briefly, then kills them, and
  the processes that they started. Each worker has its own session, so that a signal to its group reaches it alone.
* No process outlives the command, even a command ended by SIGKILL: each worker watches its parent and exits after it.
* A process runs its cases one after the other. So the earlier cases of a case's process are the runs that may have
  changed the client's state (`before`).
"""

from __future__ import annotations

import builtins
import itertools
import multiprocessing
import os
import queue
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from hobbyhorse.conformance.client.cases import HAPPY, Case
from hobbyhorse.conformance.client.diagnosis import Fit
from hobbyhorse.conformance.client.search import STUCK_JOB, CannotRun
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import ClientError, find_client
from hobbyhorse.runners.leftovers import RUN_VARIABLE, Leftovers, process_ids
from hobbyhorse.traces.annotated import AnnotatedTrace
from hobbyhorse.traces.trace import Outcome, Run, Trace

# Starting a process (imports, contracts, a server) takes about as long as this many runs.
RUNS_PER_PROCESS = 50
# Real seconds in which a worker may stop its server and exit before it is killed. Usually it needs milliseconds, but a
# client's thread may never end.
EXIT_SECONDS = 2.0
# Real seconds after which a run is given up. The limits of virtual time end a run within about a minute; this one ends
# a client that has disabled them, for example by closing the server's sockets.
HANG_SECONDS = 180.0
# Real seconds between two checks of whether a worker has ended. Its pipe usually reports that at once, but a process
# that the client started may keep the pipe open.
LOOK_SECONDS = 0.2
# A trace needs a base URL. Without a request, nothing is compared with this one.
NO_SERVER = "http://127.0.0.1"


def processes(runs: int, most: int | None = None) -> int:
    """Return the number of processes for `runs` runs: `most` if given, else at most three for two cores.

    In each, a client and its server wait for each other: one process per core left a sixth of two cores idle, and a
    third process did the same runs in 0.9 of the time.
    """
    if most is not None:
        return most
    # The cores that this process may use (in a container, fewer than the machine has). Not every system reports them.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cores + (cores + 1) // 2, runs // RUNS_PER_PROCESS))


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """The client's name for `find_client`, and the parameters of the session that a worker opens.

    `second` are the key of the second provider and its model, if the client has two. `place` is that of the session.
    """

    client: str
    provider: str
    model: str
    seed: int = 0
    contracts: Path | None = None
    fit: Fit = field(default_factory=Fit)
    second: tuple[str, str] | None = None
    place: str = ""


@dataclass(slots=True)
class ProcessPool:
    """Runs test cases in `size` processes. A context manager: no process outlives it.

    `patience` is the number of real seconds after which a run is given up.
    """

    setup: WorkerSetup
    size: int
    patience: float = HANG_SECONDS
    method: str = "spawn"
    """Not a fork: a fork copies locks that are held, but not the threads that would release them."""
    _threads: ThreadPoolExecutor = field(init=False)
    _idle: queue.SimpleQueue[_Worker | None] = field(default_factory=queue.SimpleQueue)
    _workers: set[_Worker] = field(default_factory=set)
    _ran: dict[_Worker, list[Case]] = field(default_factory=dict)
    """The cases that each process ran, in order; also the cases of a process that is lost."""
    _closing: bool = False
    _exit_seconds: float = EXIT_SECONDS

    def __enter__(self) -> ProcessPool:
        # One process at once, so that a client that cannot be imported is an error before any run. The others are
        # started by the first cases that need them.
        self._idle.put(self._start())
        for _ in range(self.size - 1):
            self._idle.put(None)
        self._threads = ThreadPoolExecutor(self.size, "worker")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in list(self._workers):
            worker.end(self._exit_seconds if error is None else 0)
        self._threads.shutdown()

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        """Run cases concurrently; yield their traces in the order of the cases.

        Raises ClientError if the client ends its process in a run against a faultless server.
        """
        try:
            yield from self._threads.map(self._run, cases)
        except BaseException:
            # An interruption, or a caller that does not want the other traces: nobody waits for their runs.
            self._exit_seconds = 0.0
            raise

    def fit(self, contract: Contract) -> Fit:
        """Adapt the test cases to the client, by a run without faults and one with a stuck job; return the fit."""
        (happy,) = self([HAPPY])
        self._refit(self.setup.fit.with_role(AnnotatedTrace(contract, happy)))
        (stuck,) = self([STUCK_JOB])
        self._refit(self.setup.fit.with_share(AnnotatedTrace(contract, stuck)))
        self._ran.clear()
        return self.setup.fit

    def _refit(self, fit: Fit) -> None:
        """Change the fit. Processes that have the old one are replaced."""
        if fit == self.setup.fit:
            return
        self.setup = replace(self.setup, fit=fit)
        for _ in range(self.size):
            if (worker := self._idle.get()) is not None:
                self._forget(worker)
            self._idle.put(None)

    def before(self, case: Case) -> list[Case]:
        """Return the cases that ran before a case in its process, oldest first."""
        found = next((ran for ran in list(self._ran.values()) if case in ran), [case])
        return found[: found.index(case)]

    def _run(self, case: Case) -> Trace:
        worker = self._idle.get()
        try:
            worker = worker or self._start()
            self._ran.setdefault(worker, []).append(case)
            found = worker.run(case, self.patience)
        except BaseException:
            self._idle.put(None)
            raise
        if isinstance(found, _Ran):
            if found.usable:
                self._idle.put(worker)
                return found.trace
            self._replace(worker)
            return found.trace
        self._replace(worker)
        if case == HAPPY:
            raise ClientError(f"{found}, in a run against a server without faults")
        return _unfinished(self.setup, case, found)

    def _start(self) -> _Worker:
        if self._closing:
            raise ClientError("the pool is closed")
        worker = _Worker(replace(self.setup, place=f"process {next(_numbers)}"), self.method)
        self._workers.add(worker)
        # Read before the first run, so that an import that fails or ends the process is not attributed to a case.
        if (problem := worker.await_start(self.patience)) is not None:
            self._forget(worker)
            raise ClientError(problem)
        return worker

    def _replace(self, worker: _Worker) -> None:
        self._forget(worker)
        self._idle.put(None)

    def _forget(self, worker: _Worker) -> None:
        worker.end(0)
        self._workers.discard(worker)


def _unfinished(setup: WorkerSetup, case: Case, message: str) -> Trace:
    """Return the trace of a run whose process, with its server and its traffic, is lost."""
    now = time.time()
    run = Run(now, NO_SERVER, outcome=Outcome("unfinished", now, message=message))
    lost = Trace(
        setup.provider,
        NO_SERVER,
        runs=(run,),
        ended=now,
        model=setup.model,
        drill=case.kind,
        point=case.point,
        scenario=case.scenario,
    )
    if setup.second is None:
        return lost
    provider, model = setup.second
    unknown = (replace(run, outcome=None),)
    partner = replace(lost, provider=provider, model=model, runs=unknown, scenario=case.second, rank=1)
    return replace(lost, partner=partner)


@dataclass(frozen=True, slots=True)
class _Ran:
    """The trace of a run, and whether its process may run another case."""

    trace: Trace
    usable: bool


def fresh_runner(setup: WorkerSetup) -> Callable[[Sequence[Case]], list[Trace]]:
    """Return a function that runs cases one after the other in a new process, which imports the client anew.

    The function raises CannotRun if the client cannot be run there.
    """
    method = "spawn"
    if "forkserver" in multiprocessing.get_all_start_methods():
        # The fork server has imported this module, but neither a client nor a server: its forks start five times as
        # fast as a new interpreter, and are as fresh.
        multiprocessing.set_forkserver_preload([__name__])
        method = "forkserver"

    def run(cases: Sequence[Case]) -> list[Trace]:
        try:
            with ProcessPool(setup, 1, method=method) as pool:
                return list(pool(cases))
        except ClientError as error:
            raise CannotRun(str(error)) from None

    return run


_starting = threading.Lock()
_numbers = itertools.count(1)


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, setup: WorkerSetup, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        mark, before = secrets.token_hex(16), process_ids()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, setup, mark), name="hobbyhorse worker")
        with _starting:
            # The tracker and the fork server serve every worker, so they must not inherit the mark of one: they would
            # be killed with it, and the next worker may be requested from a fork server that is about to die.
            resource_tracker.ensure_running()
            if method == "forkserver":
                forkserver.ensure_running()
            outer = os.environ.get(RUN_VARIABLE)
            os.environ[RUN_VARIABLE] = mark
            try:
                self._process.start()
            finally:
                del os.environ[RUN_VARIABLE]
                if outer is not None:
                    os.environ[RUN_VARIABLE] = outer
        theirs.close()
        assert self._process.pid is not None
        self._leftovers = Leftovers(self._process.pid, mark, before)

    def await_start(self, patience: float) -> str | None:
        """Wait until the client is imported; return the problem, if any."""
        found = self._receive(patience)
        return f"{found}, when it was imported" if isinstance(found, _Lost) else found

    def run(self, case: Case, patience: float) -> _Ran | _Lost:
        """Run a case, or return how the process was lost."""
        with suppress(OSError):  # a broken pipe: the reason follows
            self._pipe.send(case)
        found: _Ran | _Lost = self._receive(patience)
        return found

    def _receive(self, patience: float) -> Any:
        until = time.monotonic() + patience
        try:
            while not self._pipe.poll(LOOK_SECONDS):
                if not self._process.is_alive() and not self._pipe.poll(0):
                    break
                if time.monotonic() > until:
                    return _Lost(f"the run had not ended after {patience:g} s of real time")
            else:
                return self._pipe.recv()
        except Exception:  # the end of the file, or bytes of the client's own
            pass
        self._process.join(EXIT_SECONDS)
        return _Lost(_ended(self._process.exitcode))

    def end(self, seconds: float) -> None:
        """End the process, within `seconds` by itself, and the processes that it started."""
        with suppress(OSError):
            self._pipe.close()
        self._process.join(seconds)
        self._process.kill()
        self._process.join(EXIT_SECONDS)
        self._leftovers.kill()


class _Lost(str):
    """How a process was lost."""


def _ended(status: int | None) -> str:
    if status is None:
        return "the client closed the files of its process, or replaced its program"
    if status >= 0:
        return f"the client ended its own process (exit status {status})"
    with suppress(ValueError):
        return f"the client's process was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"the client's process was ended by signal {-status}"


# ---- in the worker


def _work(pipe: Connection, setup: WorkerSetup, mark: str) -> None:
    """Run the cases that come through a pipe, until it is closed. `mark` marks the processes that the client starts."""
    # A process of the fork server has the environment of that server.
    os.environ[RUN_VARIABLE] = mark
    # A terminal sends Ctrl-C to the whole group; the parent handles it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    # A program that replaces this process must not keep the pipe open.
    os.set_inheritable(pipe.fileno(), False)
    threading.Thread(target=_exit_with_parent, name="parent watch", daemon=True).start()
    contracts = {one.key: one for one in load_all(setup.contracts)}
    named = [(setup.provider, setup.model), *([setup.second] if setup.second is not None else [])]
    (contract, model), *second = [(contracts[key], _model(contracts[key], model)) for key, model in named]
    try:
        client = find_client(setup.client)
    except ClientError as error:
        pipe.send(str(error))
        return
    also = second[0] if second else None
    opened = FakeSession(contract, model, setup.seed, fit=setup.fit, second=also, place=setup.place)
    with opened as session, suppress(EOFError, OSError):
        pipe.send(None)
        runner, sound = CallableRunner(session, client), _shared_state()
        while True:
            case = pipe.recv()
            trace = runner.run(case)
            pipe.send(_Ran(trace, runner.fresh and _shared_state() == sound))


def _model(contract: Contract, name: str) -> Model:
    model = contract.model(name)
    assert model is not None
    return model


def _shared_state() -> Any:
    """Return the state that the suite shares with the client and needs itself, or None if it is damaged.

    Other state, such as the environment or the warning filters, belongs to the client: it may configure its process in
    its first run.
    """
    try:
        files = [os.fstat(number)[:2] for number in (0, 1, 2)]
        os.getcwd()
    except OSError:
        return None
    return files, socket.socket, socket.create_connection, threading.Thread, builtins.open, sys.getrecursionlimit()


def _exit_with_parent() -> None:
    """Exit when the parent process has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
