"""Extract loops from raw encoder output: one second of H.264, and a period of AAC. No container, no encoder.

A loop can be repeated without decoding. That requires more than identical first and last pictures:

* Video: the first picture is IDR, so each repetition starts with an empty reference buffer; otherwise, it would show
  blocks of the previous repetition. No other picture is IDR: the writer lists one sync sample for each repetition.
* Each picture has one slice: a sample of an MP4 is a whole picture, and this code makes a sample of each slice.
* Audio: the period is a whole number of packets, and the sound has that period. AAC overlaps each packet with the
  previous one, and the encoder's first packets depend on the silence before them, so the loop starts after those.

`StreamError` means that the encoder had the wrong options, not that the input was bad.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Three or four bytes: encoders write the longer start code before the first unit and parameter sets (Annex B.1.2).
START_CODE = re.compile(rb"\x00?\x00\x00\x01")
SLICE, IDR_SLICE, SPS, PPS = 1, 5, 7, 8  # nal_unit_type (ITU-T H.264, table 7-1)
# By sampling_frequency_index (ISO/IEC 14496-3). `probe` has its own copy: if the reader shared code with the writer, it
# would confirm the writer's mistakes.
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
PACKET_SAMPLES = 1024  # samples per channel of an AAC-LC packet (ISO/IEC 14496-3)


class StreamError(Exception):
    """The encoder's output cannot be looped."""


@dataclass(frozen=True, slots=True)
class VideoLoop:
    """A closed group of pictures: parameter sets, and samples with a 4-byte length, as an MP4 stores them."""

    sps: bytes
    pps: bytes
    samples: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AudioLoop:
    """The AAC packets of one period of a sound, with AudioSpecificConfig, sample rate in Hz, and channel count."""

    config: bytes
    rate: int
    channels: int
    packets: tuple[bytes, ...]


def video_loop(annex_b: bytes, frames: int) -> VideoLoop:
    """Return an Annex B stream of `frames` pictures, of which only the first is IDR, as a loop. Raises StreamError."""
    units = [unit for unit in START_CODE.split(annex_b) if unit]
    kinds = [unit[0] & 31 for unit in units]
    slices = [unit for unit, kind in zip(units, kinds, strict=True) if kind in (SLICE, IDR_SLICE)]
    idr = [index for index, unit in enumerate(slices) if unit[0] & 31 == IDR_SLICE]
    if len(slices) != frames or idr != [0]:
        raise StreamError(f"found {len(slices)} slices with IDR at {idr}; expected {frames} slices with IDR at [0]")
    if SPS not in kinds or PPS not in kinds:
        raise StreamError("found no parameter sets in the H.264 stream")
    samples = tuple(len(unit).to_bytes(4, "big") + unit for unit in slices)
    return VideoLoop(units[kinds.index(SPS)], units[kinds.index(PPS)], samples)


def audio_loop(adts: bytes, start: int, turn: int) -> AudioLoop:
    """Return `turn` packets (one loop period) of an ADTS stream, starting at packet `start`. Raises StreamError."""
    packets = tuple(_packets(adts))
    if len(packets) < start + turn:
        raise StreamError(f"found {len(packets)} AAC packets; expected at least {start + turn}")
    # An ADTS header has the fields of an AudioSpecificConfig, but its object type is smaller by one.
    kind, rate, channels = (adts[2] >> 6) + 1, adts[2] >> 2 & 15, (adts[2] & 1) << 2 | adts[3] >> 6
    config = (kind << 11 | rate << 7 | channels << 3).to_bytes(2, "big")
    return AudioLoop(config, AAC_RATES[rate], channels, packets[start : start + turn])


def _packets(adts: bytes) -> Iterator[bytes]:
    """Yield the payload of each ADTS frame."""
    at = 0
    while at + 7 <= len(adts):
        size = (adts[at + 3] & 3) << 11 | adts[at + 4] << 3 | adts[at + 5] >> 5
        if adts[at] != 0xFF or adts[at + 1] & 0xF6 != 0xF0 or size < 8:
            raise StreamError(f"found no ADTS header at byte {at} of the AAC stream")
        header = 7 if adts[at + 1] & 1 else 9  # protection_absent; a CRC takes two bytes more
        yield adts[at + header : at + size]
        at += size
