"""The supervisor, with children that only say that they are there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

PATIENCE = 20.0
# Each child ends with the status that stands in the file, if there is one, and serves until SIGTERM otherwise.
PROGRAM = """
import asyncio, json, os, signal, sys
from pathlib import Path
from hobbyhorse.cli.supervisor import Supervisor
from hobbyhorse.cli.usage import UsageError

how = Path(sys.argv[2])

def work(ready):
    async def serve():
        what = how.read_text() if how.exists() else "serve"
        if what == "usage":
            raise UsageError("the option is wrong")
        if what.isdecimal():
            sys.exit(int(what))
        end = asyncio.Event()
        if what != "deaf":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
        else:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready()
        await end.wait()
    asyncio.run(serve())

sys.exit(Supervisor(int(sys.argv[1]), work, lambda pids: print(json.dumps(list(pids)), flush=True)).run())
"""


@contextmanager
def supervised(count: int, how: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(count), str(how)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def pids_of(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    found: list[int] = json.loads(process.stdout.readline())
    return found


def children(process: subprocess.Popen[str]) -> set[int]:
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return {int(pid) for pid in file.read().split()}


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tests read /proc")


def test_it_tells_all_processes_once_and_stops_all_on_a_signal(tmp_path: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with supervised(3, tmp_path / "none") as process:
            pids = pids_of(process)
            assert len(set(pids)) == 3
            assert set(pids) == children(process)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
            assert (process.returncode, out, err) == (0, "", "")
            assert not any(lives(pid) for pid in pids)


def test_a_process_that_dies_is_replaced(tmp_path: Any) -> None:
    with supervised(2, tmp_path / "none") as process:
        first, second = pids_of(process)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(children(process) - {first}) == 2)
        assert second in children(process)
        process.terminate()
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, "")
        assert err == f"hobbyhorse: the process {first} ended by signal 9; another one replaces it\n"


def test_a_replacement_that_fails_is_tried_again(tmp_path: Any) -> None:
    how = tmp_path / "how"
    with supervised(2, how) as process:
        first, _ = pids_of(process)
        how.write_text("5")
        os.kill(first, signal.SIGKILL)
        assert process.stderr is not None
        assert "signal 9" in process.stderr.readline()
        assert "with status 5; another one replaces it" in process.stderr.readline()
        how.unlink()
        wait_until(lambda: len(children(process)) == 2)
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_start_that_fails_ends_with_the_status_and_one_line(tmp_path: Any) -> None:
    how = tmp_path / "how"
    how.write_text("usage")
    with supervised(1, how) as process:
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (2, "", "hobbyhorse: the option is wrong\n")


def test_a_process_that_gives_up_ends_all(tmp_path: Any) -> None:
    how = tmp_path / "how"
    with supervised(2, how) as process:
        first, _ = pids_of(process)
        how.write_text("3")
        os.kill(first, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 3


def test_a_process_that_does_not_stop_is_killed_in_time(tmp_path: Any) -> None:
    how = tmp_path / "how"
    how.write_text("deaf")
    with supervised(2, how) as process:
        pids = pids_of(process)
        began = time.monotonic()
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 5.0
        assert not any(lives(pid) for pid in pids)


def test_no_process_outlives_its_supervisor(tmp_path: Any) -> None:
    with supervised(2, tmp_path / "none") as process:
        pids = pids_of(process)
        process.kill()
        wait_until(lambda: not any(lives(pid) for pid in pids))
