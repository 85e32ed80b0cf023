"""Identify input pictures by content, decode them, and check them against a contract's limits. No network."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image, ImageCms, ImageMath, ImageOps

from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.media import png_chunks
from hobbyhorse.media.scenery import placeholder, scene

__all__ = [
    "Header",
    "Picture",
    "PictureError",
    "PictureLimits",
    "check_picture",
    "data_uri",
    "placeholder",
    "read_header",
    "read_picture",
    "scene",
]

# Formats that contracts may allow. Pillow's other decoders stay disabled; its EPS decoder, for one, starts a program.
READABLE = ("jpeg", "png", "webp", "bmp", "gif", "tiff")
# A phone makes 200 megapixels (16,320 x 12,240). Checked before decoding, because a PNG of 100 KB can claim any size.
MOST_PIXELS = 210_000_000
# Pixels of a picture that stays as it is. The largest video has two megapixels, so that a larger picture loses nothing.
MOST_KEPT_PIXELS = 80_000_000
OURS = "this is a bound of the mock server, not of the provider"
ORIENTATION = 0x0112  # the EXIF tag
# The first bytes of files that no decoder accepts, so that an error can name the kind of file. The first match counts.
SIGNATURES = (
    (rb"\xff\xd8\xff", "a damaged or truncated JPEG picture"),
    (rb"\x89PNG", "a damaged or truncated PNG picture"),
    (rb"RIFF....WEBP", "a damaged or truncated WebP picture"),
    (rb"GIF8", "a damaged or truncated GIF picture"),
    (rb"BM.{4}\x00{4}", "a damaged or truncated BMP picture"),
    (rb"(II\*\x00|MM\x00\*)", "a damaged or truncated TIFF picture"),
    (rb"\s*(<\?xml[^>]*>)?\s*(<!--.*?-->)?\s*(<!doctype svg[^>]*>)?\s*<svg\b", "an SVG drawing"),
    (rb"\s*<(!doctype html|html|head|body)\b", "an HTML page"),
    (rb"\s*[{\[]", "JSON text"),
    (rb"%PDF", "a PDF document"),
    (rb"....ftypavi[fs]", "an AVIF picture"),
    (rb"....ftyp(hei|hev|mif|msf)", "a HEIC picture"),
    (rb"....ftyp", "an MP4 or QuickTime video"),
    (rb"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
    (rb"(\xff\x0a|....JXL )", "a JPEG XL picture"),
    (rb"\x00\x00[\x01\x02]\x00", "an icon"),
    (rb"8BPS", "a Photoshop document"),
    (rb"PK\x03\x04", "a ZIP archive"),
)
DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+(?:;[a-z0-9_.+-]+=[^;,]*)*;base64,(.*)", re.IGNORECASE | re.DOTALL)


class PictureError(Exception):
    """A picture cannot be used. `code` is for programs, `message` (one line) for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Header:
    """A picture's properties from its header: actual format, upright size in pixels, file size in bytes."""

    format: str
    width: int
    height: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: upright, opaque, in sRGB; the first frame of an animation.

    One of more than `MOST_KEPT_PIXELS` is reduced; `width` and `height` belong to the whole picture.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    nbytes: int


def count_pixels(data: bytes, allowed: Sequence[str] = READABLE) -> int:
    """Return the number of pixels that a picture declares. Raises PictureError."""
    image = _open(data, allowed)
    return image.width * image.height


def read_header(data: bytes, allowed: Sequence[str] = READABLE) -> Header:
    """Read a picture's format and size without decoding pixels. Raises PictureError, which names `allowed` formats."""
    image = _open(data, allowed)
    width, height = _upright_size(image)
    return Header(_format(image), width, height, len(data))


def read_picture(data: bytes, allowed: Sequence[str] = READABLE) -> Picture:
    """Decode a complete picture. Raises PictureError, which names `allowed` formats."""
    image = _open(data, allowed)
    # Before it is loaded; a JPEG that is decoded at half its size then has another one.
    name, wide, (width, height) = _format(image), _is_16_bit(image), _upright_size(image)
    try:
        # A JPEG can be decoded at half its size.
        if width * height > MOST_KEPT_PIXELS:
            image.draft(None, (image.width // 2, image.height // 2))
        image.load()
        if (pixels := image.width * image.height) > MOST_KEPT_PIXELS:
            image = _reduced(image, 2 if pixels <= 4 * MOST_KEPT_PIXELS else 4)
        ImageOps.exif_transpose(image, in_place=True)
        rgb = _opaque(image, wide)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen unrelated exceptions for damaged input
        raise PictureError("damaged", f"the {name} picture is damaged or truncated: {_line(error)}") from error
    return Picture(rgb, name, width, height, len(data))


def check_picture(found: Header | Picture, limits: PictureLimits) -> None:
    """Check a picture against limits. Raises PictureError with the property and the limit that it violates."""
    if found.format not in limits.formats:
        allowed = ", ".join(limits.formats)
        raise PictureError("format", f"the picture is {found.format!r} by content; allowed: {allowed}")
    if limits.most_bytes is not None and found.nbytes > limits.most_bytes:
        raise PictureError("bytes", f"the picture has {found.nbytes} bytes; allowed: at most {limits.most_bytes}")
    if limits.least_side is not None and min(found.width, found.height) < limits.least_side:
        size = f"{found.width}x{found.height}"
        raise PictureError("side", f"the picture is {size} px; allowed: at least {limits.least_side} px on each side")
    if limits.aspect is not None and not _within(found.width, found.height, limits.aspect):
        low, high = limits.aspect
        ratio = f"{found.width}x{found.height} px, width/height {found.width / found.height:.3f}"
        raise PictureError("aspect", f"the picture is {ratio}; allowed: {low:g} to {high:g}")


def data_uri(text: str) -> bytes:
    """Return the bytes of a `data:image/...;base64,...` URI. Raises PictureError."""
    match = DATA_URI.fullmatch(text)
    if match is None:
        raise PictureError("data_uri", f"{text[:40]!r} is not a base64 image; write 'data:image/<type>;base64,<data>'")
    try:
        # Line breaks are removed first, because many encoders insert them and validate=True would refuse them.
        return base64.b64decode("".join(match[1].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError("data_uri", f"the data URI's base64 cannot be decoded: {_line(error)}") from error


def _open(data: bytes, allowed: Sequence[str]) -> Image.Image:
    formats = ", ".join(allowed)
    if not data:
        raise PictureError("empty", f"the picture has zero bytes; allowed: {formats}")
    bound = f"allowed: at most {MOST_PIXELS} pixels ({OURS})"
    try:
        image = Image.open(io.BytesIO(png_chunks.needed(data)), formats=READABLE)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own, higher limit
        raise PictureError("pixels", f"{_line(error)}; {bound}") from error
    except Exception as error:  # see read_picture
        raise PictureError("not_a_picture", f"found {_kind(data)}; allowed: {formats}") from error
    if image.width * image.height > MOST_PIXELS:
        raise PictureError("pixels", f"the picture is {image.width}x{image.height} px; {bound}")
    return image


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) >= 5 else (width, height)  # 5 to 8 are rotated by a quarter turn


def _format(image: Image.Image) -> str:
    name = (image.format or "").lower()
    return "jpeg" if name == "mpo" else name  # Pillow's name for a JPEG that contains a second JPEG


def _orientation(image: Image.Image) -> int:
    try:
        # Not the method of a PNG, which decodes the picture to find a chunk after it.
        value = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # damaged EXIF must not hide a picture's size
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """Return a smaller picture with the same information beside its pixels."""
    # A palette has no means between its colours, and other modes cannot be reduced.
    can = image.mode in ("L", "RGB", "RGBA", "CMYK", "YCbCr")
    size = (image.width // factor, image.height // factor)
    smaller = image.reduce(factor) if can else image.resize(size, Image.Resampling.NEAREST)
    smaller.info = image.info
    return smaller


def _is_16_bit(image: Image.Image) -> bool:
    """Whether each channel of a picture that is not loaded has 16 bits, of which Pillow keeps 8 in a colour picture."""
    return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def _opaque(image: Image.Image, wide: bool = False) -> Image.Image:
    """Flatten transparency on white, as on a browser's page; scale 16-bit grey to 8 bits; convert to sRGB.

    `wide` marks a picture that had 16 bits for each channel; its transparent colour still has them.
    """
    clear, profile = image.info.get("transparency"), image.info.get("icc_profile")
    # Pillow's own conversion of I;16 clips at 255, so nearly every such picture would become white.
    if image.mode.startswith("I"):
        return _grey(image.convert("I"), clear)
    if wide and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or clear is not None:
        cut = image.convert("RGBA")
        ground = Image.new("RGB", cut.size, (255, 255, 255))
        ground.paste(_in_srgb(cut.convert("RGB"), profile), mask=cut.getchannel("A"))
        return ground
    return _in_srgb(image, profile)


def _grey(whole: Image.Image, clear: object) -> Image.Image:
    """Return a 16-bit grey picture in 8 bits, with one grey that is transparent as white."""
    grey = whole.point(lambda value: value * (1 / 256)).convert("RGB")
    if isinstance(clear, int):
        hidden = ImageMath.lambda_eval(lambda of: of["convert"]((of["whole"] == clear) * 255, "L"), whole=whole)
        grey.paste((255, 255, 255), mask=hidden)
    return grey


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a picture in RGB, converted from its embedded colour profile; without a usable one it is sRGB already."""
    if profile:
        plain = image.convert("RGB") if image.mode == "P" else image
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            found = ImageCms.profileToProfile(plain, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if found is not None:
                return found
    return image if image.mode == "RGB" else image.convert("RGB")


def _within(width: int, height: int, aspect: tuple[float, float]) -> bool:
    low, high = aspect
    slack = 1e-9  # bounds are inclusive, but a bound such as 1/2.5 is not exact in binary
    return low * height <= width * (1 + slack) and width <= high * height * (1 + slack)


def _kind(data: bytes) -> str:
    for pattern, kind in SIGNATURES:
        if re.match(pattern, data[:2048], re.IGNORECASE | re.DOTALL):
            return kind
    return f"bytes that start with {data[:12]!r}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
