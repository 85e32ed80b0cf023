"""Virtual time: whatever a client waits with, minutes pass at once, at the right moments, and each run is the same."""

from __future__ import annotations

import asyncio
import datetime as dt
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
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from time import monotonic as told
from time import sleep as rest
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import requests

from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.runners.virtual_time import Ran, RunOver, Stuck, VirtualTime
from hobbyhorse.testing.local import MockServer, MockWorld
from tests.conftest import CONTRACTS

CONTRACT = next(contract for contract in CONTRACTS if contract.key == "hiapi")
ORDER = order_for(CONTRACT, CONTRACT.models[0])
REAL_SECONDS = 60.0
"""What no test here takes, however slow the machine is: more passes in virtual time."""

Client = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer([CONTRACT], clock="manual", pace="realistic", strict=False, seed=3) as server:
        yield server


@dataclass
class Stage:
    """A world, its virtual time, and what happened there."""

    server: MockServer
    world: MockWorld
    time: VirtualTime
    begun: float

    def run(self, client: Client) -> Ran:
        return self.time.run(lambda: client(self.world.url(CONTRACT.key), self.world.api_key))

    def after(self, ran: Ran) -> float:
        return ran.ended - self.begun

    @property
    def trace(self) -> list[tuple[float, str, str]]:
        return [(one.moment - self.begun, one.method, one.path) for one in self.world.journal]


@pytest.fixture
def stage(server: MockServer) -> Callable[..., Stage]:
    def make(scenario: dict[str, Any] | None = None, draws: int = 0, **options: Any) -> Stage:
        world = server.world(seed=5)
        if scenario:
            world.arm(scenario, jobs="all")
        return Stage(server, world, VirtualTime(server.timeline(world), seed=draws, **options), world.clock.now())

    return make


# ---- clients


def http_client(key: str, timeout: float = 10.0) -> httpx.Client:
    return httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=timeout, trust_env=False)


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
        with urllib.request.urlopen(urllib.request.Request(base + path, data, headers), timeout=10) as answer:
            return json.load(answer)["data"]

    job = call("/v1/tasks", ORDER)["taskId"]
    while (seen := call(f"/v1/tasks/{job}"))["status"] != "success":
        rest(2)
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
    """Order, wait for the callback, and return after how many seconds it came."""
    told: queue.Queue[Any] = queue.Queue()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(pause)
            self.send_response(200)
            self.end_headers()
            told.put(json.loads(body))

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
        task = told.get(timeout=1_000)["taskId"]
        return time.monotonic() - begun, task
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()


def by_everything(base: str, key: str) -> list[Any]:
    """Two threads that poll at different intervals, beside one that receives callbacks slowly."""
    with ThreadPoolExecutor(2) as pool:
        polling = [pool.submit(by_httpx, base, key) for _ in range(2)]
        received = by_callback(base, key, pause=30.0)
        return [*(future.result() for future in polling), received]


def polls_for_ever(base: str, key: str) -> None:
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
def test_a_client_ends_as_it_would_and_each_run_is_the_same(stage: Callable[..., Stage], client: Client) -> None:
    begun = time.monotonic()
    stages = [stage(), stage()]
    rans = [one.run(client) for one in stages]
    for one, ran in zip(stages, rans, strict=True):
        assert ran.error is None
        assert not ran.over
        assert ran.value
        assert 80 < one.after(ran) < 400
        assert one.time.drain(60) == []
    assert stages[0].trace == stages[1].trace
    assert rans[0].ended == rans[1].ended
    assert time.monotonic() - begun < REAL_SECONDS


def test_runs_are_the_same_whatever_else_the_machine_does(stage: Callable[..., Stage]) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        seen = []
        for _ in range(3):
            one = stage()
            one.run(by_everything)
            one.time.drain(60)
            seen.append(one.trace)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert seen[0] == seen[1] == seen[2]


def test_polls_come_at_the_moments_at_which_they_are_made(stage: Callable[..., Stage]) -> None:
    one = stage()
    one.run(by_httpx)
    polls = [moment for moment, method, _ in one.trace if method == "GET"]
    assert polls == [2.0 * n for n in range(len(polls))]


def test_a_video_takes_no_virtual_time_whether_it_has_to_be_made_or_not(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> tuple[float, int]:
        url = by_httpx(base, key)
        begun = time.monotonic()
        with httpx.Client(trust_env=False, timeout=1) as http:
            return time.monotonic() - begun, len(http.get(url).raise_for_status().content)

    rans = [stage().run(client) for _ in range(3)]
    assert [ran.error for ran in rans] == [None] * 3
    assert len({ran.value for ran in rans}) == 1
    assert rans[0].value is not None
    assert rans[0].value[0] == 0.0


def test_a_video_that_is_read_in_small_pieces_takes_no_virtual_time(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> tuple[float, bool]:
        url = urlsplit(by_httpx(base, key))
        begun, size = time.monotonic(), 0
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=1) as connection:
            connection.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n".encode())
            while piece := connection.recv(1_000):
                size += len(piece)
        return time.monotonic() - begun, size > 100_000

    assert stage().run(client).value == (0.0, True)


def test_a_client_may_leave_a_video_unread_while_it_waits(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> int:
        url = by_httpx(base, key)
        with httpx.Client(trust_env=False, timeout=1) as http, http.stream("GET", url) as answer:
            time.sleep(100)
            return len(answer.read())

    one = stage()
    ran = one.run(client)
    assert ran.error is None
    assert ran.value is not None
    assert ran.value > 10_000


def test_a_slow_receiver_delays_the_client_by_what_it_sleeps(stage: Callable[..., Stage]) -> None:
    quick, slow = stage().run(by_callback), stage().run(lambda base, key: by_callback(base, key, pause=30.0))
    assert slow.value is not None
    assert quick.value is not None
    assert slow.value[0] - quick.value[0] == pytest.approx(30.0, abs=1e-6)


def test_what_a_client_draws_depends_on_the_seed_alone(stage: Callable[..., Stage]) -> None:
    before = random.getstate()

    def draws(seed: int) -> Any:
        return stage(draws=seed).run(lambda base, key: [random.random() for _ in range(3)]).value

    assert draws(1) == draws(1) != draws(2)
    assert random.getstate() == before


# ---- deadlines


@pytest.mark.parametrize("limit", [3.0, 10.0, 59.5])
def test_a_server_that_never_answers_is_given_up_exactly_in_time(stage: Callable[..., Stage], limit: float) -> None:
    def client(base: str, key: str) -> float:
        begun = time.monotonic()
        with http_client(key, limit) as http, pytest.raises(httpx.ReadTimeout):
            http.post(f"{base}/v1/tasks", json=ORDER)
        return time.monotonic() - begun

    one = stage({"moves": {"submit": [{"move": "timeout"}]}})
    ran = one.run(client)
    assert (ran.value, one.after(ran)) == (limit, limit)


def test_an_asynchronous_deadline_is_exact_too(stage: Callable[..., Stage]) -> None:
    async def client(base: str, key: str) -> float:
        begun = asyncio.get_running_loop().time()
        async with httpx.AsyncClient(trust_env=False, timeout=10, headers={"Authorization": f"Bearer {key}"}) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post(f"{base}/v1/tasks", json=ORDER)
        return asyncio.get_running_loop().time() - begun

    one = stage({"moves": {"submit": [{"move": "timeout"}]}})
    assert one.run(client).value == pytest.approx(10.0, abs=1e-6)


def test_a_late_answer_comes_when_it_comes(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> float:
        begun = time.perf_counter()
        with http_client(key) as http:
            http.post(f"{base}/v1/tasks", json=ORDER).raise_for_status()
        return time.perf_counter() - begun

    assert stage({"moves": {"submit": [{"move": "latency", "seconds": 5}]}}).run(client).value == 5.0


def test_an_address_that_never_answers_times_out_in_virtual_time(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> tuple[str, float]:
        full = socket.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        kept = []
        try:
            while True:
                begun = time.monotonic()
                kept.append(socket.create_connection(full.getsockname(), timeout=20))
        except OSError as error:
            return type(error).__name__, time.monotonic() - begun
        finally:
            for one in (*kept, full):
                one.close()

    assert stage().run(client).value == ("TimeoutError", 20.0)


# ---- every way to wait


def waits_for_an_event() -> None:
    assert not threading.Event().wait(40)


def waits_for_a_condition() -> None:
    condition = threading.Condition()
    with condition:
        assert not condition.wait_for(lambda: False, 40)


def waits_for_a_queue() -> None:
    with pytest.raises(queue.Empty):
        queue.Queue().get(timeout=40)


def waits_for_a_simple_queue() -> None:
    with pytest.raises(queue.Empty):
        queue.SimpleQueue().get(timeout=40)


def waits_for_a_future() -> None:
    with pytest.raises(NotInTime):
        Future().result(40)


def waits_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    assert not lock.acquire(timeout=40)


def waits_for_a_reentrant_lock() -> None:
    lock = threading.RLock()

    def hold() -> None:
        with lock:
            time.sleep(40)

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0)
    with lock:
        pass
    thread.join()


def waits_for_a_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=(100,))
    thread.start()
    thread.join(15)
    assert thread.is_alive()
    time.sleep(25)


def waits_for_a_timer() -> None:
    timer = threading.Timer(40, lambda: None)
    timer.start()
    timer.join()


def waits_for_a_selector() -> None:
    import select  # noqa: PLC0415 - what a client does when it runs
    import selectors  # noqa: PLC0415

    one, other = socket.socketpair()
    with one, other, selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        assert not selector.select(10)
        assert select.select([one], [], [], 10) == ([], [], [])
        poll = select.poll()
        poll.register(one, select.POLLIN)
        assert poll.poll(10_000) == []
        one.settimeout(10)
        with pytest.raises(TimeoutError):
            one.recv(1)


def waits_by_the_calendar() -> None:
    begun, other = datetime.now(timezone.utc), dt.datetime.now()
    while datetime.now(timezone.utc) - begun < timedelta(seconds=40):
        time.sleep(1)
    assert isinstance(begun, datetime)
    assert dt.datetime.now() - other == timedelta(seconds=40)
    assert datetime.fromisoformat(begun.isoformat()) == begun


def waits_by_imported_names() -> None:
    begun = told()
    rest(40)
    assert told() - begun == 40


WAYS = [found for name, found in sorted(globals().items()) if name.startswith("waits_")]


@pytest.mark.parametrize("wait", WAYS)
def test_every_way_to_wait_takes_virtual_time(stage: Callable[..., Stage], wait: Callable[[], None]) -> None:
    def client(base: str, key: str) -> tuple[float, float, float]:
        begun = (time.monotonic(), time.time(), time.time_ns())
        wait()
        return time.monotonic() - begun[0], time.time() - begun[1], (time.time_ns() - begun[2]) / 1e9

    one, begun = stage(), time.monotonic()
    ran = one.run(client)
    assert ran.error is None
    assert ran.value == pytest.approx((40.0, 40.0, 40.0), abs=1e-5)
    one.time.drain(200)
    assert time.monotonic() - begun < 40


def test_a_lock_that_was_made_in_real_time_stops_nobody(stage: Callable[..., Stage]) -> None:
    lock = threading.Lock()

    def client(base: str, key: str) -> list[float]:
        def hold() -> float:
            with lock:
                time.sleep(5)
                return time.monotonic()

        with ThreadPoolExecutor(2) as pool:
            return sorted(future.result() for future in [pool.submit(hold) for _ in range(2)])

    ran = stage().run(client)
    assert ran.value is not None
    assert ran.value[1] - ran.value[0] == 5.0


# ---- runs that would never end


def test_a_client_without_any_deadline_is_ended_by_the_limit(stage: Callable[..., Stage]) -> None:
    one = stage({"timeline": {"move": "stuck", "stage": "running"}}, limit=300.0)
    ran = one.run(by_httpx)
    assert (ran.value, ran.error, ran.over) == (None, None, True)
    assert one.after(ran) == 300.0
    assert len(one.trace) == 152


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_what_swallows_exceptions_is_ended_all_the_same(stage: Callable[..., Stage], kind: str) -> None:
    async def task(base: str, key: str) -> None:
        while True:
            try:
                await asyncio.sleep(3)
            except Exception:
                continue

    one = stage(limit=300.0)
    ran = one.run(polls_for_ever if kind == "thread" else task)
    assert ran.over
    assert one.time.drain(60) == []


def test_a_client_that_swallows_everything_sends_nothing_more(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> None:
        with http_client(key) as http:
            while True:
                with suppress(BaseException):
                    http.get(f"{base}/v1/tasks/none")
                    time.sleep(10)

    one = stage(limit=95.0)
    ran = one.run(client)
    assert ran.over
    assert [moment for moment, _, _ in one.trace] == [10.0 * n for n in range(10)]
    assert one.time.drain(60) == ["client"]


def test_an_event_loop_is_closed_in_peace_when_the_run_is_over(
    stage: Callable[..., Stage], recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
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

    one = stage(limit=300.0)
    assert one.run(lambda base, key: asyncio.run(client())).over
    gc.collect()
    assert cleaned == ["task"] * 3
    assert [*recwarn, *caplog.records] == []


def test_a_client_that_floods_is_ended_by_the_number_of_its_requests(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> None:
        with http_client(key) as http:
            while True:
                http.get(f"{base}/v1/tasks/none")

    one = stage(most_requests=100)
    ran = one.run(client)
    assert ran.over
    assert len(one.trace) == 100


def test_a_client_that_looks_at_its_watch_for_ever_is_ended(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> None:
        while time.monotonic() < 5_000:
            pass

    assert stage(most_operations=10_000).run(client).over


def test_a_client_that_only_computes_is_ended_after_real_time(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> None:
        while True:
            pass

    one = stage(patience=0.3)
    ran = one.run(client)
    assert ran.over
    assert one.time.drain(60) == []


def test_a_client_that_waits_for_nothing_is_stuck(stage: Callable[..., Stage]) -> None:
    ran = stage().run(lambda base, key: threading.Event().wait())
    assert isinstance(ran.error, Stuck)
    assert not ran.over


def test_an_error_of_the_client_is_returned(stage: Callable[..., Stage]) -> None:
    ran = stage().run(lambda base, key: 1 // 0)
    assert isinstance(ran.error, ZeroDivisionError)
    assert not ran.over


# ---- what is left behind


def test_a_thread_that_is_left_goes_on_for_a_while_and_is_ended(stage: Callable[..., Stage]) -> None:
    def client(base: str, key: str) -> str:
        threading.Thread(target=polls_for_ever, args=(base, key), name="left").start()
        return "early"

    one = stage()
    ran = one.run(client)
    assert ran.value == "early"
    assert one.trace == []
    assert one.time.drain(60) == []
    assert [moment for moment, _, _ in one.trace] == [7.0 * n for n in range(9)]
    for thread in threading.enumerate():
        if thread.name == "left":  # it may be about to go
            thread.join(30)
            assert not thread.is_alive()


def test_a_thread_that_will_not_end_is_named(stage: Callable[..., Stage]) -> None:
    def stubborn() -> None:
        while True:
            with suppress(RunOver):
                time.sleep(1)

    def client(base: str, key: str) -> None:
        threading.Thread(target=stubborn, name="stubborn").start()

    one = stage()
    one.run(client)
    assert one.time.drain(5) == ["stubborn"]


def test_one_run_after_the_other_in_the_same_time(stage: Callable[..., Stage]) -> None:
    one = stage()
    first, second = one.run(by_httpx), one.run(by_requests)
    assert first.ended < second.ended
    assert second.error is None


def test_two_clients_may_run_at_once_each_in_a_time_of_its_own(stage: Callable[..., Stage]) -> None:
    stages = [stage(), stage()]
    with ThreadPoolExecutor(2) as pool:
        rans = list(pool.map(lambda one: one.run(by_a_pool), stages))
    assert [ran.error for ran in rans] == [None, None]
    assert stages[0].trace == stages[1].trace


def test_other_threads_and_what_comes_later_live_in_real_time(stage: Callable[..., Stage]) -> None:
    real = (time.sleep, time.time, threading.Lock, socket.socket.__dict__.get("recv"), threading.Thread.start)
    seen: list[float] = []
    stop = threading.Event()

    def other() -> None:
        while not stop.wait(0.001):
            seen.append(abs(time.time() - 1_767_225_600))

    thread = threading.Thread(target=other)
    thread.start()
    stage().run(by_a_pool)
    stop.set()
    thread.join()
    assert min(seen) > 86_400
    now = (time.sleep, time.time, threading.Lock, socket.socket.__dict__.get("recv"), threading.Thread.start)
    assert now == real
    begun = told()
    rest(0.001)
    assert 0.001 <= told() - begun < 10
