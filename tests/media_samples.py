"""Pictures of many kinds, video specs, parameter sets, and an independent decoder (PyAV) for the tests of media."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from random import Random

import av
from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat

from hobbyhorse.media.scenery import scene
from hobbyhorse.media.video import VideoSpec

IMAGES = Path(__file__).resolve().parent.parent / "fixtures" / "images"
# From limited-range BT.709 to RGB; 0.5 in the last column rounds.
TO_RGB = (
    1.16438, 0.00000, 1.79274, -18.63 - 1.79274 * 128 + 0.5,
    1.16438, -0.21325, -0.53291, -18.63 + 0.74616 * 128 + 0.5,
    1.16438, 2.11240, 0.00000, -18.63 - 2.11240 * 128 + 0.5,
)  # fmt: skip

SHOT = VideoSpec(
    task="text-to-video",
    first_frame=None,
    references=(),
    prompt="a horse",
    tier=720,
    ratio=(16, 9),
    seconds=1,
    seed=1,
    watermark=False,
    comment="job-1",
)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def shot_of(picture: Image.Image, **changes: object) -> VideoSpec:
    return replace(SHOT, first_frame=encoded(picture, compress_level=1), **changes)  # type: ignore[arg-type]


def plain(red: int, green: int, blue: int) -> Image.Image:
    return Image.new("RGB", (1280, 720), (red, green, blue))


def ramps() -> Image.Image:
    across = Image.linear_gradient("L").rotate(90).resize((1280, 720))
    down = Image.linear_gradient("L").resize((1280, 720))
    return Image.merge("RGB", (across, down, ImageChops.invert(across)))


def grain() -> Image.Image:
    dice = Random(1)
    specks = bytes(min(255, max(0, round(dice.gauss(128, 12)))) for _ in range(1280 * 720))
    return Image.merge("RGB", [Image.frombytes("L", (1280, 720), specks)] * 3)


def bars() -> Image.Image:
    picture = Image.new("RGB", (1280, 720))
    draw = ImageDraw.Draw(picture)
    for index in range(8):
        ink = (255 * (index & 1), 255 * (index >> 1 & 1), 255 * (index >> 2 & 1))
        draw.rectangle((index * 160, 0, index * 160 + 159, 719), fill=ink)
    return picture


def text() -> Image.Image:
    picture = Image.new("RGB", (1280, 720), (250, 250, 250))
    draw = ImageDraw.Draw(picture)
    for row in range(14):
        line = "A hobby horse is a child's toy horse. " * 2
        draw.text((30, 20 + row * 50), line, font=ImageFont.load_default(30), fill=(20, 20, 20))
    return picture


def checks() -> Image.Image:
    picture = Image.new("RGB", (1280, 720), (240, 236, 220))
    draw = ImageDraw.Draw(picture)
    for x in range(0, 1280, 40):
        for y in range(x // 40 % 2 * 40, 720, 80):
            draw.rectangle((x, y, x + 39, y + 39), fill=(30, 60, 120))
    return picture


def fixture(name: str) -> Image.Image:
    return Image.open(IMAGES / name).convert("RGB")


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "ramps": ramps,
    "grain": grain,
    "bars": bars,
    "text": text,
    "checks": checks,
    "black": lambda: plain(0, 0, 0),
    "white": lambda: plain(255, 255, 255),
    "red": lambda: plain(255, 0, 0),
    "blue": lambda: plain(0, 0, 255),
    "green": lambda: plain(0, 255, 0),
    "landscape": lambda: fixture("landscape.jpg"),
    "portrait": lambda: fixture("portrait.jpg"),
    "product": lambda: fixture("product.png"),
    "graphic": lambda: fixture("graphic.png"),
    "wide 2.5:1": lambda: scene("wide", 1, 1500, 600),
    "high 1:2.5": lambda: scene("high", 2, 400, 1000),
    "odd 641x479": lambda: scene("odd", 3, 641, 479),
}


def frames(path: Path, most: int | None = None) -> Iterator[Image.Image]:
    """Decode frames to RGB with the matrix above: a decoder's own conversion would hide a wrong colour."""
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == most:
                return
            yield _rgb(frame)


def first_frame(path: Path) -> Image.Image:
    return next(frames(path))


def distance(one: Image.Image, other: Image.Image) -> float:
    """Return the mean absolute difference of the worst channel, 0 to 255."""
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def packet_times(path: Path, kind: str) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [packet.pts * packet.time_base for packet in container.demux(stream) if packet.pts is not None]


def samples(path: Path) -> list[float]:
    """Decode the left channel."""
    with av.open(str(path)) as container:
        heard = container.decode(audio=0)
        return [value for f in heard for value in memoryview(f.planes[0]).cast("f")[: f.samples]]


def _rgb(frame: av.VideoFrame) -> Image.Image:
    assert frame.format.name == "yuv420p"
    planes = [
        Image.frombuffer("L", (p.width, p.height), bytes(p), "raw", "L", p.line_size, 1).resize(
            (frame.width, frame.height), Image.Resampling.BILINEAR
        )
        for p in frame.planes
    ]
    return Image.merge("RGB", planes).convert("RGB", TO_RGB)


class BitWriter:
    """Fields of an H.264 parameter set, most significant bit first."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, count: int, value: int) -> BitWriter:
        """Append an unsigned number of `count` bits."""
        self.bits += f"{value:0{count}b}"
        return self

    def ue(self, *values: int) -> BitWriter:
        """Append unsigned Exp-Golomb codes."""
        for value in values:
            code = f"{value + 1:b}"
            self.bits += "0" * (len(code) - 1) + code
        return self

    def se(self, value: int) -> BitWriter:
        """Append a signed Exp-Golomb code."""
        return self.ue(2 * value - 1 if value > 0 else -2 * value)

    def unit(self) -> bytes:
        """Return a NAL unit of type 7: trailing bits are added, and start codes are broken up."""
        text = self.bits + "1"
        text += "0" * (-len(text) % 8)
        data = int(text, 2).to_bytes(len(text) // 8, "big")
        escaped = bytearray()
        for byte in data:
            if byte <= 3 and escaped[-2:] == b"\0\0":
                escaped.append(3)
            escaped.append(byte)
        return b"\x67" + bytes(escaped)


def baseline(columns: int, rows: int) -> BitWriter:
    """Begin the parameter set of a progressive stream of 16-pixel columns and rows; cropping and VUI follow."""
    # Profile, constraints and level; id, frame number length, order kind 2, references; no gaps; size; flags.
    return BitWriter().u(8, 66).u(16, 30).ue(0, 0, 2, 1).u(1, 0).ue(columns - 1, rows - 1).u(1, 1).u(1, 1)
