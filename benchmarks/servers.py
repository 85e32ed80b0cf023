"""Servers in processes of their own: ours as its command, others under uvicorn with the settings that ours has."""

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
    """A server that is ready: its address, and the seconds from its command to the line that says so."""

    url: str
    seconds: float


def uvicorn(app: str) -> tuple[str, ...]:
    """Return the command that serves an application of this package."""
    return (str(BIN / "uvicorn"), f"benchmarks.{app}", *SETTINGS)


@contextmanager
def started(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Run a server until the context ends; both kinds say their address in the first line that has one."""
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
        said = ""
        for line in server.stdout:
            said += line
            if url := _URL.search(line):
                break
        else:
            raise RuntimeError(f"{' '.join(command)} did not start: {said}")
        yield Started(url[0], time.perf_counter() - began)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def on_core(core: int, command: Sequence[str]) -> tuple[str, ...]:
    """Return the command pinned to a core, where that can be done and there are two."""
    pinned = shutil.which("taskset") is not None and (os.cpu_count() or 1) > 1
    return ("taskset", "-c", str(core), *command) if pinned else tuple(command)
