"""One second of H.264 and one turn of AAC, cut out of raw encoder output; knows no container, no encoder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

START_CODE = re.compile(rb"\x00?\x00\x00\x01")
SLICE, IDR_SLICE, SPS, PPS = 1, 5, 7, 8
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
PACKET_SAMPLES = 1024


class StreamError(Exception):
    """Encoder output that is not what was asked for."""


@dataclass(frozen=True, slots=True)
class VideoLoop:
    """A closed group of pictures that may follow itself: parameter sets, and samples as an MP4 holds them."""

    sps: bytes
    pps: bytes
    samples: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AudioLoop:
    """AAC packets of a sound that repeats after them, so that the first may follow the last."""

    config: bytes
    rate: int
    channels: int
    packets: tuple[bytes, ...]


def video_loop(annex_b: bytes, frames: int) -> VideoLoop:
    """Cut an Annex B stream of one IDR picture and its followers, one slice each, into samples."""
    units = [unit for unit in START_CODE.split(annex_b) if unit]
    kinds = [unit[0] & 31 for unit in units]
    slices = [unit for unit, kind in zip(units, kinds, strict=True) if kind in (SLICE, IDR_SLICE)]
    if len(slices) != frames or kinds.count(IDR_SLICE) != 1 or slices[0][0] & 31 != IDR_SLICE:
        raise StreamError(f"found {len(slices)} slices, {kinds.count(IDR_SLICE)} of them IDR; expected {frames}, 1")
    if SPS not in kinds or PPS not in kinds:
        raise StreamError("found no parameter sets in the H.264 stream")
    samples = tuple(len(unit).to_bytes(4, "big") + unit for unit in slices)
    return VideoLoop(units[kinds.index(SPS)], units[kinds.index(PPS)], samples)


def audio_loop(adts: bytes, start: int, turn: int) -> AudioLoop:
    """Cut `turn` packets out of an ADTS stream, after `start` that the encoder needs to settle."""
    packets = tuple(_packets(adts))
    if len(packets) < start + turn:
        raise StreamError(f"found {len(packets)} AAC packets; expected at least {start + turn}")
    kind, rate, channels = (adts[2] >> 6) + 1, adts[2] >> 2 & 15, (adts[2] & 1) << 2 | adts[3] >> 6
    config = (kind << 11 | rate << 7 | channels << 3).to_bytes(2, "big")
    return AudioLoop(config, AAC_RATES[rate], channels, packets[start : start + turn])


def _packets(adts: bytes) -> Iterator[bytes]:
    at = 0
    while at + 7 <= len(adts):
        size = (adts[at + 3] & 3) << 11 | adts[at + 4] << 3 | adts[at + 5] >> 5
        if adts[at] != 0xFF or adts[at + 1] & 0xF6 != 0xF0 or size < 8:
            raise StreamError(f"found no ADTS header at byte {at} of the AAC stream")
        header = 7 if adts[at + 1] & 1 else 9
        yield adts[at + header : at + size]
        at += size
