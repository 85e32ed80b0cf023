"""Latency of status polls while twenty videos are rendered, and of a cached video's first byte."""

from __future__ import annotations

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx

from benchmarks.orders import KEY
from benchmarks.report import Bound, show
from benchmarks.servers import OURS, started
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.values import Contract

VIDEOS = 20  # more than there are renderers, so that polls compete with a full queue
PAUSE = 0.005  # seconds between polls: a client that polls hard, not a load test


def main() -> None:
    """Print the medians and check them against their limits."""
    contract = load_all()[0]
    with (
        tempfile.TemporaryDirectory() as cache,
        started((*OURS, "--cache", cache)) as server,
        httpx.Client(trust_env=False, timeout=120) as http,
    ):
        client = ContractClient(contract, f"{server.url}/{contract.key}", KEY, http)
        jobs = [_submit(client) for _ in range(VIDEOS)]
        urls = [_video(client, job) for job in jobs]
        alone = _polls(client, jobs[0], 200)
        busy, taken = _busy_polls(client, jobs[0], urls)
        cached = [_first_byte(http, url) for url in urls]
    rows = [
        ("", "median ms"),
        ("status poll, idle", f"{1000 * alone:.2f}"),
        (f"status poll, {VIDEOS} videos being rendered", f"{1000 * busy:.2f}"),
        ("first byte of a cached video", f"{1000 * statistics.median(cached):.2f}"),
    ]
    show(
        f"media host ({VIDEOS} videos rendered in {taken:.1f} s)",
        rows,
        Bound("busy poll", 1000 * busy, 5, 2, unit=" ms"),
        Bound("cached first byte", 1000 * statistics.median(cached), 10, 5, unit=" ms"),
    )


def _submit(client: ContractClient) -> str:
    contract: Contract = client.contract
    model, body = next(
        (model, body) for operation, model, body in documented_jobs(contract) if operation.role == "submit"
    )
    return str(client.submit(model.id, body).reading.values["job"])


def _video(client: ContractClient, job: str) -> str:
    role = "result" if "result" in client.contract.operations else "status"
    return str(client.call(role, path={"job": job}).reading.values["video_url"])


def _polls(client: ContractClient, job: str, count: int, until: Event | None = None) -> float:
    """Return the median seconds of at least `count` polls, and of all polls until an event is set."""
    seconds: list[float] = []
    while len(seconds) < count or (until is not None and not until.is_set()):
        began = time.perf_counter()
        client.call("status", path={"job": job})
        seconds.append(time.perf_counter() - began)
        time.sleep(PAUSE)
    return statistics.median(seconds)


def _busy_polls(client: ContractClient, job: str, urls: list[str]) -> tuple[float, float]:
    """Poll while all videos are fetched concurrently; return the median poll and the videos' total, in seconds."""
    done = Event()
    with ThreadPoolExecutor(VIDEOS + 1) as pool, httpx.Client(trust_env=False, timeout=120) as http:
        polling = pool.submit(_polls, client, job, 1, done)
        began = time.perf_counter()
        sizes = list(pool.map(lambda url: len(http.get(url).content), urls))
        taken = time.perf_counter() - began
        done.set()
        assert min(sizes) > 1_000
        return polling.result(), taken


def _first_byte(http: httpx.Client, url: str) -> float:
    began = time.perf_counter()
    with http.stream("GET", url) as response:
        next(response.iter_raw())
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
