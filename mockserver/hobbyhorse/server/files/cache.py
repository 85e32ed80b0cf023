"""A cache of named files in a directory of bounded size, shared by processes. Evicts least recently used files."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

# The caller opens a path after `find` returns it; a minute is enough, even on a busy machine.
IN_USE_SECONDS = 60.0
# Rendering a video never takes an hour, so the process of an older unfinished file must have died.
ABANDONED_SECONDS = 3_600.0


class Cache:
    """A directory of finished files. Each is written under a hidden name and renamed, so none is ever partial."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self.directory = directory
        self.most_bytes = most_bytes
        directory.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def path(self, name: str) -> Path:
        """Return the path of a file, whether it exists or not."""
        return self.directory / name

    def find(self, name: str) -> Path | None:
        """Return the path of a file and mark it as used, or None if it does not exist."""
        path = self.path(name)
        # Touching proves that the file exists and protects it from `trim`, in one atomic step.
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def trim(self) -> None:
        """Evict least recently used files until the cache is within its size limit; keep files in use."""
        files = []
        for path in self.directory.iterdir():
            try:
                found = path.stat()
            except OSError:  # another process has removed it
                continue
            if path.is_file() and not path.name.startswith("."):
                files.append((found.st_mtime, found.st_size, path))
        excess = sum(size for _, size, _ in files) - self.most_bytes
        for used, size, path in sorted(files):
            if excess <= 0 or used > time.time() - IN_USE_SECONDS:
                break
            path.unlink(missing_ok=True)
            excess -= size

    def _sweep(self) -> None:
        """Remove the unfinished files of processes that died."""
        for path in self.directory.glob(".*"):
            try:
                abandoned = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
            except OSError:
                continue
            if abandoned:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def unwritable(directory: Path) -> str | None:
    """Return why nothing can be written to a directory, in a few words, or None. Makes it if it is missing."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Tried, not asked for: the answer to `access` is wrong for root, and it knows no full disk.
        handle, name = tempfile.mkstemp(prefix=".hobbyhorse-", dir=directory)
        try:
            os.write(handle, b"x")
        finally:
            os.close(handle)
            os.unlink(name)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def user_directory() -> Path:
    """Return the user's cache directory for this program."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hobbyhorse"
