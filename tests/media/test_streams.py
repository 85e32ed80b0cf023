"""Loops cut from encoder output, on streams that are written here byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.media.streams import StreamError, VideoLoop, audio_loop, video_loop

SPS, PPS, IDR, SLICE = b"\x67sps", b"\x68pps", b"\x65idr", b"\x41slice"
SEI = b"\x06sei"


def annex_b(*units: bytes, code: bytes = b"\0\0\1") -> bytes:
    return b"".join(code + unit for unit in units)


def adts(payload: bytes, *, crc: bool = False, rate: int = 3, channels: int = 2) -> bytes:
    """Return an ADTS frame of AAC-LC."""
    header = 9 if crc else 7
    size = header + len(payload)
    head = bytes(
        (
            0xFF,
            0xF0 | (not crc),
            1 << 6 | rate << 2 | channels >> 2,
            (channels & 3) << 6 | size >> 11,
            size >> 3 & 0xFF,
            (size & 7) << 5 | 0x1F,
            0xFC,
        )
    )
    return head + bytes(header - 7) + payload


# --- video ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
def test_slices_become_samples_with_a_length_of_four_bytes(code: bytes) -> None:
    found = video_loop(annex_b(SPS, PPS, SEI, IDR, SLICE, SLICE, code=code), 3)
    assert found == VideoLoop(SPS, PPS, (b"\0\0\0\4" + IDR, b"\0\0\0\6" + SLICE, b"\0\0\0\6" + SLICE))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ((SPS, PPS, IDR, SLICE), "found 2 slices with IDR at [0]; expected 3 slices with IDR at [0]"),
        ((SPS, PPS, IDR, SLICE, SLICE, SLICE), "found 4 slices with IDR at [0]; expected 3 slices with IDR at [0]"),
        ((SPS, PPS, IDR, IDR, SLICE), "found 3 slices with IDR at [0, 1]; expected 3 slices with IDR at [0]"),
        ((SPS, PPS, SLICE, IDR, SLICE), "found 3 slices with IDR at [1]; expected 3 slices with IDR at [0]"),
        ((), "found 0 slices with IDR at []; expected 3 slices with IDR at [0]"),
        ((SPS, IDR, SLICE, SLICE), "found no parameter sets in the H.264 stream"),
        ((PPS, IDR, SLICE, SLICE), "found no parameter sets in the H.264 stream"),
    ],
)
def test_a_stream_that_cannot_be_repeated_is_refused(units: tuple[bytes, ...], message: str) -> None:
    with pytest.raises(StreamError) as caught:
        video_loop(annex_b(*units), 3)
    assert str(caught.value) == message


# --- audio ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=4, max_size=12), st.booleans())
def test_packets_are_cut_after_those_that_the_encoder_needs_to_settle(payloads: list[bytes], crc: bool) -> None:
    stream = b"".join(adts(payload, crc=crc) for payload in payloads)
    assert audio_loop(stream, 1, 3).packets == tuple(payloads[1:4])


@pytest.mark.parametrize(("index", "rate"), [(0, 96_000), (3, 48_000), (4, 44_100), (12, 7_350)])
def test_rate_channels_and_configuration_are_those_of_the_header(index: int, rate: int) -> None:
    found = audio_loop(adts(b"packet", rate=index, channels=1), 0, 1)
    assert (found.rate, found.channels) == (rate, 1)
    config = int.from_bytes(found.config, "big")
    assert (config >> 11, config >> 7 & 15, config >> 3 & 15) == (2, index, 1)


def test_too_few_packets_are_refused() -> None:
    with pytest.raises(StreamError, match="found 2 AAC packets; expected at least 3"):
        audio_loop(adts(b"one") + adts(b"two"), 1, 2)


@pytest.mark.parametrize("damage", [b"\xfe", b"\xff\x01"])
def test_a_frame_without_a_header_is_refused_with_its_place(damage: bytes) -> None:
    stream = adts(b"one") + damage + bytes(10)
    with pytest.raises(StreamError, match="found no ADTS header at byte 10 of the AAC stream"):
        audio_loop(stream, 0, 1)


def test_a_frame_that_claims_less_than_its_header_is_refused() -> None:
    stream = bytearray(adts(b"one"))
    stream[3] &= 0xC0
    stream[4] = 0
    stream[5] = 7 << 5
    with pytest.raises(StreamError, match="at byte 0"):
        audio_loop(bytes(stream), 0, 1)
