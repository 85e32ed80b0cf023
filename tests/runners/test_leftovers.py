"""Processes are found by their session or their mark, and killed, also if they start new ones meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hobbyhorse.runners import leftovers
from hobbyhorse.runners.leftovers import RUN_VARIABLE, Leftovers, process_ids
from tests.runners.test_command import alive, eventually

if not os.path.isdir("/proc/self"):
    pytest.skip("there is no /proc", allow_module_level=True)

# Each process starts the next one, in a session of its own, and exits; a file ends the chain if the test fails.
CHAIN = """
import os, sys, time
until = time.time() + 20
while time.time() < until:
    if os.fork():
        os._exit(0)
    os.setsid()
    with open(sys.argv[1], "w") as file:
        file.write(str(time.time()))
"""


def started(mark: str, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, env={**os.environ, RUN_VARIABLE: mark}, start_new_session=True)


def test_processes_are_found_by_session_and_by_mark() -> None:
    before = process_ids()
    one, other = started("mark of one", "sleep", "60"), started("mark of another", "sleep", "60")
    try:
        assert eventually(lambda: list(Leftovers(-1, "mark of one", before).alive()) == [one.pid])
        # A process has no environment for a moment while it starts.
        assert eventually(lambda: list(Leftovers(-1, "mark of another", before).alive()) == [other.pid])
        assert list(Leftovers(other.pid, "no mark", before).alive()) == [other.pid]
        assert list(Leftovers(-1, "mark of one", before | {str(one.pid)}).alive()) == []
        assert Leftovers(one.pid, "mark of another", before).kill()
        assert not alive(one.pid)
        assert not alive(other.pid)
    finally:
        for process in (one, other):
            process.kill()
            process.wait()


def test_a_look_that_meets_an_end_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    before = process_ids()
    with started("mark of a chain", "true") as ended:
        ended.wait()
    left = started("mark of a chain", "sleep", "60")
    # The first list was made before the process that has ended had started the other one.
    lists = iter([frozenset({str(ended.pid)})])
    monkeypatch.setattr(leftovers, "process_ids", lambda: next(lists, None) or process_ids())
    try:
        assert eventually(lambda: b"sleep" in Path(f"/proc/{left.pid}/cmdline").read_bytes())
        assert Leftovers(-1, "mark of a chain", before).kill()
        assert not alive(left.pid)
    finally:
        left.kill()
        left.wait()


def test_a_chain_of_processes_that_start_each_other_is_ended(tmp_path: Path) -> None:
    before, file = process_ids(), tmp_path / "last"
    with started("chain", sys.executable, "-S", "-c", CHAIN, str(file)) as first:
        assert eventually(file.exists)
        first.wait()
        assert Leftovers(first.pid, "chain", before).kill()
    seen = file.read_text()
    assert eventually(lambda: not list(Leftovers(-1, "chain", before).alive()))
    assert file.read_text() == seen
