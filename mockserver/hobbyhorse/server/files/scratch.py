"""Temporary directories that do not outlive their server: the next server cleans up after a killed one.

A directory is held by a lock on a file in it, for as long as its process lives: the kernel releases it, however the
process ends. A process id would not do, because containers with separate ids share directories. The lock is taken on
a file of another name, which is then renamed, so that no other server finds the directory without its lock.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

PREFIX, LOCK, NEW_LOCK = "hobbyhorse-", "lock", "lock.new"


class ScratchDirectory:
    """A temporary directory, removed by `cleanup`, or by `sweep` after its process has died. Raises OSError."""

    def __init__(self, parent: Path | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # A short delay until the lock: `sweep` leaves a directory without one alone.
        self._lock = os.open(self.path / NEW_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / NEW_LOCK).rename(self.path / LOCK)
        atexit.register(self.cleanup)

    def cleanup(self) -> None:
        """Remove the directory with everything in it. Does nothing the second time."""
        atexit.unregister(self.cleanup)
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def sweep(parent: Path | None = None) -> list[Path]:
    """Remove the directories of processes that have died; return them."""
    found = []
    with suppress(OSError):
        for path in Path(tempfile.gettempdir() if parent is None else parent).glob(f"{PREFIX}*/{LOCK}"):
            with suppress(OSError):
                if _is_abandoned(path):
                    shutil.rmtree(path.parent, ignore_errors=True)
                    found.append(path.parent)
    return found


def _is_abandoned(lock: Path) -> bool:
    """Whether no process holds a lock. Raises OSError if it cannot be opened, such as another user's."""
    # Without following a link: in a directory that everybody may write to, it could lead anywhere.
    handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
