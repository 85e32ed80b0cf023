"""The MP4 writer: each invariant of its tables, read back box by box, on loops that are made up here."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import pytest

from hobbyhorse.media.mp4_writer import MovieParts, write_mp4
from hobbyhorse.media.probe import Box, Facts, probe
from hobbyhorse.media.streams import AudioLoop, VideoLoop
from tests.media_samples import baseline

FPS, RATE, PACKET = 24, 48_000, 1024
FRAMES = tuple(bytes((0, 0, 0, 1 + index)) + b"v" * (1 + index) for index in range(FPS))
PACKETS = tuple(b"a" * (10 + index) for index in range(47))
SECONDS = [1, 2, 3, 15, 16, 60]

each_length = pytest.mark.parametrize("seconds", SECONDS)


def parts(seconds: int, comment: str = "a comment") -> MovieParts:
    sps = baseline(80, 45).u(1, 0).u(1, 0).unit()
    audio = AudioLoop(bytes((0x11, 0x90)), RATE, 2, PACKETS)
    return MovieParts(VideoLoop(sps, b"\x68pps", FRAMES), audio, 1280, 720, seconds, "a title", comment)


class Written:
    """A written file and its boxes."""

    def __init__(self, folder: Path, seconds: int, comment: str = "a comment") -> None:
        write_mp4(parts(seconds, comment), folder / "film.mp4")
        self.data = (folder / "film.mp4").read_bytes()
        self.top = list(Box(b"file", self.data, 0, len(self.data)).children())
        (self.moov,) = (box for box in self.top if box.name == b"moov")
        self.video, self.audio = (box for box in self.moov.children() if box.name == b"trak")

    @property
    def facts(self) -> Facts:
        return probe(self.data)


def table(trak: Box, name: bytes, columns: int, at: int = 4) -> list[tuple[int, ...]]:
    """Return the rows of a sample table."""
    box = trak.need(b"mdia", b"minf", b"stbl", name)
    count = box.read("I", at)[0]
    return [box.read(f"{columns}I", at + 4 + row * 4 * columns) for row in range(count)]


def durations(trak: Box) -> list[int]:
    return [ticks for count, ticks in table(trak, b"stts", 2) for _ in range(count)]


def sizes(trak: Box) -> list[int]:
    return [size for (size,) in table(trak, b"stsz", 1, 8)]


def chunk_counts(trak: Box) -> list[int]:
    """Expand stsc over the chunks of stco."""
    runs, chunks = table(trak, b"stsc", 3), len(table(trak, b"stco", 1))
    ends = [first - 1 for first, _, _ in runs[1:]] + [chunks]
    return [count for (first, count, _), end in zip(runs, ends, strict=True) for _ in range(end - first + 1)]


def samples(written: Written, trak: Box) -> Iterator[bytes]:
    """Yield the bytes of each sample, by the tables alone."""
    left = iter(sizes(trak))
    for (offset,), count in zip(table(trak, b"stco", 1), chunk_counts(trak), strict=True):
        at = offset
        for _ in range(count):
            size = next(left)
            yield written.data[at : at + size]
            at += size


def scale_and_duration(trak: Box) -> tuple[int, int]:
    scale, duration = trak.need(b"mdia", b"mdhd").read("II", 12)
    return scale, duration


# --- order and places ----------------------------------------------------------------------------------------------


@each_length
def test_the_index_precedes_the_media_and_nothing_else_is_there(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    assert [box.name for box in written.top] == [b"ftyp", b"moov", b"mdat"]
    assert written.top[-1].end == len(written.data)


@each_length
def test_the_tables_find_every_frame_of_every_second(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    assert list(samples(written, written.video)) == list(FRAMES) * seconds


@each_length
def test_the_tables_find_every_packet_after_the_priming_one(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    priming, *packets = samples(written, written.audio)
    assert priming == PACKETS[-1]
    assert packets == [PACKETS[index % len(PACKETS)] for index in range(len(packets))]


@each_length
def test_video_and_audio_alternate_second_by_second_without_a_gap(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    chunks = []
    for trak in (written.video, written.audio):
        ends = [0, *accumulate(chunk_counts(trak))]
        for (offset,), first, last in zip(table(trak, b"stco", 1), ends[:-1], ends[1:], strict=True):
            chunks.append((offset, offset + sum(sizes(trak)[first:last]), trak is written.video))
    chunks.sort()
    assert [is_video for _, _, is_video in chunks] == [True, False] * seconds
    assert [end for _, end, _ in chunks[:-1]] == [start for start, _, _ in chunks[1:]]
    assert (chunks[0][0], chunks[-1][1]) == (written.top[-1].start, written.top[-1].end)


@each_length
def test_the_audio_of_a_chunk_covers_its_second(seconds: int, tmp_path: Path) -> None:
    """A player that has read N seconds of the file has all sound of these N seconds."""
    written = Written(tmp_path, seconds)
    for second, packets in enumerate(accumulate(chunk_counts(written.audio)), 1):
        assert 0 <= (packets - 1) * PACKET - second * RATE < PACKET


# --- numbers of samples --------------------------------------------------------------------------------------------


@each_length
def test_sizes_durations_and_chunks_count_the_same_samples(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    for trak in (written.video, written.audio):
        assert len(sizes(trak)) == len(durations(trak)) == sum(chunk_counts(trak))
    assert len(sizes(written.video)) == FPS * seconds


@each_length
def test_the_first_frame_of_each_second_is_the_only_sync_sample(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    assert [sample for (sample,) in table(written.video, b"stss", 1)] == [1 + FPS * second for second in range(seconds)]


def test_frames_are_shown_in_decoding_order(tmp_path: Path) -> None:
    written = Written(tmp_path, 1)
    assert written.video.find(b"mdia", b"minf", b"stbl", b"ctts") is None


# --- times ---------------------------------------------------------------------------------------------------------


@each_length
def test_every_frame_lasts_exactly_a_24th_of_a_second(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    scale, duration = scale_and_duration(written.video)
    assert {Fraction(ticks, scale) for ticks in durations(written.video)} == {Fraction(1, FPS)}
    assert Fraction(duration, scale) == seconds


@each_length
def test_the_audio_media_is_the_film_and_the_priming(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    scale, duration = scale_and_duration(written.audio)
    assert (scale, duration) == (RATE, PACKET + RATE * seconds)
    assert sum(durations(written.audio)) == duration
    assert set(durations(written.audio)[:-1]) == {PACKET}
    assert 0 < durations(written.audio)[-1] <= PACKET


@each_length
def test_the_edit_lists_show_the_same_seconds_of_both_tracks(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    edits = [trak.need(b"edts", b"elst").read("IIIHH", 4) for trak in (written.video, written.audio)]
    assert edits == [(1, RATE * seconds, 0, 1, 0), (1, RATE * seconds, PACKET, 1, 0)]
    assert written.facts.video_seconds == written.facts.audio_seconds == seconds


@each_length
def test_movie_and_track_headers_have_the_same_duration(seconds: int, tmp_path: Path) -> None:
    written = Written(tmp_path, seconds)
    assert written.moov.need(b"mvhd").read("II", 12) == (RATE, RATE * seconds)
    assert [trak.need(b"tkhd").read("I", 20)[0] for trak in (written.video, written.audio)] == [RATE * seconds] * 2


def test_no_time_of_day_is_written(tmp_path: Path) -> None:
    written = Written(tmp_path, 1)
    headers = [written.moov.need(b"mvhd")]
    headers += [
        trak.need(*path) for trak in (written.video, written.audio) for path in ((b"tkhd",), (b"mdia", b"mdhd"))
    ]
    assert [header.read("II", 4) for header in headers] == [(0, 0)] * 5
    (tmp_path / "again").mkdir()
    assert Written(tmp_path / "again", 1).data == written.data


# --- descriptions --------------------------------------------------------------------------------------------------


def test_the_reader_finds_what_was_written(tmp_path: Path) -> None:
    facts = Written(tmp_path, 3, "job 42 ✓").facts
    assert (facts.brand, facts.moov_first, facts.disagreements) == ("isom", True, ())
    assert (facts.width, facts.height, facts.frames, facts.fps) == (1280, 720, 72, Fraction(24))
    assert (facts.video_codec, facts.pixel_format, facts.colour) == ("h264", "yuv420p", (1, 1, 1, False))
    assert (facts.audio_codec, facts.audio_rate, facts.audio_channels) == ("aac", RATE, 2)
    assert (facts.title, facts.comment) == ("a title", "job 42 ✓")


def test_a_comment_that_is_not_unicode_is_written_with_a_mark_in_its_place(tmp_path: Path) -> None:
    assert Written(tmp_path, 1, "a\ud800b").facts.comment == "a?b"


def test_the_parameter_sets_are_in_the_configuration_and_lengths_have_four_bytes(tmp_path: Path) -> None:
    written = Written(tmp_path, 1)
    stsd = written.video.need(b"mdia", b"minf", b"stbl", b"stsd")
    (entry,) = stsd.children(8)
    avcc = next(box for box in entry.children(78) if box.name == b"avcC")
    sps, pps = parts(1).video.sps, parts(1).video.pps
    assert avcc.payload()[:4] == b"\1" + sps[1:4]
    assert avcc.payload()[4] & 3 == 4 - 1
    assert sps in avcc.payload()
    assert avcc.payload().endswith(pps)
