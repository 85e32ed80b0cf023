"""A program under the tracer: its start, its messages, and its end. Knows no server and no clock.

The tracer is the child of this process, and the program is the child of the tracer. So the tracer reports the program's
id and its end, and sends it signals. When the tracer ends, or this process closes the socket, the kernel kills every
process that is traced.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hobbyhorse.runners.leftovers import RUN_VARIABLE, Leftovers, process_ids
from hobbyhorse.runners.virtual.compiled import Unavailable

# Bytes of a message; those of the tracer have at most 160.
MESSAGE_BYTES = 256
# Real seconds until the tracer must have started the program: it takes milliseconds.
STARTING_SECONDS = 30.0
# No session has this id, so that processes are found by the mark of their run alone.
NO_SESSION = -1
# The status of a program that ended with its tracer, as the kernel kills it.
KILLED = -9


@dataclass(frozen=True, slots=True)
class Idle:
    """A report that every thread sleeps.

    `serial` changes when one has run. `due` is the earliest deadline in nanoseconds, and `live` counts the processes.
    """

    serial: int
    due: int | None
    live: int


class TracedProcess:
    """A program under the tracer.

    `unsupported` names the calls that virtual time does not cover, `denied` the calls that the tracer has refused.
    `cut` is the reason why the run was ended, if it was. `computed` are the nanoseconds that one thread has computed
    without a pause, and `crept` the part of them with which time has passed.
    """

    def __init__(
        self,
        tracer: Path,
        argv: Sequence[str],
        variables: Mapping[str, str],
        *,
        now: int,
        boot: int,
        clock: Callable[[], float],
        watched: float,
    ) -> None:
        """Start a program. `now` and `boot` are nanoseconds, `watched` the virtual seconds for which the processes that
        outlive it run on. Raises OSError, ValueError or Unavailable.
        """
        self.unsupported: list[str] = []
        self.denied: list[str] = []
        self.outside = False
        self.cut: str | None = None
        self.stuck = False
        self.idle: Idle | None = None
        self.computed = self.crept = 0
        self.until: float | None = None
        self.ended_at: float | None = None
        self._status: int | None = None
        self._clock, self._watched = clock, watched
        self._ending = threading.Lock()
        file = _file_of(argv[0], variables)
        before = process_ids()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            command = [str(tracer), str(number), str(now), str(boot), file, *argv]
            try:
                self._tracer = subprocess.Popen(
                    command,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                    pass_fds=[number],
                )
            except BaseException:
                self.socket.close()
                raise
        self._end, self._end_writer = os.pipe()
        try:
            self.pid = self._started()
        except BaseException:
            self.kill()
            self.wait(STARTING_SECONDS)
            for stream in (self.stdout, self.stderr):
                stream.close()
            self.socket.close()
            self.close()
            raise
        # Not by the session: the tracer reaps the program, so the system may give its id to another one.
        mark = variables.get(RUN_VARIABLE)
        # An empty mark would be a part of every other one.
        self._leftovers = Leftovers(NO_SESSION, mark, before) if mark else None

    def _started(self) -> int:
        """Wait for the program's start; return its id."""
        self.socket.settimeout(STARTING_SECONDS)
        while True:
            try:
                text = self.socket.recv(MESSAGE_BYTES).decode()
            except TimeoutError:
                raise Unavailable(f"the tracer has not started the program within {STARTING_SECONDS:g} s") from None
            word, _, rest = text.partition(" ")
            if word == "started":
                self.socket.setblocking(False)
                return int(rest)
            if word == "failed":
                raise OSError(int(rest), os.strerror(int(rest)))
            if not text or (word == "unsupported" and rest.endswith("is refused")):
                raise Unavailable(rest or "the tracer ended before the program began")
            self._note(word, rest)

    # ---- messages

    def read(self) -> bool:
        """Read the messages of the tracer; return whether it is still there."""
        while True:
            try:
                text = self.socket.recv(MESSAGE_BYTES).decode()
            except BlockingIOError:
                return True
            except OSError:
                text = ""
            if not text:
                self._ended(KILLED)
                return False
            word, _, rest = text.partition(" ")
            self._note(word, rest)

    def _note(self, word: str, rest: str) -> None:
        if word == "idle":
            serial, due, live = map(int, rest.split())
            self.idle = Idle(serial, None if due < 0 else due, live)
            self.computed = self.crept = 0
        elif word == "busy":
            self.computed = int(rest)
        elif word == "exit":
            self._ended(int(rest))
        elif word == "end":
            self.cut = self.cut or rest
        elif word == "outside":
            self.outside = True
        elif word in ("unsupported", "denied"):
            names = self.unsupported if word == "unsupported" else self.denied
            if rest not in names:
                names.append(rest)

    def _ended(self, status: int) -> None:
        with self._ending:
            if self._status is None:
                self.ended_at = self._clock()
                self.until = self.ended_at + self._watched
                self._status = status
                os.close(self._end_writer)  # makes `end` readable

    def send(self, text: str) -> None:
        """Send a message to the tracer, unless it has ended."""
        with suppress(OSError):
            self.socket.send(text.encode())

    def ask(self) -> None:
        """Request a report of the tracer, once every thread sleeps."""
        self.idle = None
        self.send("check")

    # ---- the process, as `Running` needs it

    @property
    def stdout(self) -> IO[bytes]:
        """The program's output."""
        assert self._tracer.stdout is not None
        return self._tracer.stdout

    @property
    def stderr(self) -> IO[bytes]:
        """The program's error output."""
        assert self._tracer.stderr is not None
        return self._tracer.stderr

    @property
    def end(self) -> int | None:
        """A file descriptor that is readable once the program has ended."""
        return self._end

    def exit_status(self) -> int | None:
        """Return the exit status of the program, or None while it runs."""
        return self._status

    def signal(self, number: int) -> None:
        """Send a signal to the program's group."""
        self.send(f"signal {number}")

    def kill(self) -> None:
        """Kill the program and all processes that it started."""
        with suppress(ProcessLookupError):
            self._tracer.kill()

    def kill_leftovers(self) -> None:
        """Kill the processes that are left."""
        self.kill()
        self.wait(STARTING_SECONDS)
        if self._leftovers is not None:
            self._leftovers.kill()

    def has_leftovers(self) -> bool:
        """Whether processes are alive after the program has ended."""
        return self._status is not None and self._tracer.poll() is None

    def wait(self, seconds: float) -> None:
        """Reap the tracer."""
        with suppress(subprocess.TimeoutExpired):
            self._tracer.wait(seconds)

    def close(self) -> None:
        """Close the files, apart from the streams and the socket, which its reader closes."""
        self._ended(KILLED)
        os.close(self._end)


def _file_of(program: str, variables: Mapping[str, str]) -> str:
    """Return the file of a program, as the system would find it. Raises FileNotFoundError."""
    if os.sep in program:
        return program
    found = shutil.which(program, path=variables.get("PATH"))
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return found
