"""An MP4 prober: read the facts in a file's boxes, and find contradictions. No decoder, and no code of `mp4_writer`.

A client's checks and the conformance suite need the facts of any provider's file, without FFmpeg. Three properties make
probing safe:

* The media is never loaded: the top level is walked by seeking from header to header, and only `moov` is read.
* The file is untrusted: each count is compared with the size of its table before unpacking, and each box with its
  parent. The number of top-level boxes and the size of `moov` are limited. So a false count uses no memory.
* The result is either `Facts` or one `Mp4Error`. An error means that a player cannot play the whole file: the file is
  truncated, or its sample tables contradict each other or point outside the media. A contradiction that players
  tolerate is listed in `Facts.disagreements`.

Durations are computed from the sample tables and the edit list, never taken from a header, which may contradict them.
The presentation ends with the last sample to be shown. With B-frames (`ctts`), that sample is not the last one in
decoding order. The edit list then selects a part of the presentation, for example without the priming of AAC.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from struct import error as StructError
from struct import unpack_from
from typing import Any, BinaryIO

from hobbyhorse.media.h264 import Sps, SpsError, read_sps

MOST_MOOV = 16 << 20  # bounds the memory; enough for hours, as a minute of video has about 18 KB of tables
MOST_TOP_BOXES = 10_000  # a box may have only 8 bytes: without a limit, a large file of empty boxes takes minutes
# By the type of the sample entry.
VIDEO_CODECS = {
    b"avc1": "h264", b"avc3": "h264", b"hvc1": "hevc", b"hev1": "hevc", b"av01": "av1", b"vp09": "vp9",
    b"mp4v": "mpeg4",
}  # fmt: skip
AUDIO_CODECS = {b"mp4a": "mp4a", b"Opus": "opus", b"ac-3": "ac3", b"ec-3": "eac3", b"fLaC": "flac", b"alac": "alac"}
# By objectTypeIndication (mp4ra.org): "mp4a" is used for several codecs.
MP4A_KINDS = {0x40: "aac", 0x66: "aac", 0x67: "aac", 0x68: "aac", 0x69: "mp3", 0x6B: "mp3"}
# By sampling_frequency_index (ISO/IEC 14496-3).
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)

Colour = tuple[int, int, int, bool]


class Mp4Error(Exception):
    """A file is not a complete, readable MP4. The message is one line."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The properties of an MP4.

    `video_seconds` and `audio_seconds` are presented durations, with edit lists applied. `fps` is the average if the
    rate is not constant. `colour` contains the primaries, the transfer, the matrix (ISO/IEC 23091-2 numbers; 1, 1, 1
    is BT.709) and whether the range is full. `pixel_format` is None if the codec is not H.264. `disagreements` are
    sentences.
    """

    brand: str
    nbytes: int
    moov_first: bool
    video_codec: str
    width: int
    height: int
    fps: Fraction
    constant_frame_rate: bool
    frames: int
    video_seconds: Fraction
    pixel_format: str | None
    colour: Colour | None
    audio_codec: str | None
    audio_rate: int | None
    audio_channels: int | None
    audio_seconds: Fraction | None
    title: str | None
    comment: str | None
    disagreements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A box's name and its payload: `data[start:end]`, not copied."""

    name: bytes
    data: bytes
    start: int
    end: int

    def read(self, form: str, at: int = 0) -> tuple[int, ...]:
        """Unpack big-endian integers `at` bytes into the payload."""
        try:
            if self.start + at > self.end:
                raise StructError
            return unpack_from(f">{form}", memoryview(self.data)[self.start : self.end], at)
        except StructError:
            size = self.end - self.start
            raise Mp4Error(f"the box {_name(self.name)} has {size} bytes, too few for its fields") from None

    def payload(self, at: int = 0) -> bytes:
        """Return the payload, starting at byte `at`."""
        return self.data[min(self.start + at, self.end) : self.end]

    def children(self, at: int = 0) -> Iterator[Box]:
        """Yield the child boxes, starting at byte `at` of the payload. Raises Mp4Error."""
        here = self.start + at
        while here + 8 <= self.end:
            child = _child(self, here)
            yield child
            here = child.end

    def find(self, *path: bytes) -> Box | None:
        """Return the first box at a path under this box, or None."""
        box: Box | None = self
        for name in path:
            box = next((child for child in box.children() if child.name == name), None) if box else None
        return box

    def need(self, *path: bytes) -> Box:
        """Return the first box at a path under this box. Raises Mp4Error if there is none."""
        box = self.find(*path)
        if box is None:
            raise Mp4Error(f"the box {_name(self.name)} has no {'/'.join(map(_name, path))}")
        return box


@dataclass(frozen=True, slots=True)
class Layout:
    """The top level of a file: (offset, size) of the payloads of `moov` and each `mdat`, and the file's size."""

    brand: str
    moov: tuple[int, int]
    moov_first: bool
    media: tuple[tuple[int, int], ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Track:
    """A track, from its tables. `deltas` are (count, ticks) runs of sample durations; `presented` is in seconds."""

    trak: Box
    scale: int
    deltas: tuple[tuple[int, int], ...]
    presented: Fraction

    @property
    def samples(self) -> int:
        """The number of samples."""
        return sum(count for count, _ in self.deltas)


def probe(source: bytes | Path | str) -> Facts:
    """Read the facts of an MP4 from bytes or from a file. Raises Mp4Error, and OSError if the file cannot be read."""
    if isinstance(source, bytes):
        return _probe(io.BytesIO(source))
    with Path(source).open("rb") as file:
        return _probe(file)


def facts_json(facts: Facts) -> dict[str, Any]:
    """Return facts as JSON values, with fractions as numbers."""
    return {name: _plain(value) for name, value in asdict(facts).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else float(value)
    return list(value) if isinstance(value, tuple) else value


def _probe(file: BinaryIO) -> Facts:
    layout = _layout(file)
    start, size = layout.moov
    moov = Box(b"moov", _take(file, start, size), 0, size)
    # Version 1 has 64-bit times before the time scale.
    scale = moov.need(b"mvhd").read("I", 20 if moov.need(b"mvhd").read("B")[0] == 1 else 12)[0]
    tracks = [box for box in moov.children() if box.name == b"trak"]
    video, audio = (_first(tracks, kind) for kind in (b"vide", b"soun"))
    if video is None:
        raise Mp4Error(f"the MP4 has no video track; it has {len(tracks)} track(s)")
    picture = _track(video, scale, layout)
    sound = _track(audio, scale, layout) if audio else None
    return _facts(moov, layout, picture, sound)


def _facts(moov: Box, layout: Layout, video: Track, audio: Track | None) -> Facts:
    entry = _entry(video.trak)
    width, height = entry.read("HH", 24)
    sps = _sps(entry)
    fps, constant = _rate(video)
    codec, rate, channels = _audio_format(_entry(audio.trak)) if audio else (None, None, None)
    return Facts(
        brand=layout.brand,
        nbytes=layout.nbytes,
        moov_first=layout.moov_first,
        video_codec=VIDEO_CODECS.get(entry.name, _name(entry.name)),
        width=width,
        height=height,
        fps=fps,
        constant_frame_rate=constant,
        frames=video.samples,
        video_seconds=video.presented,
        pixel_format=sps.pixel_format if sps else None,
        colour=_colour(entry) or (sps.colour if sps else None),
        audio_codec=codec,
        audio_rate=rate,
        audio_channels=channels,
        audio_seconds=audio.presented if audio else None,
        title=_text(moov, b"\xa9nam"),
        comment=_text(moov, b"\xa9cmt"),
        disagreements=tuple(_disagreements(entry, video.trak, sps)),
    )


def _layout(file: BinaryIO) -> Layout:
    """Walk the top level by seeking from header to header. Raises Mp4Error."""
    nbytes = file.seek(0, io.SEEK_END)
    if nbytes == 0:
        raise Mp4Error("the file has zero bytes; expected an MP4")
    head = _take(file, 0, min(12, nbytes))
    # Quote the first bytes, because the most common case is an error page saved as a video.
    if head[4:8] != b"ftyp" or len(head) < 12:
        raise Mp4Error(f"the file starts with {head!r}; an MP4 starts with an ftyp box")
    places: dict[bytes, list[tuple[int, int]]] = {}
    at = 0
    for _ in range(MOST_TOP_BOXES):
        if nbytes - at < 8:  # padding at the end is common and harmless
            break
        name, start, end = _top_box(file, at, nbytes)
        places.setdefault(name, []).append((start, end - start))
        at = end
    if b"moov" not in places:
        raise Mp4Error(f"the MP4 has no moov box; it has {', '.join(map(_name, list(places)[:8]))}")
    if b"moof" in places:
        raise Mp4Error("the MP4 is fragmented (moof): its samples are not listed in moov; expected a plain MP4")
    moov = places[b"moov"][0]
    if moov[1] > MOST_MOOV:
        raise Mp4Error(f"the moov box has {moov[1]} bytes; allowed: at most {MOST_MOOV}")
    media = tuple(places.get(b"mdat", ()))
    if not media:
        raise Mp4Error("the MP4 has no mdat box, so it has no media")
    return Layout(head[8:12].decode("latin-1"), moov, moov[0] < media[0][0], media, nbytes)


def _top_box(file: BinaryIO, at: int, nbytes: int) -> tuple[bytes, int, int]:
    head = _take(file, at, min(16, nbytes - at))
    size, name, skipped = int.from_bytes(head[:4], "big"), head[4:8], 8
    # Size 1 means that a 64-bit size follows the name; 0 means up to the end of the file (ISO/IEC 14496-12, 4.2).
    if size == 1 and len(head) == 16:
        size, skipped = int.from_bytes(head[8:], "big"), 16
    elif size == 0:
        size = nbytes - at
    if size < skipped:
        raise Mp4Error(f"the box {_name(name)} at byte {at} claims {size} bytes, but its header alone has {skipped}")
    if at + size > nbytes:
        missing = at + size - nbytes
        raise Mp4Error(f"the file is truncated: the box {_name(name)} at byte {at} lacks {missing} of {size} bytes")
    return name, at + skipped, at + size


def _child(parent: Box, at: int) -> Box:
    size, name, skipped = int.from_bytes(parent.data[at : at + 4], "big"), parent.data[at + 4 : at + 8], 8
    if size == 1:
        size, skipped = int.from_bytes(parent.data[at + 8 : at + 16], "big"), 16
    elif size == 0:
        size = parent.end - at
    if size < skipped or at + size > parent.end:
        room = parent.end - at
        raise Mp4Error(f"the box {_name(name)} in {_name(parent.name)} claims {size} bytes, but has {room}")
    return Box(name, parent.data, at + skipped, at + size)


def _take(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    data = file.read(size)
    if len(data) != size:
        raise Mp4Error(f"the file is truncated: byte {at + len(data)} is missing")
    return data


def _first(tracks: list[Box], kind: bytes) -> Box | None:
    return next((t for t in tracks if t.need(b"mdia", b"hdlr").payload(8)[:4] == kind), None)


def _track(trak: Box, movie_scale: int, layout: Layout) -> Track:
    stbl = trak.need(b"mdia", b"minf", b"stbl")
    mdhd = trak.need(b"mdia", b"mdhd")
    scale = mdhd.read("I", 20 if mdhd.read("B")[0] == 1 else 12)[0]
    if scale == 0 or movie_scale == 0:
        raise Mp4Error("a time scale is 0; it must be positive")
    runs = _pairs(stbl.need(b"stts"))
    ctts = stbl.find(b"ctts")
    media_end = Fraction(_end(runs, _pairs(ctts) if ctts else ()), scale)
    track = Track(trak, scale, runs, _presented(trak, media_end, scale, movie_scale))
    _check_media(stbl, track.samples, layout)
    return track


def _pairs(table: Box) -> tuple[tuple[int, int], ...]:
    flat = _integers(table, "I", 4, table.read("I", 4)[0] * 2, 8)
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _integers(table: Box, code: str, width: int, count: int, at: int) -> tuple[int, ...]:
    """Read `count` integers. Raises Mp4Error if the table is too small for them."""
    room = (table.end - table.start - at) // width
    if count > room:
        raise Mp4Error(f"the table {_name(table.name)} declares {count} numbers, but has room for {room}")
    return table.read(f"{count}{code}", at)


def _end(durations: tuple[tuple[int, int], ...], shifts: tuple[tuple[int, int], ...]) -> int:
    """Return the tick at which the presentation ends, from runs of durations (stts) and shifts (ctts)."""
    # Samples are in decoding order, and each may be shown later. Both tables are walked run by run and never expanded,
    # because a run may have four billion samples.
    end = at = 0
    lengths, delays = list(reversed(durations)), list(reversed(shifts))
    while lengths:
        (count, ticks), (shifted, shift) = lengths.pop(), delays.pop() if delays else (1 << 32, 0)
        both = min(count, shifted)
        at += both * ticks
        if both:
            end = max(end, at + (shift ^ 1 << 31) - (1 << 31))  # the shift is a signed 32-bit number
        if count > both:
            lengths.append((count - both, ticks))
        if shifted > both:
            delays.append((shifted - both, shift))
    return end


def _presented(trak: Box, media: Fraction, scale: int, movie_scale: int) -> Fraction:
    """Return the presented duration in seconds: that of the media, or less with an edit list."""
    elst = trak.find(b"edts", b"elst")
    if elst is None:
        return media
    shown = Fraction(0)
    for duration, begin in _edits(elst):
        if begin < 0:  # an empty edit: a delay in which nothing is presented
            continue
        left = max(Fraction(0), media - Fraction(begin, scale))
        shown += min(Fraction(duration, movie_scale), left) if duration else left  # 0 is "to the end"
    return shown


def _edits(elst: Box) -> list[tuple[int, int]]:
    wide = elst.read("B")[0] == 1
    form, width = ("Qq", 20) if wide else ("Ii", 12)
    count = elst.read("I", 4)[0]
    if count * width > elst.end - elst.start - 8:
        room = (elst.end - elst.start - 8) // width
        raise Mp4Error(f"the table 'elst' declares {count} edits, but has room for {room}")
    found = (elst.read(form, 8 + index * width) for index in range(count))
    return [(duration, begin) for duration, begin in found]


def _check_media(stbl: Box, samples: int, layout: Layout) -> None:
    """Raise Mp4Error unless every sample in the tables is inside an mdat."""
    total, size_of = _sizes(stbl)
    if total != samples:
        raise Mp4Error(f"the sample tables disagree: stts has {samples} samples, stsz has {total}")
    offsets = _offsets(stbl)
    # Chunk by chunk: samples in a chunk are contiguous, so its first and last byte are enough.
    first = 0
    for offset, count in zip(offsets, _chunk_counts(stbl, len(offsets)), strict=True):
        last = first + count
        if last > total:
            break
        _check_chunk(offset, size_of(first, last), layout)
        first = last
    if first != total:
        raise Mp4Error(f"the sample tables disagree: the chunks of stsc have {first} samples, stsz has {total}")


def _check_chunk(offset: int, size: int, layout: Layout) -> None:
    end = offset + size
    index = bisect_right(layout.media, (offset, layout.nbytes)) - 1
    if index < 0 or end > sum(layout.media[index]):
        raise Mp4Error(
            f"the media is truncated or misplaced: bytes {offset} to {end} of {layout.nbytes} are not inside an mdat"
        )


def _sizes(stbl: Box) -> tuple[int, Callable[[int, int], int]]:
    """Return the number of samples, and a function that sums the sizes of a range of samples."""
    stsz = stbl.need(b"stsz")
    same, count = stsz.read("II", 4)
    if same:
        return count, lambda first, last: same * (last - first)
    table = _integers(stsz, "I", 4, count, 12)
    return count, lambda first, last: sum(table[first:last])


def _offsets(stbl: Box) -> tuple[int, ...]:
    stco = stbl.find(b"stco")
    if stco is not None:
        return _integers(stco, "I", 4, stco.read("I", 4)[0], 8)
    co64 = stbl.need(b"co64")
    return _integers(co64, "Q", 8, co64.read("I", 4)[0], 8)


def _chunk_counts(stbl: Box, chunks: int) -> list[int]:
    """Return the number of samples in each chunk, expanded from the runs of stsc."""
    stsc = stbl.need(b"stsc")
    flat = _integers(stsc, "I", 4, stsc.read("I", 4)[0] * 3, 8)
    firsts, counts = flat[::3], flat[1::3]
    found: list[int] = []
    for index, count in enumerate(counts):
        until = firsts[index + 1] - 1 if index + 1 < len(firsts) else chunks
        # Checked before the run is expanded, so that it never exceeds the chunks, whose offsets are in the file.
        if firsts[index] != len(found) + 1 or not len(found) < until <= chunks:
            raise Mp4Error(f"the table 'stsc' is out of order at entry {index + 1} of {len(counts)}")
        found.extend([count] * (until - len(found)))
    if len(found) != chunks:
        raise Mp4Error(f"the table 'stsc' covers {len(found)} of {chunks} chunks")
    return found


def _rate(track: Track) -> tuple[Fraction, bool]:
    """Return the frames per second, and whether the frames are evenly spaced."""
    runs = [(count, ticks) for count, ticks in track.deltas if count]
    if not runs:
        raise Mp4Error("the video track has no samples")
    # No frame follows the last one, so its duration does not matter, and encoders often write a different duration.
    spaced = runs[:-1] if len(runs) > 1 and runs[-1][0] == 1 else runs
    if len({ticks for _, ticks in spaced}) == 1 and spaced[0][1]:
        return Fraction(track.scale, spaced[0][1]), True
    ticks = sum(count * ticks for count, ticks in runs)
    if not ticks:
        raise Mp4Error("the video track has no duration")
    return Fraction(track.samples * track.scale, ticks), False


def _entry(trak: Box) -> Box:
    stsd = trak.need(b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(stsd.children(8), None)
    if entry is None:
        raise Mp4Error("the box 'stsd' has no sample entry")
    return entry


def _part(entry: Box, at: int, name: bytes) -> Box | None:
    return next((box for box in entry.children(at) if box.name == name), None)


def _sps(entry: Box) -> Sps | None:
    if VIDEO_CODECS.get(entry.name) != "h264":
        return None
    avcc = _part(entry, 78, b"avcC")  # a visual sample entry has 78 bytes of fields before its boxes
    if avcc is None:
        raise Mp4Error(f"the sample entry {_name(entry.name)} has no avcC box")
    count, size = avcc.read("BH", 5)
    if not count & 31:  # avc3: parameter sets may be in the samples instead
        return None
    try:
        return read_sps(avcc.payload(8)[:size])
    except SpsError as error:
        raise Mp4Error(f"the sequence parameter set cannot be read: {error}") from None


def _colour(entry: Box) -> Colour | None:
    colr = _part(entry, 78, b"colr")
    if colr is None or colr.payload()[:4] not in (b"nclx", b"nclc"):
        return None
    primaries, transfer, matrix = colr.read("HHH", 4)
    full = colr.payload()[:4] == b"nclx" and bool(colr.read("B", 10)[0] >> 7)
    return primaries, transfer, matrix, full


def _audio_format(entry: Box) -> tuple[str, int, int]:
    """Return the codec, the sample rate and the number of channels."""
    # For AAC, use the decoder's configuration, because the sample entry often has template values (2, 0).
    channels, rate = entry.read("H", 16)[0], entry.read("I", 24)[0] >> 16
    codec = AUDIO_CODECS.get(entry.name, _name(entry.name))
    esds = _part(entry, 28, b"esds") if entry.name == b"mp4a" else None
    if esds is None:
        return codec, rate, channels
    kind, config = _decoder(esds)
    codec = MP4A_KINDS.get(kind, codec)
    if codec == "aac" and len(config) >= 2:
        bits = int.from_bytes(config[:2], "big")
        if (index := bits >> 7 & 15) < len(AAC_RATES):
            rate, channels = AAC_RATES[index], (bits >> 3 & 15) or channels
    return codec, rate, channels


def _decoder(esds: Box) -> tuple[int, bytes]:
    """Return objectTypeIndication and the decoder configuration: descriptor 5 inside 4 inside 3 (ISO/IEC 14496-1)."""
    data = esds.payload(4)
    stream = _descriptor(data, 3)
    flags = stream[2] if len(stream) > 2 else 0
    skipped = 3 + (2 if flags & 0x80 else 0) + (1 + stream[3] if flags & 0x40 and len(stream) > 3 else 0)
    decoder = _descriptor(stream[skipped + (2 if flags & 0x20 else 0) :], 4)
    return decoder[0] if decoder else 0, _descriptor(decoder[13:], 5)


def _descriptor(data: bytes, tag: int) -> bytes:
    """Return a descriptor's payload, empty if the tag differs. Sizes have 7 bits in each of 1 to 4 bytes."""
    if not data or data[0] != tag:
        return b""
    size = 0
    for at in range(1, min(5, len(data))):
        size = size << 7 | data[at] & 0x7F
        if not data[at] & 0x80:
            return data[at + 1 : at + 1 + size]
    return b""


def _text(moov: Box, name: bytes) -> str | None:
    """Return a metadata string: the iTunes entry if present, otherwise the QuickTime one."""
    udta = moov.find(b"udta")
    meta = udta.find(b"meta") if udta else None
    if meta is not None:
        ilst = next((box for box in meta.children(4) if box.name == b"ilst"), None)
        data = ilst.find(name, b"data") if ilst else None
        if data is not None:
            return data.payload(8).decode("utf-8", "replace")
    plain = udta.find(name) if udta else None
    return plain.payload(4).decode("utf-8", "replace") if plain else None


def _disagreements(entry: Box, trak: Box, sps: Sps | None) -> Iterator[str]:
    """Yield a sentence for each contradiction that players tolerate."""
    width, height = entry.read("HH", 24)
    if sps is not None and (sps.width, sps.height) != (width, height):
        yield f"the sample entry has {width}x{height} px, but the H.264 SPS has {sps.width}x{sps.height} px"
    if sps is not None and sps.colour and (colour := _colour(entry)) and colour != sps.colour:
        yield f"the colr box has {colour}, but the H.264 SPS has {sps.colour}"
    if not entry.read("H", 6)[0]:
        yield "the sample entry's data_reference_index is 0; it must be at least 1"
    tkhd = trak.need(b"tkhd")
    shown = tuple(side >> 16 for side in tkhd.read("II", 88 if tkhd.read("B")[0] == 1 else 76))
    if shown != (width, height):
        yield f"the sample entry has {width}x{height} px, but the track header has {shown[0]}x{shown[1]} px"


def _name(name: bytes) -> str:
    return repr(name.decode("latin-1"))
