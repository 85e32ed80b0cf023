"""The worker process: performs one piece of work after another for the process that started it.

The work is untrusted input: pictures that decode to gigabytes, or for minutes. So the process has bounds of its own,
which hold even if the process that started it has died: the kernel refuses memory beyond `MOST_MEMORY_BYTES`, and ends
a process whose piece of work takes too much of the processor, inside any C code. Between two pieces of work it ends
with its input.

A message in either direction is its length in 8 bytes, then a pickle: a function with its arguments and its seconds,
or the outcome; an empty outcome comes first, when the process is ready. Both processes are one program, so nobody else
writes these pickles.
"""

from __future__ import annotations

import math
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, NamedTuple

# A picture of 200 megapixels takes 800 MB as pixels, and a progressive JPEG of it 600 MB of coefficients.
MOST_MEMORY_BYTES = 3 << 30
# Polls of other keys come first, on a machine with few cores.
NICENESS = 5
LENGTH_BYTES = 8  # of the length before each message


class Work(NamedTuple):
    """A piece of work: a function of a module, its arguments, and the seconds of processor time that it may take."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    seconds: float


class Outcome(NamedTuple):
    """What became of a piece of work: its value, or the name of the exception and its text."""

    value: Any = None
    error: str = ""
    text: str = ""


def send(to: IO[bytes], message: object) -> None:
    """Write a message. Raises OSError."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    to.write(len(data).to_bytes(LENGTH_BYTES, "big"))
    to.write(data)
    to.flush()


def receive(source: IO[bytes]) -> Any:
    """Read a message. Raises EOFError at the end of the input, and within a message."""
    head = source.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        raise EOFError
    size = int.from_bytes(head, "big")
    data = source.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def main() -> None:
    """Work until the input ends."""
    # The terminal's Ctrl-C is for the server, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError, ValueError):  # a system without this limit, or with a lower one
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    with suppress(OSError):
        os.nice(NICENESS)
    # Whatever prints must not write into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(EOFError, BrokenPipeError):
        # Ready: the time of the first piece of work does not include the start of the process.
        send(answers, Outcome())
        while True:
            send(answers, _perform(receive(sys.stdin.buffer)))


def _perform(work: Work) -> Outcome:
    # Not in real time: on a busy machine, a correct picture takes ten times as long. In whole seconds, rounded up.
    bound = math.ceil(time.process_time() + work.seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (bound, resource.RLIM_INFINITY))
    try:
        return Outcome(work.function(*work.arguments))
    except Exception as error:  # the parent decides what it means
        return Outcome(error=type(error).__name__, text=" ".join(str(error).split()))
