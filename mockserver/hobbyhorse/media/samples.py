"""Generate the sample pictures in fixtures/images: `python -m hobbyhorse.media.samples DIR`.

Tests, demos and the server's own fixtures use these pictures. The server does not run this module. Because the pictures
are drawn, the repository contains none with a licence of its own.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from hobbyhorse.media.horse import draw_horse
from hobbyhorse.media.scenery import scene

# The portrait and the toy show the same horse, a bay with a pale mane; the toy's rockers are red.
COAT, MANE, WOOD = (150, 92, 52), (240, 222, 186), (186, 60, 46)


def main(folder: str) -> None:
    """Write every sample into a folder, in the format of the file's suffix."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in SAMPLES.items():
        # The samples are part of the wheel; quality 80 keeps them under 400 KB in total.
        draw().save(out / name, quality=80, optimize=True)


def landscape() -> Image.Image:
    """Draw horses on hills, like a photograph."""
    return _photographed(scene("landscape", 8, 1280, 720), grain=4)


def portrait() -> Image.Image:
    """Draw a horse's head in front of a blurred field."""
    back = _blurred(scene("portrait", 3, 180, 320), (720, 1280), 14)
    _lights(back, random.Random(5), 26)
    draw_horse(back, -880, 1730, 1520, coat=COAT, hair=MANE)
    draw = ImageDraw.Draw(back)
    draw.ellipse((368, 518, 404, 550), fill=(38, 22, 18))
    draw.ellipse((380, 522, 390, 532), fill=(244, 238, 230))
    draw.ellipse((500, 672, 516, 690), fill=(74, 42, 30))
    return _photographed(back, grain=3)


def product() -> Image.Image:
    """Draw a rocking horse on white, as in a shop's catalogue."""
    canvas = Image.new("RGB", (1000, 1000), (255, 255, 255))
    shade = Image.new("L", (250, 250))
    ImageDraw.Draw(shade).ellipse((35, 211, 215, 227), fill=90)
    canvas.paste((120, 112, 108), mask=shade.filter(ImageFilter.GaussianBlur(6)).resize(canvas.size))
    draw_horse(canvas, 170, 800, 680, coat=COAT, hair=MANE)
    _rocker(canvas)
    _saddle(canvas)
    return canvas


def graphic() -> Image.Image:
    """Draw a poster in flat colours, because hard edges are difficult for a video encoder."""
    fine = Image.new("RGB", (2000, 2500), (16, 62, 118))
    draw = ImageDraw.Draw(fine)
    draw.ellipse((300, 420, 1700, 1820), fill=(232, 52, 40))
    draw.rectangle((0, 1900, 2000, 2500), fill=(250, 204, 60))
    for x in range(0, 2000, 400):
        draw.polygon(((x, 2500), (x + 200, 2500), (x + 400, 1900), (x + 200, 1900)), fill=(16, 62, 118))
    canvas = fine.reduce(2)
    draw_horse(canvas, 190, 952, 620, coat=(255, 255, 255), hair=(255, 255, 255))
    return canvas


def square() -> Image.Image:
    """Draw a square scene."""
    return scene("square", 10, 800, 800)


def character() -> Image.Image:
    """Draw the reference of the character: a grey horse in a photographer's studio."""
    canvas = _blurred(Image.radial_gradient("L"), (768, 1024), 0)
    # A slightly different gradient in each channel gives a warm background.
    tones = [canvas.point(lambda v, low=low: 235 - v * low / 255) for low in (70, 76, 90)]
    canvas = Image.merge("RGB", tones)
    draw_horse(canvas, 54, 800, 660, coat=(128, 120, 122), hair=(52, 48, 56))
    return _photographed(canvas, grain=3)


def place() -> Image.Image:
    """Draw the reference of the place: hills without horses."""
    return _photographed(scene("place", 4, 1024, 576, herd=False), grain=3)


def thing() -> Image.Image:
    """Draw the reference of the object: a red ball on wood."""
    canvas = Image.new("RGB", (640, 640), (236, 224, 200))
    draw = ImageDraw.Draw(canvas)
    for y in range(400, 640, 60):
        draw.rectangle((0, y, 640, y + 58), fill=(176 - y // 20, 128 - y // 20, 84 - y // 20))
    shade = Image.new("L", (160, 160))
    ImageDraw.Draw(shade).ellipse((42, 118, 128, 134), fill=150)
    canvas.paste((60, 40, 30), mask=shade.filter(ImageFilter.GaussianBlur(4)).resize(canvas.size))
    ball = Image.new("L", (1440, 1440))
    ImageDraw.Draw(ball).ellipse((0, 0, 1439, 1439), fill=255)
    light = Image.radial_gradient("L").resize((760, 760)).crop((160, 180, 520, 540))
    tones = [light.point(lambda v, top=top: top * (1 - v / 330)) for top in (255, 84, 66)]
    canvas.paste(Image.merge("RGB", tones), (140, 160), ball.reduce(4))
    return canvas


def _blurred(picture: Image.Image, size: tuple[int, int], radius: float) -> Image.Image:
    return picture.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(radius))


def _photographed(picture: Image.Image, grain: int) -> Image.Image:
    """Add dark corners and grain, as a lens and a sensor do."""
    # Image.effect_noise would be simpler, but it has no seed, so the files would differ in each run.
    width, height = picture.size
    fall = Image.radial_gradient("L").point(lambda v: 255 - max(0, v - 120) * 0.5).resize(picture.size)
    rng = random.Random(width * height)
    specks = Image.frombytes("L", (256, 256), bytes(128 + round(rng.gauss(0, grain)) for _ in range(65536)))
    noise = Image.new("L", picture.size)
    for x in range(0, width, 256):
        for y in range(0, height, 256):
            noise.paste(specks, (x, y))
    shaded = ImageChops.multiply(picture, Image.merge("RGB", [fall] * 3))
    return ImageChops.add(shaded, Image.merge("RGB", [noise] * 3), offset=-128)


def _lights(canvas: Image.Image, rng: random.Random, count: int) -> None:
    """Add out-of-focus spots of light."""
    layer = Image.new("L", canvas.size)
    for _ in range(count):
        x, y, r = rng.uniform(0, canvas.width), rng.uniform(0, canvas.height), rng.uniform(20, 70)
        spot = Image.new("L", canvas.size)
        ImageDraw.Draw(spot).ellipse((x - r, y - r, x + r, y + r), fill=rng.randint(14, 46))
        layer = ImageChops.add(layer, spot)
    canvas.paste((255, 240, 210), mask=layer.filter(ImageFilter.GaussianBlur(2)))


def _rocker(canvas: Image.Image) -> None:
    mask = Image.new("L", (2000, 2000))
    draw = ImageDraw.Draw(mask)
    draw.arc((-1200, -2660, 3200, 1740), 69, 111, fill=255, width=60)
    for left in (640, 1230):
        draw.rectangle((left, 1600, left + 56, 1710), fill=255)
    draw.rounded_rectangle((380, 1590, 1560, 1636), 20, fill=255)
    canvas.paste(WOOD, mask=mask.reduce(2))


def _saddle(canvas: Image.Image) -> None:
    mask = Image.new("L", (2000, 2000))
    draw = ImageDraw.Draw(mask)
    draw.rounded_rectangle((830, 815, 1080, 1040), 70, fill=255)
    draw.rectangle((930, 1000, 966, 1130), fill=255)
    canvas.paste((52, 88, 140), mask=mask.reduce(2))


SAMPLES: dict[str, Callable[[], Image.Image]] = {
    "landscape.jpg": landscape,
    "portrait.jpg": portrait,
    "product.png": product,
    "graphic.png": graphic,
    "square.webp": square,
    "reference-1-character.jpg": character,
    "reference-2-place.jpg": place,
    "reference-3-thing.webp": thing,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
