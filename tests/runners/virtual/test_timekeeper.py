"""Programs in virtual time: each kind of wait takes its time on their clocks, and none in reality."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

import pytest

from hobbyhorse.runners.virtual.self_check import NoServer
from hobbyhorse.runners.virtual.timekeeper import Timekeeper
from hobbyhorse.runners.virtual.traced_process import TracedProcess
from tests.conftest import NIGHT, many
from tests.runners.virtual.conftest import LIMIT, LONGEST, RunProgram

# Every way to wait that virtual time covers.
WAYS = [
    *("sleep", "received", "sent", "alarms", "posix_timers", "timer_files", "absolute", "futexes", "selects"),
    *("signals", "exec_from_thread", "spawned", "denied", "clocks"),
]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_wait_takes_its_time_on_the_clocks_of_the_program(run: RunProgram, waits: str, way: str) -> None:
    done = run([waits, way])
    assert done.status == 0, done.err
    assert (done.keeper.unsupported, done.keeper.denied, done.keeper.crept) == ([], [], 0.0)


def test_many_threads_wake_up_at_their_deadlines(run: RunProgram, waits: str) -> None:
    done = run([waits, "threads", str(many(1_000, 200))])
    assert done.status == 0, done.err
    assert done.passed == pytest.approx(16, abs=0.01)


SHELL = "date +%s; sleep 100; (sleep 50; date +%s) & sleep 1; wait; date +%s"


def test_a_shell_and_its_processes_have_one_clock(run: RunProgram) -> None:
    done = run(["/bin/sh", "-c", SHELL])
    first, second, third = map(int, done.out.split())
    assert (second - first, third - first) == (150, 150)
    assert done.passed == pytest.approx(150, abs=0.01)


THREADS = """
import threading, time
begun = time.monotonic()
def work(n):
    for _ in range(3):
        time.sleep(n)
        print(n, round(time.monotonic() - begun, 1), flush=True)
threads = [threading.Thread(target=work, args=(n,)) for n in (3, 2, 5, 2)]
for one in threads: one.start()
for one in threads: one.join()
"""


def test_the_order_of_threads_is_the_same_each_time(run: RunProgram) -> None:
    first = run([sys.executable, "-S", "-c", THREADS]).out
    assert first.split()[:4] == ["2", "2.0", "2", "2.0"]
    assert [run([sys.executable, "-S", "-c", THREADS]).out for _ in range(3)] == [first] * 3


@pytest.mark.parametrize("way", ["spin", "zero_polls"])
def test_time_passes_with_a_program_that_waits_for_its_clock(run: RunProgram, waits: str, way: str) -> None:
    done = run([waits, way])
    assert done.status == 0, done.err
    assert done.keeper.crept == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("way", ["forever", "stops"])
def test_a_program_that_nothing_can_wake_is_stuck(run: RunProgram, waits: str, way: str) -> None:
    done = run([waits, way])
    assert (done.status, done.stuck) == (-9, True)
    assert done.cut == "every thread of the client waits, and no event is left that could wake one"


def test_a_program_that_never_ends_is_ended_at_the_limit_of_virtual_time(run: RunProgram) -> None:
    done = run(["/bin/sh", "-c", "while :; do sleep 60; done"], limit=600)
    assert (done.status, done.cut) == (-9, "the client had not ended at the limit of its virtual time")
    assert done.passed == pytest.approx(600, abs=0.01)


@pytest.mark.skipif(not NIGHT, reason="4,096 processes at once disturb the tests beside it; runs by night")
def test_a_program_that_starts_processes_without_end_is_ended(run: RunProgram, waits: str) -> None:
    done = run([waits, "bomb"])
    assert (done.status, done.cut) == (-9, "it started more than 4096 threads")


def test_a_call_that_virtual_time_does_not_cover_is_named(run: RunProgram, waits: str) -> None:
    assert run([waits, "ptrace"]).keeper.unsupported == ["ptrace"]
    done = run([waits, "io_uring"])
    assert (done.status, done.keeper.denied) == (0, ["io_uring_setup"])


def test_a_call_is_named_although_the_program_ends_while_time_is_closed(
    tracer: Path, waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Timekeeper(NoServer(), tracer, LIMIT)
    read = TracedProcess.read

    def until_closed(process: TracedProcess) -> bool:
        while not keeper._closed:  # so one turn reads the name of the call and the end
            read(process)
            time.sleep(0.001)
        return True

    monkeypatch.setattr(TracedProcess, "read", until_closed)
    process = keeper.launch([waits, "ptrace"], dict(os.environ))
    assert process.end is not None
    select.select([process.end], [], [], LONGEST)
    keeper.close()
    process.kill_leftovers()
    for stream in (process.stdout, process.stderr):
        stream.close()
    process.close()
    assert keeper.unsupported == ["ptrace"]


READER = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as peer:
    while peer.recv(1):
        peer.sendall(b"%.6f\\n" % time.time())
"""


class Sender(NoServer):
    """The time of a server that sends a byte at each of its times, and waits for the clock that its reader reads."""

    def __init__(self, listener: socket.socket, pauses: Sequence[float]) -> None:
        super().__init__()
        self._listener, self._times = listener, [self.now() + at for at in accumulate(pauses)]
        self._peer: socket.socket | None = None
        self.read: list[tuple[float, float]] = []
        """Each time, and the clock of the reader."""

    def settle(self, ready: object = None) -> bool:
        if self._peer is None:
            self._peer, _ = self._listener.accept()
        return True

    def next_due(self) -> float | None:
        return self._times[0] if self._times else None

    def step(self, moment: float) -> None:
        super().step(moment)
        if self._peer is None or not self._times or moment < self._times[0]:
            return
        with suppress(TimeoutError):
            self._peer.settimeout(LONGEST)
            self._peer.sendall(b".")
            self.read.append((self._times.pop(0), float(self._peer.recv(100))))
        if not self._times:
            self._peer.close()


def test_a_program_that_the_server_wakes_reads_the_time_of_the_event(tracer: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONGEST)
        sender = Sender(listener, [60.0, 8.7, 0.25, 3_600.0])
        argv = [sys.executable, "-S", "-c", READER, str(listener.getsockname()[1])]
        with Timekeeper(sender, tracer, LIMIT) as keeper:
            process = keeper.launch(argv, dict(os.environ))
            assert process.end is not None
            select.select([process.end], [], [], LONGEST)
            process.kill_leftovers()
            for stream in (process.stdout, process.stderr):
                stream.close()
            process.close()
    assert len(sender.read) == 4
    assert [clock for _, clock in sender.read] == pytest.approx([at for at, _ in sender.read], abs=0.001)


def test_waiting_costs_no_real_time(run: RunProgram, waits: str) -> None:
    begun = time.monotonic()
    run([waits, "sleep"])
    assert time.monotonic() - begun < 30  # of an hour, on a busy machine
