"""The files of the samples: their format, size and number of bytes, as another reader finds them."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from hobbyhorse.conformance.server.pictures.drawing import COMMENT_OVERHEAD, MOST_COMMENT, drawn
from hobbyhorse.conformance.server.pictures.samples import Sample

WIDTH, HEIGHT = 64, 36


def sample(format: str, nbytes: int | None = None) -> Sample:
    return Sample(format, WIDTH, HEIGHT, (), nbytes)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "bmp", "gif", "tiff"])
def test_a_picture_has_its_format_and_size(format: str) -> None:
    image = opened(drawn(sample(format)))
    assert ((image.format or "").lower(), image.size) == (format, (WIDTH, HEIGHT))


@pytest.mark.parametrize("format", ["jpeg", "png"])
@pytest.mark.parametrize("more", [12, 13, 1000, MOST_COMMENT + COMMENT_OVERHEAD, MOST_COMMENT + COMMENT_OVERHEAD + 1])
def test_a_padded_picture_has_exactly_its_bytes_and_its_old_pixels(format: str, more: int) -> None:
    plain = drawn(sample(format))
    padded = drawn(sample(format, len(plain) + more))
    assert len(padded) == len(plain) + more
    assert opened(padded).tobytes() == opened(plain).tobytes()


def test_a_file_cannot_be_smaller_than_its_picture() -> None:
    with pytest.raises(ValueError, match="wanted: 10"):
        drawn(sample("png", 10))


def test_equal_samples_are_equal_files() -> None:
    assert drawn(sample("png")) == drawn(sample("png"))
