"""Files by name in a directory of bounded size, shared by processes; the least recently used go first."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

IN_USE_SECONDS = 60.0
"""A file that was used so recently is not removed: somebody may be about to open it."""

ABANDONED_SECONDS = 3_600.0


class Cache:
    """A directory of finished files. Files are made aside and renamed, so that each is whole or not there."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self.directory = directory
        self._most_bytes = most_bytes
        directory.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def path(self, name: str) -> Path:
        """Return where a file is, or is to be made."""
        return self.directory / name

    def find(self, name: str) -> Path | None:
        """Return a file that is there, and note that it was used."""
        path = self.path(name)
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def trim(self) -> None:
        """Remove the least recently used files until the bound is kept; those in use stay."""
        files = []
        for path in self.directory.iterdir():
            try:
                found = path.stat()
            except OSError:
                continue
            if path.is_file() and not path.name.startswith("."):
                files.append((found.st_mtime, found.st_size, path))
        excess = sum(size for _, size, _ in files) - self._most_bytes
        for used, size, path in sorted(files):
            if excess <= 0 or used > time.time() - IN_USE_SECONDS:
                break
            path.unlink(missing_ok=True)
            excess -= size

    def _sweep(self) -> None:
        """Remove what makers left behind that did not live to finish."""
        for path in self.directory.glob(".*"):
            try:
                abandoned = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
            except OSError:
                continue
            if abandoned:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def user_directory() -> Path:
    """Return the user's cache directory for this program."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hobbyhorse"
