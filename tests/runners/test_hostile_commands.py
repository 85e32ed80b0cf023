"""Whatever a command does, its run ends with an outcome, and leaves no process behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest

from hobbyhorse.runners import saved_file
from hobbyhorse.runners.command import CommandError, start
from hobbyhorse.runners.leftovers import process_ids
from tests.runners.test_command import ENDED, LONG, SHORT, TASK, begin, eventually, linux, python, run

# Bounded, so that a failing test does not harm the machine: 30 processes that each leave their session.
FORKS = """
import os, time
for _ in range(30):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
"""


@linux
@pytest.mark.parametrize("code", [FORKS, FORKS + "time.sleep(600)"])
def test_processes_in_sessions_of_their_own_are_ended(code: str) -> None:
    # In the command line of each process of this run, and of no process of another test.
    mark = uuid4().hex
    assert python(f"{code}\n# {mark}", limit=SHORT * 4).outcome.kind in ("success", "unfinished")
    assert [name for name in process_ids() if _runs(name, mark.encode())] == []


def _runs(name: str, word: bytes) -> bool:
    try:
        return word in Path(f"/proc/{name}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_large_output_neither_blocks_the_command_nor_is_kept() -> None:
    finished = run("head -c 100000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero >&2; exit 3")
    assert finished.exit_status == 3
    assert len(finished.stdout) < 100_000


@pytest.mark.parametrize(
    "line",
    [
        """head -c 50000000 /dev/zero | tr "\\0" x; echo '"}';""",
        """printf '{"class": '; head -c 100000 /dev/zero | tr "\\0" "["; echo;""",
        """printf '{"class": "failed", "job": "\\377\\376"}\\n';""",
        "exec >&- 2>&-;",
        "cat;",
        "",
    ],
)
def test_an_odd_output_is_an_outcome(line: str) -> None:
    finished = run(f"{line} exit 4")
    assert (finished.outcome.kind, finished.exit_status) == ("failed", 4)
    assert len(finished.outcome.message) < 2_000


@pytest.mark.parametrize(
    "make", ["mkfifo {}", "ln -s video.mp4 {}", "mkdir {}", "ln -s /dev/zero {}", "rm -r $(dirname {})", "cd /; rm {}"]
)
def test_an_odd_video_file_is_no_video(make: str) -> None:
    outcome = run(make.format('"$HOBBYHORSE_OUTPUT"') + "; exit 0").outcome
    assert (outcome.kind, outcome.sha256) == ("success", None)


def test_a_sparse_video_is_read_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_file, "LARGEST", 1 << 20)
    begun = time.monotonic()
    outcome = run('truncate -s 10G "$HOBBYHORSE_OUTPUT"').outcome
    assert outcome.size == 10 << 30
    assert time.monotonic() - begun < LONG


def test_a_command_that_signals_its_own_group_ends_only_itself() -> None:
    finished = run("kill -KILL 0")
    assert (finished.outcome.kind, finished.exit_status) == ("failed", -9)
    assert "it was killed by SIGKILL" in finished.outcome.message


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("#!/no/such/interpreter\n", 0o755, "the interpreter in its first line does not exist"),
        ("#!/bin/sh\n", 0o644, "it is not executable; try chmod"),
        (None, 0o755, "it is not executable"),
    ],
)
def test_a_file_that_is_not_a_program_is_an_error(text: str | None, mode: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "client"
    if text is None:
        path.mkdir()
    else:
        path.write_text(text)
    path.chmod(mode)
    with pytest.raises(CommandError, match=message):
        start([str(path)], TASK, LONG, now=lambda: ENDED)


def test_the_private_folder_is_removed_whatever_the_command_did_to_it() -> None:
    with begin(
        'mkdir -p "$(dirname "$HOBBYHORSE_OUTPUT")/a/b"; chmod 0 "$(dirname "$HOBBYHORSE_OUTPUT")/a"'
    ) as running:
        running.wait()
        folder = running.folder
    assert eventually(lambda: not os.path.exists(folder))
