"""Patches: each way to wait takes virtual time, each clock shows it, and other threads live in real time."""

from __future__ import annotations

import asyncio
import calendar
import datetime as dt
import errno
import logging
import queue
import select
import selectors
import socket
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import monotonic as imported_monotonic
from time import sleep as imported_sleep
from typing import Any

import httpx
import pytest

from hobbyhorse.runners.patches import MONOTONIC_BASE, VirtualDatetime, VirtualLock, VirtualPoll, patched
from hobbyhorse.runners.scheduler import RunOver
from tests.runners.conftest import ORDER, Trial, http_client

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
    with pytest.raises(FutureTimeout):
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


def waits_by_broken_down_time() -> None:
    begun, day = time.time(), dt.date.today()
    seconds = [time.mktime(time.localtime()), calendar.timegm(time.gmtime()), time.mktime(time.strptime(time.ctime()))]
    seconds += [time.mktime(time.strptime(time.asctime())), float(time.strftime("%s"))]
    assert seconds == [float(int(begun))] * 5
    assert time.localtime(0) == time.localtime(0.0)
    time.sleep(40)
    assert isinstance(day, dt.date)
    assert day == dt.date.fromtimestamp(begun)


def waits_by_imported_names() -> None:
    begun = imported_monotonic()
    imported_sleep(40)
    assert imported_monotonic() - begun == 40


WAYS = [found for name, found in sorted(globals().items()) if name.startswith("waits_")]


@pytest.mark.parametrize("wait", WAYS)
def test_every_way_to_wait_takes_virtual_time(trial: Callable[..., Trial], wait: Callable[[], None]) -> None:
    def client(base: str, key: str) -> tuple[float, float, float]:
        begun = (time.monotonic(), time.time(), time.time_ns())
        wait()
        return time.monotonic() - begun[0], time.time() - begun[1], (time.time_ns() - begun[2]) / 1e9

    one, begun = trial(), time.monotonic()
    ran = one.run(client)
    assert ran.error is None
    assert ran.value == pytest.approx((40.0, 40.0, 40.0), abs=1e-5)
    one.time.drain(200)
    assert time.monotonic() - begun < 40


def test_a_lock_made_before_the_run_causes_no_deadlock(trial: Callable[..., Trial]) -> None:
    lock = threading.Lock()

    def client(base: str, key: str) -> list[float]:
        def hold() -> float:
            with lock:
                time.sleep(5)
                return time.monotonic()

        with ThreadPoolExecutor(2) as pool:
            return sorted(future.result() for future in [pool.submit(hold) for _ in range(2)])

    ran = trial().run(client)
    assert ran.value is not None
    assert ran.value[1] - ran.value[0] == 5.0


# ---- time-outs of sockets


@pytest.mark.parametrize("limit", [3.0, 10.0, 59.5])
def test_a_server_that_never_responds_times_out_exactly_at_the_limit(trial: Callable[..., Trial], limit: float) -> None:
    def client(base: str, key: str) -> float:
        begun = time.monotonic()
        with http_client(key, limit) as http, pytest.raises(httpx.ReadTimeout):
            http.post(f"{base}/v1/tasks", json=ORDER)
        return time.monotonic() - begun

    one = trial({"moves": {"submit": [{"move": "timeout"}]}})
    ran = one.run(client)
    assert (ran.value, one.after(ran)) == (limit, limit)


def test_an_asynchronous_time_out_is_exact(trial: Callable[..., Trial]) -> None:
    async def client(base: str, key: str) -> float:
        begun = asyncio.get_running_loop().time()
        async with httpx.AsyncClient(trust_env=False, timeout=10, headers={"Authorization": f"Bearer {key}"}) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post(f"{base}/v1/tasks", json=ORDER)
        return asyncio.get_running_loop().time() - begun

    one = trial({"moves": {"submit": [{"move": "timeout"}]}})
    assert one.run(client).value == pytest.approx(10.0, abs=1e-6)


def test_a_late_response_arrives_at_its_moment(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> float:
        begun = time.perf_counter()
        with http_client(key) as http:
            http.post(f"{base}/v1/tasks", json=ORDER).raise_for_status()
        return time.perf_counter() - begun

    assert trial({"moves": {"submit": [{"move": "latency", "seconds": 5}]}}).run(client).value == 5.0


def test_a_connection_that_is_never_accepted_times_out_in_virtual_time(trial: Callable[..., Trial]) -> None:
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

    assert trial().run(client).value == ("TimeoutError", 20.0)


# ---- details of single patches


def test_clocks_start_at_the_servers_moment_and_a_fixed_monotonic_base(trial: Callable[..., Trial]) -> None:
    one = trial()
    ran = one.run(lambda base, key: (time.time(), time.monotonic(), time.perf_counter_ns()))
    assert ran.value == (one.begun, MONOTONIC_BASE, MONOTONIC_BASE * 1e9)


def test_a_negative_sleep_is_an_error_as_it_is_in_real_time(trial: Callable[..., Trial]) -> None:
    assert isinstance(trial().run(lambda base, key: time.sleep(-1)).error, ValueError)


def test_waiting_on_a_condition_without_its_lock_is_an_error(trial: Callable[..., Trial]) -> None:
    ran = trial().run(lambda base, key: threading.Condition().wait(1))
    assert isinstance(ran.error, RuntimeError)
    assert str(ran.error) == "cannot wait on un-acquired lock"


def test_a_notified_thread_has_the_lock_when_its_wait_returns(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> list[str]:
        condition, seen = threading.Condition(), list[str]()

        def wait() -> None:
            with condition:
                assert condition.wait(100)
                seen.append("notified")

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(1)
        with condition:
            condition.notify()
            time.sleep(10)  # still owns the lock
            seen.append("released")
        thread.join()
        return seen

    assert trial().run(client).value == ["released", "notified"]


def test_a_timeout_of_poll_is_in_milliseconds_and_none_or_negative_waits_forever(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> list[tuple[float, int]]:
        seen: list[tuple[float, int]] = []
        for timeout in (1_500, None, -1):
            one, other = socket.socketpair()
            poll = select.poll()
            assert isinstance(poll, VirtualPoll)
            poll.register(one, select.POLLIN)
            threading.Timer(30, other.send, (b"x",)).start()
            begun = time.monotonic()
            ready = len(poll.poll(timeout))
            seen.append((time.monotonic() - begun, ready))
            time.sleep(60)
            one.close()
            other.close()
        return seen

    assert trial().run(client).value == [(1.5, 0), (30.0, 1), (30.0, 1)]


def test_reading_from_a_closed_socket_is_an_error_and_not_a_wait(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> None:
        one, other = socket.socketpair()
        one.close()
        other.close()
        one.recv(1)

    error = trial().run(client).error
    assert isinstance(error, OSError)
    assert error.errno == errno.EBADF


def test_selectors_return_files_in_order_of_registration(trial: Callable[..., Trial]) -> None:
    def client(base: str, key: str) -> list[int]:
        pairs = [socket.socketpair() for _ in range(4)]
        with selectors.DefaultSelector() as selector:
            for number, (one, _) in enumerate(pairs):
                selector.register(one, selectors.EVENT_READ, number)
            for _, other in reversed(pairs):
                other.send(b"x")
            found = [key.data for key, _ in selector.select(1)]
        for pair in pairs:
            for end in pair:
                end.close()
        return found

    assert trial().run(client).value == [0, 1, 2, 3]


def test_a_virtual_datetime_is_a_real_one_and_real_ones_are_instances_of_it() -> None:
    real = VirtualDatetime.__mro__[1]  # by any name, this module has the virtual one since the first run
    assert real.__module__ == "datetime"
    assert type(VirtualDatetime(2026, 1, 2)) is real
    assert isinstance(real(2026, 1, 2), VirtualDatetime)
    assert issubclass(real, VirtualDatetime)


# ---- the patches themselves


@pytest.fixture
def client_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that imported functions by name, as a client's own modules do."""
    module = types.ModuleType("a_client_of_the_tests")
    module.__file__ = str(tmp_path / "a_client_of_the_tests.py")
    exec("from datetime import datetime\nfrom threading import Lock\nfrom time import sleep\n", module.__dict__)
    module.__dict__["time"] = lambda: "its own"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_names_that_a_module_has_imported_are_rebound_and_work_in_real_time(client_module: types.ModuleType) -> None:
    own = client_module.time
    with patched():
        assert client_module.sleep is time.sleep
    assert client_module.datetime is VirtualDatetime
    assert client_module.time is own
    assert abs(client_module.datetime.now() - dt.datetime.now()) < timedelta(days=1)
    assert type(client_module.Lock()) is type(threading.Lock())
    client_module.sleep(0)


HOLDERS = """
import time
from dataclasses import dataclass, field
from functools import wraps

def default(clock=time.monotonic): return clock
def named(*, clock=time.monotonic): return clock
def kept(clock):
    def read(): return clock
    return read
closure = kept(time.monotonic)
def decorated(function):
    @wraps(function)
    def call(): return function()
    return call
wrapped = decorated(lambda clock=time.monotonic: clock)

class Plain:
    clock = time.monotonic
    fixed = staticmethod(time.monotonic)
    def method(self, clock=time.monotonic): return clock
    @classmethod
    def of_class(cls, clock=time.monotonic): return clock

@dataclass
class Data:
    clock: object = time.monotonic
    since: float = field(default_factory=time.monotonic)

class Holder:
    def __init__(self, clock=time.monotonic): self.clock = clock
holder = Holder()

class Late:
    def __getattribute__(self, name): raise ImportError(name)
late = Late()
"""


@pytest.fixture
def holders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module whose functions, classes and objects hold clocks."""
    module = types.ModuleType("holders_of_the_tests")
    module.__file__ = str(tmp_path / "holders_of_the_tests.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("hobbyhorse.runners.patches._rebound", set())
    exec(HOLDERS, module.__dict__)
    return module


@pytest.mark.parametrize(
    "held",
    [
        lambda one: one.default(),
        lambda one: one.named(),
        lambda one: one.closure(),
        lambda one: one.wrapped(),
        lambda one: one.Plain.clock,
        lambda one: one.Plain().clock,
        lambda one: one.Plain().fixed,
        lambda one: one.Plain().method(),
        lambda one: one.Plain.of_class(),
        lambda one: one.Data().clock,
        lambda one: one.holder.clock,
        lambda one: one.Holder().clock,
    ],
)
def test_a_clock_that_a_module_holds_is_rebound(held: Callable[[Any], Any], holders: Any) -> None:
    with patched():
        assert held(holders) is time.monotonic
    assert held(holders)() <= time.monotonic()


def test_a_factory_of_a_field_reads_the_virtual_clock(trial: Callable[..., Trial], holders: Any) -> None:
    def client(base: str, key: str) -> float:
        time.sleep(100)
        return float(holders.Data().since)

    assert trial().run(client).value == MONOTONIC_BASE + 100


def test_in_a_thread_without_a_scheduler_patched_functions_call_the_real_ones() -> None:
    with patched():
        assert not isinstance(threading.Lock(), VirtualLock)
        assert not isinstance(select.poll(), VirtualPoll)
        begun = time.monotonic()
        time.sleep(0.001)
        assert time.monotonic() - begun >= 0.001
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"horse")
            assert other.recv(10) == b"horse"


def test_overlapping_runs_share_the_patches_until_the_last_ends() -> None:
    real = time.sleep
    with patched():
        mine = time.sleep
        assert mine is not real
        with patched():
            pass
        assert time.sleep is mine
    assert time.sleep is real
    assert "recv" not in vars(socket.socket)


@pytest.mark.parametrize("logger", ["concurrent.futures", "asyncio"])
@pytest.mark.parametrize(("error", "logged"), [(ValueError("no horse"), True), (RunOver("too many requests"), False)])
def test_only_the_end_of_a_run_is_not_logged(
    caplog: pytest.LogCaptureFixture, logger: str, error: BaseException, logged: bool
) -> None:
    with patched():
        logging.getLogger(logger).error("a callback failed", exc_info=error)
    assert [record.message for record in caplog.records] == ["a callback failed"] * logged


def test_other_threads_and_later_code_live_in_real_time(trial: Callable[..., Trial]) -> None:
    real = (time.sleep, time.time, threading.Lock, socket.socket.__dict__.get("recv"), threading.Thread.start)
    seen: list[float] = []
    stop = threading.Event()

    def other() -> None:
        while not stop.wait(0.001):
            seen.append(abs(time.time() - 1_767_225_600))

    def client(base: str, key: str) -> None:
        while len(seen) < 3:
            time.sleep(0.001)

    thread = threading.Thread(target=other)
    thread.start()
    assert trial().run(client).error is None
    stop.set()
    thread.join()
    assert min(seen) > 86_400
    now = (time.sleep, time.time, threading.Lock, socket.socket.__dict__.get("recv"), threading.Thread.start)
    assert now == real
    begun = imported_monotonic()
    imported_sleep(0.001)
    assert 0.001 <= imported_monotonic() - begun < 10
