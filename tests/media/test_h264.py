"""The reader of H.264 parameter sets, on sets that are written bit by bit here."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.media.h264 import CHROMA, Bits, Sps, SpsError, read_sps
from tests.media_samples import BitWriter, baseline


def high(chroma: int, depth: int, *, planes: bool = False) -> BitWriter:
    """Begin a High profile set up to the scaling matrix flag."""
    written = BitWriter().u(8, 100).u(16, 40).ue(0, chroma)
    if chroma == 3:
        written.u(1, planes)
    return written.ue(depth - 8, depth - 8).u(1, 0)


def rest(written: BitWriter, columns: int = 80, rows: int = 45) -> bytes:
    """End a set: order kind 2, one reference, progressive, no cropping, no VUI."""
    return written.ue(0, 2, 1).u(1, 0).ue(columns - 1, rows - 1).u(1, 1).u(1, 1).u(1, 0).u(1, 0).unit()


def refused(unit: bytes) -> str:
    with pytest.raises(SpsError) as caught:
        read_sps(unit)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- codes ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**32 - 2), max_size=20))
def test_unsigned_codes_are_read_back(values: list[int]) -> None:
    written = BitWriter().ue(*values)
    bits = Bits(int((written.bits + "0" * 8) or "0", 2).to_bytes((len(written.bits) + 15) // 8, "big"))
    bits.take((len(written.bits) + 15) // 8 * 8 - len(written.bits) - 8)
    assert [bits.ue() for _ in values] == values


@given(st.integers(-(2**31) + 1, 2**31 - 1))
def test_signed_codes_are_read_back(value: int) -> None:
    code = BitWriter().se(value).bits
    bits = Bits(int(code.ljust(-(-len(code) // 8) * 8, "0"), 2).to_bytes(-(-len(code) // 8), "big"))
    assert bits.se() == value


def test_reading_past_the_end_reports_the_bits_that_are_missing() -> None:
    bits = Bits(b"\xff")
    assert bits.take(5) == 31
    with pytest.raises(SpsError, match="it ends early: 4 bits expected, 3 left"):
        bits.take(4)


def test_a_code_of_zeros_only_is_refused_before_all_of_it_is_read() -> None:
    with pytest.raises(SpsError, match="more than 32 leading zeros"):
        Bits(bytes(1000)).ue()


# --- sizes ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 300))
def test_an_uncropped_size_is_a_multiple_of_16(columns: int, rows: int) -> None:
    unit = baseline(columns, rows).u(1, 0).u(1, 0).unit()
    assert read_sps(unit) == Sps(16 * columns, 16 * rows, "yuv420p", None)


def test_cropping_counts_chroma_samples() -> None:
    unit = baseline(120, 68).u(1, 1).ue(0, 0, 0, 4).u(1, 0).unit()
    assert read_sps(unit) == Sps(1920, 1080, "yuv420p", None)


def test_an_interlaced_stream_has_half_of_its_rows_in_each_field() -> None:
    written = BitWriter().u(8, 66).u(16, 30).ue(0, 0, 2, 1).u(1, 0).ue(119, 33).u(1, 0).u(1, 0).u(1, 1)
    unit = written.u(1, 1).ue(0, 0, 0, 2).u(1, 0).unit()
    assert read_sps(unit) == Sps(1920, 1080, "yuv420p", None)


def test_a_size_that_is_cropped_away_is_refused() -> None:
    assert refused(baseline(1, 1).u(1, 1).ue(4, 4, 0, 0).u(1, 0).unit()) == "its size is 0x16"


# --- pixel formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chroma", range(4))
def test_each_chroma_format_has_its_name(chroma: int) -> None:
    assert read_sps(rest(high(chroma, 8).u(1, 0))).pixel_format == CHROMA[chroma]


def test_a_greater_bit_depth_is_part_of_the_name() -> None:
    assert read_sps(rest(high(1, 10).u(1, 0))).pixel_format == "yuv420p10le"


def test_a_chroma_format_above_3_is_refused() -> None:
    assert refused(rest(high(4, 8).u(1, 0))) == "chroma_format_idc is 4; allowed: 0 to 3"


def test_scaling_lists_are_skipped() -> None:
    """The first list ends early (8 + 1 - 9 is 0), the second is complete, the others are absent."""
    written = high(1, 8).u(1, 1).u(1, 1).se(1).se(-9).u(1, 1)
    for _ in range(16):
        written.se(1)
    assert read_sps(rest(written.u(6, 0))) == Sps(1280, 720, "yuv420p", None)


def test_a_picture_order_cycle_is_skipped() -> None:
    written = BitWriter().u(8, 66).u(16, 30).ue(0, 0, 1).u(1, 0).se(-3).se(2).ue(2).se(5).se(-5).ue(1).u(1, 0)
    assert read_sps(written.ue(79, 44).u(1, 1).u(1, 1).u(1, 0).u(1, 0).unit()) == Sps(1280, 720, "yuv420p", None)


def test_a_picture_order_cycle_longer_than_allowed_is_refused() -> None:
    written = BitWriter().u(8, 66).u(16, 30).ue(0, 0, 1).u(1, 0).se(0).se(0).ue(256)
    assert refused(written.unit()) == "a picture order cycle has 256 frames; allowed: at most 255"


# --- colours -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_colours_are_read_after_an_explicit_aspect_and_overscan(full: bool) -> None:
    written = baseline(80, 45).u(1, 0).u(1, 1).u(1, 1).u(8, 255).u(16, 4).u(16, 3).u(1, 1).u(1, 0)
    unit = written.u(1, 1).u(3, 5).u(1, full).u(1, 1).u(8, 1).u(8, 13).u(8, 6).unit()
    assert read_sps(unit).colour == (1, 13, 6, full)


def test_a_video_signal_without_a_colour_description_has_no_colour() -> None:
    unit = baseline(80, 45).u(1, 0).u(1, 1).u(1, 0).u(1, 0).u(1, 1).u(3, 5).u(1, 1).u(1, 0).unit()
    assert read_sps(unit).colour is None


# --- bytes ---------------------------------------------------------------------------------------------------------


def test_inserted_bytes_are_removed_before_reading() -> None:
    """An aspect ratio of zeros looks like a start code; the colour after it is only read if the 3 was removed."""
    written = baseline(80, 45).u(1, 0).u(1, 1).u(1, 1).u(8, 255).u(32, 0).u(1, 0)
    unit = written.u(1, 1).u(3, 5).u(1, 0).u(1, 1).u(8, 1).u(8, 13).u(8, 6).unit()
    assert b"\0\0\3" in unit
    assert read_sps(unit).colour == (1, 13, 6, False)


@pytest.mark.parametrize("unit", [b"", b"\x67\x42\0", b"\x68\x42\0\x1e\xf4"])
def test_another_unit_is_refused_with_its_first_bytes(unit: bytes) -> None:
    assert refused(unit) == f"it starts with {unit[:4]!r}; the first byte's low five bits must be 7"


def test_a_unit_that_is_too_long_is_refused_unread() -> None:
    assert refused(b"\x67" + bytes(4096)) == "it has 4097 bytes; allowed: at most 4096"


@given(st.binary(max_size=120))
def test_a_parameter_set_is_read_or_refused(data: bytes) -> None:
    with suppress(SpsError):
        assert read_sps(b"\x67" + data).width > 0
