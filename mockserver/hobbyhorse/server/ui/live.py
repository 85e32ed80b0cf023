"""The live view: server-sent events that say that a world has changed. The page then reads itself anew.

Nothing in the server pays for it: while a page is open, a short record of its world is compared with the last one. The
record has the stages of the newest jobs only, so it takes less than half a millisecond, however many jobs there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import suppress

from hobbyhorse.server.callbacks import CallbackDispatcher
from hobbyhorse.worlds.world import World

# Seconds between two looks, and events at which a proxy or a browser sees that the connection is alive.
PAUSE, QUIET = 0.25, 15.0
# Seconds after which a page with running jobs is shown again, because their bars have grown.
GROWTH = 2.0
# The jobs of the first page of the list.
NEWEST = 50


def state_of(world: World, dispatcher: CallbackDispatcher, job_id: str | None = None) -> Hashable:
    """Return a record that differs when a page of the world shows something else."""
    now, numbers = world.clock.now(), world.jobs.numbers()
    newest = [world.jobs.at(number) for number in numbers[-NEWEST:]]
    chosen = world.jobs.get(job_id) if job_id is not None else None
    jobs = tuple((job.id, job.stage(now).name, job.timeline) for job in (*newest, *([chosen] if chosen else [])))
    running = any(not job.stage(now).terminal for job in newest)
    attempts = dispatcher.of_world(world)
    armed = tuple((one.id, one.begun, sum(one.met.values())) for one in world.scenarios.armed)
    speed = world.clock.speed
    # Where the clock would have begun: it moves only if the clock is moved.
    origin = round(now - speed * time.monotonic())
    grown = int(time.monotonic() / GROWTH) if running and speed else 0
    last = attempts[-1].moment if attempts else 0.0
    return len(numbers), jobs, world.journal.total, len(attempts), last, armed, speed, origin, grown, world.label


def shared(read: Callable[[], Hashable], now: Callable[[], float] = time.monotonic) -> Callable[[], Hashable]:
    """Return a function for all pages that reads a record anew only if the last reading is older than `PAUSE`."""
    last: list[tuple[float, Hashable]] = []

    def found() -> Hashable:
        if not last or now() - last[0][0] >= PAUSE:
            last[:] = [(now(), read())]
        return last[0][1]

    return found


async def changes(read: Callable[[], Hashable | None], stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield an event whenever the record differs from the last one, until the server stops or it is None."""
    last, quiet_since = read(), time.monotonic()
    # The first event: whatever changed between the making of the page and now is shown.
    yield b"retry: 1000\nevent: change\ndata: 0\n\n"
    while last is not None and not stopping.is_set():
        with suppress(asyncio.TimeoutError):  # not the builtin TimeoutError before Python 3.11
            await asyncio.wait_for(stopping.wait(), PAUSE)
        found, now = read(), time.monotonic()
        if found != last:
            last, quiet_since = found, now
            yield b"event: change\ndata: 0\n\n"
        elif now - quiet_since > QUIET:
            quiet_since = now
            yield b": still here\n\n"
