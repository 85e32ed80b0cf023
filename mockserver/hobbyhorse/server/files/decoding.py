"""The pieces of work on input pictures that a worker process does: check one and store it, compose a first frame.

Each returns its refusal as a value, because an exception with two arguments does not survive a pickle.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.media.picture import (
    READABLE,
    PictureError,
    check_picture,
    count_pixels,
    data_uri,
    read_header,
    read_picture,
)
from hobbyhorse.media.video import VideoSpec, compose

# Of one picture: the largest that a phone makes takes 3 s. The alternative is a decoder that never ends.
DECODE_SECONDS = 10.0
# Of a first frame: a picture, or up to nine references.
COMPOSE_SECONDS = 30.0
# Pictures beyond this are decoded one at a time by a server: each takes hundreds of megabytes.
LARGE_PIXELS = 20_000_000
LARGE = "large"


class Checked(NamedTuple):
    """A stored picture's name, or the code and message of its refusal; the code LARGE asks for a turn of its own."""

    name: str = ""
    code: str = ""
    message: str = ""


def check_and_store(
    given: str | bytes | Path, limits: PictureLimits | None, directory: Path, most_pixels: int
) -> Checked:
    """Check a picture, and write it to a directory under the hash of its bytes.

    It is given as a data URI, as a file with one, or as bytes.
    """
    _unlimit()
    try:
        given = given.read_text() if isinstance(given, Path) else given
        data = data_uri(given) if isinstance(given, str) else given
        formats = READABLE if limits is None else limits.formats
        # Before anything is decoded: a few kilobytes can decode to gigabytes.
        if count_pixels(data, formats) > most_pixels:
            return Checked(code=LARGE)
        if limits is not None:
            check_picture(read_header(data, formats), limits)
        read_picture(data, formats)
    except PictureError as error:
        return Checked(code=error.code, message=error.message)
    name = hashlib.sha256(data).hexdigest()
    path = directory / name
    if not path.exists():
        # Written aside and renamed: a concurrent request never reads half a file. The id keeps two workers apart.
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_bytes(data)
        aside.replace(path)
    return Checked(name)


def compose_still(spec: VideoSpec) -> tuple[tuple[int, int], bytes] | str:
    """Return the first frame of a video as its size and raw RGB pixels, or the reason for which there is none."""
    _unlimit()
    try:
        still = compose(spec)
    except PictureError as error:
        return error.message
    return still.size, still.tobytes()


def _unlimit() -> None:
    """Replace the decoder's own bounds by ours, which `read_header` checks; only in this process."""
    Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("ignore")
