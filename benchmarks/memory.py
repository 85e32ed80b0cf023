"""Memory of a hundred thousand jobs in one process: `python -m benchmarks.memory`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import httpx
from starlette.types import Message, Scope

from benchmarks.orders import order
from benchmarks.report import Bound, run, show
from hobbyhorse.contract.folder import load_all
from hobbyhorse.server.app import Fake, Options

JOBS = 100_000  # a server that runs for weeks, or a load test of a few minutes
MIB = 1 << 20


def main() -> None:
    """Print the resident memory of a new process before and after it accepts the jobs."""
    # A process of its own: VmHWM, the peak, never falls, and other benchmarks would raise it.
    child = [sys.executable, "-c", "import benchmarks.memory as memory; memory.measure()"]
    done = subprocess.run(child, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parent.parent)
    before, after, peak, seconds = json.loads(done.stdout)
    show(
        f"Memory of {JOBS:,} jobs in one process, of every provider in turn",
        [
            ("", "resident MB", "bytes a job"),
            ("before", f"{before / 1e6:.0f}", ""),
            (f"after {seconds:.1f} s", f"{after / 1e6:.0f}", f"{(after - before) / JOBS:.0f}"),
            ("peak", f"{peak / 1e6:.0f}", ""),
        ],
        Bound("resident", peak / 1e6, limit=250, target=250, unit=" MB"),
    )


def measure() -> None:
    """Submit the jobs to a fake in this process; print resident bytes before, after and at the peak, and seconds."""
    fake = Fake(contracts := load_all(), Options(pace="instant"))
    requests = [order(contract, "http://127.0.0.1:8000") for contract in contracts]
    before, began = resident("VmRSS"), time.perf_counter()
    asyncio.run(_submit(fake, requests))
    seconds = time.perf_counter() - began
    assert sum(len(world.jobs) for world in fake.worlds) == JOBS
    print(json.dumps([before, resident("VmRSS"), resident("VmHWM"), seconds]))


async def _submit(fake: Fake, requests: list[httpx.Request]) -> None:
    """Call the application directly: sockets and clients would count as its memory."""
    for one in islice(cycle(requests), JOBS):
        scope: Scope = {
            "type": "http",
            "method": one.method,
            "scheme": "http",
            "path": one.url.path,
            "query_string": b"",
            "headers": [(name.lower(), value) for name, value in one.headers.raw],
        }

        async def receive(body: bytes = one.content) -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await fake(scope, receive, _forget)


async def _forget(event: Message) -> None:
    pass


def resident(field: str) -> int:
    """Return the resident bytes of this process: now (VmRSS) or at the peak (VmHWM)."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field + ":"))


if __name__ == "__main__":
    sys.exit(run(main))
