"""Several processes that play drills with a Python callable, each with a fake of its own; what they see is the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.contract.folder import load_all
from hobbyhorse.runners.against_fake import CallableRunner, FakeSession
from hobbyhorse.runners.callable import ClientError, find_client
from hobbyhorse.traces.trace import Trace

WORTH_A_PROCESS = 50
"""So many runs take longer than a process takes to start."""

LAST_SECONDS = 2.0
"""How long (real) a process has to end."""


def processes(runs: int, most: int | None = None) -> int:
    """Return how many processes are worth while for so many runs: no more than there are cores, unless asked for."""
    if most is not None:
        return most
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(cores, runs // WORTH_A_PROCESS))


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a process must know to play: the client as `find_client` takes it, and where it runs."""

    client: str
    provider: str
    model: str
    seed: int = 0
    contracts: Path | None = None


@dataclass(slots=True)
class ProcessPool:
    """Plays drills in `size` processes. A context manager: none of them outlives it, or the process that made it."""

    post: WorkerSetup
    size: int
    _pool: ProcessPoolExecutor = field(init=False)
    _strangers: set[BaseProcess] = field(init=False)

    def __enter__(self) -> ProcessPool:
        self._strangers = set(multiprocessing.active_children())
        spawn = multiprocessing.get_context("spawn")  # there are threads here, which no fork survives
        self._pool = ProcessPoolExecutor(self.size, spawn, _take, (self.post,))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        workers = set(multiprocessing.active_children()) - self._strangers
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.join(LAST_SECONDS if error is None else 0)
            worker.kill()  # what a client has left there does not end by itself

    def __call__(self, drills: Sequence[Case]) -> Iterator[Trace]:
        """Play drills, several at once; what was seen comes in their order. Raises ClientError if a process ends."""
        try:
            yield from self._pool.map(_play, drills)
        except BrokenProcessPool:
            raise ClientError("the client ended the process that it ran in; --parallel 1 runs it in this one") from None


_players: list[CallableRunner] = []
"""Who plays in this process."""


def _take(post: WorkerSetup) -> None:
    """Get ready to play, in a process of a crew."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever made it hears that, and ends it
    threading.Thread(target=_follow, name="crew", daemon=True).start()
    contract = next(one for one in load_all(post.contracts) if one.key == post.provider)
    model = contract.model(post.model)
    assert model is not None
    arena = FakeSession(contract, model, post.seed)
    client = find_client(post.client)
    arena.server.start()
    Finalize(None, arena.server.stop, exitpriority=10)
    _players.append(CallableRunner(arena, client))


def _follow() -> None:
    """End this process when the one that made it has ended without a word."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _play(drill: Case) -> Trace:
    return _players[0].play(drill)
