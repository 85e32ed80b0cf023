"""Input pictures: any bytes give a Picture, or a PictureError of one line."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from hobbyhorse.media import picture as module
from hobbyhorse.media.picture import (
    MOST_PIXELS,
    Header,
    Picture,
    PictureError,
    PictureLimits,
    check_picture,
    data_uri,
    read_header,
    read_picture,
    scene,
)
from tests.media_samples import distance, encoded

FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tiff": "TIFF"}
SMALL = scene("small", 1, 96, 64)
LIMITS = PictureLimits(("jpeg", "png", "webp"), least_side=300, aspect=(1 / 2.5, 2.5), most_bytes=10 << 20)


def refused(data: bytes) -> PictureError:
    with pytest.raises(PictureError) as caught:
        read_picture(data)
    assert "\n" not in caught.value.message
    assert str(caught.value) == caught.value.message
    return caught.value


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims any size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# --- properties ----------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(FORMATS)), st.integers(1, 80), st.integers(1, 80))
def test_format_and_size_are_read_from_the_content(name: str, width: int, height: int) -> None:
    data = encoded(Image.new("RGB", (width, height), (9, 99, 199)), FORMATS[name])
    picture = read_picture(data)
    assert (picture.format, picture.width, picture.height, picture.nbytes) == (name, width, height, len(data))
    assert (picture.image.mode, picture.image.size) == ("RGB", (width, height))
    assert read_header(data) == Header(name, width, height, len(data))


@given(st.sampled_from(sorted(FORMATS)), st.floats(0, 0.97))
def test_a_truncated_picture_is_refused_whatever_its_format(name: str, share: float) -> None:
    data = encoded(SMALL, FORMATS[name])
    read_picture(data)
    refused(data[: int(len(data) * share)])


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_in_one_line(data: bytes) -> None:
    refused(data)


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=8))
def test_a_mutated_picture_is_read_or_refused(name: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(SMALL, FORMATS[name]))
    for at, value in edits:
        data[at % len(data)] = value
    with suppress(PictureError):
        assert read_picture(bytes(data)).image.mode == "RGB"
    with suppress(PictureError):
        assert read_header(bytes(data)).width > 0


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_limits_are_inclusive_and_judge_nothing_else(width: int, height: int) -> None:
    header = Header("png", width, height, 1)
    fits = min(width, height) >= 300 and 2 * width <= 5 * height and 2 * height <= 5 * width
    if fits:
        check_picture(header, LIMITS)
    else:
        with pytest.raises(PictureError):
            check_picture(header, LIMITS)


@given(st.integers(1, 1000))
def test_a_bound_of_the_aspect_itself_is_allowed(times: int) -> None:
    for width, height in ((5 * times, 2 * times), (2 * times, 5 * times)):
        check_picture(Header("png", width, height, 1), PictureLimits(("png",), aspect=(1 / 2.5, 2.5)))


@given(st.binary(max_size=100), st.sampled_from(["png", "JPEG", "svg+xml", "x-icon"]))
def test_a_data_uri_gives_its_bytes_back(data: bytes, kind: str) -> None:
    assert data_uri(f"data:image/{kind};base64,{base64.b64encode(data).decode()}") == data


# --- examples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "empty", "zero bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_a_picture", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<svg/>", "not_a_picture", "an SVG drawing"),
        (b"<!DOCTYPE html><html></html>", "not_a_picture", "an HTML page"),
        (b'{"error": 1}', "not_a_picture", "JSON text"),
        (b"%PDF-1.7", "not_a_picture", "a PDF document"),
        (b"\0\0\0\x20ftypisom", "not_a_picture", "an MP4 or QuickTime video"),
        (b"\0\0\0\x20ftypheic", "not_a_picture", "a HEIC picture"),
        (b"\0\0\0\x20ftypavif", "not_a_picture", "an AVIF picture"),
        (b"\x89PNG\r\n", "not_a_picture", "damaged or truncated PNG"),
        (b"\x01\x02\x03", "not_a_picture", r"start with b'\\x01\\x02\\x03'"),
    ],
)
def test_a_file_that_is_not_a_picture_is_named(data: bytes, code: str, words: str) -> None:
    error = refused(data)
    assert error.code == code
    assert words.replace("\\\\", "\\") in error.message
    assert "allowed: jpeg, png, webp" in error.message


@pytest.mark.parametrize("side", [20_000, 50_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    error = refused(bomb(side, side))
    assert error.code == "pixels"
    assert f"allowed: at most {MOST_PIXELS} pixels (this is a bound of the mock server" in error.message


def test_a_picture_of_ordinary_size_is_not_a_bomb() -> None:
    assert refused(bomb(100, 100)).code == "damaged"  # it has too few pixels, not too many


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_honoured(turn: int) -> None:
    stored = Image.new("RGB", (60, 40), (0, 0, 0))
    stored.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(stored, "JPEG", exif=exif, quality=95)
    picture, header = read_picture(data), read_header(data)
    assert (picture.width, picture.height) == ((60, 40) if turn < 5 else (40, 60))
    assert (header.width, header.height) == (picture.width, picture.height)
    right, low = turn in (2, 3, 6, 7), turn in (3, 4, 7, 8)
    at = (picture.width - 5 if right else 5, picture.height - 5 if low else 5)
    pixel = picture.image.getpixel(at)
    assert isinstance(pixel, tuple)
    assert pixel[0] > 200


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_become_white(mode: str) -> None:
    clear = Image.new("RGBA", (40, 40), (10, 200, 10, 0))
    clear.paste((200, 10, 10, 255), (0, 0, 20, 40))
    image = read_picture(encoded(clear.convert(mode))).image
    assert image.getpixel((30, 20)) == (255, 255, 255)
    assert image.getpixel((10, 20)) != (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "I;16"])
def test_any_kind_of_pixels_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (40, 40), 255)
    stored = Image.new("I;16", (40, 40), 65535) if mode == "I;16" else grey.convert("RGB").convert(mode)
    form = {"I;16": "PNG", "YCbCr": "JPEG"}.get(mode, "TIFF")
    image = read_picture(encoded(stored, form)).image
    assert (image.mode, image.getpixel((5, 5))) == ("RGB", (255, 255, 255))


def test_sixteen_bit_grey_is_brought_down_not_cut_off() -> None:
    image = read_picture(encoded(Image.new("I;16", (20, 20), 0x8000))).image
    assert image.getpixel((5, 5)) == (128, 128, 128)


def grey_png(bits: int, kind: int, row: bytes, clear: bytes) -> bytes:
    """Return a PNG of 40 x 40 pixels with one transparent colour."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 40, bits, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 40))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"tRNS", clear) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "kind", "clear", "other", "shown"),
    [
        (16, 0, (0,), (40_000,), (156, 156, 156)),
        (16, 0, (513,), (514,), (2, 2, 2)),
        (8, 0, (7,), (200,), (200, 200, 200)),
        (16, 2, (40_000, 0, 0), (0, 40_000, 0), (0, 156, 0)),
        (8, 2, (1, 2, 3), (3, 2, 1), (3, 2, 1)),
    ],
)
def test_the_transparent_colour_of_a_picture_becomes_white(
    bits: int, kind: int, clear: tuple[int, ...], other: tuple[int, ...], shown: tuple[int, int, int]
) -> None:
    form = ">H" if bits == 16 else ">B"
    left, right = (b"".join(struct.pack(form, value) for value in colour) for colour in (clear, other))
    data = grey_png(bits, kind, left * 20 + right * 20, b"".join(struct.pack(">H", value) for value in clear))
    image = read_picture(data).image
    assert (image.getpixel((5, 5)), image.getpixel((30, 5))) == ((255, 255, 255), shown)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# The primaries of red and green change places: a picture that ignores its profile shows red instead of green.
SWAPPED = SRGB.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize(("profile", "first"), [(SRGB, 0), (SWAPPED, 1), (b"no profile", 0)])
def test_an_embedded_colour_profile_counts(profile: bytes, first: int, mode: str) -> None:
    stored = Image.new("RGB", (40, 40), (204, 51, 51)).convert(mode)
    shown = read_picture(encoded(stored, "PNG", icc_profile=profile)).image.getpixel((5, 5))
    assert isinstance(shown, tuple)
    assert [round(value / 51) for value in shown] == [4 if at == first else 1 for at in range(3)]


def test_the_profile_of_another_kind_of_picture_is_ignored() -> None:
    image = read_picture(encoded(Image.new("L", (40, 40), 99), "PNG", icc_profile=SWAPPED)).image
    assert image.getpixel((5, 5)) == (99, 99, 99)


def test_a_refusal_names_the_formats_that_the_caller_allows() -> None:
    heic = b"\0\0\0\x18ftypheic" + bytes(32)
    for read in (read_header, read_picture):
        with pytest.raises(PictureError, match=r"found a HEIC picture; allowed: jpeg, webp$"):
            read(heic, ("jpeg", "webp"))
        with pytest.raises(PictureError, match=r"zero bytes; allowed: jpeg, webp$"):
            read(b"", ("jpeg", "webp"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF"])
def test_a_picture_beyond_the_kept_pixels_is_reduced_and_keeps_its_size(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KEPT_PIXELS", 10_000)
    stored = Image.new("RGB", (600, 300), (200, 30, 30))
    stored.paste((30, 30, 200), (300, 0, 600, 300))
    picture = read_picture(encoded(stored, form))
    assert (picture.width, picture.height) == (600, 300)
    small = picture.image
    assert small.width < 600
    assert small.width * small.height <= 600 * 300 // 4
    assert distance(small, stored.resize(small.size)) < 8


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(form: str) -> None:
    first, second = Image.new("RGB", (40, 40), (250, 0, 0)), Image.new("RGB", (40, 40), (0, 0, 250))
    out = io.BytesIO()
    first.save(out, form, save_all=True, append_images=[second])
    assert distance(read_picture(out.getvalue()).image, first) < 8


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        (Header("bmp", 900, 900, 1), "format", "'bmp' by content; allowed: jpeg, png, webp"),
        (Header("png", 299, 900, 1), "side", "299x900 px; allowed: at least 300 px on each side"),
        (Header("png", 900, 299, 1), "side", "900x299 px"),
        (Header("png", 751, 300, 1), "aspect", "width/height 2.503; allowed: 0.4 to 2.5"),
        (Header("png", 300, 751, 1), "aspect", "width/height 0.399"),
        (Header("png", 900, 900, (10 << 20) + 1), "bytes", "10485761 bytes; allowed: at most 10485760"),
    ],
)
def test_a_broken_limit_is_named_with_what_was_found(found: Header, code: str, words: str) -> None:
    with pytest.raises(PictureError) as caught:
        check_picture(found, LIMITS)
    assert caught.value.code == code
    assert words in caught.value.message


def test_limits_that_are_not_set_bound_nothing() -> None:
    check_picture(Header("png", 1, 60_000, 1 << 40), PictureLimits(("png",)))
    check_picture(Picture(SMALL, "png", 96, 64, 1), PictureLimits(("png",), least_side=64))


@pytest.mark.parametrize(
    "text",
    ["", "https://example.com/a.png", "data:text/plain;base64,AAAA", "data:image/png,AAAA", "data:image/png;base64"],
)
def test_another_uri_is_refused(text: str) -> None:
    with pytest.raises(PictureError, match="is not a base64 image"):
        data_uri(text)


@pytest.mark.parametrize("tail", ["A", "AAA", "AA=A", "A?==", "é"])
def test_broken_base64_is_refused(tail: str) -> None:
    with pytest.raises(PictureError, match="cannot be decoded"):
        data_uri(f"data:image/png;base64,{tail}")


def test_a_data_uri_may_carry_parameters_and_line_breaks() -> None:
    assert data_uri("data:image/png;charset=utf-8;base64,AA\r\n AA") == b"\0\0\0"
