"""Servers in their own processes: ours by its command, others under uvicorn with the same settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
OURS = (str(BIN / "hobbyhorse"), "serve", "--port", "0", "--pace", "instant")
SETTINGS = ("--port", "0", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--no-server-header")
_URL = re.compile(r"http://[\d.]+:\d+")


@dataclass(frozen=True, slots=True)
class Started:
    """A server that is ready: its URL, the seconds from its command to the line that prints the URL, its process."""

    url: str
    seconds: float
    pid: int


def uvicorn(app: str) -> tuple[str, ...]:
    """Return the command that serves an application of this package."""
    return (str(BIN / "uvicorn"), f"benchmarks.{app}", *SETTINGS)


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Run a server until the context ends. Raises RuntimeError if it exits without printing its URL."""
    began = time.perf_counter()
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=Path(__file__).parent.parent,
    )
    assert server.stdout is not None
    try:
        output = ""
        for line in server.stdout:
            output += line
            if url := _URL.search(line):
                break
        else:
            raise RuntimeError(f"{' '.join(command)} did not start: {output}")
        yield Started(url[0], time.perf_counter() - began, server.pid)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def on_core(core: int, command: Sequence[str]) -> tuple[str, ...]:
    """Return a command pinned to a core, or the command itself without taskset or with only one core."""
    pinned = shutil.which("taskset") is not None and (os.cpu_count() or 1) > 1
    return ("taskset", "-c", str(core), *command) if pinned else tuple(command)
