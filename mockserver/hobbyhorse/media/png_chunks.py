"""Reduce a PNG to the chunks that its picture needs. Decodes no pixels.

Pillow unpacks notes and colour profiles when it opens a file, and calls a picture broken if one of them is larger than
a bound of its own. A browser shows such a picture: notes are no part of it, and a profile that cannot be used is
ignored. So notes are dropped here, without unpacking them, and so is a profile beyond `MOST_PROFILE_BYTES`.
"""

from __future__ import annotations

import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
# Of an unpacked colour profile: the largest in use, with tables for a printer, have about a megabyte. Pillow's own
# bound is 1 MiB.
MOST_PROFILE_BYTES = 1 << 20
CHUNK_BYTES = 12  # the length, the type and the checksum around the data of a chunk
# Notes that may hold the orientation of the picture; Pillow reads it there.
_ORIENTING = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
_NOTES = (b"tEXt", b"zTXt", b"iTXt")


def needed(data: bytes) -> bytes:
    """Return a PNG without notes and oversized profiles; any other data, or a damaged file, as it is."""
    if not data.startswith(PNG):
        return data
    parts, at, kept = [PNG], len(PNG), len(PNG)
    while at + CHUNK_BYTES <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        end = at + CHUNK_BYTES + size
        if kind == b"IEND" or end > len(data):
            break
        if _superfluous(kind, data[at + 8 : at + 8 + min(size, len(_ORIENTING[0]) + 80)], data, (at + 8, size)):
            parts.append(data[kept:at])
            kept = end
        at = end
    return data if kept == len(PNG) else b"".join((*parts, data[kept:]))


def _superfluous(kind: bytes, begin: bytes, data: bytes, place: tuple[int, int]) -> bool:
    at, size = place
    if kind in _NOTES:
        # Uncompressed ones of the two kinds are short; packed ones may be bombs.
        return not begin.startswith(_ORIENTING) or size > MOST_PROFILE_BYTES or _unpacks_large(kind, data, place)
    if kind == b"iCCP":
        name, _, _ = begin.partition(b"\0")
        return _is_large(data[at + len(name) + 2 : at + size])
    return False


def _unpacks_large(kind: bytes, data: bytes, place: tuple[int, int]) -> bool:
    at, size = place
    _, _, rest = data[at : at + size].partition(b"\0")
    if kind == b"zTXt":
        return _is_large(rest[1:])
    # An iTXt may be packed after two more texts; one that is, is dropped.
    return kind == b"iTXt" and rest[:1] != b"\0"


def _is_large(packed: bytes) -> bool:
    """Whether data unpacks to more than the bound; data that cannot be unpacked is too."""
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, MOST_PROFILE_BYTES)
    except zlib.error:
        return True
    return not unpacker.eof
