"""The words of an error decide whether a command timed out, not the names and code in its stack trace."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hobbyhorse.runners.last_words import MOST_CHARACTERS, is_timeout, last_words

TRACE = """Traceback (most recent call last):
  File "client.py", line 9, in generate
    return self.wait(job, timeout=timeout)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "client.py", line 4, in wait_until_deadline
"""
NODE = """file:///client.mjs:3
  throw new Error(timeout ? "timed out" : "no video");
        ^

Error: no video
    at Timeout._onTimeout (file:///client.mjs:3:9)
    at listOnTimeout (node:internal/timers:581:17)
    at process.processTimers (node:internal/timers:519:7)

Node.js v20.20.2
"""
BOX = """╭───────────── Traceback (most recent call last) ──────────────╮
│ /client.py:9 in generate                                     │
│ ❱ 9 │ return self.wait(job, timeout=timeout)                 │
╰──────────────────────────────────────────────────────────────╯
"""


@pytest.mark.parametrize(
    "output",
    [
        TRACE + "APIError: not found",
        TRACE + "TimeoutError: the read timed out\n\nDuring handling of it:\n\n" + TRACE + "APIError: not found",
        "the first poll timed out, polling again\n" + TRACE + "APIError: not found",
        NODE,
        BOX + "APIError: not found",
        "the job failed: it did not finish successfully",
    ],
)
def test_words_in_a_stack_trace_or_before_it_are_not_the_errors(output: str) -> None:
    assert not is_timeout(output)


@pytest.mark.parametrize(
    "output",
    [
        TRACE + "client.PollTimeout: job 7",
        TRACE + "APIError: job 7\nis still running",
        TRACE + "ValueError: 1\n\nDuring handling of it:\n\n" + TRACE + "TimeoutError",
        TRACE + "APIError: 1\ngiving up waiting for job 7",
        NODE.replace("Error: no video", "TimeoutError: no video"),
        BOX + "PollTimeout: job 7",
        "╭─ Error ─╮\n│ timed out │\n╰─────────╯",
        "job 7 did not finish within 900s",
        "timed out\n   ^^^ so it ended" + "." * 100,
    ],
)
def test_words_of_the_last_error_are(output: str) -> None:
    assert is_timeout(output)


def test_a_real_traceback_has_the_words_of_its_error_only() -> None:
    code = "def wait(timeout):\n    raise ValueError('not found')\n\nwait(timeout=9)\n"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert last_words(output) == "ValueError: not found"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
@pytest.mark.parametrize(("member", "timeout"), [("ValueError", False), ("TimeoutError", True)])
def test_the_members_of_a_group_are_read(member: str, timeout: bool) -> None:
    code = f"def wait(timeout):\n    raise {member}('not found')\n\n"
    code += "try:\n    wait(timeout=9)\nexcept Exception as error:\n    raise ExceptionGroup('several', [error])\n"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert member in output
    assert is_timeout(output) == timeout


def test_only_the_end_of_a_log_counts() -> None:
    assert not is_timeout("timed out\n" + "x" * MOST_CHARACTERS)
    assert last_words("") == ""


def test_a_trace_may_be_longer_than_the_words_that_count() -> None:
    trace = TRACE + '  File "client.py", line 4, in timeout\n' * MOST_CHARACTERS + "APIError: not found"
    assert last_words(trace) == "APIError: not found"
