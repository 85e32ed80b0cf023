"""Videos for the tests: one of ours, and variants with a fault, written by another library."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
from PIL import Image

from hobbyhorse.media.video import FPS, film
from tests.media_samples import SHOT, encoded

# The length that the suite submits.
SECONDS = 3


@contextmanager
def _aside() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="films-") as room:
        yield Path(room) / "film.mp4"


@cache
def good(seconds: int = SECONDS, tier: int = 720) -> bytes:
    """Return a video of ours, by default 1280x720."""
    with _aside() as out:
        film(replace(SHOT, seconds=seconds, tier=tier), out)
        return out.read_bytes()


@cache
def remade(
    data: bytes, *, rate: int = FPS, dropped: int = 0, quiet: int = 0, audio: bool = True, first: bool = True
) -> bytes:
    """Return a video at another rate, without its last frames or sound, or with its index last."""
    with _aside() as out:
        with av.open(io.BytesIO(data)) as source, _writing(out, first=first) as target:
            picture: Any = source.streams.video[0]
            kept = [picture, *(source.streams.audio if audio else ())]
            streams = {one.index: target.add_stream_from_template(one) for one in kept}
            packets: list[Any] = [one for one in source.demux(*kept) if one.dts is not None]
            left = sum(one.stream is picture for one in packets) - dropped
            for packet in packets:
                if packet.stream is picture:
                    left -= 1
                    packet.pts, packet.dts = packet.pts * FPS // rate, packet.dts * FPS // rate
                    packet.duration = packet.duration * FPS // rate
                if left >= 0 if packet.stream is picture else packet.pts * packet.time_base < SECONDS - quiet:
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
        return out.read_bytes()


@cache
def muted(data: bytes) -> bytes:
    """Return a video whose sound is silence."""
    return _filtered(data, "-af", "volume=0", "-c:v", "copy")


@cache
def faded(data: bytes) -> bytes:
    """Return a video that begins in black."""
    return _filtered(data, "-vf", f"fade=in:0:{FPS // 2}")


def _filtered(data: bytes, *how: str) -> bytes:
    with _aside() as out:
        source = out.with_name("source.mp4")
        source.write_bytes(data)
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(source)]
        subprocess.run([*command, *how, "-movflags", "faststart", str(out)], check=True)
        return out.read_bytes()


@cache
def plain(width: int, height: int, seconds: int = SECONDS) -> bytes:
    """Return a silent video of one colour."""
    with _aside() as out:
        with _writing(out) as target:
            stream: Any = target.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"preset": "ultrafast"}
            frame: Any = av.VideoFrame.from_image(  # type: ignore[no-untyped-call]
                Image.new("RGB", (width, height), (200, 80, 80))
            )
            for number in range(FPS * seconds):
                frame.pts = number
                target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
        return out.read_bytes()


@cache
def picture() -> bytes:
    """Return a small picture to submit."""
    return encoded(Image.linear_gradient("L").resize((640, 360)).convert("RGB"))


def _writing(out: Path, *, first: bool = True) -> Any:
    return av.open(str(out), "w", format="mp4", options={"movflags": "faststart"} if first else {})
