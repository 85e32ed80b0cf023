"""Ctrl-C while a suite runs: the first one ends the runs, so that the report is written, the second one the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from hobbyhorse.conformance.exit_status import INTERRUPTED

MESSAGE = b"\nhobbyhorse: interrupted; the report of the runs until now follows (Ctrl-C again: exit at once)\n"


@contextmanager
def stoppable() -> Iterator[None]:
    """Let the first SIGINT raise KeyboardInterrupt, and end the process with the second one.

    The handler is removed with the context, unless a signal has come: the next one may come while Python exits.
    """
    # Only the main thread can set handlers, and only it gets KeyboardInterrupt.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    count = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 1:
            # Not an exception: the interpreter would wait for threads that wait for the client.
            os._exit(INTERRUPTED)
        with suppress(OSError):
            os.write(2, MESSAGE)  # not print: the signal may have come while stderr's buffer was being written
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if not count:
            signal.signal(signal.SIGINT, before)
