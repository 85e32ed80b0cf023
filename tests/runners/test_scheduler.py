"""The scheduler: one thread runs, wake-ups are ordered, time moves only when all threads wait, and each run ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from hobbyhorse.runners import scheduler as schedulers
from hobbyhorse.runners.scheduler import MOST_REFUSALS, RunOver, ScheduledThread, Scheduler, Stuck, current, real_time

START = 1_000_000.0
# Real seconds after which a test gives up on a thread; no test takes them.
LONGEST = 30.0


@dataclass
class Server:
    """A server without sockets: its events are functions, each due at a moment."""

    moment: float = START
    events: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)
    fails: Exception | None = None
    arrived: bool = True

    def now(self) -> float:
        return self.moment

    def next_due(self) -> float | None:
        return min((due for due, _ in self.events), default=None)

    def settle(self, ready: Callable[[], bool] | None = None) -> bool:
        self.settled.append(self.moment - START)
        if self.fails is not None:
            raise self.fails
        return self.arrived

    def step(self, moment: float) -> None:
        due = self.next_due()
        self.moment = moment if due is None else min(moment, due)
        # Only the first event that is due, as the real server does.
        if event := next((one for one in self.events if one[0] <= self.moment), None):
            self.events.remove(event)
            event[1]()


@dataclass
class Client:
    """The threads of one client, and the entries that they log."""

    server: Server
    scheduler: Scheduler
    log: list[Any] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def spawn(self, name: str, work: Callable[[], object]) -> ScheduledThread:
        """Start a thread, as the patched `Thread.start` does."""

        def guarded() -> None:
            try:
                work()
            except RunOver as error:
                self.errors.append(error)
                raise
            except BaseException as error:
                self.errors.append(error)

        thread = self.scheduler.register(name)
        run = partial(self.scheduler.run_thread, thread, guarded)
        threading.Thread(target=run, name=name, daemon=True).start()
        return thread

    def run(self, work: Callable[[], object], limit: float = 1_000.0) -> bool:
        """Run the main thread to its end; return whether it ended."""
        thread = self.spawn("main", work)
        self.scheduler.begin(thread, limit)
        return self.scheduler.await_end(lambda: thread.left, LONGEST)

    def sleep(self, seconds: float) -> None:
        assert not self.scheduler.wait(None, seconds)

    def note(self, entry: object) -> None:
        self.log.append((entry, self.scheduler.ticks() / schedulers.TICKS))


@pytest.fixture
def make() -> Callable[..., Client]:
    def make(most_sends: int = 1_000, most_operations: int = 100_000) -> Client:
        server = Server()
        return Client(server, Scheduler(server, 1_000.0, most_sends, most_operations))

    return make


@pytest.fixture
def client(make: Callable[..., Client]) -> Client:
    return make()


# ---- turns


def test_exactly_one_thread_runs(client: Client) -> None:
    running, most = 0, 0

    def work() -> None:
        nonlocal running, most
        for _ in range(50):
            running += 1
            most = max(most, running)
            running -= 1
            client.scheduler.wait(lambda: True, 0)

    def main() -> None:
        threads = [client.spawn(f"thread {number}", work) for number in range(4)]
        client.scheduler.wait(lambda: all(thread.left for thread in threads), None)

    assert client.run(main)
    assert (most, client.errors) == (1, [])


def test_ready_threads_run_in_the_order_in_which_they_began_to_wait(client: Client) -> None:
    is_open = False

    def work(name: str, pause: float) -> None:
        client.sleep(pause)
        client.scheduler.wait(lambda: is_open, None)
        client.note(name)

    def main() -> None:
        nonlocal is_open
        for name, pause in (("third", 3), ("first", 1), ("second", 2)):
            client.spawn(name, partial(work, name, pause))
        client.sleep(5)
        is_open = True
        client.sleep(1)

    assert client.run(main)
    assert client.log == [("first", 5.0), ("second", 5.0), ("third", 5.0)]


def test_threads_that_wait_for_each_other_run_before_threads_that_wait_for_the_server(client: Client) -> None:
    def work(name: str, remote: bool) -> None:
        client.scheduler.wait(lambda: client.server.moment > START, None, remote=remote)
        client.note(name)

    def main() -> None:
        client.spawn("remote", partial(work, "remote", True))
        client.spawn("local", partial(work, "local", False))
        client.sleep(1)
        client.sleep(1)

    assert client.run(main)
    assert [entry for entry, _ in client.log] == ["local", "remote"]


def test_a_thread_that_was_not_started_is_forgotten(client: Client) -> None:
    def main() -> None:
        thread = client.scheduler.register("never started")
        client.scheduler.unregister(thread)
        client.sleep(1)

    assert client.run(main)
    assert client.scheduler.unfinished == []


def test_a_thread_lives_in_real_time_before_its_turn_in_a_real_time_block_and_after_its_end(client: Client) -> None:
    def main() -> None:
        client.log.append(current())
        with real_time():
            client.log.append(current())
        client.log.append(current())

    assert current() is None
    assert client.run(main)
    assert client.log == [client.scheduler, None, client.scheduler]


# ---- time


def test_time_moves_to_the_earliest_deadline_and_not_further(client: Client) -> None:
    def work(name: str, seconds: float) -> None:
        client.sleep(seconds)
        client.note(name)

    def main() -> None:
        for name, seconds in (("late", 30.0), ("early", 0.25), ("middle", 7.0)):
            client.spawn(name, partial(work, name, seconds))
        client.sleep(60)

    assert client.run(main)
    assert client.log == [("early", 0.25), ("middle", 7.0), ("late", 30.0)]
    assert client.scheduler.ticks() == 60 * schedulers.TICKS


def test_threads_with_the_same_deadline_run_in_the_order_in_which_they_began_to_wait(client: Client) -> None:
    def work(name: str, pause: float) -> None:
        client.sleep(pause)
        client.sleep(10 - pause)
        client.note(name)

    def main() -> None:
        for name, pause in (("second", 2), ("first", 1), ("third", 3)):
            client.spawn(name, partial(work, name, pause))
        client.sleep(60)

    assert client.run(main)
    assert client.log == [("first", 10.0), ("second", 10.0), ("third", 10.0)]


def test_sums_of_waits_are_exact(client: Client) -> None:
    def main() -> None:
        for _ in range(10):
            client.sleep(0.1)

    assert client.run(main)
    assert client.scheduler.ticks() == schedulers.TICKS


@pytest.mark.parametrize(
    ("timeout", "ticks"), [(0, 0), (1e-9, 1), (1.5e-6, 2), (0.1, 100_000), (0.1 + 0.2, 300_000), (2.0000001, 2_000_001)]
)
def test_a_deadline_is_rounded_up_but_not_for_the_error_of_a_float(client: Client, timeout: float, ticks: int) -> None:
    assert client.run(lambda: client.scheduler.wait(None, timeout))
    assert client.scheduler.ticks() == ticks


def test_an_infinite_timeout_ends_at_the_limit(client: Client) -> None:
    assert client.run(lambda: client.scheduler.wait(None, float("inf")), limit=50.0)
    assert client.server.moment == START + 50.0
    assert client.scheduler.over


def test_at_the_same_moment_the_server_acts_before_a_deadline(client: Client) -> None:
    responses: list[str] = []
    client.server.events += [(START + 10, lambda: None), (START + 10, lambda: responses.append("response"))]

    def main() -> None:
        client.note(client.scheduler.wait(lambda: bool(responses), 10, remote=True))

    assert client.run(main)
    assert client.log == [(True, 10.0)]


def test_time_stops_at_each_event_of_the_server(client: Client) -> None:
    responses: list[float] = []

    def respond() -> None:
        responses.append(client.server.moment - START)

    client.server.events += [(START + moment, respond) for moment in (1, 2, 3)]

    def main() -> None:
        client.scheduler.wait(lambda: len(responses) == 2, 60, remote=True)
        client.note("two responses")

    assert client.run(main)
    assert responses == [1, 2]
    assert client.log == [("two responses", 2.0)]


def test_time_moves_only_after_the_server_has_settled(client: Client) -> None:
    def main() -> None:
        client.sleep(1)
        client.scheduler.check_in(unsettles=True)
        client.sleep(1)
        client.scheduler.received(schedulers.ROOM_BYTES // 2)
        client.sleep(1)
        client.scheduler.received(schedulers.ROOM_BYTES // 2)
        client.sleep(1)

    assert client.run(main)
    assert client.server.settled == [0.0, 1.0, 3.0]


def test_time_waits_for_bytes_that_were_in_flight_when_the_client_read_the_first(client: Client) -> None:
    client.server.arrived = False

    def main() -> None:
        client.sleep(1)
        client.scheduler.received(1)
        client.server.arrived = True
        client.sleep(1)
        client.scheduler.received(1)
        client.sleep(1)

    assert client.run(main)
    assert client.server.settled == [0.0, 1.0]


def test_a_poll_that_does_not_wait_settles_the_server_once(client: Client) -> None:
    def main() -> None:
        client.scheduler.settle_before_poll(lambda: False)
        client.scheduler.settle_before_poll(lambda: False)

    assert client.run(main)
    assert client.server.settled == [0.0]


# ---- the end


def test_at_the_limit_each_operation_raises_run_over(client: Client) -> None:
    def main() -> None:
        with pytest.raises(RunOver):
            client.scheduler.wait(None, 200)
        with pytest.raises(RunOver):
            client.scheduler.wait(None, 1)
        client.note("refused twice")

    assert client.run(main, limit=100.0)
    assert client.log == [("refused twice", 100.0)]


def test_except_exception_does_not_catch_the_end() -> None:
    assert not issubclass(RunOver, Exception)
    assert not issubclass(Stuck, Exception)


@pytest.mark.parametrize("limits", [{"most_sends": 5}, {"most_operations": 50}])
def test_a_client_that_sends_or_operates_too_often_is_ended(
    make: Callable[..., Client], limits: dict[str, int]
) -> None:
    class Socket:
        def fileno(self) -> int:
            return -1

    client, sock = make(**limits), Socket()

    def main() -> None:
        while True:
            client.scheduler.check_in(sent=sock)
            client.log.append("sent")

    assert client.run(main)
    assert len(client.log) == next(iter(limits.values()))
    assert isinstance(client.errors[0], RunOver)


def test_after_the_end_an_event_loop_may_read_its_clock_to_close_down(client: Client) -> None:
    def main() -> None:
        with suppress(RunOver):
            client.scheduler.wait(None, 200)
        for _ in range(schedulers.LENIENT_OPERATIONS):
            client.log.append(client.scheduler.elapsed())
        client.scheduler.elapsed()

    assert client.run(main, limit=100.0)
    assert client.log == [100.0] * schedulers.LENIENT_OPERATIONS
    assert isinstance(client.errors[0], RunOver)


def test_a_thread_that_swallows_each_end_is_parked_and_named(client: Client) -> None:
    def main() -> None:
        while True:
            with suppress(RunOver):
                client.scheduler.wait(None, 30)
            client.log.append("swallowed")

    assert client.run(main, limit=100.0)
    assert client.log.count("swallowed") == 3 + MOST_REFUSALS
    assert client.scheduler.abandoned == ["main"]


def test_a_main_thread_that_waits_for_an_impossible_event_is_stuck(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedulers, "STUCK_SECONDS", 0.1)
    assert client.run(lambda: client.scheduler.wait(lambda: False, None))
    assert [type(error) for error in client.errors] == [Stuck]
    assert not client.scheduler.over


def test_a_failure_of_the_server_ends_the_run_and_is_kept(client: Client) -> None:
    client.server.fails = TimeoutError("the server is busy")
    assert client.run(lambda: client.sleep(1))
    assert client.scheduler.over
    assert client.scheduler.failure is client.server.fails


def test_a_failure_at_an_event_of_the_server_ends_the_run_and_is_kept(client: Client) -> None:
    failure = TimeoutError("the event loop does not respond")

    def fail() -> None:
        raise failure

    client.server.events.append((START + 5, fail))
    assert client.run(lambda: client.sleep(10))
    assert client.scheduler.over
    assert client.scheduler.failure is failure


def test_a_predicate_that_fails_wakes_the_thread_that_waits(client: Client) -> None:
    def closed() -> bool:
        raise OSError("closed")

    def main() -> None:
        client.note(client.scheduler.wait(closed, 10, remote=True))

    assert client.run(main)
    assert client.log == [(True, 0.0)]


def test_a_thread_that_computes_without_any_wait_is_ended_by_patience(client: Client) -> None:
    def main() -> None:
        while True:
            pass

    thread = client.spawn("main", main)
    client.scheduler.begin(thread, 100.0)
    assert client.scheduler.await_end(lambda: thread.left, patience=0.1)
    assert client.scheduler.over
    assert isinstance(client.errors[0], RunOver)


def test_a_thread_that_cannot_be_ended_is_given_up_and_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedulers, "STUCK_SECONDS", 0.1)
    released = False

    def main() -> None:
        while not released:
            with suppress(RunOver):
                while not released:
                    pass

    thread = client.spawn("stubborn", main)
    client.scheduler.begin(thread, 100.0)
    assert not client.scheduler.await_end(lambda: thread.left, patience=0.1)
    assert "stubborn" in client.scheduler.abandoned
    released = True


# ---- threads that are left


def test_threads_that_outlive_the_main_one_pause_until_they_are_resumed(client: Client) -> None:
    def poll() -> None:
        while True:
            client.sleep(7)
            client.note("poll")

    assert client.run(lambda: client.spawn("left", poll))
    assert (client.log, client.scheduler.unfinished) == ([], ["left"])
    client.scheduler.resume(20.0)
    assert client.scheduler.await_end(lambda: not client.scheduler.unfinished, LONGEST)
    assert client.log == [("poll", 7.0), ("poll", 14.0)]


# ---- sleep outside of virtual time


def test_a_thread_that_sleeps_in_the_system_loses_its_turn_and_gets_another(client: Client) -> None:
    lock = threading.Lock()
    lock.acquire()

    def sleeper() -> None:
        client.note("sleeps")
        lock.acquire()  # for real: only the other thread can release it
        client.scheduler.check_in()
        client.sleep(1)
        client.note("awake")

    def main() -> None:
        thread = client.spawn("sleeper", sleeper)
        client.sleep(5)
        client.note("runs meanwhile")
        lock.release()
        client.scheduler.wait(lambda: thread.left, None)

    assert client.run(main)
    assert [entry for entry, _ in client.log] == ["sleeps", "runs meanwhile", "awake"]
    assert client.errors == []


def test_a_thread_keeps_its_turn_in_a_real_time_block_even_asleep(client: Client) -> None:
    def main() -> None:
        client.spawn("other", lambda: client.note("other"))
        with client.scheduler.keep_turn():
            # Longer than it takes to be detached outside of such a block.
            threading.Event().wait(4 * schedulers.ASLEEP_SECONDS)
        client.note("main")
        client.sleep(1)

    assert client.run(main)
    assert [entry for entry, _ in client.log] == ["main", "other"]
