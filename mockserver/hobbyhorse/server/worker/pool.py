"""The pool of worker processes: work on untrusted input, bounded in processor time, and taken in turns by owner.

Abandoning is the point: a thread cannot be stopped inside a decoder, a process can. A worker that takes too long, or
that has died of its memory bound, is killed and forgotten; the next piece of work gets another one.

An owner (the handle of a world) has one piece of work done at a time, and `MOST_WORKERS` are done in all. So one key
takes one worker of several, and another key waits for its own at most. The processes are shared by all servers of
this program, and live on: starting one takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import atexit
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from hobbyhorse.server.worker import child
from hobbyhorse.server.worker.child import Outcome, Work, receive, send
from hobbyhorse.server.worker.error import WorkerError
from hobbyhorse.server.worker.turns import Turns

# Pieces of work of one server at a time: one key can hold up one of them.
MOST_WORKERS = 4
# Of the start of a process, which takes a quarter of a second on a machine that is not busy.
START_SECONDS = 60.0
# Real seconds for each second of processor time that work may take: less only on a machine that does nothing else.
MOST_TIMES = 6
# Workers that are kept without work: each takes some 40 MB.
MOST_IDLE = 2
PRELOADED = "hobbyhorse.server.files.decoding"
"""The module with most of the work: it is imported before a worker is ready."""


class _Worker:
    """One worker process."""

    def __init__(self) -> None:
        # The same modules as here, wherever they were found; the directory of the caller is not among them.
        start = f"import sys; sys.path[:] = {sys.path!r}; import {PRELOADED}; from {child.__name__} import main; main()"
        self.process = subprocess.Popen(
            (sys.executable, "-c", start),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.late = self._ready = False

    def perform(self, work: Work) -> Outcome:
        """Send a piece of work, and wait for its outcome. Raises EOFError or OSError if the process ends before."""
        if not self._ready:
            with self._within(START_SECONDS):
                receive(cast(IO[bytes], self.process.stdout))
            self._ready = True
        with self._within(MOST_TIMES * work.seconds):
            send(cast(IO[bytes], self.process.stdin), work)
            return cast(Outcome, receive(cast(IO[bytes], self.process.stdout)))

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Abandon the process if the context lasts longer."""
        bound = threading.Timer(seconds, self.abandon)
        bound.daemon = True
        bound.start()
        try:
            yield
        finally:
            bound.cancel()

    def abandon(self) -> None:
        """Kill the process because its time is over."""
        self.late = True
        self.process.kill()

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _Processes:
    """The idle worker processes of this program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        atexit.register(self.end)

    def take(self) -> _Worker:
        """Return an idle worker, or a new one. Raises OSError."""
        with self._lock:
            while self._idle:
                found = self._idle.pop()
                if found.process.poll() is None:
                    return found
                found.end()
        return _Worker()

    def give(self, worker: _Worker) -> None:
        """Keep a worker, or end it if enough are idle."""
        with self._lock:
            if len(self._idle) < MOST_IDLE:
                self._idle.append(worker)
                return
        worker.end()

    def end(self) -> None:
        """End every idle worker."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()


PROCESSES = _Processes()


class WorkerPool:
    """The worker processes as one server uses them, on its event loop."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._busy: set[_Worker] = set()
        self._closed = False
        # Threads, because the pipes block; no default executor, whose threads everything else shares.
        self._threads = ThreadPoolExecutor(MOST_WORKERS, thread_name_prefix="worker")

    async def run(self, owner: str, function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
        """Return a function's value from a worker process. Raises WorkerError.

        The function belongs to a module, and its arguments can be pickled. `seconds` are of processor time.
        """
        async with self._turns.of(owner, 1), self._turns.of(None, MOST_WORKERS):
            loop = asyncio.get_running_loop()
            try:
                return await loop.run_in_executor(self._threads, self._perform, Work(function, arguments, seconds))
            except RuntimeError:  # the threads are shut down
                raise WorkerError("ended", "the server stops") from None

    def _perform(self, work: Work) -> Any:
        try:
            worker = PROCESSES.take()
        except OSError as error:
            raise WorkerError("ended", f"no process could be started for it: {error.strerror or error}") from None
        self._busy.add(worker)
        try:
            if self._closed:
                raise EOFError
            outcome = worker.perform(work)
        except (EOFError, OSError):
            # Its pipes close a moment before it has ended, and the reason for its end counts.
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(1.0)
            worker.end()
            if worker.late or worker.process.returncode == -signal.SIGXCPU:
                raise WorkerError("time", f"it takes more than {work.seconds:g} s") from None
            raise WorkerError("ended", "its process has ended") from None
        except BaseException:
            worker.end()
            raise
        finally:
            self._busy.discard(worker)
        PROCESSES.give(worker)
        if outcome.error == "MemoryError":
            raise WorkerError("memory", "it takes more memory than a worker process has")
        if outcome.error:
            raise WorkerError("failed", f"{outcome.error}: {outcome.text}")
        return outcome.value

    def close(self) -> None:
        """Abandon all work, so that its threads end at once."""
        self._closed = True
        for worker in tuple(self._busy):
            worker.process.kill()
        self._threads.shutdown(wait=False, cancel_futures=True)
