"""Read the file that a client saved, whatever it is. No server, no contract."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from os import PathLike

# Maximum bytes of a saved video that are hashed: larger than any provider's video, and a sparse file must not hang.
LARGEST = 1 << 30


@dataclass(frozen=True, slots=True)
class SavedFile:
    """The digest and size of a file."""

    sha256: str
    size: int


def read_saved(path: str | PathLike[str]) -> SavedFile:
    """Return the digest and size of a regular file. Raises OSError, also for a directory, a pipe or a device."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a blocking open waits for a named pipe's writer
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("it is not a regular file")
        digest, left = hashlib.sha256(), min(about.st_size, LARGEST)
        while left > 0 and (chunk := os.read(file, min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
        return SavedFile(digest.hexdigest(), about.st_size)
    finally:
        os.close(file)


def still_there(path: str, sha256: str | None) -> bool:
    """Whether a file has the digest that it had before."""
    try:
        return read_saved(path).sha256 == sha256
    except (OSError, ValueError):
        return False
