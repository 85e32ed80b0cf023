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
        # The newest first, because it may exit, after starting another one, before an older one has been checked.
        for name in sorted(process_ids(), key=int, reverse=True):
            with suppress(OSError, IndexError):
                if self._is(name):
                    yield int(name)

    def kill(self) -> bool:
        """Kill the run's processes until none is found; return whether that succeeded."""
        until = time.monotonic() + KILLING_SECONDS
        while True:
            found = 0
            for pid in self.alive():
                found += 1
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not found or time.monotonic() > until:
                return not found

    def _is(self, name: str) -> bool:
        if os.getsid(int(name)) == self.session:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The state follows the command's name, which is in parentheses and may contain parentheses. Z and X are
                # ended processes.
                return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
        if name in self.before:
            return False
        with open(f"/proc/{name}/environ", "rb") as file:
            return f"{RUN_VARIABLE}={self.mark}".encode() in file.read(1 << 20)
