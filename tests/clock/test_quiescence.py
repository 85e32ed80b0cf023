"""Quiescence: which waits hold an activity, which do not, and how bytes in flight are waited for."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import FileResponse

from hobbyhorse.clock import quiescence as activity
from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.clock.quiescence import (
    Activity,
    ActivityGroup,
    Receive,
    RequestTracker,
    Send,
    TimeStepper,
    awaiting_response,
    held,
    together,
    unheld,
)

Handler = Callable[[Receive, Send], Awaitable[None]]


class Home:
    """An event loop in a thread with an application whose handler each test sets."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.clock = ManualClock(start=0.0)
        self.handler: Handler = self._idle
        self.tracker = RequestTracker(self._app)
        self.timeline = TimeStepper(self.clock, [self.tracker])
        self._scope = "lifespan"
        self.seen: Any = None
        self.wire: Wire | None = None
        self._asked: list[Future[None]] = []  # asyncio keeps only weak references to tasks that wait forever
        self.do(self._call())

    async def respond(self, receive: Receive, send: Send) -> None:
        """Respond immediately."""

    async def _idle(self, receive: Receive, send: Send) -> None:
        pass

    async def _app(self, scope: Any, receive: Receive, send: Send) -> None:
        self.seen = scope
        await self.handler(receive, send)

    async def _call(self) -> None:
        never = asyncio.Event()

        async def wait(*event: Any) -> Any:
            await never.wait()

        scope: dict[str, Any] = {"type": self._scope, "method": "GET", "headers": [], "asgi": {"spec_version": "2.3"}}
        scope["extensions"] = {"wire": self.wire}
        await self.tracker(scope, wait, wait)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def request(self, handler: Handler) -> Future[None]:
        """Begin a request that the handler serves."""
        self.handler, self._scope = handler, "http"
        self._asked.append(asyncio.run_coroutine_threadsafe(self._call(), self.loop))
        return self._asked[-1]

    def settles_while(self, request: Future[None]) -> bool:
        """Whether the server settles although a request has not ended."""
        self.timeline.settle()
        return not request.done()

    def stop(self) -> None:
        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def home() -> Iterator[Home]:
    home = Home()
    yield home
    home.stop()


def test_a_server_without_requests_settles(home: Home) -> None:
    home.timeline.settle()


def test_a_request_that_takes_many_turns_is_waited_for(home: Home) -> None:
    async def turns(receive: Receive, send: Send) -> None:
        for _ in range(activity.EAGER_TURNS * 2):
            await asyncio.sleep(0)

    assert not home.settles_while(home.request(turns))


def test_a_request_that_works_in_another_thread_is_waited_for(home: Home) -> None:
    entered, go = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        go.wait(30)

    async def film(receive: Receive, send: Send) -> None:
        await asyncio.to_thread(work)

    request = home.request(film)
    settled = threading.Event()

    def settle() -> None:
        home.timeline.settle()
        settled.set()

    thread = threading.Thread(target=settle)
    assert entered.wait(30)
    thread.start()
    assert not settled.wait(0.05)
    go.set()
    thread.join(30)
    assert request.done()


def test_a_file_that_is_sent_is_waited_for(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "film"
    path.write_bytes(bytes(1_000_000))
    sent: list[int] = []

    async def film(receive: Receive, send: Send) -> None:
        async def take(event: Any) -> None:
            sent.append(len(event.get("body", b"")))

        await FileResponse(path)(home.seen, receive, take)

    assert not home.settles_while(home.request(film))
    assert sum(sent) == 1_000_000


def test_a_request_that_sleeps_on_the_clock_is_held_until_the_clock_wakes_it(home: Home) -> None:
    async def late(receive: Receive, send: Send) -> None:
        await home.clock.sleep_until(5.0)

    request = home.request(late)
    assert home.settles_while(request)
    assert home.timeline.next_due() == 5.0
    home.timeline.step(4.0)
    assert home.settles_while(request)
    home.timeline.step(9.0)
    assert not home.settles_while(request)
    assert home.timeline.now() == 5.0


def test_a_request_that_waits_for_its_client_is_held(home: Home) -> None:
    async def hear(receive: Receive, send: Send) -> None:
        await receive()

    async def say(receive: Receive, send: Send) -> None:
        await send({})

    assert home.settles_while(home.request(hear))
    assert home.settles_while(home.request(say))


def test_a_request_that_waits_in_two_places_counts_once(home: Home) -> None:
    async def both(receive: Receive, send: Send) -> None:
        waits = [asyncio.ensure_future(receive()), asyncio.ensure_future(home.clock.sleep_until(5.0))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        waits[0].cancel()

    async def work(receive: Receive, send: Send) -> None:
        for _ in range(50):
            await asyncio.sleep(0)

    held_one = home.request(both)
    assert home.settles_while(held_one)
    assert not home.settles_while(home.request(work)), "a request that is held twice must not hide a request that works"
    home.timeline.step(5.0)
    assert not home.settles_while(held_one)


def test_an_action_due_now_begins_with_the_end_of_the_request_that_added_it(home: Home) -> None:
    ran = []

    async def action() -> None:
        ran.append(home.clock.now())

    async def add(receive: Receive, send: Send) -> None:
        home.clock.at(home.clock.now(), action)

    home.request(add)
    home.timeline.settle()
    assert ran == [0.0]
    assert home.timeline.next_due() is None


class Wire:
    """A connection with bytes that have not arrived."""

    def __init__(self, unsent: int) -> None:
        self.unsent, self.polls, self.arrives_after = unsent, 0, 5

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        self.polls += 1
        if self.polls > self.arrives_after:
            self.unsent = 0
        return self.unsent

    def is_closing(self) -> bool:
        return False


def test_sent_bytes_are_waited_for_until_they_have_arrived(home: Home) -> None:
    home.wire = Wire(10)
    home.request(home.respond).result(30)
    home.timeline.settle()
    assert home.wire.unsent == 0


def test_bytes_that_a_client_does_not_read_are_waited_for_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MOST_POLLS", 7)
    home.wire = Wire(10)
    home.wire.arrives_after = 1_000
    home.request(home.respond).result(30)
    home.timeline.settle()
    assert home.wire.polls >= 7
    before = home.wire.polls
    home.timeline.settle()
    assert home.wire.polls - before == 1


class Plug(Wire):
    """A connection to a client that does not read, and whose system has not acknowledged anything."""

    def __init__(self, plug: socket.socket) -> None:
        super().__init__(0)
        self._plug = plug

    def get_extra_info(self, name: str) -> Any:
        return self._plug

    def get_write_buffer_size(self) -> int:
        self.polls += 1
        return 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the bytes not sent")
@pytest.mark.parametrize("fills", [False, True], ids=["has arrived", "has no room"])
def test_arrived_bytes_need_no_acknowledgement(home: Home, monkeypatch: pytest.MonkeyPatch, fills: bool) -> None:
    monkeypatch.setattr(activity, "unacknowledged", lambda fileno: 7)  # as a system that delays acknowledgements
    monkeypatch.setattr(activity, "MOST_POLLS", 1_000_000)  # the stall must be detected first
    with (
        socket.create_server(("127.0.0.1", 0)) as listens,
        socket.create_connection(listens.getsockname()) as reader,
        listens.accept()[0] as plug,
    ):
        plug.setblocking(False)
        with suppress(BlockingIOError):
            while plug.send(bytes(65_536 if fills else 7)) and fills:
                pass
        home.wire = Plug(plug)
        home.request(home.respond).result(30)
        home.timeline.settle()
        assert (home.wire.polls > activity.STALLED_POLLS) == fills
        assert reader.recv(1, socket.MSG_PEEK)


class Paced(Wire):
    """A connection that sends its last bytes after an acknowledgement, which its client delays."""

    def get_write_buffer_size(self) -> int:
        self.polls += 1
        return 0


def test_bytes_behind_a_due_acknowledgement_are_not_unread(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.wire = Paced(0)
    # Of 10 bytes, 7 are sent and not acknowledged; after many looks all of them are.
    monkeypatch.setattr(activity, "unacknowledged", lambda fileno: 10 if home.wire.polls < 200 else 0)
    monkeypatch.setattr(activity, "not_sent", lambda fileno: 3 if home.wire.polls < 200 else 0)
    home.request(home.respond).result(30)
    assert home.timeline.settle()
    assert home.wire.polls >= 200


def test_a_client_that_can_read_ends_the_wait_and_bytes_are_left(home: Home) -> None:
    home.wire = Wire(10)
    home.wire.arrives_after = 1_000
    home.request(home.respond).result(30)
    assert not home.timeline.settle(lambda: True)
    home.wire.arrives_after = 0
    assert home.timeline.settle(lambda: True)


class Closed(Wire):
    """A connection that is closed, with nothing left to send."""

    def is_closing(self) -> bool:
        return True


def test_closed_connections_are_forgotten_although_nothing_checks_bytes_in_flight(home: Home) -> None:
    for _ in range(300):
        home.wire = Closed(0)
        home.request(home.respond).result(30)
    assert len(home.tracker._connections) <= activity.FORGET_EVERY
    home.wire = Wire(10)
    home.request(home.respond).result(30)
    for _ in range(300):
        home.wire = Closed(0)
        home.request(home.respond).result(30)
    assert home.do(in_flight(home))


async def in_flight(home: Home) -> bool:
    return home.tracker.in_flight()


def test_an_action_is_waited_for_unless_it_waits_for_a_response(home: Home) -> None:
    ended: list[str] = []
    answered = asyncio.Event()

    async def post() -> None:
        trace = awaiting_response()
        for _ in range(50):
            await asyncio.sleep(0)
        await trace("http11.receive_response_headers.started", {})
        await answered.wait()
        await trace("http11.receive_response_headers.complete", {})
        for _ in range(50):
            await asyncio.sleep(0)
        ended.append("post")

    async def work() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        ended.append("work")

    home.clock.at(1.0, work)
    home.clock.at(2.0, post)
    home.timeline.step(1.0)
    home.timeline.settle()
    assert ended == ["work"]
    home.timeline.step(2.0)
    home.timeline.settle()
    assert ended == ["work"]
    home.loop.call_soon_threadsafe(answered.set)
    home.timeline.settle()
    assert ended == ["work", "post"]


def test_a_server_that_is_busy_for_too_long_is_reported(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MOST_BUSY_SECONDS", 0.05)

    async def hang(receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    home.request(hang)
    with pytest.raises(TimeoutError, match="1 requests"):
        home.timeline.settle()


def test_a_step_needs_a_running_server_only_if_something_is_due() -> None:
    clock = ManualClock(start=0.0)
    timeline = TimeStepper(clock, [RequestTracker(lambda scope, receive, send: asyncio.sleep(0))])
    timeline.settle()
    timeline.step(3.0)
    assert timeline.now() == 3.0
    clock.at(4.0, asyncio.Event().wait)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="server is not running"):
        timeline.step(5.0)


def test_a_hold_without_an_activity_does_nothing() -> None:
    with held():
        pass
    group = ActivityGroup()
    with group.activity():
        assert group.busy == 1
        with held():
            assert group.busy == 0
        assert group.busy == 1
    assert group.busy == 0


@pytest.mark.parametrize("is_held", [False, True])
def test_what_outlives_an_activity_is_not_counted(is_held: bool) -> None:
    group = ActivityGroup()
    outliving = Activity(group)
    outliving.begin()
    if is_held:
        outliving.hold()
    outliving.end()
    assert group.busy == 0
    outliving.hold()
    outliving.release()
    if is_held:
        outliving.release()
    assert group.busy == 0


def test_a_wait_within_a_wait_holds_once() -> None:
    group = ActivityGroup()
    with group.activity():
        with held():
            with held():
                assert group.busy == 0
            assert group.busy == 0
        assert group.busy == 1


@pytest.mark.anyio
async def test_tasks_that_run_together_count_by_themselves_and_hold_their_parent() -> None:
    group = ActivityGroup()
    seen: list[int] = []
    release = asyncio.Event()

    async def waits() -> None:
        with held():
            await release.wait()

    async def works() -> None:
        await asyncio.sleep(0)
        seen.append(group.busy)
        release.set()

    with group.activity():
        await together(waits(), works())
        seen.append(group.busy)
    assert seen == [1, 1], "the hold of one task must not hide the work of the other"


@pytest.mark.anyio
async def test_an_unheld_wait_does_not_hide_the_work_of_a_sibling() -> None:
    group = ActivityGroup()
    clock = ManualClock(start=0.0)
    seen: list[int] = []

    async def deadline() -> None:
        with unheld():
            await clock.sleep_until(5.0)

    with group.activity():
        sleeper = asyncio.ensure_future(deadline())
        await asyncio.sleep(0)
        seen.append(group.busy)
        with held():
            seen.append(group.busy)
        await clock.advance(5.0)
        await sleeper
    assert seen == [1, 0]


@pytest.mark.anyio
async def test_a_response_that_fails_to_arrive_releases_its_hold() -> None:
    group = ActivityGroup()
    with group.activity():
        trace = awaiting_response()
        await trace("connection.connect_tcp.started", {})
        assert group.busy == 1, "connecting is work of this process"
        await trace("http11.receive_response_headers.started", {})
        assert group.busy == 0
        await trace("http11.receive_response_headers.failed", {})
        assert group.busy == 1
