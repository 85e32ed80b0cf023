"""Virtual time end to end: minutes of a client pass in milliseconds, at the right moments, equally in each run."""

from __future__ import annotations

import asyncio
import gc
import http.server
import json
import queue
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import sleep as imported_sleep
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from hobbyhorse.runners.virtual_time import RunOver, Stuck
from tests.runners.conftest import ORDER, Client, Trial, http_client

# Real seconds that no test takes, however slow the machine is; more than that passes in virtual time.
REAL_SECONDS = 60.0


# ---- clients


def by_httpx(base: str, key: str) -> str:
    with http_client(key) as client:
        job = client.post(f"{base}/v1/tasks", json=ORDER).raise_for_status().json()["data"]["taskId"]
        while (seen := client.get(f"{base}/v1/tasks/{job}").json()["data"])["status"] != "success":
            time.sleep(2)
        return str(seen["output"][0]["url"])


def by_requests(base: str, key: str) -> str:
    with requests.Session() as client:
        client.trust_env = False
        client.headers["Authorization"] = f"Bearer {key}"
        job = client.post(f"{base}/v1/tasks", json=ORDER, timeout=10).json()["data"]["taskId"]
        while (seen := client.get(f"{base}/v1/tasks/{job}", timeout=10).json()["data"])["status"] != "success":
            time.sleep(2)
        return str(seen["output"][0]["url"])


def by_urllib(base: str, key: str) -> str:
    def call(path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(base + path, data, headers), timeout=10) as response:
            return json.load(response)["data"]

    job = call("/v1/tasks", ORDER)["taskId"]
    while (seen := call(f"/v1/tasks/{job}"))["status"] != "success":
        imported_sleep(2)
    return str(seen["output"][0]["url"])


async def by_asyncio(base: str, key: str) -> str:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, trust_env=False) as client:
        job = (await client.post(f"{base}/v1/tasks", json=ORDER)).json()["data"]["taskId"]
        while True:
            seen = (await client.get(f"{base}/v1/tasks/{job}")).json()["data"]
            if seen["status"] == "success":
                return str(seen["output"][0]["url"])
            await asyncio.sleep(2)


async def by_many_tasks(base: str, key: str) -> list[str]:
    return await asyncio.gather(*[by_asyncio(base, key) for _ in range(3)])


def by_a_pool(base: str, key: str) -> list[str]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda _: by_httpx(base, key), range(2)))


def by_callback(base: str, key: str, pause: float = 0.0) -> tuple[float, str]:
    """Submit, wait for the callback, and return the seconds until it arrived and the job's id."""
    received: queue.Queue[Any] = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(pause)
            self.send_response(200)
            self.end_headers()
            received.put(json.loads(body))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    receiver = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    try:
        with http_client(key) as client:
            callback = {"url": f"http://127.0.0.1:{receiver.server_port}/", "when": "final"}
            client.post(f"{base}/v1/tasks", json={**ORDER, "callback": callback}).raise_for_status()
        begun = time.monotonic()
        task = received.get(timeout=1_000)["taskId"]
        return time.monotonic() - begun, task
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


def by_everything(base: str, key: str) -> list[Any]:
    """Poll in two threads, beside a third that receives callbacks slowly."""
    with ThreadPoolExecutor(2) as pool:
        polling = [pool.submit(by_httpx, base, key) for _ in range(2)]
        received = by_callback(base, key, pause=30.0)
        return [*(future.result() for future in polling), received]


def polls_forever(base: str, key: str) -> None:
    with http_client(key) as client:
        while True:
            try:
                client.get(f"{base}/v1/tasks/none")
            except Exception:
                time.sleep(1)
            time.sleep(7)


ALL = [by_httpx, by_requests, by_urllib, by_asyncio, by_many_tasks, by_a_pool, by_callback, by_everything]


# ---- minutes take milliseconds


@pytest.mark.parametrize("client", ALL)
def test_a_client_ends_as_in_real_time_and_each_run_is_the_same(trial: Callable[..., Trial], client: Client) -> None:
    begun = time.monotonic()
    trials = [trial(), trial()]
    rans = [one.run(client) for one in trials]
    for one, ran in zip(trials, rans, strict=True):
        assert ran.error is None
        assert not ran.over
        assert ran.value
        assert 80 < one.after(ran) < 400
        assert one.time.drain(60) == []
    assert trials[0].trace == trials[1].trace
    assert rans[0].ended == rans[1].ended
    assert time.monotonic() - begun < REAL_SECONDS


def test_runs_are_the_same_on_a_busy_machine(trial: Callable[..., Trial]) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        seen = []
        for _ in range(3):
            one = trial()
            one.run(by_everything)
            one.time.drain(60)
            seen.append(one.trace)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert seen[0] == seen[1] == seen[2]


def test_polls_arrive_at_the_moment_of_their_sending(trial: Callable[..., Trial]) -> None:
    one = trial()
    one.run(by_httpx)
    polls = [moment for moment, method, _ in one.trace if method == "GET"]
    assert polls == [2.0 * n for n in range(len(polls))]


def test_a_video_takes_no_virtual_time_whether_it_is_rendered_or_cached(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> tuple[float, int]:
        url = by_httpx(base, key)
        begun = time.monotonic()
        with httpx.Client(trust_env=False, timeout=1) as http:
            return time.monotonic() - begun, len(http.get(url).raise_for_status().content)

    rans = [trial().run(client) for _ in range(3)]
    assert [ran.error for ran in rans] == [None] * 3
    assert len({ran.value for ran in rans}) == 1
    assert rans[0].value is not None
    assert rans[0].value[0] == 0.0


def test_a_video_that_is_read_in_small_pieces_takes_no_virtual_time(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> tuple[float, bool]:
        url = urlsplit(by_httpx(base, key))
        begun, size = time.monotonic(), 0
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=1) as connection:
            connection.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n".encode())
            while piece := connection.recv(1_000):
                size += len(piece)
        return time.monotonic() - begun, size > 100_000

    assert trial().run(client).value == (0.0, True)


def test_a_client_may_leave_a_video_unread_while_it_waits(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> int:
        url = by_httpx(base, key)
        with httpx.Client(trust_env=False, timeout=1) as http, http.stream("GET", url) as response:
            time.sleep(100)
            return len(response.read())

    one = trial()
    ran = one.run(client)
    assert ran.error is None
    assert ran.value is not None
    assert ran.value > 10_000


def test_a_slow_receiver_delays_the_client_by_its_sleep(trial: Callable[..., Trial]) -> None:
    quick, slow = trial().run(by_callback), trial().run(lambda base, key: by_callback(base, key, pause=30.0))
    assert slow.value is not None
    assert quick.value is not None
    assert slow.value[0] - quick.value[0] == pytest.approx(30.0, abs=1e-6)


def test_random_numbers_of_a_client_depend_on_the_seed_alone(trial: Callable[..., Trial]) -> None:
    before = random.getstate()

    def draws(seed: int) -> Any:
        return trial(draws=seed).run(lambda base, key: [random.random() for _ in range(3)]).value

    assert draws(1) == draws(1) != draws(2)
    assert random.getstate() == before


# ---- runs that would never end


def test_a_client_without_any_deadline_is_ended_by_the_limit(trial: Callable[..., Trial]) -> None:
    one = trial({"timeline": {"move": "stuck", "stage": "running"}}, limit=300.0)
    ran = one.run(by_httpx)
    assert (ran.value, ran.error, ran.over) == (None, None, True)
    assert one.after(ran) == 300.0
    assert len(one.trace) == 152


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_a_client_that_swallows_exceptions_is_ended(trial: Callable[..., Trial], kind: str) -> None:
    async def task(base: str, key: str) -> None:
        while True:
            try:
                await asyncio.sleep(3)
            except Exception:
                continue

    one = trial(limit=300.0)
    ran = one.run(polls_forever if kind == "thread" else task)
    assert ran.over
    assert one.time.drain(60) == []


def test_a_client_that_swallows_everything_sends_nothing_after_the_end(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> None:
        with http_client(key) as http:
            while True:
                with suppress(BaseException):
                    http.get(f"{base}/v1/tasks/none")
                    time.sleep(10)

    one = trial(limit=95.0)
    ran = one.run(client)
    assert ran.over
    assert [moment for moment, _, _ in one.trace] == [10.0 * n for n in range(10)]
    assert one.time.drain(60) == ["client"]


def test_an_event_loop_closes_cleanly_when_the_run_is_over(
    trial: Callable[..., Trial], recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    cleaned: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(0)
            cleaned.append("task")

    async def client() -> None:
        await asyncio.gather(*[wait() for _ in range(3)])

    one = trial(limit=300.0)
    assert one.run(lambda base, key: asyncio.run(client())).over
    gc.collect()
    assert cleaned == ["task"] * 3
    assert [*recwarn, *caplog.records] == []


def test_a_client_that_floods_is_ended_by_the_number_of_its_requests(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> None:
        with http_client(key) as http:
            while True:
                http.get(f"{base}/v1/tasks/none")

    one = trial(most_requests=100)
    ran = one.run(client)
    assert ran.over
    assert len(one.trace) == 100


def test_a_client_that_spins_on_its_clock_is_ended(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> None:
        while time.monotonic() < 5_000:
            pass

    assert trial(most_operations=10_000).run(client).over


def test_a_client_that_only_computes_is_ended_after_real_time(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> None:
        while True:
            pass

    one = trial(patience=0.3)
    ran = one.run(client)
    assert ran.over
    assert one.time.drain(60) == []


def test_a_client_that_waits_for_an_impossible_event_is_stuck(trial: Callable[..., Trial]) -> None:
    ran = trial().run(lambda base, key: threading.Event().wait())
    assert isinstance(ran.error, Stuck)
    assert not ran.over


def test_an_error_of_the_client_is_returned(trial: Callable[..., Trial]) -> None:
    ran = trial().run(lambda base, key: 1 // 0)
    assert isinstance(ran.error, ZeroDivisionError)
    assert not ran.over


# ---- threads that outlive the client


def test_a_thread_that_outlives_the_client_runs_on_until_drained(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> str:
        threading.Thread(target=polls_forever, args=(base, key), name="left").start()
        return "early"

    one = trial()
    ran = one.run(client)
    assert ran.value == "early"
    assert one.trace == []
    assert one.time.drain(60) == []
    assert [moment for moment, _, _ in one.trace] == [7.0 * n for n in range(9)]
    for thread in threading.enumerate():
        if thread.name == "left":  # it has left the scheduler, but the system may not have ended it yet
            thread.join(30)
            assert not thread.is_alive()


def test_a_thread_that_does_not_end_is_named(trial: Callable[..., Trial]) -> None:
    def stubborn() -> None:
        while True:
            with suppress(RunOver):
                time.sleep(1)

    def client(base: str, key: str) -> None:
        threading.Thread(target=stubborn, name="stubborn").start()

    one = trial()
    one.run(client)
    assert one.time.drain(5) == ["stubborn"]


def test_two_runs_follow_each_other_in_the_same_virtual_time(trial: Callable[..., Trial]) -> None:
    one = trial()
    first, second = one.run(by_httpx), one.run(by_requests)
    assert first.ended < second.ended
    assert second.error is None


def test_two_clients_run_concurrently_in_virtual_times_of_their_own(trial: Callable[..., Trial]) -> None:
    trials = [trial(), trial()]
    with ThreadPoolExecutor(2) as pool:
        rans = list(pool.map(lambda one: one.run(by_a_pool), trials))
    assert [ran.error for ran in rans] == [None, None]
    assert trials[0].trace == trials[1].trace
