"""Find out whether virtual time works on this machine: run the tracer's probe, which waits for two hours."""

from __future__ import annotations

import select
from contextlib import suppress
from functools import cache
from pathlib import Path

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.clock.quiescence import SteppableClock
from hobbyhorse.runners.command import CommandError
from hobbyhorse.runners.virtual.compiled import Unavailable, tracer
from hobbyhorse.runners.virtual.timekeeper import Timekeeper
from hobbyhorse.runners.virtual.traced_process import TracedProcess

# Real seconds for the probe, which takes milliseconds.
PROBE_SECONDS = 10.0
# Virtual seconds that the probe may take: it waits for a little more than two hours.
PROBE_LIMIT = 10_000.0
# What the exit status of the probe means.
FAULTS = {1: "a wait takes the wrong time", 2: "two clocks differ", 3: "a child process ends wrongly"}


class NoServer:
    """The time of a server that never does anything."""

    def __init__(self) -> None:
        self._clock: SteppableClock = ManualClock()

    def now(self) -> float:
        """Return the moment."""
        return self._clock.now()

    def next_due(self) -> float | None:
        """Return None: nothing is due."""
        return None

    def settle(self, ready: object = None) -> bool:
        """Return at once."""
        return True

    def step(self, moment: float) -> None:
        """Move the clock."""
        self._clock.step(moment)


@cache
def checked_tracer() -> Path:
    """Return the tracer of a machine on which it works. Raises Unavailable."""
    program = tracer()
    status = _probe(program)
    if status is None:
        raise Unavailable("the self-check did not end; the system may not let a process trace another one")
    if status:
        raise Unavailable(f"the self-check failed: {FAULTS.get(status, f'exit status {status}')}")
    return program


def _probe(program: Path) -> int | None:
    """Run the probe; return its exit status, or None if it had to be killed. Raises Unavailable."""
    with Timekeeper(NoServer(), program, PROBE_LIMIT) as keeper:
        try:
            process = keeper.launch([str(program), "probe"], {})
        except (OSError, ValueError, CommandError) as error:
            raise Unavailable(str(error)) from None
        return _awaited(process)


def _awaited(process: TracedProcess) -> int | None:

    assert process.end is not None
    ended, _, _ = select.select([process.end], [], [], PROBE_SECONDS)
    process.kill()
    process.wait(PROBE_SECONDS)
    for stream in (process.stdout, process.stderr):
        with suppress(OSError):
            stream.close()
    status = process.exit_status()
    process.close()
    return status if ended else None
