"""A key's polls beside another key's large orders, long lists, and kept jobs: `python -m benchmarks.neighbours`."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.orders import credentials, order, poll
from benchmarks.report import Bound, run, show
from benchmarks.servers import OURS, started
from benchmarks.state import fill
from hobbyhorse.clock.clock import RealClock
from hobbyhorse.contract.folder import load_all
from hobbyhorse.worlds.world import Worlds

JOBS = 20_000  # of the other key: its lists, ledger and report are long
LARGE = 40 << 20  # bytes of an order; four at once are as many as a key may have in memory
ORDERS = 4
SECONDS = 10  # of polls: 500 of them, so that the 99th percentile is not the worst single one
KEPT_JOBS, FIRST_USES = 100_000, 5
SEED = 5  # of the kept state
PAUSE = 0.02  # between two polls, as of a few clients
LISTS = ("report?provider={}", "ledger", "jobs", "jobs?limit=1000", "journal?limit=1000")
OTHER = "Bearer other"


def main() -> None:
    """Print the latency of one key's polls alone, beside large orders, and beside long lists of another key."""
    with started((*OURS, "--pace", "fast")) as server:
        polled = _polls(server.url)
        alone = polled(SECONDS / 2, ())
        large = polled(SECONDS, [lambda: _large_order(server.url)] * ORDERS)
        _fill(server.url)
        listed = polled(SECONDS, [lambda: _lists(server.url)] * 3)
    woken = _beside_the_first_use()
    rows = [("", "polls", "median ms", "99 % ms", "worst ms")]
    rows += [_row("alone", alone), _row("beside four orders of 40 MiB", large), _row("beside lists", listed)]
    rows += [_row(f"beside the first use of {KEPT_JOBS:,} kept jobs", woken)]
    show(
        "Polls of one key beside another key",
        rows,
        Bound("99th percentile beside orders", _at(large, 0.99), limit=50, target=20, unit=" ms"),
        Bound("99th percentile beside lists", _at(listed, 0.99), limit=50, target=20, unit=" ms"),
        Bound("99th percentile beside a first use", _at(woken, 0.99), limit=50, target=20, unit=" ms"),
    )


def _beside_the_first_use() -> list[float]:
    """Return the milliseconds of each poll while a world with many kept jobs is used for the first time."""
    contract, found = load_all()[0], list[float]()
    with tempfile.TemporaryDirectory() as place:
        handle = Worlds(RealClock, seed=SEED).handle(OTHER.removeprefix("Bearer "))
        asyncio.run(fill(contract, Path(place) / "state", (handle,), KEPT_JOBS, 0))
        for _ in range(FIRST_USES):
            with started((*OURS, "--state", str(Path(place) / "state"), "--seed", str(SEED))) as server:
                url, polled = server.url, _polls(server.url)
                polled(0.5, ())
                first = threading.Thread(target=lambda url=url: _get(f"{url}/_mock/jobs?limit=1"))
                first.start()
                while first.is_alive():
                    found += polled(0.05, ())
                first.join()
    return sorted(found)


def _get(url: str) -> None:
    httpx.get(url, headers={"Authorization": OTHER}, timeout=60).raise_for_status()


def _polls(url: str) -> Callable[[float, Sequence[Callable[[], None]]], list[float]]:
    contract = load_all()[0]
    request, _ = poll(contract, url)
    headers = {**credentials(contract, request), "Connection": "keep-alive"}

    def polled(seconds: float, others: Sequence[Callable[[], None]]) -> list[float]:
        """Return the milliseconds of each poll, while others repeat theirs in threads."""
        stop, found = threading.Event(), []
        threads = [threading.Thread(target=_repeat, args=(one, stop)) for one in others]
        for one in threads:
            one.start()
        line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            line.request("GET", request.url.path, headers=headers)
            response = line.getresponse()
            response.read()
            assert response.status == 200, response.status
            found.append(1000 * (time.perf_counter() - began))
            time.sleep(PAUSE)
        stop.set()
        for one in threads:
            one.join()
        return sorted(found)

    return polled


def _repeat(action: Callable[[], None], stop: threading.Event) -> None:
    while not stop.is_set():
        action()


def _large_order(url: str) -> None:
    contract = load_all()[0]
    submission = order(contract, url)
    body = json.loads(submission.content)
    body["padding"] = "x" * LARGE
    content = json.dumps(body).encode()
    headers = {"Authorization": OTHER, "Content-Type": "application/json"}
    httpx.post(str(submission.url), content=content, headers=headers, timeout=60)


def _fill(url: str) -> None:
    contract = load_all()[0]
    submission = order(contract, url)
    headers = {"Authorization": OTHER, "Content-Type": "application/json"}
    line = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    for _ in range(JOBS):
        line.request("POST", submission.url.path, submission.content, headers)
        line.getresponse().read()


def _lists(url: str) -> None:
    for path in LISTS:
        _get(f"{url}/_mock/{path.format(load_all()[0].key)}")


def _at(latencies: Sequence[float], share: float) -> float:
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))]


def _row(name: str, latencies: Sequence[float]) -> tuple[str, str, str, str, str]:
    middle, late, worst = (f"{one:.1f}" for one in (_at(latencies, 0.5), _at(latencies, 0.99), latencies[-1]))
    return name, str(len(latencies)), middle, late, worst


if __name__ == "__main__":
    sys.exit(run(main))
