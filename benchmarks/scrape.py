"""The time of a scrape with 100,000 jobs, ended or under way, of few keys or many: `python -m benchmarks.scrape`."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import httpx

from benchmarks.growth import BASE, send
from benchmarks.orders import order
from benchmarks.report import Bound, run, show
from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.folder import load_all
from hobbyhorse.server.app import Fake, Options

JOBS = 100_000
# As many keys as the jobs of twelve teams and a night of tests may have.
WORLDS = 1_000
SCRAPES = 21  # odd, for the median
LONG = 1_000.0  # seconds in which every job ends
METRICS = httpx.Request("GET", f"{BASE}/_mock/metrics")


def main() -> None:
    """Print the median CPU milliseconds of a scrape."""
    shapes = {
        "under way, 1 key": (1, False),
        f"under way, {WORLDS:,} keys": (WORLDS, False),
        f"ended, {WORLDS:,} keys": (WORLDS, True),
    }
    found = {name: asyncio.run(_measured(*shape)) for name, shape in shapes.items()}
    show(
        f"A scrape with {JOBS:,} jobs",
        [("", "median CPU"), *((name, f"{seconds * 1e3:.1f} ms") for name, seconds in found.items())],
        Bound("slowest", max(found.values()) * 1e3, limit=20, target=10, unit=" ms"),
    )


async def _measured(keys: int, ended: bool) -> float:
    """Return the median CPU seconds of a scrape of a server with many jobs."""
    contract = load_all()[0]
    fake = Fake(options=Options(pace="realistic", make_clock=ManualClock))
    submission = order(contract, BASE)
    for number in range(JOBS):
        submission.headers["authorization"] = f"Bearer key-{number % keys}"
        await send(fake, submission)
    if ended:
        for world in fake.worlds:
            await world.clock.advance(LONG)
    taken = []
    # The first scrape imports the library, and accounts for the jobs that have just ended.
    for _ in range(1 + SCRAPES):
        began = time.process_time()
        await send(fake, METRICS)
        taken.append(time.process_time() - began)
    await fake.close()
    return statistics.median(taken[1:])


if __name__ == "__main__":
    sys.exit(run(main))
