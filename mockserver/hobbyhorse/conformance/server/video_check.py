"""What is in a video that was fetched, and how near its first frame is to the picture; knows no server."""

from __future__ import annotations

import importlib
import io
from typing import Any

from hobbyhorse.media.mp4 import Mp4Error, facts_json, probe
from hobbyhorse.traces.trace import Video

SMALL = (64, 64)
"""The size at which two pictures are compared: details that a codec loses do not count."""


def viewed(job: str | None, url: str, data: bytes, picture: bytes | None = None) -> Video:
    """Return what is in a file; with the picture that was sent, its aspect, and how much the first frame differs."""
    try:
        facts = facts_json(probe(data))
    except Mp4Error as error:
        return Video(job, url, error=str(error))
    if picture is not None:
        asked = {"asked_aspect": aspect(picture), "first_frame_difference": first_frame_difference(data, picture)}
        facts |= {name: value for name, value in asked.items() if value is not None}
    return Video(job, url, facts)


def aspect(picture: bytes) -> float | None:
    """Return the width of a picture by its height, as it is shown; None where it cannot be told."""
    try:
        images, upright = (importlib.import_module(f"PIL.{name}") for name in ("Image", "ImageOps"))
        with images.open(io.BytesIO(picture)) as found:
            width, height = upright.exif_transpose(found).size
    except (ImportError, OSError, ValueError):
        return None
    return float(width / height)


def first_frame_difference(data: bytes, picture: bytes) -> float | None:
    """Return the mean difference of a sample, from 0 to 255; None where there is no decoder (PyAV) to tell."""
    try:
        av: Any = importlib.import_module("av")
        images: Any = importlib.import_module("PIL.Image")
    except ImportError:
        return None
    try:
        with av.open(io.BytesIO(data)) as container:
            first = next(container.decode(video=0)).to_image()
        sent = images.open(io.BytesIO(picture)).convert("RGB").resize(first.size).resize(SMALL)
    except (OSError, ValueError, StopIteration, av.error.FFmpegError):
        return None
    pairs = list(zip(first.convert("RGB").resize(SMALL).tobytes(), sent.tobytes(), strict=True))
    return float(round(sum(abs(one - other) for one, other in pairs) / len(pairs), 2))
