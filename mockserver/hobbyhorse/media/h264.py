"""The H.264 sequence parameter set, read bit by bit (ITU-T H.264, 7.3.2.1.1 and E.1.1); knows no container."""

from __future__ import annotations

from dataclasses import dataclass

HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
CHROMA = ("gray", "yuv420p", "yuv422p", "yuv444p")
EXTENDED_SAR = 255


class SpsError(Exception):
    """Bytes that are no sequence parameter set."""


@dataclass(frozen=True, slots=True)
class Sps:
    """Size after cropping in pixels, pixel format in ffmpeg's words, and (primaries, transfer, matrix, full range)."""

    width: int
    height: int
    pixel_format: str
    colour: tuple[int, int, int, bool] | None


class Bits:
    """A reader of bits and of Exp-Golomb numbers."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        """Read an unsigned number of `count` bits."""
        if count > self._left:
            raise SpsError("it ends too early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        """Read one bit."""
        return bool(self.take(1))

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise SpsError("an Exp-Golomb number has more than 32 leading zeros")
        return (1 << zeros) - 1 + self.take(zeros)

    def se(self) -> int:
        """Read a signed Exp-Golomb number."""
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def read_sps(unit: bytes) -> Sps:
    """Read a NAL unit of type 7; raise SpsError for anything else."""
    if len(unit) < 4 or unit[0] & 31 != 7:
        raise SpsError(f"it starts with {unit[:4]!r}; the first byte's low five bits must be 7")
    if len(unit) > 4096:
        raise SpsError(f"it has {len(unit)} bytes; at most 4096 are read")
    bits = Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.take(8)
    bits.take(16)
    bits.ue()
    chroma, depth, planes = _high(bits) if profile in HIGH_PROFILES else (1, 8, False)
    _order(bits)
    bits.ue()
    bits.take(1)
    columns, rows = bits.ue() + 1, bits.ue() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.take(1)
        rows *= 2
    bits.take(1)
    crop = [bits.ue() for _ in range(4)] if bits.flag() else [0, 0, 0, 0]
    step_x = 2 if chroma in (1, 2) and not planes else 1
    step_y = (2 if chroma == 1 and not planes else 1) * (1 if frames_only else 2)
    width, height = columns * 16 - step_x * (crop[0] + crop[1]), rows * 16 - step_y * (crop[2] + crop[3])
    if width <= 0 or height <= 0:
        raise SpsError(f"its size is {width}x{height}")
    colour = _vui_colour(bits) if bits.flag() else None
    return Sps(width, height, CHROMA[chroma] + ("" if depth == 8 else f"{depth}le"), colour)


def _high(bits: Bits) -> tuple[int, int, bool]:
    """The chroma format, the bit depth, and whether the colour planes are coded apart."""
    chroma = bits.ue()
    if chroma > 3:
        raise SpsError(f"chroma_format_idc is {chroma}; it must be 0 to 3")
    planes = chroma == 3 and bits.flag()
    depth = bits.ue() + 8
    bits.ue()
    bits.take(1)
    if bits.flag():
        for index in range(12 if chroma == 3 else 8):
            if bits.flag():
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma, depth, planes


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _order(bits: Bits) -> None:
    """Skip what is said about picture order."""
    bits.ue()
    kind = bits.ue()
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.take(1)
        bits.se()
        bits.se()
        cycle = bits.ue()
        if cycle > 255:
            raise SpsError(f"a picture order cycle has {cycle} frames; at most 255 are allowed")
        for _ in range(cycle):
            bits.se()


def _vui_colour(bits: Bits) -> tuple[int, int, int, bool] | None:
    if bits.flag() and bits.take(8) == EXTENDED_SAR:
        bits.take(32)
    if bits.flag():
        bits.take(1)
    if not bits.flag():
        return None
    bits.take(3)
    full = bits.flag()
    return (bits.take(8), bits.take(8), bits.take(8), full) if bits.flag() else None
