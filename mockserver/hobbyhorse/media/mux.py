"""An MP4 written from loops: every second of picture is the same second; knows no encoder, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from struct import pack

from hobbyhorse.media.streams import PACKET_SAMPLES, AudioLoop, VideoLoop

MOVIE_SCALE = 48000
FRAME_TICKS = 1000
UNITY = pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
BT709_COLR = pack(">4s3HB", b"nclx", 1, 1, 1, 0)


@dataclass(frozen=True, slots=True)
class MovieParts:
    """All that a file holds: the loops, how often the picture's turns, and the words about it."""

    video: VideoLoop
    audio: AudioLoop
    width: int
    height: int
    seconds: int
    title: str
    comment: str


@dataclass(frozen=True, slots=True)
class Samples:
    """One track's sample sizes, and how they lie in chunks of about a second."""

    sizes: tuple[int, ...]
    chunks: tuple[int, ...]

    def chunk_bytes(self) -> list[int]:
        """The size of each chunk."""
        found, at = [], 0
        for count in self.chunks:
            found.append(sum(self.sizes[at : at + count]))
            at += count
        return found


def write_mp4(reel: MovieParts, out: Path) -> None:
    """Write the file, `moov` before `mdat`, picture and sound side by side second by second."""
    packets = _sound(reel)
    video, audio = _video_samples(reel), _audio_samples(reel, packets)
    ftyp = _box(b"ftyp", b"isom", pack(">I", 0x200), b"isomiso2avc1mp41")
    start = len(ftyp) + len(_moov(reel, video, audio, 0)) + 8
    payload = sum(video.sizes) + sum(audio.sizes)
    picture = b"".join(reel.video.samples)
    with out.open("wb") as file:
        file.write(ftyp + _moov(reel, video, audio, start) + pack(">I4s", payload + 8, b"mdat"))
        at = 0
        for count in audio.chunks:
            file.write(picture)
            file.write(b"".join(packets[at : at + count]))
            at += count


def _sound(reel: MovieParts) -> list[bytes]:
    """The packets in order. The first only leads in: a packet sounds together with the one before it."""
    turn = reel.audio.packets
    return [turn[(index - 1) % len(turn)] for index in range(_packets_until(reel, reel.seconds))]


def _packets_until(reel: MovieParts, second: int) -> int:
    return 1 - -second * reel.audio.rate // PACKET_SAMPLES if second else 0


def _video_samples(reel: MovieParts) -> Samples:
    sizes = tuple(len(sample) for sample in reel.video.samples)
    return Samples(sizes * reel.seconds, (len(sizes),) * reel.seconds)


def _audio_samples(reel: MovieParts, packets: list[bytes]) -> Samples:
    ends = [_packets_until(reel, second) for second in range(reel.seconds + 1)]
    chunks = tuple(after - before for before, after in pairwise(ends))
    return Samples(tuple(len(packet) for packet in packets), chunks)


def _moov(reel: MovieParts, video: Samples, audio: Samples, start: int) -> bytes:
    duration = reel.seconds * MOVIE_SCALE
    picture_at, sound_at, at = [], [], start
    for picture, sound in zip(video.chunk_bytes(), audio.chunk_bytes(), strict=True):
        picture_at.append(at)
        sound_at.append(at + picture)
        at += picture + sound
    mvhd = pack(">IIIIIIH10x36s24xI", 0, 0, 0, MOVIE_SCALE, duration, 0x10000, 0x100, UNITY, 3)
    tracks = _video_track(reel, video, picture_at), _audio_track(reel, audio, sound_at)
    return _box(b"moov", _box(b"mvhd", mvhd), *tracks, _words(reel))


def _video_track(reel: MovieParts, samples: Samples, offsets: list[int]) -> bytes:
    rate = len(reel.video.samples)
    length = rate * FRAME_TICKS * reel.seconds
    keys = range(1, len(samples.sizes), rate)
    tables = (
        _box(b"stsd", pack(">II", 0, 1), _avc1(reel)),
        _full(b"stts", pack(">III", 1, len(samples.sizes), FRAME_TICKS)),
        _full(b"stss", pack(f">I{len(keys)}I", len(keys), *keys)),
    )
    media = _media(
        b"vide", rate * FRAME_TICKS, length, _box(b"vmhd", pack(">IHHHH", 1, 0, 0, 0, 0)), tables, samples, offsets
    )
    return _box(b"trak", _tkhd(reel, 1, 0, reel.width, reel.height), _edit(reel, 0), media)


def _audio_track(reel: MovieParts, samples: Samples, offsets: list[int]) -> bytes:
    whole = len(samples.sizes) - 1
    length = PACKET_SAMPLES + reel.audio.rate * reel.seconds
    last = length - whole * PACKET_SAMPLES
    runs = ((whole, PACKET_SAMPLES), (1, last)) if last != PACKET_SAMPLES else ((whole + 1, last),)
    tables = (
        _box(b"stsd", pack(">II", 0, 1), _mp4a(reel.audio, samples)),
        _full(b"stts", pack(">I", len(runs)), *(pack(">II", *run) for run in runs)),
    )
    media = _media(b"soun", reel.audio.rate, length, _full(b"smhd", bytes(4)), tables, samples, offsets)
    return _box(b"trak", _tkhd(reel, 2, 0x100, 0, 0), _edit(reel, PACKET_SAMPLES), media)


def _tkhd(reel: MovieParts, track: int, volume: int, width: int, height: int) -> bytes:
    duration = reel.seconds * MOVIE_SCALE
    size = pack(">II", width << 16, height << 16)
    return _box(b"tkhd", pack(">IIIIII8xHHHH", 3, 0, 0, track, 0, duration, 0, 0, volume, 0), UNITY, size)


def _edit(reel: MovieParts, skipped: int) -> bytes:
    return _box(b"edts", _full(b"elst", pack(">IIIHH", 1, reel.seconds * MOVIE_SCALE, skipped, 1, 0)))


def _media(
    kind: bytes, scale: int, length: int, header: bytes, tables: tuple[bytes, ...], samples: Samples, offsets: list[int]
) -> bytes:
    mdhd = _full(b"mdhd", pack(">IIIIHH", 0, 0, scale, length, 0x55C4, 0))
    source = _box(b"dinf", _full(b"dref", pack(">I", 1), _box(b"url ", pack(">I", 1))))
    stbl = _box(b"stbl", *tables, *_layout(samples, offsets))
    return _box(b"mdia", mdhd, _handler(kind, b"hobbyhorse\0"), _box(b"minf", header, source, stbl))


def _layout(samples: Samples, offsets: list[int]) -> tuple[bytes, bytes, bytes]:
    runs, chunk = [], 1
    for count, same in groupby(samples.chunks):
        runs.append(pack(">III", chunk, count, 1))
        chunk += len(tuple(same))
    return (
        _full(b"stsc", pack(">I", len(runs)), *runs),
        _full(b"stsz", pack(f">II{len(samples.sizes)}I", 0, len(samples.sizes), *samples.sizes)),
        _full(b"stco", pack(f">I{len(offsets)}I", len(offsets), *offsets)),
    )


def _avc1(reel: MovieParts) -> bytes:
    sps, pps = reel.video.sps, reel.video.pps
    head = pack(">6xH16xHHIIIH32xHh", 1, reel.width, reel.height, 0x480000, 0x480000, 0, 1, 24, -1)
    sets = pack(">BH", 0xE1, len(sps)) + sps + pack(">BH", 1, len(pps)) + pps
    extension = bytes((0xFD, 0xF8, 0xF8, 0)) if sps[1] >= 100 else b""  # High profile: 4:2:0, 8 bits
    config = _box(b"avcC", b"\1", sps[1:4], b"\xff", sets, extension)
    return _box(b"avc1", head, config, _box(b"colr", BT709_COLR), _box(b"pasp", pack(">II", 1, 1)))


def _mp4a(audio: AudioLoop, samples: Samples) -> bytes:
    rate = 8 * sum(samples.sizes) * audio.rate // (len(samples.sizes) * PACKET_SAMPLES)
    decoder = pack(">BB3sII", 0x40, 0x15, bytes(3), rate, rate) + _descriptor(5, audio.config)
    stream = pack(">HB", 2, 0) + _descriptor(4, decoder) + _descriptor(6, b"\2")
    head = pack(">6xH8xHH4xI", 1, audio.channels, 16, audio.rate << 16)
    return _box(b"mp4a", head, _full(b"esds", _descriptor(3, stream)))


def _descriptor(tag: int, payload: bytes) -> bytes:
    return bytes((tag, len(payload))) + payload


def _words(reel: MovieParts) -> bytes:
    items = ((b"\xa9nam", reel.title), (b"\xa9too", "hobbyhorse"), (b"\xa9cmt", reel.comment))
    texts = (_box(name, _box(b"data", pack(">II", 1, 0), text.encode(errors="replace"))) for name, text in items)
    return _box(b"udta", _full(b"meta", _handler(b"mdir", b"\0", b"appl"), _box(b"ilst", *texts)))


def _handler(kind: bytes, name: bytes, maker: bytes = bytes(4)) -> bytes:
    return _full(b"hdlr", bytes(4), kind, maker, bytes(8), name)


def _full(name: bytes, *parts: bytes) -> bytes:
    return _box(name, bytes(4), *parts)


def _box(name: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return pack(">I4s", len(payload) + 8, name) + payload
