"""A PNG loses its notes and oversized profiles, and nothing that its picture needs."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest
from PIL import Image

from hobbyhorse.media.picture import read_header, read_picture
from hobbyhorse.media.png_chunks import MOST_PROFILE_BYTES, PNG, needed
from tests.media_samples import encoded

LARGE = zlib.compress(bytes(MOST_PROFILE_BYTES + 1), 9)
EXIF = Image.Exif()
EXIF[0x0112] = 6


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(*chunks: bytes) -> bytes:
    """Return a small red PNG with chunks after its head."""
    plain = encoded(Image.new("RGB", (40, 20), (200, 30, 30)))
    at = len(PNG) + 25
    return plain[:at] + b"".join(chunks) + plain[at:]


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(chunk(b"tEXt", b"workflow\0" + b"n" * 2_000_000), id="a long text"),
        pytest.param(chunk(b"zTXt", b"workflow\0\0" + LARGE), id="a packed text"),
        pytest.param(chunk(b"iTXt", b"workflow\0\1\0\0\0" + LARGE), id="a packed international text"),
        pytest.param(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE), id="packed XMP"),
        pytest.param(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 2_000_000), id="long XMP"),
        pytest.param(chunk(b"zTXt", b"Raw profile type exif\0\0" + LARGE), id="packed EXIF"),
        pytest.param(chunk(b"iCCP", b"screen\0\0" + LARGE), id="a large profile"),
        pytest.param(chunk(b"iCCP", b"screen\0\0" + b"not packed"), id="a damaged profile"),
        pytest.param(chunk(b"tEXt", b"a\0b") * 5_000, id="many texts"),
    ],
)
def test_what_the_picture_does_not_need_is_dropped(extra: bytes) -> None:
    data = with_chunk(extra)
    assert needed(data) == with_chunk()
    assert read_picture(data).image.getpixel((5, 5)) == (200, 30, 30)


def test_a_note_that_would_unpack_to_gigabytes_costs_no_memory() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    data = with_chunk(chunk(b"zTXt", b"a\0\0" + bomb), chunk(b"iCCP", b"a\0\0" + bomb))
    tracemalloc.start()
    try:
        assert needed(data) == with_chunk()
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_the_orientation_in_a_note_is_kept() -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="x"><rdf:Description tiff:Orientation="6"/></rdf:RDF>'
    )
    for note in (
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        chunk(
            b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n" % 6 + EXIF.tobytes().hex().encode())
        ),
    ):
        data = with_chunk(note)
        assert needed(data) == data
        assert read_header(data).width == 20


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", PNG, PNG + b"\0", with_chunk()[:60], PNG + chunk(b"tEXt", b"a")[:-6], with_chunk()]
)
def test_everything_else_stays_as_it_is(data: bytes) -> None:
    assert needed(data) == data


def test_a_chunk_that_claims_more_than_there_is_ends_the_search() -> None:
    data = PNG + struct.pack(">I4s", 0xFFFFFFFF, b"tEXt") + b"abc"
    assert needed(data) == data
