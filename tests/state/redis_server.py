"""A real Redis for tests, on a free port of this machine, in a directory of its own."""

from __future__ import annotations

import atexit
import functools
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE = 20.0
REDIS = shutil.which("redis-server")
NO_REDIS = "redis-server is not installed (apt-get install redis-server)"
needs_redis = pytest.mark.skipif(REDIS is None, reason=NO_REDIS)


class RedisServer:
    """A `redis-server` that is started, killed and started again on the same port and directory."""

    def __init__(self, directory: Path, *options: str, program: Sequence[str] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.directory, self.options = directory, options
        self._program = [*program] if program else [str(REDIS)]
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        command = [*self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        command += ["--save", "", "--loglevel", "warning", "--daemonize", "no", *self.options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, "redis-server ended at its start"
            time.sleep(0.01)
        raise AssertionError("redis-server does not accept connections")

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None


@functools.cache
def _shared() -> RedisServer:
    server = RedisServer(Path(tempfile.mkdtemp(prefix="hobbyhorse-redis-")))
    server.start()
    atexit.register(shutil.rmtree, server.directory, ignore_errors=True)
    atexit.register(server.kill)
    return server


def shared_redis() -> str:
    """Return the URL of a Redis that is empty, one for all tests of a process. Skips the test if there is none."""
    if REDIS is None:
        pytest.skip(NO_REDIS)
    server = _shared()
    with socket.create_connection(("127.0.0.1", server.port)) as talk:
        talk.sendall(b"FLUSHALL\r\n")
        assert talk.recv(64) == b"+OK\r\n"
    return server.url
