"""Draw pictures from a text and a seed: scenes, placeholders, contact sheets, the watermark. No files, no decoding.

Every drawing depends only on its arguments, so that the same request gives the same video in any process. Randomness
comes from `_rng`, never from the global generator or `hash()`, whose seeds differ between processes.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from hobbyhorse.media.horse import Ink, draw_horse

WATERMARK = "Happy Horse"  # the text that a provider documents
# Number of cached placeholders, about 60 KB each: the jobs of a test usually name the same few unfetched URLs.
MOST_PLACEHOLDERS = 64


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a scene at one time of day."""

    zenith: Ink
    horizon: Ink
    sun: Ink
    far: Ink
    near: Ink
    coats: tuple[tuple[Ink, Ink], ...]
    stars: bool = False


# (coat, hair) pairs. At night the horses are silhouettes.
BAY, CREAM, GREY = ((92, 52, 34), (36, 22, 20)), ((158, 96, 48), (242, 222, 182)), ((206, 200, 194), (120, 114, 116))
NIGHT = ((24, 26, 48), (14, 15, 30))  # darker than any sky of the palettes
PALETTES = (
    Palette((62, 126, 196), (214, 232, 240), (255, 246, 210), (150, 178, 186), (72, 124, 62), (BAY, CREAM, GREY)),
    Palette((88, 62, 124), (250, 178, 122), (255, 226, 160), (150, 98, 120), (62, 44, 66), (BAY, NIGHT)),
    Palette((246, 170, 150), (255, 232, 198), (255, 250, 236), (196, 158, 160), (108, 128, 84), (BAY, CREAM)),
    Palette((14, 22, 54), (62, 84, 132), (240, 240, 224), (44, 60, 100), (20, 30, 56), (GREY, NIGHT), stars=True),
    Palette((120, 160, 168), (236, 228, 208), (255, 240, 214), (168, 172, 160), (190, 146, 72), (BAY, GREY)),
)


def scene(prompt: str, seed: int, width: int = 1280, height: int = 720, *, herd: bool = True) -> Image.Image:
    """Draw horses on hills. The prompt and the seed determine the time of day, the hills and the horses."""
    rng = _rng("scene", prompt, seed)
    palette = rng.choice(PALETTES)
    canvas = _sky(palette, width, height)
    _sun_and_stars(canvas, palette, rng)
    ridges = [_ridge(rng, depth, width, height) for depth in (0.0, 0.33, 0.66, 1.0)]
    for depth, ridge in zip((0.0, 0.33, 0.66, 1.0), ridges, strict=True):
        _hill(canvas, ridge, _blend(palette.far, palette.near, depth))
    if herd:
        _herd(canvas, palette, ridges[-1], rng)
    return canvas


@lru_cache(MOST_PLACEHOLDERS)
def placeholder(text: str, width: int = 1280, height: int = 720) -> bytes:
    """Return a JPEG as a placeholder for a picture that was not fetched. The text determines colour and shapes."""
    rng = _rng("placeholder", text)
    hue = rng.randrange(256)
    top, low = (
        Image.new("HSV", (1, 1), hsv).convert("RGB").getpixel((0, 0)) for hsv in ((hue, 90, 150), (hue, 110, 70))
    )
    canvas = _gradient(_ink(top), _ink(low), width, height)
    _bubbles(canvas, rng)
    side = min(width, height) * 0.5
    pale, dim = _blend(_ink(top), (255, 255, 255), 0.75), _blend(_ink(top), (255, 255, 255), 0.5)
    draw_horse(canvas, width / 2 - side / 2, height * 0.68, side, coat=pale, hair=dim)
    _caption(canvas, "PLACEHOLDER", height * 0.75, width * 0.7, min(width, height) // 10)
    _caption(canvas, f"not fetched: {_shown(text)}", height * 0.87, width * 0.9, min(width, height) // 24)
    return jpeg(canvas)


def contact_sheet(pictures: Sequence[Image.Image], width: int, height: int) -> Image.Image:
    """Arrange pictures in order, numbered from 1, on a blurred backdrop of the first picture."""
    # Blurred at a sixteenth of the size, because a large radius is slow and the blur hides the enlargement.
    canvas = ImageOps.fit(pictures[0], (max(1, width // 16), max(1, height // 16)))
    canvas = canvas.filter(ImageFilter.GaussianBlur(4)).resize((width, height), Image.Resampling.BICUBIC)
    canvas = canvas.point(lambda value: value * 0.45 + 20)
    columns = _columns(pictures, width, height)
    rows = -(-len(pictures) // columns)
    cell_height = height / rows
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        in_row = min(columns, len(pictures) - row * columns)  # the last row may be shorter; it is centred
        left = (width - in_row * width / columns) / 2 + column * width / columns
        _print(canvas, picture, index + 1, (left, row * cell_height, width / columns, cell_height))
    return canvas


def watermark(width: int, height: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the watermark of a frame: an RGBA strip, and the position of its upper left corner."""
    # Dimensions and position are even: in 4:2:0 video, odd values would smear the colours by half a chroma sample.
    size = max(12, round(math.sqrt(width * height) / 30))
    font = ImageFont.load_default(size)
    margin = size // 2
    left, top, right, low = font.getbbox(WATERMARK)
    strip = Image.new("RGBA", (_even(right - left + 2 * margin), _even(low - top + 2 * margin)))
    at = (margin - left, margin - top)
    shade = Image.new("L", strip.size)
    ImageDraw.Draw(shade).text(at, WATERMARK, font=font, fill=255, stroke_width=max(1, size // 16))
    shade = shade.filter(ImageFilter.GaussianBlur(size / 10)).point(lambda value: min(150, value))
    strip.putalpha(shade)
    ImageDraw.Draw(strip).text(at, WATERMARK, font=font, fill=(255, 255, 255, 235))
    return strip, (max(0, _even(width - strip.width - margin)), max(0, _even(height - strip.height - margin)))


def jpeg(picture: Image.Image) -> bytes:
    """Encode a picture as a JPEG with high quality (92)."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=92)
    return out.getvalue()


def _rng(*words: object) -> random.Random:
    """Return a generator whose seed is a hash of the words."""
    # surrogatepass, because a prompt from JSON may contain lone surrogates.
    return random.Random(hashlib.sha256("\0".join(map(str, words)).encode(errors="surrogatepass")).digest())


def _even(value: float) -> int:
    return int(value) // 2 * 2


def _ink(pixel: object) -> Ink:
    assert isinstance(pixel, tuple)
    return pixel[0], pixel[1], pixel[2]


def _blend(a: Ink, b: Ink, share: float) -> Ink:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _gradient(top: Ink, low: Ink, width: int, height: int) -> Image.Image:
    column = Image.new("RGB", (1, height))
    column.putdata([_blend(top, low, y / max(1, height - 1)) for y in range(height)])
    return column.resize((width, height), Image.Resampling.NEAREST)


def _sky(palette: Palette, width: int, height: int) -> Image.Image:
    # Hills cover the lowest 30 %. The gradient ends above them, or the horizon's colour would never be visible.
    sky = _gradient(palette.zenith, palette.horizon, width, max(1, round(height * 0.7)))
    canvas = Image.new("RGB", (width, height), palette.horizon)
    canvas.paste(sky, (0, 0))
    return canvas


def _sun_and_stars(canvas: Image.Image, palette: Palette, rng: random.Random) -> None:
    width, height = canvas.size
    unit = min(width, height)
    if palette.stars:
        draw = ImageDraw.Draw(canvas)
        for _ in range(120):
            x, y, r = rng.random() * width, rng.random() ** 1.5 * height * 0.55, unit * rng.choice((1, 1, 2)) / 900
            draw.ellipse((x - r, y - r, x + r, y + r), fill=_blend(palette.zenith, palette.sun, rng.uniform(0.4, 1)))
    x, y, r = width * rng.uniform(0.12, 0.88), height * rng.uniform(0.16, 0.4), unit * rng.uniform(0.06, 0.09)
    _glow(canvas, (x, y), r * 3.5, palette.sun, 0.4)
    _disc(canvas, (x, y), r, palette.sun)


def _glow(canvas: Image.Image, centre: tuple[float, float], radius: float, ink: Ink, strength: float) -> None:
    side = round(2 * radius)
    mask = ImageOps.invert(Image.radial_gradient("L")).point(lambda v: max(0, (v - 75) / 180) ** 1.6 * 255 * strength)
    canvas.paste(ink, (round(centre[0] - radius), round(centre[1] - radius)), mask.resize((side, side)))


def _disc(canvas: Image.Image, centre: tuple[float, float], radius: float, ink: Ink, strength: float = 1) -> None:
    side = max(2, round(2 * radius))
    mask = Image.new("L", (side * 4, side * 4))
    ImageDraw.Draw(mask).ellipse((0, 0, side * 4 - 1, side * 4 - 1), fill=round(255 * strength))
    canvas.paste(ink, (round(centre[0] - radius), round(centre[1] - radius)), mask.reduce(4))


def _ridge(rng: random.Random, depth: float, width: int, height: int) -> list[float]:
    """Return the top of a hill in each column, in pixels from the canvas's top. The depth is 0 (far) to 1 (near)."""
    # Far hills are higher in the picture and more rugged. Three waves of rising frequency look irregular enough.
    level = height * (0.52 + 0.27 * depth)
    swell = height * (0.075 - 0.035 * depth)
    waves = [(swell / (k + 0.6), 2 * math.pi * rng.uniform(0.5, 0.8) * (k + 1), rng.random() * 7) for k in range(3)]
    return [level + sum(a * math.sin(f * x / width + p) for a, f, p in waves) for x in range(width)]


def _hill(canvas: Image.Image, ridge: list[float], ink: Ink) -> None:
    width, height = canvas.size
    top = max(0, math.floor(min(ridge)))
    mask = Image.new("L", (width, max(1, height - top) * 4))
    low = mask.height
    columns = [(x, (y - top) * 4) for x, y in enumerate(ridge)]
    ImageDraw.Draw(mask).polygon([(0, low), *columns, (width, low)], fill=255)
    shaded = _gradient(_blend(ink, (255, 255, 255), 0.1), _blend(ink, (0, 0, 0), 0.22), width, max(1, height - top))
    canvas.paste(shaded, (0, top), mask.reduce((1, 4)))


def _herd(canvas: Image.Image, palette: Palette, ridge: list[float], rng: random.Random) -> None:
    width, height = canvas.size
    size = min(height * 0.42, width * 0.5)
    count = 1 + (width > height and rng.random() < 0.6)
    facing = rng.choice((-1, 1))
    for index in range(count):
        side = size * (1 if index == 0 else rng.uniform(0.55, 0.7))
        spot = width * (rng.uniform(0.3, 0.5) if index == 0 else rng.choice((0.12, 0.78)))
        left = min(max(0, spot - side / 2), width - side)
        # Slightly below the lowest ground under its hooves: a horse may sink into a slope, but must not float.
        foot = max(ridge[round(left + side * share)] for share in (0.1, 0.25, 0.65, 0.9)) + side * 0.03
        coat, hair = rng.choice(palette.coats)
        draw_horse(canvas, left, foot, side * facing, coat=coat, hair=hair)


def _bubbles(canvas: Image.Image, rng: random.Random) -> None:
    width, height = canvas.size
    for _ in range(7):
        centre = (rng.random() * width, rng.random() * height)
        _disc(canvas, centre, min(width, height) * rng.uniform(0.08, 0.3), (255, 255, 255), rng.uniform(0.04, 0.09))


def _shown(text: str) -> str:
    """Return a text as one short line of printable ASCII, because Pillow's built-in font has only Latin letters."""
    line = " ".join(text.encode("ascii", "replace").decode().split())
    line = "".join(letter for letter in line if letter.isprintable())
    # Both ends are kept, because the host and the file name identify a URL.
    return line if len(line) <= 72 else f"{line[:48]} ... {line[-20:]}"


def _caption(canvas: Image.Image, text: str, top: float, room: float, size: int) -> None:
    size = max(8, size)
    font = ImageFont.load_default(size)
    length = font.getlength(text)
    if length > room:
        font = ImageFont.load_default(max(6, size * room / length))
    ImageDraw.Draw(canvas).text((canvas.width / 2, top), text, font=font, fill=(255, 255, 255), anchor="mt")


def _columns(pictures: Sequence[Image.Image], width: int, height: int) -> int:
    """Return the number of columns that maximizes the area of the pictures."""

    def shown(columns: int) -> float:
        rows = -(-len(pictures) // columns)
        return sum(min(width / columns / p.width, height / rows / p.height) ** 2 * p.width * p.height for p in pictures)

    return max(range(1, len(pictures) + 1), key=shown)


def _print(canvas: Image.Image, picture: Image.Image, number: int, cell: tuple[float, float, float, float]) -> None:
    left, top, wide, high = cell
    unit = min(canvas.size)
    frame, gap = max(2, unit // 120), unit / 36
    scale = min((wide - 2 * gap) / picture.width, (high - 2 * gap) / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    x, y = round(left + (wide - size[0]) / 2), round(top + (high - size[1]) / 2)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x - frame, y - frame, x + size[0] + frame - 1, y + size[1] + frame - 1), fill=(250, 248, 244))
    canvas.paste(picture.resize(size, Image.Resampling.BICUBIC), (x, y))
    _badge(canvas, number, (x, y), unit / 22)


def _badge(canvas: Image.Image, number: int, corner: tuple[int, int], radius: float) -> None:
    centre = (corner[0] + radius * 1.3, corner[1] + radius * 1.3)
    _disc(canvas, centre, radius * 1.15, (250, 248, 244))
    _disc(canvas, centre, radius, (196, 62, 48))
    font = ImageFont.load_default(max(1, radius * 1.3))  # FreeType refuses a size that rounds to 0
    ImageDraw.Draw(canvas).text(centre, str(number), font=font, fill=(255, 255, 255), anchor="mm")
