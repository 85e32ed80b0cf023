"""Memory after two hundred thousand requests in one process: `python -m benchmarks.requests`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
from starlette.types import Message, Scope

from benchmarks.memory import resident
from benchmarks.orders import order
from benchmarks.report import Bound, run, show
from hobbyhorse.contract.folder import load_all
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.worlds.journal import MOST_EXCHANGES

# Many polls for each job, as from real clients, in several worlds: each journal must reach its bound.
REQUESTS, JOBS, KEYS = 200_000, 2_000, 4


def main() -> None:
    """Print the resident memory of a new process before and after the requests, and the longest journal."""
    child = [sys.executable, "-c", "import benchmarks.requests as requests; requests.measure()"]
    done = subprocess.run(child, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parent.parent)
    before, after, peak, seconds, longest = json.loads(done.stdout)
    show(
        f"Memory of {REQUESTS:,} requests of {KEYS} keys in one process, {JOBS:,} of them submissions",
        [
            ("", "resident MB", "longest journal"),
            ("before", f"{before / 1e6:.0f}", ""),
            (f"after {seconds:.1f} s", f"{after / 1e6:.0f}", str(longest)),
            ("peak", f"{peak / 1e6:.0f}", ""),
        ],
        Bound("resident", peak / 1e6, limit=150, target=150, unit=" MB"),
        Bound("journal", longest, limit=MOST_EXCHANGES, target=MOST_EXCHANGES, unit=" exchanges"),
    )


def measure() -> None:
    """Send the requests to a fake in this process; print resident bytes, seconds and the longest journal."""
    fake = Fake(contracts := load_all(), Options(pace="instant"))
    submissions = [order(contract, "http://127.0.0.1:8000") for contract in contracts]
    before, began = resident("VmRSS"), time.perf_counter()
    asyncio.run(_send(fake, submissions))
    seconds = time.perf_counter() - began
    longest = max(len(world.journal) for world in fake.worlds)
    assert sum(world.journal.total for world in fake.worlds) == REQUESTS
    print(json.dumps([before, resident("VmRSS"), resident("VmHWM"), seconds, longest]))


async def _send(fake: Fake, submissions: list[httpx.Request]) -> None:
    """Submit jobs to every provider in turn; after each, poll existing jobs, one request in ten an unknown one."""
    keys = [f"key-{number}" for number in range(KEYS)]
    sent = 0
    for number in range(JOBS):
        one, key = submissions[number % len(submissions)], keys[number % KEYS]
        provider = one.url.path.split("/")[1]
        await _request(fake, one.method, one.url.path, key, one.content)
        world = fake.worlds.of(key)
        assert world is not None
        contract = next(contract for contract in fake.contracts if contract.key == provider)
        operation = contract.operations["status"]
        mine = [job for job in world.jobs.values() if job.contract is contract]
        sent += 1
        for turn in range(REQUESTS // JOBS - 1):
            path = operation.path
            for place in operation.bindings["job"].request:
                path = path.replace("{" + place.name + "}", mine[-1 - turn % len(mine)].id if turn % 10 else "nothing")
            await _request(fake, operation.method, f"/{provider}{path}", key, b"")
            sent += 1
    assert sent == REQUESTS


async def _request(fake: Fake, method: str, path: str, key: str, body: bytes) -> None:
    scope: Scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"authorization", f"Bearer {key}".encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        assert message.get("status", 200) < 500

    await fake(scope, receive, send)


if __name__ == "__main__":
    sys.exit(run(main))
