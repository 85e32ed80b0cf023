"""The worker process performs work until its input ends, within bounds that hold without its parent."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from hobbyhorse.server.worker.child import MOST_MEMORY_BYTES, Outcome, Work, receive, send

START = f"import sys; sys.path[:] = {sys.path!r}; from hobbyhorse.server.worker.child import main; main()"


def take_memory(size: int) -> int:
    return len(bytearray(size))


def spend(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def start(code: str = START) -> subprocess.Popen[bytes]:
    process = subprocess.Popen((sys.executable, "-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert receive(process.stdout) == Outcome(), "it is ready"
    return process


def ask(process: subprocess.Popen[bytes], work: Work) -> Outcome:
    assert process.stdin is not None
    assert process.stdout is not None
    send(process.stdin, work)
    found = receive(process.stdout)
    assert isinstance(found, Outcome)
    return found


def test_work_is_performed_one_after_another_until_the_input_ends() -> None:
    process = start()
    assert ask(process, Work(max, (1, 2), 5.0)).value == 2
    assert ask(process, Work(int, ("no\n number",), 5.0)) == Outcome(
        None, "ValueError", "invalid literal for int() with base 10: 'no\\n number'"
    )
    assert ask(process, Work(print, ("into the answers?",), 5.0)).value is None
    assert ask(process, Work(os.getpid, (), 5.0)).value == process.pid
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, b"")


def test_memory_beyond_the_bound_is_refused_and_the_process_goes_on() -> None:
    process = start()
    assert ask(process, Work(take_memory, (MOST_MEMORY_BYTES,), 5.0)).error == "MemoryError"
    assert ask(process, Work(take_memory, (1 << 20,), 5.0)).value == 1 << 20
    process.communicate()


def test_work_that_takes_too_much_of_the_processor_is_ended_although_nobody_is_there_to_do_it() -> None:
    process = start()
    assert process.stdin is not None
    # One call of C code, which no exception could interrupt.
    send(process.stdin, Work(pow, (3, 1 << 40), 1.0))
    assert process.wait(60) == -signal.SIGXCPU
    process.communicate()


def test_a_message_that_breaks_off_is_the_end_of_the_input() -> None:
    whole = io.BytesIO()
    send(whole, ("a", 1))
    assert receive(io.BytesIO(whole.getvalue())) == ("a", 1)
    for size in (0, 3, 8, len(whole.getvalue()) - 1):
        with pytest.raises(EOFError):
            receive(io.BytesIO(whole.getvalue()[:size]))


def test_each_piece_of_work_has_its_own_time() -> None:
    process = start()
    for _ in range(4):
        assert ask(process, Work(spend, (0.5,), 1.0)).value is None
    process.communicate()
