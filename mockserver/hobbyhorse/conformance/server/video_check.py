"""The properties of a fetched video, and how much its first frame differs from the image. Knows no server."""

from __future__ import annotations

import importlib
import io
from array import array
from collections.abc import Iterator
from itertools import islice
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


# The facts that compare the first frame with a picture of the suite's own, and if they differ, the frame of the first
# seconds that is most like the picture.
START, LATER = "start_difference", "later_difference"
# First frames that differ by more are followed by a look at later ones: each twelfth of the first 48, half a second.
LOOK_ON, STEP, LOOKED_AT = 8.0, 12, 48


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
        if apart > LOOK_ON:
            facts[LATER] = _least_difference(data, start)
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
    return next(_differences(data, picture, 1), None)


def _least_difference(data: bytes, picture: bytes) -> float:
    """Return the difference of the frame among the first ones that is most like a picture."""
    return min(_differences(data, picture, LOOKED_AT), default=255.0)


def _differences(data: bytes, picture: bytes, most: int) -> Iterator[float]:
    """Yield the mean differences from a picture of each twelfth frame, among the first ones; none without PyAV."""
    try:
        images: Any = importlib.import_module("PIL.Image")
        for frame in _frames(data, most):
            # The video's aspect ratio differs slightly, because its sides are even: scaling removes the difference.
            sent = images.open(io.BytesIO(picture)).convert("RGB").resize(frame.size).resize(SMALL)
            pairs = list(zip(frame.convert("RGB").resize(SMALL).tobytes(), sent.tobytes(), strict=True))
            yield float(round(sum(abs(one - other) for one, other in pairs) / len(pairs), 2))
    except (ImportError, OSError, ValueError):
        return


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
    return next(_frames(data, 1), None)


def _frames(data: bytes, most: int) -> Iterator[Any]:
    """Yield each twelfth frame of a video as a picture, among the first ones; none if it cannot be decoded."""
    try:
        av: Any = importlib.import_module("av")
    except ImportError:
        return
    try:
        with av.open(io.BytesIO(data)) as container:
            for frame in islice(container.decode(video=0), 0, most, STEP):
                yield frame.to_image()
    except (OSError, ValueError, av.error.FFmpegError):
        return
