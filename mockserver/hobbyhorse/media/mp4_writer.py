"""An MP4 writer (ISO/IEC 14496-12, -14, -15) for looped streams. No encoder, no clock.

The file is `ftyp`, `moov`, `mdat`. Every repetition of the loop has the same bytes, so this module encodes nothing; its
task is to write consistent tables. A player trusts the tables, and each inconsistency has its own visible effect:

* `moov` precedes `mdat`, so that playback can start before the download has ended. The chunk offsets in `moov`
  therefore depend on the size of `moov` itself. `write_mp4` builds `moov` twice: offsets have a fixed width, so the
  first `moov`, with offsets from 0, already has the final size.
* `stsz` has as many sizes as `stts` has durations and as the chunks of `stsc` have samples. If one of these tables is
  too short, a player stops early or refuses the file.
* A sample's offset is the chunk's offset in `stco` plus the sizes of the earlier samples in the chunk. If an offset is
  wrong by one byte, every sample is garbage.
* A chunk is one second of video (24 samples), or the audio packets up to the end of that second. Video and audio chunks
  alternate, so a player that reads in file order buffers one second instead of the whole file.
* `stss` lists the first frame of each second, the only IDR pictures. Without this table, every frame would count as a
  sync sample, and seeking could start at a frame that refers to earlier frames.
* There is no `ctts`, because the encoder makes no B-frames, so decoding order is presentation order.
* The video's time scale is 24,000 with 1,000 ticks for each frame, which makes 24 frames per second exact. The movie's
  time scale is the audio rate, 48,000. `mvhd`, `tkhd` and `elst` use the movie's scale, `mdhd` and `stts` the track's,
  and all of them amount to the same whole number of seconds. If the tracks differed, the shorter one would freeze or
  fall silent.
* Audio has one extra packet at the beginning. Decoding an AAC packet needs the preceding packet, so the first decoded
  packet (the priming, 1,024 samples) is incomplete. The edit list of the audio track starts after the priming;
  otherwise, the sound would begin with a click and lag by 21 ms. `stts` shortens the duration of the last packet,
  because a second is not a whole number of packets.
* The `colr` box repeats the colours of the SPS. Some players prefer the box and others the SPS, so a difference would
  give different shades.

There are no creation times, so the same loops and texts give the same bytes. `probe` reads these tables without sharing
code, and the tests check each statement above with `probe` and with FFmpeg.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from struct import pack

from hobbyhorse.media.streams import PACKET_SAMPLES, AudioLoop, VideoLoop

MOVIE_SCALE = 48000  # ticks per second of the movie: the audio rate, and a multiple of 24
FRAME_TICKS = 1000  # ticks per frame of the video; any number makes 24 fps exact, this one is readable in a dump
# The identity matrix in the fixed-point format of tkhd and mvhd: 16.16, the last column 2.30.
UNITY = pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
# Primaries, transfer and matrix of BT.709, limited range (ISO/IEC 23091-2).
BT709_COLR = pack(">4s3HB", b"nclx", 1, 1, 1, 0)


@dataclass(frozen=True, slots=True)
class MovieParts:
    """The content of a file: the loops, the frame size, whole seconds (repetitions of the video loop), and texts."""

    video: VideoLoop
    audio: AudioLoop
    width: int
    height: int
    seconds: int
    title: str
    comment: str


@dataclass(frozen=True, slots=True)
class Samples:
    """A track's sample sizes, and the number of samples in each chunk (one for each second)."""

    sizes: tuple[int, ...]
    chunks: tuple[int, ...]

    def chunk_bytes(self) -> list[int]:
        """Return the size of each chunk."""
        found, at = [], 0
        for count in self.chunks:
            found.append(sum(self.sizes[at : at + count]))
            at += count
        return found


def write_mp4(movie: MovieParts, out: Path) -> None:
    """Write the file. The media is written second by second, in the order that `_moov` assumes."""
    packets = _audio_packets(movie)
    video, audio = _video_samples(movie), _audio_samples(movie, packets)
    ftyp = _box(b"ftyp", b"isom", pack(">I", 0x200), b"isomiso2avc1mp41")
    start = len(ftyp) + len(_moov(movie, video, audio, 0)) + 8  # 8: the header of mdat
    # A 32-bit size is enough, because the longest video is far below 4 GiB.
    payload = sum(video.sizes) + sum(audio.sizes)
    picture = b"".join(movie.video.samples)
    with out.open("wb") as file:
        file.write(ftyp + _moov(movie, video, audio, start) + pack(">I4s", payload + 8, b"mdat"))
        at = 0
        for count in audio.chunks:
            file.write(picture)
            file.write(b"".join(packets[at : at + count]))
            at += count


def _audio_packets(movie: MovieParts) -> list[bytes]:
    """Return the packets in order, beginning with the priming packet: the loop's last, which precedes its start."""
    turn = movie.audio.packets
    return [turn[(index - 1) % len(turn)] for index in range(_packets_until(movie, movie.seconds))]


def _packets_until(movie: MovieParts, second: int) -> int:
    """Return the number of packets that cover the first `second` seconds, rounded up, plus the priming packet."""
    return 1 - -second * movie.audio.rate // PACKET_SAMPLES if second else 0


def _video_samples(movie: MovieParts) -> Samples:
    sizes = tuple(len(sample) for sample in movie.video.samples)
    return Samples(sizes * movie.seconds, (len(sizes),) * movie.seconds)


def _audio_samples(movie: MovieParts, packets: list[bytes]) -> Samples:
    ends = [_packets_until(movie, second) for second in range(movie.seconds + 1)]
    chunks = tuple(after - before for before, after in pairwise(ends))
    return Samples(tuple(len(packet) for packet in packets), chunks)


def _moov(movie: MovieParts, video: Samples, audio: Samples, start: int) -> bytes:
    duration = movie.seconds * MOVIE_SCALE
    video_offsets, audio_offsets, at = [], [], start
    for video_bytes, audio_bytes in zip(video.chunk_bytes(), audio.chunk_bytes(), strict=True):
        video_offsets.append(at)
        audio_offsets.append(at + video_bytes)
        at += video_bytes + audio_bytes
    # Rate 1.0, volume 1.0; 3 is next_track_ID.
    mvhd = pack(">IIIIIIH10x36s24xI", 0, 0, 0, MOVIE_SCALE, duration, 0x10000, 0x100, UNITY, 3)
    tracks = _video_track(movie, video, video_offsets), _audio_track(movie, audio, audio_offsets)
    return _box(b"moov", _box(b"mvhd", mvhd), *tracks, _metadata(movie))


def _video_track(movie: MovieParts, samples: Samples, offsets: list[int]) -> bytes:
    rate = len(movie.video.samples)
    length = rate * FRAME_TICKS * movie.seconds
    keys = range(1, len(samples.sizes), rate)
    tables = (
        _box(b"stsd", pack(">II", 0, 1), _avc1(movie)),
        _full(b"stts", pack(">III", 1, len(samples.sizes), FRAME_TICKS)),
        _full(b"stss", pack(f">I{len(keys)}I", len(keys), *keys)),
    )
    media = _media(
        b"vide",
        rate * FRAME_TICKS,
        length,
        header=_box(b"vmhd", pack(">IHHHH", 1, 0, 0, 0, 0)),
        tables=tables,
        samples=samples,
        offsets=offsets,
    )
    return _box(b"trak", _tkhd(movie, 1, 0, movie.width, movie.height), _edit(movie, 0), media)


def _audio_track(movie: MovieParts, samples: Samples, offsets: list[int]) -> bytes:
    whole = len(samples.sizes) - 1
    length = PACKET_SAMPLES + movie.audio.rate * movie.seconds  # the priming is part of the media, not of the movie
    last = length - whole * PACKET_SAMPLES
    runs = ((whole, PACKET_SAMPLES), (1, last)) if last != PACKET_SAMPLES else ((whole + 1, last),)
    tables = (
        _box(b"stsd", pack(">II", 0, 1), _mp4a(movie.audio, samples)),
        _full(b"stts", pack(">I", len(runs)), *(pack(">II", *run) for run in runs)),
    )
    media = _media(
        b"soun",
        movie.audio.rate,
        length,
        header=_full(b"smhd", bytes(4)),
        tables=tables,
        samples=samples,
        offsets=offsets,
    )
    return _box(b"trak", _tkhd(movie, 2, 0x100, 0, 0), _edit(movie, PACKET_SAMPLES), media)


def _tkhd(movie: MovieParts, track: int, volume: int, width: int, height: int) -> bytes:
    duration = movie.seconds * MOVIE_SCALE
    size = pack(">II", width << 16, height << 16)
    # Version 0; flags 3: enabled, and part of the movie.
    return _box(b"tkhd", pack(">IIIIII8xHHHH", 3, 0, 0, track, 0, duration, 0, 0, volume, 0), UNITY, size)


def _edit(movie: MovieParts, skipped: int) -> bytes:
    """Return an edit list that presents the whole movie's duration, starting `skipped` ticks into the track's media."""
    return _box(b"edts", _full(b"elst", pack(">IIIHH", 1, movie.seconds * MOVIE_SCALE, skipped, 1, 0)))


def _media(
    kind: bytes,
    scale: int,
    length: int,
    *,
    header: bytes,
    tables: tuple[bytes, ...],
    samples: Samples,
    offsets: list[int],
) -> bytes:
    mdhd = _full(b"mdhd", pack(">IIIIHH", 0, 0, scale, length, 0x55C4, 0))  # 0x55C4: language "und"
    source = _box(b"dinf", _full(b"dref", pack(">I", 1), _box(b"url ", pack(">I", 1))))  # 1: in this file
    stbl = _box(b"stbl", *tables, *_layout(samples, offsets))
    return _box(b"mdia", mdhd, _handler(kind, b"hobbyhorse\0"), _box(b"minf", header, source, stbl))


def _layout(samples: Samples, offsets: list[int]) -> tuple[bytes, bytes, bytes]:
    """Return the boxes stsc, stsz and stco."""
    runs, chunk = [], 1
    # stsc has an entry only when the number of samples in a chunk changes.
    for count, same in groupby(samples.chunks):
        runs.append(pack(">III", chunk, count, 1))
        chunk += len(tuple(same))
    return (
        _full(b"stsc", pack(">I", len(runs)), *runs),
        _full(b"stsz", pack(f">II{len(samples.sizes)}I", 0, len(samples.sizes), *samples.sizes)),
        _full(b"stco", pack(f">I{len(offsets)}I", len(offsets), *offsets)),
    )


def _avc1(movie: MovieParts) -> bytes:
    sps, pps = movie.video.sps, movie.video.pps
    head = pack(">6xH16xHHIIIH32xHh", 1, movie.width, movie.height, 0x480000, 0x480000, 0, 1, 24, -1)
    sets = pack(">BH", 0xE1, len(sps)) + sps + pack(">BH", 1, len(pps)) + pps
    extension = bytes((0xFD, 0xF8, 0xF8, 0)) if sps[1] >= 100 else b""  # High profile: 4:2:0, 8 bits
    # 0xFF: sample lengths have four bytes, as `video_loop` writes them.
    config = _box(b"avcC", b"\1", sps[1:4], b"\xff", sets, extension)
    return _box(b"avc1", head, config, _box(b"colr", BT709_COLR), _box(b"pasp", pack(">II", 1, 1)))


def _mp4a(audio: AudioLoop, samples: Samples) -> bytes:
    rate = 8 * sum(samples.sizes) * audio.rate // (len(samples.sizes) * PACKET_SAMPLES)
    # 0x40: MPEG-4 audio; 0x15: an audio stream; the maximum bit rate is given as the average.
    decoder = pack(">BB3sII", 0x40, 0x15, bytes(3), rate, rate) + _descriptor(5, audio.config)
    stream = pack(">HB", 2, 0) + _descriptor(4, decoder) + _descriptor(6, b"\2")
    head = pack(">6xH8xHH4xI", 1, audio.channels, 16, audio.rate << 16)
    return _box(b"mp4a", head, _full(b"esds", _descriptor(3, stream)))


def _descriptor(tag: int, payload: bytes) -> bytes:
    """Return an MPEG-4 descriptor. Its one-byte length allows payloads of less than 128 bytes."""
    return bytes((tag, len(payload))) + payload


def _metadata(movie: MovieParts) -> bytes:
    """Return the title, tool and comment as iTunes metadata, which players and FFmpeg read."""
    items = ((b"\xa9nam", movie.title), (b"\xa9too", "hobbyhorse"), (b"\xa9cmt", movie.comment))
    texts = (_box(name, _box(b"data", pack(">II", 1, 0), text.encode(errors="replace"))) for name, text in items)
    return _box(b"udta", _full(b"meta", _handler(b"mdir", b"\0", b"appl"), _box(b"ilst", *texts)))


def _handler(kind: bytes, name: bytes, maker: bytes = bytes(4)) -> bytes:
    return _full(b"hdlr", bytes(4), kind, maker, bytes(8), name)


def _full(name: bytes, *parts: bytes) -> bytes:
    """Return a full box with version 0 and no flags."""
    return _box(name, bytes(4), *parts)


def _box(name: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return pack(">I4s", len(payload) + 8, name) + payload
