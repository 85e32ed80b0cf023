"""A pool of processes that run test cases with a Python callable. Each process has its own fake server.

A run in virtual time keeps one core busy, so only more processes make a suite faster. Invariants:

* The traces equal those of a single process, in the order of the cases. Each process builds its session from the same
  `WorkerSetup`, and the session's seed, not the process, determines ids and random numbers.
* No process outlives the pool, whatever a client left running: the pool joins its workers briefly, then kills them.
* No process outlives the command, even a command ended by SIGKILL: each worker watches its parent and exits after it.
* A worker runs its cases in the order in which they were submitted. So the cases of one process, in the order of their
  traces, are the runs that may have changed the client's state (`before`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.search import CannotRun
from hobbyhorse.contract.folder import load_all
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import ClientError, find_client
from hobbyhorse.traces.trace import Trace

# Starting a process (imports, contracts, a server) takes about as long as this many runs.
RUNS_PER_PROCESS = 50

# Real seconds in which a worker may stop its server and exit before it is killed. Usually it needs milliseconds, but a
# client's thread may never end.
EXIT_SECONDS = 2.0


def processes(runs: int, most: int | None = None) -> int:
    """Return the number of processes for `runs` runs: `most` if given, else at most one per core."""
    if most is not None:
        return most
    # The cores that this process may use (in a container, fewer than the machine has). Not every system reports them.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cores, runs // RUNS_PER_PROCESS))


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """The client's name for `find_client`, and the parameters of the session that a worker opens."""

    client: str
    provider: str
    model: str
    seed: int = 0
    contracts: Path | None = None


@dataclass(slots=True)
class ProcessPool:
    """Runs test cases in `size` processes. A context manager: no process outlives it."""

    setup: WorkerSetup
    size: int
    method: str = "spawn"
    """Not a fork: a fork copies locks that are held, but not the threads that would release them."""
    _executor: ProcessPoolExecutor = field(init=False)
    _ran: dict[int, list[Case]] = field(default_factory=dict)
    """The cases that each process ran, in order."""
    _others: set[BaseProcess] = field(init=False)

    def __enter__(self) -> ProcessPool:
        self._others = set(multiprocessing.active_children())
        context = multiprocessing.get_context(self.method)
        self._executor = ProcessPoolExecutor(self.size, context, _prepare, (self.setup,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # The executor neither lists nor kills its workers.
        workers = set(multiprocessing.active_children()) - self._others
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.join(EXIT_SECONDS if error is None else 0)
            worker.kill()

    def __call__(self, cases: Sequence[Case]) -> Iterator[Trace]:
        """Run cases concurrently; yield their traces in the order of the cases. Raises ClientError if a worker dies."""
        try:
            for case, (process, trace) in zip(cases, self._executor.map(_run, cases), strict=True):
                self._ran.setdefault(process, []).append(case)
                yield trace
        except BrokenProcessPool:
            raise ClientError("the client ended its process; use --parallel 1 to run it in this process") from None

    def before(self, case: Case) -> list[Case]:
        """Return the cases that ran before a case in its process, oldest first."""
        found = next((ran for ran in self._ran.values() if case in ran), [case])
        return found[: found.index(case)]


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
            with ProcessPool(setup, 1, method) as pool:
                return list(pool(cases))
        except ClientError as error:
            raise CannotRun(str(error)) from None

    return run


# The runner of a worker process, or the reason why there is none. Globals, because an executor's initializer cannot
# return a value, and an exception of it would be printed as a traceback.
_runners: list[CallableRunner] = []
_reasons: list[str] = []


def _prepare(setup: WorkerSetup) -> None:
    """Open the session and find the client in a worker process."""
    # A terminal sends Ctrl-C to the whole group; the parent handles it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, name="parent watch", daemon=True).start()
    contract = next(one for one in load_all(setup.contracts) if one.key == setup.provider)
    model = contract.model(setup.model)
    assert model is not None
    session = FakeSession(contract, model, setup.seed)
    try:
        client = find_client(setup.client)
    except ClientError as error:
        _reasons.append(str(error))
        return
    session.server.start()
    # A finalizer runs at exit only if it has a priority. From 0 up, it runs before child processes are joined.
    Finalize(None, session.server.stop, exitpriority=10)
    _runners.append(CallableRunner(session, client))


def _exit_with_parent() -> None:
    """Exit when the parent process has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(case: Case) -> tuple[int, Trace]:
    """Return the id of this process, and the trace of a case. Raises ClientError if the client cannot be imported."""
    if _reasons:
        raise ClientError(_reasons[0])
    return os.getpid(), _runners[0].run(case)
