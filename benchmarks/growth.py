"""The cost of each kind of request with few jobs and with many: `python -m benchmarks.growth`."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import httpx
from starlette.types import Message, Scope

from benchmarks.memory import resident
from benchmarks.orders import KEY, order
from benchmarks.report import Bound, run, show
from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.worlds.limits import Limits

FEW, MANY = 1_000, 100_000
# A world with few jobs has as many other worlds as a server has by default at most.
WORLDS = 10_000
BASE = "http://127.0.0.1:8000"
# Every limit is set, and none is met: each must be checked without a look at every job.
LIMITS = Limits(
    requests_per_second=1e9, concurrent_jobs=1_000_000, workers=50, rivals=3, balance=Decimal(1_000_000_000)
)
# Requests of one measurement, and measurements, of which the quickest counts.
REQUESTS, ROUNDS = 50, 7
BUSY = 40  # jobs that run at any time while the others are submitted
LONG = 1_000.0  # seconds in which every job ends
HEADERS = {"authorization": f"Bearer {KEY}"}


def main() -> None:
    """Print the CPU time of each request with few and with many jobs, in new processes."""
    few, many = (_measured(jobs) for jobs in (FEW, MANY))
    rows = [("", f"{FEW:,} jobs", f"{MANY:,} jobs", "ratio")]
    rows += [(name, f"{few[name]:.0f} µs", f"{many[name]:.0f} µs", f"{many[name] / few[name]:.2f}") for name in few]
    worst = max(many[name] / few[name] for name in few if name not in ("pause", "bytes"))
    show(
        "CPU of a request",
        [row for row in rows if row[0] not in ("pause", "bytes")],
        Bound("worst ratio", worst, limit=1.5, target=1.2),
        Bound("longest garbage collection", many["pause"] / 1000, limit=10, target=5, unit=" ms"),
        Bound("bytes a job", many["bytes"], limit=1_000, target=700, unit=" B"),
    )


def _measured(jobs: int) -> dict[str, float]:
    code = f"import benchmarks.growth as growth; growth.measure({jobs})"
    done = subprocess.run(
        (sys.executable, "-c", code), stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parent.parent
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(jobs: int) -> None:
    """Print, as JSON, the microseconds of each request in a world of `jobs` jobs."""
    print(json.dumps(asyncio.run(_measure(jobs))))


async def _measure(jobs: int) -> dict[str, float]:
    contracts = load_all()
    contract = next(one for one in contracts if "list" in one.operations)
    fake = Fake(contracts, Options(pace="realistic", make_clock=ManualClock, limits=LIMITS))
    world = fake.worlds.of(KEY)
    assert world is not None
    for number in range(WORLDS):
        fake.worlds.of(f"other-{number}")
    requests = _requests(contract)
    for request in requests.values():
        await send(fake, request)
    # The collector works as in `hobbyhorse serve`: what is there at the start is frozen.
    gc.collect()
    gc.freeze()
    before = resident("VmRSS")
    for number in range(jobs):
        await send(fake, requests["submit"])
        if number % BUSY == BUSY - 1:
            await world.clock.advance(LONG)
    await world.clock.advance(LONG)
    world.totals()
    gc.collect()
    grown = (resident("VmRSS") - before) / jobs
    found = {name: await _cost(fake, request) for name, request in requests.items()}
    found |= {"pause": _pause(), "bytes": grown}
    began = time.process_time()
    await send(fake, httpx.Request("POST", f"{BASE}/_mock/reset", headers=HEADERS))
    return {**found, "reset": (time.process_time() - began) * 1e6}


def _requests(contract: Contract) -> dict[str, httpx.Request]:
    """Return a request of each kind, by name."""
    base = f"{BASE}/{contract.key}"
    before, after = contract.operations["status"].link or ("", "")
    paths = {
        "poll of an unknown job": f"{base}{before}unknown{after}",
        "list": base + contract.operations["list"].path,
        "jobs": f"{BASE}/_mock/jobs",
        "jobs in a stage": f"{BASE}/_mock/jobs?stage=failure",
        "ledger": f"{BASE}/_mock/ledger",
        "trace": f"{BASE}/_mock/trace?provider={contract.key}",
    }
    return {
        "submit": order(contract, BASE),
        **{name: httpx.Request("GET", url, headers=HEADERS) for name, url in paths.items()},
    }


async def _cost(fake: Fake, request: httpx.Request) -> float:
    """Return the least CPU microseconds of a request, over the rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(REQUESTS):
            await send(fake, request)
        best = min(best, (time.process_time() - began) / REQUESTS * 1e6)
    return best


async def send(fake: Fake, request: httpx.Request) -> None:
    """Call the application directly: sockets and clients would count as its work."""
    scope: Scope = {
        "type": "http",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40_000),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": request.content, "more_body": False}

    async def answered(event: Message) -> None:
        if event["type"] == "http.response.start" and event["status"] not in (*range(200, 300), 404):
            raise RuntimeError(f"{request.method} {request.url} was responded to with {event['status']}")

    await fake(scope, receive, answered)


def _pause() -> float:
    """Return the microseconds of the longest pause for a collection of everything that is not frozen."""
    began = time.perf_counter()
    gc.collect()
    return (time.perf_counter() - began) * 1e6


if __name__ == "__main__":
    sys.exit(run(main))
