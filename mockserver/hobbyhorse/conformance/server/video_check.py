"""The properties of a fetched video, and how much its first frame differs from the image. Knows no server."""

from __future__ import annotations

import importlib
import io
from array import array
from typing import Any

from hobbyhorse.media.probe import Mp4Error, facts_json, probe
from hobbyhorse.traces.trace import Video

# Pictures are compared at this size, so that details that a codec loses do not count.
SMALL = (64, 64)
# First frames are compared with each other at this width and height, in squares of this side: a line of text changes
# a square clearly, and the whole frame hardly at all.
SHARP, SQUARE = 160, 16
# The fact that compares the video of an order without a parameter with those of two orders with it: the parameter, and
# the differences of their first frames: from the default, from the other value, and between these two.
DEFAULT = "default"


# The fact that compares the first frame with a picture of the suite's own.
START = "start_difference"


def viewed(
    job: str | None,
    url: str,
    data: bytes,
    picture: bytes | None = None,
    *,
    shape: float | None = None,
    start: bytes | None = None,
) -> Video:
    """Return the properties of a video file, compared with the image if one was sent.

    `shape` is the image's width divided by its height, if nothing but its shape is to be compared; `start` is an image
    of which only the content is to be compared.
    """
    try:
        facts = facts_json(probe(data))
    except Mp4Error as error:
        return Video(job, url, error=str(error))
    if (loudest := loudness(data)) is not None:
        facts["loudness"] = loudest
    if start is not None and (apart := first_frame_difference(data, start)) is not None:
        facts[START] = apart
    if shape is not None:
        facts["asked_aspect"] = shape
    elif picture is not None:
        measured = {"asked_aspect": aspect(picture), "first_frame_difference": first_frame_difference(data, picture)}
        facts |= {name: value for name, value in measured.items() if value is not None}
    return Video(job, url, facts)


def aspect(picture: bytes) -> float | None:
    """Return an image's displayed width divided by its height; None if the image cannot be read."""
    try:
        images, upright = (importlib.import_module(f"PIL.{name}") for name in ("Image", "ImageOps"))
        with images.open(io.BytesIO(picture)) as found:
            # A camera may store an upright image rotated; providers rotate the image back by its EXIF data.
            width, height = upright.exif_transpose(found).size
    except (ImportError, OSError, ValueError):
        return None
    return float(width / height)


def first_frame_difference(data: bytes, picture: bytes) -> float | None:
    """Return the mean difference of a colour sample, 0 to 255; None if it cannot be measured (PyAV is optional)."""
    try:
        images: Any = importlib.import_module("PIL.Image")
        first = _first_frame(data)
        if first is None:
            return None
        # The video's aspect ratio differs slightly, because its dimensions are even: scaling removes the difference.
        sent = images.open(io.BytesIO(picture)).convert("RGB").resize(first.size).resize(SMALL)
    except (ImportError, OSError, ValueError):
        return None
    pairs = list(zip(first.convert("RGB").resize(SMALL).tobytes(), sent.tobytes(), strict=True))
    return float(round(sum(abs(one - other) for one, other in pairs) / len(pairs), 2))


def frames_differ(data: bytes, other: bytes) -> float | None:
    """Return the mean difference, from 0 to 255, of the squares in which two videos' first frames differ most.

    None means that it cannot be measured.
    """
    first, second = _first_frame(data), _first_frame(other)
    if first is None or second is None:
        return None
    shades = [one.convert("L").resize((SHARP, SHARP)).tobytes() for one in (first, second)]
    squares: dict[tuple[int, int], int] = {}
    for number, (one, then) in enumerate(zip(*shades, strict=True)):
        at = (number // SHARP // SQUARE, number % SHARP // SQUARE)
        squares[at] = squares.get(at, 0) + abs(one - then)
    return float(round(max(squares.values()) / SQUARE**2, 2))


def loudness(data: bytes) -> float | None:
    """Return the greatest sample of a video's sound, from 0 to 1; None if it cannot be decoded (PyAV is optional)."""
    try:
        av: Any = importlib.import_module("av")
    except ImportError:
        return None
    loudest = 0.0
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.audio:
                return None
            floats = av.AudioResampler(format="flt", layout="mono")
            for frame in container.decode(audio=0):
                for one in floats.resample(frame):
                    loudest = max(loudest, *map(abs, array("f", bytes(one.planes[0])[: 4 * one.samples])))
    except (OSError, ValueError, av.error.FFmpegError):
        return None
    return round(loudest, 5)


def _first_frame(data: bytes) -> Any:
    """Return the first frame of a video as a picture; None if it cannot be decoded (PyAV is optional)."""
    try:
        av: Any = importlib.import_module("av")
    except ImportError:
        return None
    try:
        with av.open(io.BytesIO(data)) as container:
            return next(container.decode(video=0)).to_image()
    except (OSError, ValueError, StopIteration, av.error.FFmpegError):
        return None
