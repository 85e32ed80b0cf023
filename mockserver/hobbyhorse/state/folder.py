"""The folder of a SQLite state: its files, and the lock that keeps a second server out."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from hobbyhorse.state.errors import StateError

DATABASE, LOCK, PICTURES = "state.db", "lock", "pictures"


class StateFolder:
    """The folder of one server's state, locked until it is closed or the process ends. Raises StateError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Prompts and pictures are in it.
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (path / PICTURES).mkdir(exist_ok=True)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(f"{str(path)!r} cannot be written to: {error.strerror or error}") from None
        try:
            # A lock of the kernel, which ends with the process, and is right in containers that share a folder.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(self._lock)
            os.close(self._lock)
            raise StateError(f"another server uses {str(path)!r}: {holder}") from None
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        os.truncate(self._lock, 0)
        os.pwrite(
            self._lock, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": began}).encode(), 0
        )

    @property
    def database(self) -> Path:
        """The path of the database."""
        return self.path / DATABASE

    @property
    def pictures(self) -> Path:
        """The folder of the pictures."""
        return self.path / PICTURES

    def close(self) -> None:
        """Let go of the folder. Does nothing the second time."""
        if self._lock >= 0:
            os.truncate(self._lock, 0)
            os.close(self._lock)
            self._lock = -1


def _holder(lock: int) -> str:
    """Return the words for the process that holds a lock."""
    # It may have died since, or not have written yet.
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(os.pread(lock, 1_000, 0))
        return f"process {found['pid']} on {found['host']}, since {found['since']}"
    return "it does not say which"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    aside.write_bytes(content)
    aside.replace(path)
