"""Find and kill the processes that a client started, also those that left its group. No server, no contract."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

# The environment variable with the mark of a run, which child processes inherit.
RUN_VARIABLE = "HOBBYHORSE_RUN"
# Real seconds for which processes are killed that start new ones meanwhile. A chain of processes that each start the
# next one and exit is not always caught in one pass.
KILLING_SECONDS = 2.0
# Looks that find nothing, but meet a process that has just ended: each may have started another one before its end.
# Their number is bounded, because a process that nobody waits for stays in the list.
MOST_UNSURE = 5


def process_ids() -> frozenset[str]:
    """Return the ids of all processes, or none on systems without /proc."""
    with suppress(OSError):
        return frozenset(name for name in os.listdir("/proc") if name.isdigit())
    return frozenset()


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The processes of a run, identified by session or by the mark in the environment. `before` lists older ones."""

    session: int
    mark: str
    before: frozenset[str]

    def alive(self) -> Iterator[int]:
        """Yield the ids of the run's live processes, the newest first, as far as /proc shows them."""
        return (pid for pid in self._look() if pid is not None)

    def _look(self) -> Iterator[int | None]:
        """Yield the id of each live process of the run, and None for a new process that has ended meanwhile."""
        # The newest first, because it may exit, after starting another one, before an older one has been checked.
        for name in sorted(process_ids(), key=int, reverse=True):
            try:
                if self._is(name):
                    yield int(name)
                elif name not in self.before and _has_ended(name):
                    yield None
            except (ProcessLookupError, FileNotFoundError):
                yield None
            except (OSError, IndexError):
                continue

    def kill(self) -> bool:
        """Kill the run's processes until none is found; return whether that succeeded."""
        until, unsure = time.monotonic() + KILLING_SECONDS, 0
        while True:
            found = ended = 0
            for pid in self._look():
                if pid is None:
                    ended += 1
                    continue
                found += 1
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            unsure = unsure + 1 if ended and not found else 0
            certain = not found and (not ended or unsure > MOST_UNSURE)
            if certain or time.monotonic() > until:
                return not found

    def _is(self, name: str) -> bool:
        if os.getsid(int(name)) == self.session:
            return not _has_ended(name)
        if name in self.before:
            return False
        with open(f"/proc/{name}/environ", "rb") as file:
            return f"{RUN_VARIABLE}={self.mark}".encode() in file.read(1 << 20)


def _has_ended(name: str) -> bool:
    """Whether a process has ended, and only waits to be taken out of the list."""
    # The state follows the command's name, which is in parentheses and may contain parentheses.
    with open(f"/proc/{name}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
