"""Draw a sample as a file: in its format and size, and with as many bytes as it must have. Knows no contract."""

from __future__ import annotations

import io
import zlib

from hobbyhorse.conformance.server.pictures.samples import Sample
from hobbyhorse.media.scenery import scene

# The subject of the suite's prompts: a picture of something else may be refused by a check of the content.
SUBJECT, SEED = "A horse gallops along the beach at low tide", 7
# A chunk that decoders must ignore: ancillary, private, safe to copy (PNG specification, 5.4).
CHUNK = b"hoRs"
# The last chunk of each PNG file: length, name and checksum.
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# A chunk has four bytes each of length, name and checksum.
CHUNK_OVERHEAD = 12
# A JPEG comment has two bytes of marker and two of length, which count the length itself and at most 65,533 bytes more.
COMMENT, MOST_COMMENT, COMMENT_OVERHEAD = b"\xff\xfe", 65_533, 4


def drawn(sample: Sample) -> bytes:
    """Return the file of a sample. Raises ValueError if it cannot be as small as it must be."""
    out = io.BytesIO()
    # Of its own: a video that begins with another picture shows that two pictures were mixed up.
    seed = SEED + zlib.crc32("".join(sample.facets).encode()) % 1_000
    scene(SUBJECT, seed, sample.width, sample.height).save(out, sample.format.upper())
    data = out.getvalue()
    if sample.nbytes is None:
        return data
    if sample.nbytes < len(data) + CHUNK_OVERHEAD:
        raise ValueError(f"the {sample.format} file has {len(data)} bytes; wanted: {sample.nbytes}")
    return _padded_png(data, sample.nbytes) if sample.format == "png" else _padded_jpeg(data, sample.nbytes)


def _padded_png(data: bytes, nbytes: int) -> bytes:
    """Return a PNG file with a chunk of zeros before its end."""
    content = CHUNK + bytes(nbytes - len(data) - CHUNK_OVERHEAD)
    size, checksum = (len(content) - len(CHUNK)).to_bytes(4, "big"), zlib.crc32(content).to_bytes(4, "big")
    return b"".join((data.removesuffix(END), size, content, checksum, END))


def _padded_jpeg(data: bytes, nbytes: int) -> bytes:
    """Return a JPEG file with comments after its first marker."""
    left, pieces = nbytes - len(data), [data[:2]]
    while left > 0:
        # A rest that is shorter than an empty comment would not fit.
        take = min(left, MOST_COMMENT + COMMENT_OVERHEAD)
        take -= COMMENT_OVERHEAD if 0 < left - take < COMMENT_OVERHEAD else 0
        pieces.append(COMMENT + (take - 2).to_bytes(2, "big") + bytes(take - COMMENT_OVERHEAD))
        left -= take
    return b"".join((*pieces, data[2:]))
