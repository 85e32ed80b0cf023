"""A reader of H.264 sequence parameter sets (ITU-T H.264, 7.3.2.1.1 and E.1.1). No container, no pictures.

The SPS is the only part of a stream that states the picture's size, pixel format and colour, and a decoder obeys the
SPS even if the container differs. So the prober reads the SPS to detect a container with other values. The rest of a
stream (PPS, slices) describes the coding of pictures, which only a decoder can check.

Fields have variable length, so irrelevant fields must be parsed in order to skip them. Reading ends with the colour
description, the last relevant field. The input is untrusted, so every count is bounded before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

# The values of profile_idc with chroma and depth fields, as listed in 7.3.2.1.1; others are 8-bit 4:2:0.
HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
# ffmpeg's names, by chroma_format_idc (table 6-1).
CHROMA = ("gray", "yuv420p", "yuv422p", "yuv444p")
EXTENDED_SAR = 255  # aspect_ratio_idc that is followed by an explicit ratio (table E-1)
# A real SPS has about 30 bytes, or a few hundred with scaling lists. `Bits` shifts one large integer: quadratic time.
MOST_SPS_BYTES = 4096
MOST_LEADING_ZEROS = 32  # the maximum for a 32-bit value (9.1); damaged input may be all zeros
MOST_CYCLE = 255  # the range of num_ref_frames_in_pic_order_cnt_cycle (7.4.2.1.1)


class SpsError(Exception):
    """Bytes that are not a sequence parameter set. In the message, "it" is the sequence parameter set."""


@dataclass(frozen=True, slots=True)
class Sps:
    """Size in pixels after cropping, ffmpeg's pixel format, and colour: (primaries, transfer, matrix, full range)."""

    width: int
    height: int
    pixel_format: str
    colour: tuple[int, int, int, bool] | None


class Bits:
    """Reads bits and Exp-Golomb codes, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        """Read an unsigned number of `count` bits."""
        if count > self._left:
            raise SpsError(f"it ends early: {count} bits expected, {self._left} left")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        """Read one bit."""
        return bool(self.take(1))

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > MOST_LEADING_ZEROS:
                raise SpsError(f"an Exp-Golomb code has more than {MOST_LEADING_ZEROS} leading zeros")
        return (1 << zeros) - 1 + self.take(zeros)

    def se(self) -> int:
        """Read a signed Exp-Golomb code (9.1.1)."""
        value = self.ue()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def read_sps(unit: bytes) -> Sps:
    """Read a NAL unit of type 7. Raises SpsError."""
    if len(unit) < 4 or unit[0] & 31 != 7:
        raise SpsError(f"it starts with {unit[:4]!r}; the first byte's low five bits must be 7")
    if len(unit) > MOST_SPS_BYTES:
        raise SpsError(f"it has {len(unit)} bytes; allowed: at most {MOST_SPS_BYTES}")
    # Encoders insert a 3 after two zero bytes, so that no start code appears inside a unit (7.4.1).
    bits = Bits(unit[1:].replace(b"\0\0\3", b"\0\0"))
    profile = bits.take(8)
    bits.take(16)  # constraint flags, level_idc
    bits.ue()  # seq_parameter_set_id
    chroma, depth, planes = _high(bits) if profile in HIGH_PROFILES else (1, 8, False)
    _skip_order(bits)
    bits.ue()  # max_num_ref_frames
    bits.take(1)  # gaps_in_frame_num_value_allowed_flag
    columns, rows = bits.ue() + 1, bits.ue() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.take(1)  # mb_adaptive_frame_field_flag
        rows *= 2
    bits.take(1)  # direct_8x8_inference_flag
    crop = [bits.ue() for _ in range(4)] if bits.flag() else [0, 0, 0, 0]
    # Sizes are coded in macroblocks of 16 x 16 and cropped in units of a chroma sample (7-19 to 7-22): 1080 lines are
    # 68 macroblocks minus 8 lines.
    step_x = 2 if chroma in (1, 2) and not planes else 1
    step_y = (2 if chroma == 1 and not planes else 1) * (1 if frames_only else 2)
    width, height = columns * 16 - step_x * (crop[0] + crop[1]), rows * 16 - step_y * (crop[2] + crop[3])
    if width <= 0 or height <= 0:
        raise SpsError(f"its size is {width}x{height}")
    colour = _vui_colour(bits) if bits.flag() else None
    return Sps(width, height, CHROMA[chroma] + ("" if depth == 8 else f"{depth}le"), colour)


def _high(bits: Bits) -> tuple[int, int, bool]:
    """Read the fields of high profiles; return chroma_format_idc, luma bit depth, separate_colour_plane_flag."""
    chroma = bits.ue()
    if chroma > 3:
        raise SpsError(f"chroma_format_idc is {chroma}; allowed: 0 to 3")
    planes = chroma == 3 and bits.flag()
    depth = bits.ue() + 8
    bits.ue()  # bit_depth_chroma_minus8
    bits.take(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.flag():
        for index in range(12 if chroma == 3 else 8):
            if bits.flag():
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma, depth, planes


def _skip_scaling_list(bits: Bits, size: int) -> None:
    # 7.3.2.1.1.1: after a scale of 0, the rest of the list is not coded, so skipping requires computing the values.
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _skip_order(bits: Bits) -> None:
    """Skip the fields from log2_max_frame_num_minus4 to the picture order count."""
    bits.ue()
    kind = bits.ue()
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.take(1)
        bits.se()
        bits.se()
        cycle = bits.ue()
        if cycle > MOST_CYCLE:
            raise SpsError(f"a picture order cycle has {cycle} frames; allowed: at most {MOST_CYCLE}")
        for _ in range(cycle):
            bits.se()


def _vui_colour(bits: Bits) -> tuple[int, int, int, bool] | None:
    """Return the colour description of the video usability information (E.1.1), or None if it has none."""
    if bits.flag() and bits.take(8) == EXTENDED_SAR:
        bits.take(32)  # sar_width, sar_height
    if bits.flag():
        bits.take(1)  # overscan_appropriate_flag
    if not bits.flag():
        return None
    bits.take(3)  # video_format
    full = bits.flag()
    return (bits.take(8), bits.take(8), bits.take(8), full) if bits.flag() else None
