"""An error of a worker has a code for programs and one line for people."""

from __future__ import annotations

from hobbyhorse.server.worker.error import WorkerError


def test_an_error_has_a_code_and_a_message() -> None:
    error = WorkerError("time", "it takes more than 10 s")
    assert (error.code, str(error)) == ("time", "it takes more than 10 s")
