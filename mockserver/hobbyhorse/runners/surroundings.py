"""What surrounds a client beside the server: its time zone, its wall clock, the dates it reads, and its port.

Half of the cases run west of Greenwich and half of them east, so that a date without a zone is misread in one of them,
wherever the suite runs. The zone depends on the case alone, so a replay has the same one.

In virtual time, `datetime` is virtual in the client's own modules only. A package that reads the real date misreads a
date of the server. So a client is watched for that in each case with such dates; elsewhere, the profiler would cost
time.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hobbyhorse.conformance.client.cases import AHEAD, BEHIND, Case

# For this process in the form of POSIX, which needs no database; for other programs by the names of the database, since
# some know no others. In both, the sign of the offset is that of POSIX: positive is west.
ZONES = ("<-05>5", "<+0530>-5:30")
NAMED_ZONES = ("Etc/GMT+5", "Etc/GMT-6")
# The clock is set after this long, while a usual job is under way. If it is ahead, it is right again this long after
# that, when callbacks are signed. The hour is more than any deadline or tolerance.
STEP_AFTER, STEP_LASTS, STEP = 20.0, 20.0, 3_600.0

# The ports that the system gives to outgoing connections, and the same where it does not say (RFC 6335, section 6).
OUTGOING_FILE, OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range"), (49_152, 65_535)
# Lower ports may be services of the machine.
LOWEST_PORT, HIGHEST_PORT = 10_000, 65_535
# Ports to try before the system chooses one.
MOST_TRIED = 100


def listening_ports(file: Path = OUTGOING_FILE) -> list[int]:
    """Return the ports at which clients listen: an outgoing connection never has one."""
    try:
        first, last = map(int, file.read_text().split())
    except (OSError, ValueError):
        first, last = OUTGOING
    return [port for port in range(LOWEST_PORT, HIGHEST_PORT + 1) if not first <= port <= last]


def _in_a_row() -> Iterator[int]:
    """Yield the ports in a row from a random one: two processes hardly ever try the same one at a time."""
    ports = listening_ports()
    start = int.from_bytes(os.urandom(4), "big") % max(len(ports), 1)
    return itertools.cycle(ports[start:] + ports[:start])


_PORTS = _in_a_row()


def free_port() -> int:
    """Return a TCP port that is not in use, and that no connection takes before the client listens. Raises OSError."""
    for port in (*itertools.islice(_PORTS, MOST_TRIED), 0):
        with socket.socket() as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                found.bind(("127.0.0.1", port))
            except OSError:
                continue
            free: int = found.getsockname()[1]
            return free
    raise OSError("no TCP port is free")


def steps_of(case: Case, share: float) -> tuple[tuple[float, float], ...]:
    """Return the steps of the wall clock in a case, as pairs of a time since the start and seconds.

    `share` is the part of their usual time that jobs take.
    """
    if case.kind == AHEAD:
        return ((STEP_AFTER * share, STEP), ((STEP_AFTER + STEP_LASTS) * share, -STEP))
    # A clock that is soon right again would not keep a client waiting.
    return ((STEP_AFTER * share, -STEP),) if case.kind == BEHIND else ()


def zone_of(case: Case, zones: tuple[str, ...] = ZONES) -> str:
    """Return the time zone of a case."""
    return zones[zlib.crc32(case.key.encode()) % len(zones)]


@contextmanager
def in_zone(zone: str) -> Iterator[None]:
    """Set the time zone of this process. Does nothing on a system that cannot, such as Windows."""
    if not hasattr(time, "tzset"):
        yield
        return
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = before
        time.tzset()


# The functions in C that return the date of the machine: of `datetime`, and of packages that have their own.
REAL_DATES = frozenset({"now", "today", "utcnow"})


@dataclass(slots=True)
class DateWatch:
    """Whether a client has read the date of the machine, in the threads that call `begin` and those that they start."""

    watches: bool = False
    read: bool = False

    def begin(self) -> None:
        """Watch the current thread, and the threads that it starts, from now on."""
        self.watches = True
        sys.setprofile(self._note)
        threading.setprofile(self._note)

    def end(self) -> None:
        """Watch no longer."""
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and getattr(called, "__name__", "") in REAL_DATES:
            self.read = True
