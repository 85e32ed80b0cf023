"""The files that recorded traffic comes in: HAR as it is, compressed, or in a ZIP archive with the bodies beside it.

Playwright writes `.har.zip`, mitmproxy `.zhar` (zlib), and large recordings are often compressed with gzip. Nothing is
unpacked to the disk, and everything that is unpacked counts towards one bound, so that a small file cannot fill the
memory. A recording names the files of its bodies itself; only names beside the recording are followed.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

# The most bytes that are read or unpacked for one recording: parsed JSON takes several times its size in memory.
MOST_HAR_BYTES = 512 << 20
# Bytes that are unpacked at a time, so that a bomb is noticed before it is in memory.
_CHUNK = 1 << 20

Attached = Callable[[str], bytes | None]
"""Return the content of a file that a recording names, or None if it is missing. Raises HarError."""


class HarError(ValueError):
    """Recorded traffic that cannot be read; `at` is the place in the file."""

    def __init__(self, at: str, reason: str) -> None:
        super().__init__(f"{at or 'the file'}: {reason}")
        self.at = at


@dataclass(frozen=True, slots=True)
class HarFile:
    """The JSON of a recording, and the files beside it."""

    document: Any
    attached: Attached


class _Budget:
    """The bytes that may still be read."""

    def __init__(self) -> None:
        self.left = MOST_HAR_BYTES

    def spend(self, size: int) -> None:
        """Count bytes. Raises HarError if they are too many."""
        self.left -= size
        if self.left < 0:
            raise HarError("", f"has more than {MOST_HAR_BYTES:,} bytes (unpacked); record less, or without videos")


def nothing_attached(name: str) -> None:
    """Return no content: the recording is not in a file."""


def open_har(path: Path) -> HarFile:
    """Read a recording. Raises HarError, or OSError."""
    budget = _Budget()
    with path.open("rb") as file:
        # A pipe has no size; a large file is refused before it is read.
        data = file.read(MOST_HAR_BYTES + 1)
    budget.spend(len(data))
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _in_archive(data, budget)
    return HarFile(parse_har(data, budget), lambda name: _beside(path, name, budget))


def parse_har(data: bytes, budget: _Budget | None = None) -> Any:
    """Read the JSON of a file, which may be compressed with gzip or zlib. Raises HarError."""
    if budget is None:
        budget = _Budget()
        budget.spend(len(data))
    if not data.strip():
        raise HarError("", "is empty")
    if data.startswith(b"\x1f\x8b") or _is_zlib(data):
        data = _unpacked(data, budget)
    return _json(data)


def _json(data: bytes) -> Any:
    # Windows programs write a byte order mark, which orjson refuses.
    data = data.removeprefix(b"\xef\xbb\xbf")
    # orjson is several times as fast, but refuses NaN and lone surrogates, which some recorders write.
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    # Also reads UTF-16, which the shell of Windows writes.
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise HarError(f"line {error.lineno}, column {error.colno}", f"is not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise HarError(f"byte {error.start}", f"is not {error.encoding.upper()}: not a HAR file") from None
    except (RecursionError, ValueError) as error:
        raise HarError("", "is nested too deeply" if isinstance(error, RecursionError) else str(error)) from None


def _is_zlib(data: bytes) -> bool:
    """Whether bytes begin with a header of zlib (RFC 1950, section 2.2); no JSON does."""
    return len(data) > 1 and data[0] == 0x78 and int.from_bytes(data[:2], "big") % 31 == 0


def _unpacked(data: bytes, budget: _Budget) -> bytes:
    """Return the content of compressed bytes; gzip may have several parts."""
    found = io.BytesIO()
    while data:
        reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
        while not reader.eof:
            try:
                part = reader.decompress(data, _CHUNK)
            except zlib.error as error:
                raise HarError("", f"cannot be unpacked: {error}") from None
            if not part and not reader.eof and not reader.unconsumed_tail:
                raise HarError("", "cannot be unpacked: the compressed data breaks off")
            budget.spend(len(part))
            found.write(part)
            data = reader.unconsumed_tail
        # Bytes after the end that are no further part, such as padding, are ignored.
        data = reader.unused_data if reader.unused_data.startswith(b"\x1f\x8b") else b""
    return found.getvalue()


def _in_archive(data: bytes, budget: _Budget) -> HarFile:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        listed = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise HarError("", f"is not a readable ZIP archive: {error}") from None
    for info in listed:
        if _leads_out(info.filename):
            raise HarError("", f"the ZIP archive has the name {info.filename[:80]!r}, which leads out of it")
    names = [info.filename for info in listed if info.filename.lower().endswith(".har")]
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        found = ", ".join(names[:5]) or "none"
        raise HarError("", f"the ZIP archive has {len(names)} HAR files ({found}); allowed: 1; unpack it and name one")
    folder = names[0].rpartition("/")[0]

    def attached(name: str) -> bytes | None:
        _plain_name(name)
        inside = f"{folder}/{name}" if folder else name
        return _member(archive, inside, budget) if inside in archive.NameToInfo else None

    return HarFile(parse_har(_member(archive, names[0], budget), budget), attached)


def _leads_out(name: str) -> bool:
    steps = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in steps or "\x00" in name or ":" in steps[0]


def _member(archive: zipfile.ZipFile, name: str, budget: _Budget) -> bytes:
    """Return the content of a file in an archive."""
    found = io.BytesIO()
    try:
        with archive.open(name) as member:
            while part := member.read(_CHUNK):
                budget.spend(len(part))
                found.write(part)
    # A wrong checksum, a password, a method that Python does not know, data that breaks off.
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        reason = str(error) or "the data breaks off"
        raise HarError("", f"{name[:80]!r} in the ZIP archive cannot be unpacked: {reason}") from None
    return found.getvalue()


def _plain_name(name: str) -> None:
    if not name or name != name.strip() or set(name) & set("/\\:\x00") or name.startswith("."):
        raise HarError(
            "", f"the recording names the file {name[:80]!r}; allowed: a file in the directory of the recording"
        )


def _beside(path: Path, name: str, budget: _Budget) -> bytes | None:
    """Return the content of a file beside a recording; None if it is missing."""
    _plain_name(name)
    try:
        # A symbolic link may lead anywhere.
        handle = os.open(path.parent / name, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        content = file.read(budget.left + 1)
    budget.spend(len(content))
    return content
