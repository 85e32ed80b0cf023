"""Runs a server in several processes: starts them, replaces one that ends, and stops all. Serves nothing itself.

The processes are forked, because everything that a start reads and checks is then read once, and its memory is shared.
So the supervisor has no thread and no event loop: it sleeps in one `select` for signals and for messages of its
children. Each child has two pipes:

* `ready`: the child writes a byte when it serves. The pipe closes when the child ends, before or after that.
* `lifeline`, one for all: only the supervisor holds the writing end. It closes when the supervisor ends, however it
  ends, and then its children stop too.

A child that ends before any server was ready ends the supervisor, with the child's status: its message is on stderr,
and the next one would meet the same. Later, a child that ends is replaced, unless its status is `GIVES_UP`: what it
met is met by all.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from hobbyhorse.cli.usage import UsageError, complain

# Longer than a server takes to stop whatever runs in it (`STOP_SECONDS` less its margin), and under 5 s in all.
STOP_SECONDS = 4.5
# Before a child is replaced that ended without having served: what it lacks may come back.
PAUSE_SECONDS = 1.0
# The exit status of a server that cannot go on, as another one of it could not.
GIVES_UP = 3
# The exit status of a server that meets an unexpected error.
FAILED = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Work = Callable[[Callable[[], None]], None]
"""Serves in a child until it is told to stop; calls the argument on its event loop when it is ready."""


@dataclass(slots=True)
class Child:
    """A process that serves, and the reading end of its pipe `ready`."""

    pid: int
    ready: int
    serves: bool = False


class Supervisor:
    """Keeps `count` children at `work`; calls `announce` with their process ids when all are ready."""

    def __init__(self, count: int, work: Work, announce: Callable[[Sequence[int]], None]) -> None:
        self._count, self._work, self._announce = count, work, announce
        self._children: dict[int, Child] = {}
        self._announced = self._stopping = False
        self._status = 0
        self._until = 0.0
        self._again: list[float] = []
        self._lifeline, self._life = os.pipe()
        # Signals arrive as bytes here, so that none is missed between two looks.
        self._woken, self._wake = socket.socketpair()
        for end in (self._woken, self._wake):
            end.setblocking(False)

    def run(self) -> int:
        """Serve until a signal, or until no child can; return the exit status."""
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake.fileno())
        for _ in range(self._count):
            self._start()
        while self._children or (self._again and not self._stopping):
            self._step()
        return self._status

    # ---- children

    def _start(self) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            os.close(reading)
            self._serve(writing)
        os.close(writing)
        self._children[pid] = Child(pid, reading)

    def _serve(self, writing: int) -> NoReturn:
        """Serve in a child, and end it."""
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._life)
        for child in self._children.values():
            os.close(child.ready)
        # What the supervisor has registered is for the end of the supervisor.
        atexit._clear()

        def ready() -> None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._lifeline, _stop, loop, self._lifeline)
            os.write(writing, b"+")

        status = FAILED
        try:
            self._work(ready)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else FAILED
        except UsageError as error:
            complain(str(error))
            status = 2
        except BaseException as error:
            complain(f"internal error: {type(error).__name__}: {error}; please report it")
        finally:
            with suppress(Exception):
                atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _replace(self, child: Child, status: int) -> None:
        """Start another child instead of one that has ended, or end all."""
        if self._stopping:
            return
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        if not self._announced or status == GIVES_UP:
            if status < 0:
                complain(f"the process {child.pid} ended {how}")
            self._stop(status if status > 0 else FAILED)
            return
        complain(f"the process {child.pid} ended {how}; another one replaces it")
        self._again.append(time.monotonic() + (0.0 if child.serves else PAUSE_SECONDS))

    def _stop(self, status: int) -> None:
        """Ask all children to stop."""
        if self._stopping:
            return
        self._stopping, self._status, self._until = True, status, time.monotonic() + STOP_SECONDS
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    # ---- events

    def _step(self) -> None:
        """Wait for the next event, and handle it."""
        waiting = {child.ready: child for child in self._children.values() if not child.serves}
        woken = self._woken.fileno()
        found, _, _ = select.select([woken, *waiting], [], [], self._pause())
        for ready in found:
            if ready == woken:
                self._take_signals()
            elif os.read(ready, 1):
                waiting[ready].serves = True
        self._reap()
        now = time.monotonic()
        if self._stopping:
            if now >= self._until:
                self._send(signal.SIGKILL)
            return
        due, self._again = [at for at in self._again if at <= now], [at for at in self._again if at > now]
        for _ in due:
            self._start()
        if not self._announced and all(child.serves for child in self._children.values()):
            self._announced = True
            self._announce([*self._children])

    def _pause(self) -> float | None:
        """Return the seconds until something has to be done without an event."""
        moments = [self._until] if self._stopping else self._again
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _take_signals(self) -> None:
        for number in self._woken.recv(64):
            if number in SIGNALS:
                self._stop(0)

    def _reap(self) -> None:
        """Take note of the children that have ended."""
        for pid in tuple(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                child = self._children.pop(pid)
                os.close(child.ready)
                self._replace(child, os.waitstatus_to_exitcode(status))


def _stop(loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
    """Stop this server: its supervisor has ended."""
    loop.remove_reader(lifeline)
    os.kill(os.getpid(), signal.SIGTERM)
