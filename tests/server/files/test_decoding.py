"""Pictures that cost gigabytes or minutes cost their own key a refusal, and nobody else anything."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.media.picture import MOST_PIXELS, PictureError
from hobbyhorse.media.video import VideoSpec
from hobbyhorse.server.files import image_store
from hobbyhorse.server.files.decoding import LARGE, LARGE_PIXELS, check_and_store, compose_still
from hobbyhorse.server.files.image_sources import FetchPolicy, Source
from hobbyhorse.server.files.image_store import ImageStore
from hobbyhorse.server.worker.pool import PROCESSES, WorkerPool
from tests.conftest import NIGHT
from tests.media.test_picture import bomb
from tests.server.files.test_image_checks import encoded, inline
from tests.server.files.test_image_store import submission

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")]

INLINE = frozenset({Source.INLINE})


def white(width: int, height: int) -> bytes:
    """Return a PNG of any size in a few hundred kilobytes."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * 3 * width
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    parts = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + pixels, b"IEND")
    chunks = b"".join(struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + chunks


def endless_jpeg(side: int = 3_000, scans: int = 2_000) -> bytes:
    """Return a progressive JPEG that repeats a short scan, each time over the whole picture."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (40, 90, 160)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * scans + data[end:]


def peak(pid: int) -> int:
    """Return the largest resident memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


async def take(store: ImageStore, data: bytes, owner: str = "a") -> str:
    """Store a picture; return its name or the message of the refusal."""
    try:
        found = await store.take(submission(inline(data)), "http://mock.test", INLINE, owner)
    except PictureError as error:
        return error.message
    return str(found.first_frame)


def test_a_picture_is_checked_before_it_is_decoded(tmp_path: Path) -> None:
    assert check_and_store(white(100, 100), None, tmp_path, 10_000).name
    assert check_and_store(white(100, 101), None, tmp_path, 10_000) == ("", LARGE, "")
    refused = check_and_store(bomb(50_000, 50_000), None, tmp_path, MOST_PIXELS)
    assert (refused.code, "a bound of the mock server" in refused.message) == ("pixels", True)
    limits = PictureLimits(("jpeg",))
    assert "allowed: jpeg" in check_and_store(white(100, 100), limits, tmp_path, 10_000).message
    assert len(list(tmp_path.iterdir())) == 1


def test_a_first_frame_is_composed_as_its_pixels_or_refused() -> None:
    spec = VideoSpec("t", encoded(640, 360), (), "", 720, None, 1, 0, False, "")
    found = compose_still(spec)
    assert not isinstance(found, str)
    assert (found[0], len(found[1])) == ((1280, 720), 1280 * 720 * 3)
    assert "truncated" in compose_still(VideoSpec("t", encoded(64, 36)[:60], (), "", 720, None, 1, 0, False, ""))


async def test_a_picture_that_is_decoded_for_ever_is_abandoned_while_another_key_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool()
    store = ImageStore(tmp_path, FetchPolicy(), pool)
    assert (await take(store, encoded(400, 400))).startswith("sha256:")
    monkeypatch.setattr(image_store, "DECODE_SECONDS", 1.0)
    slow = endless_jpeg()
    assert len(slow) < 1 << 20
    busy = [asyncio.ensure_future(take(store, slow, "busy")) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert (await take(store, encoded(500, 500), "other")).startswith("sha256:")
    assert not any(task.done() for task in busy)
    for message in await asyncio.gather(*busy):
        assert message.startswith("the picture cannot be decoded: it takes more than 1 s")
        assert "not of the provider" in message
    pool.close()


async def test_six_large_pictures_take_the_memory_of_one(tmp_path: Path) -> None:
    pool = WorkerPool()
    store = ImageStore(tmp_path, FetchPolicy(), pool)
    PROCESSES.end()
    large = white(5_000, 5_000)
    assert LARGE_PIXELS < 5_000 * 5_000 < MOST_PIXELS
    work = [asyncio.ensure_future(take(store, large, f"key {number}")) for number in range(6)]
    peaks: dict[int, int] = {}
    while not all(task.done() for task in work):
        for worker in (*pool._busy, *PROCESSES._idle):
            try:
                peaks[worker.process.pid] = peak(worker.process.pid)
            except (OSError, StopIteration):
                continue
        await asyncio.sleep(0.02)
    assert [name[:7] for name in await asyncio.gather(*work)] == ["sha256:"] * 6
    # Each process has some 60 MB of its own, and the decoder takes 4 bytes a pixel: 100 MB.
    assert sum(peak - (60 << 20) for peak in peaks.values()) < 300 << 20, peaks
    pool.close()


@pytest.mark.skipif(not NIGHT, reason="encoding the picture takes ten seconds")
async def test_a_picture_of_a_phone_with_200_megapixels_is_taken(tmp_path: Path) -> None:
    pool = WorkerPool()
    store = ImageStore(tmp_path, FetchPolicy(), pool)
    out = io.BytesIO()
    Image.new("L", (16_320, 12_240), 90).save(out, "JPEG", quality=30)
    assert (await take(store, out.getvalue())).startswith("sha256:")
    pool.close()
