"""The MP4 prober: it agrees with PyAV on good files, reports the defects of others, and raises nothing else."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hobbyhorse.media.probe import Mp4Error, probe
from hobbyhorse.media.video import film
from tests.media_samples import SHOT

BOXES = (b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr", b"minf", b"stbl")
TABLES = (b"stsd", b"avc1", b"avcC", b"colr", b"mp4a", b"esds", b"stts", b"stsc", b"stsz", b"stco", b"udta", b"meta")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A good file of two seconds."""
    path = tmp_path_factory.mktemp("whole") / "film.mp4"
    film(replace(SHOT, seconds=2), path)
    return path.read_bytes()


def made(folder: Path, *options: str, rate: str = "24", size: str = "320x240", seconds: int = 1) -> Path:
    """Make a file with ffmpeg alone: another writer than ours."""
    out = folder / "other.mp4"
    source = f"testsrc=size={size}:rate={rate}:duration={seconds}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", source, *options, str(out)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return out


H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
TONE = ("-f", "lavfi", "-i", "sine=r=44100:d=1")


def refused(data: bytes | Path) -> str:
    with pytest.raises(Mp4Error) as caught:
        probe(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def patched(whole: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """Overwrite bytes in the payload of the first box of a name within moov."""
    start = whole.index(box, whole.index(b"moov")) + 4 + at
    return whole[:start] + value + whole[start + len(value) :]


# --- nothing but Facts or Mp4Error ---------------------------------------------------------------------------------


def outcome(data: bytes) -> str:
    """Return the result or the error of a probe as text; any other exception fails the test."""
    try:
        return repr(probe(data))
    except Mp4Error as error:
        return str(error)


@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=9)), min_size=1, max_size=6))
def test_any_mutation_of_the_head_is_read_or_refused(whole: bytes, edits: list[tuple[float, bytes]]) -> None:
    data, head = bytearray(whole), whole.index(b"mdat")
    for share, value in edits:
        at = int(share * head)
        data[at : at + len(value)] = value
    assert len(outcome(bytes(data)).splitlines()) == 1


@settings(max_examples=300)
@given(
    box=st.sampled_from(BOXES + TABLES),
    which=st.integers(0, 1),
    at=st.integers(-4, 40),
    value=st.sampled_from([b"\0\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"free"]),
)
def test_a_wrong_number_anywhere_is_read_or_refused(
    whole: bytes, box: bytes, which: int, at: int, value: bytes
) -> None:
    start = whole.index(box)
    start = max(start, whole.find(box, start + 4)) if which else start
    start += 4 + at
    assert len(outcome(whole[:start] + value + whole[start + len(value) :]).splitlines()) == 1


@given(cut=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_refused(whole: bytes, cut: float) -> None:
    refused(whole[: int(cut * len(whole))])


@given(st.binary(max_size=300))
@example(b"\0\0\0\x0cftypisom")
def test_random_bytes_are_refused(data: bytes) -> None:
    refused(data)
    refused(b"\0\0\0\x10ftypisom\0\0\2\0" + data)


# --- good files ----------------------------------------------------------------------------------------------------


def test_a_good_file_is_read_alike_from_bytes_and_from_disk(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(whole)
    assert probe(whole) == probe(path) == probe(str(path))
    assert probe(whole).nbytes == len(whole)


FOREIGN: dict[str, tuple[tuple[str, ...], str]] = {
    "as ffmpeg likes it, with B-frames": (H264, "24"),
    "25 fps": (H264, "25"),
    "NTSC film": (H264, "24000/1001"),
    "sound": ((*TONE, *H264, "-c:a", "aac"), "24"),
    "mono sound": ((*TONE, *H264, "-c:a", "aac", "-ac", "1"), "30"),
    "faststart": ((*H264, "-movflags", "+faststart"), "24"),
    "4:4:4": (("-c:v", "libx264", "-pix_fmt", "yuv444p"), "24"),
    "10 bits": (("-c:v", "libx264", "-pix_fmt", "yuv420p10le"), "24"),
    "baseline": ((*H264, "-profile:v", "baseline"), "24"),
    "interlaced": ((*H264, "-flags", "+ildct+ilme"), "25"),
    "odd size": (("-vf", "crop=319:237", "-c:v", "libx264", "-pix_fmt", "yuv444p"), "24"),
    "cropped": (("-vf", "crop=318:238", *H264), "24"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_the_reader_agrees_with_pyav_on_foreign_files(name: str, tmp_path: Path) -> None:
    options, rate = FOREIGN[name]
    path = made(tmp_path, *options, rate=rate)
    facts = probe(path)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (facts.width, facts.height) == (video.width, video.height)
        assert (facts.video_codec, facts.pixel_format) == (video.codec_context.name, video.pix_fmt)
        assert (facts.fps, facts.frames) == (video.average_rate, video.frames)
        assert facts.constant_frame_rate
        assert facts.video_seconds == Fraction(facts.frames) / facts.fps
        assert container.duration is not None
        if container.streams.audio:
            audio = container.streams.audio[0]
            assert (facts.audio_codec, facts.audio_rate) == ("aac", audio.rate)
            assert facts.audio_channels == audio.channels
            assert facts.audio_seconds is not None
            assert abs(facts.audio_seconds - 1) < Fraction(1, 500)
        else:
            assert (facts.audio_codec, facts.audio_seconds) == (None, None)
    assert facts.disagreements == ()


def test_other_codecs_are_named(tmp_path: Path) -> None:
    facts = probe(made(tmp_path, "-c:v", "mpeg4"))
    assert (facts.video_codec, facts.pixel_format) == ("mpeg4", None)


def test_texts_and_colours_of_foreign_files_are_read(tmp_path: Path) -> None:
    options = ("-metadata", "comment=job ✓", "-metadata", "title=T", "-color_range", "pc", "-colorspace", "bt709")
    facts = probe(made(tmp_path, *H264, *options, "-vf", "setparams=range=pc:colorspace=bt709"))
    assert (facts.title, facts.comment) == ("T", "job ✓")
    assert facts.colour is not None
    assert facts.colour[2:] == (1, True)


# --- each fact can be otherwise ------------------------------------------------------------------------------------


def test_a_file_of_25_frames_a_second_is_reported(tmp_path: Path) -> None:
    assert probe(made(tmp_path, *H264, rate="25")).fps == 25


def test_moov_after_the_media_is_reported(tmp_path: Path) -> None:
    assert not probe(made(tmp_path, *H264)).moov_first
    assert probe(made(tmp_path, *H264, "-movflags", "+faststart")).moov_first


def test_an_uneven_rate_is_reported(tmp_path: Path) -> None:
    uneven = "setpts='(N+floor(N/3))/24/TB'"
    facts = probe(made(tmp_path, "-vf", uneven, "-fps_mode", "passthrough", *H264, "-bf", "0"))
    assert not facts.constant_frame_rate
    assert facts.fps < 24


def test_a_sound_that_is_shorter_than_the_picture_is_reported(tmp_path: Path) -> None:
    facts = probe(made(tmp_path, *TONE, *H264, "-c:a", "aac", seconds=3))
    assert facts.video_seconds == 3
    assert facts.audio_seconds is not None
    assert facts.audio_seconds < Fraction(11, 10)


def test_an_edit_list_that_shows_less_is_reported(whole: bytes) -> None:
    assert probe(patched(whole, b"elst", 8, struct.pack(">I", 48_000))).video_seconds == 1


def test_a_contradicting_sample_entry_is_reported(whole: bytes) -> None:
    facts = probe(patched(whole, b"avc1", 24, struct.pack(">HH", 640, 360)))
    assert facts.disagreements[0] == "the sample entry has 640x360 px, but the H.264 SPS has 1280x720 px"
    assert len(facts.disagreements) == 2  # the track header contradicts it, too


def test_a_contradicting_colour_box_is_reported(whole: bytes) -> None:
    facts = probe(patched(whole, b"colrnclx", 4, struct.pack(">H", 9)))
    assert facts.disagreements == ("the colr box has (9, 1, 1, False), but the H.264 SPS has (1, 1, 1, False)",)


# --- bad files -----------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_an_mp4_is_reported() -> None:
    assert "zero bytes" in refused(b"")
    assert "b'<!DOCTYPE ht'" in refused(b"<!DOCTYPE html><html></html>")
    assert "starts with an ftyp box" in refused(b"\x89PNG\r\n\x1a\n" + bytes(100))


def test_a_truncated_file_is_reported_with_the_missing_bytes(whole: bytes) -> None:
    assert "truncated" in refused(whole[:-1])
    assert "lacks 1 of" in refused(whole[:-1])


def test_media_that_is_shorter_than_the_tables_promise_is_reported(whole: bytes) -> None:
    """The size of mdat is corrected, so that only the tables show it."""
    at, cut = whole.index(b"mdat") - 4, 5000
    data = whole[:at] + struct.pack(">I", len(whole) - at - cut) + whole[at + 4 : -cut]
    assert "are not inside an mdat" in refused(data)


def test_tables_that_contradict_one_another_are_reported(whole: bytes) -> None:
    assert "stts has 47 samples, stsz has 48" in refused(patched(whole, b"stts", 8, struct.pack(">I", 47)))
    assert "has room for" in refused(patched(whole, b"stsz", 8, struct.pack(">I", 1 << 31)))
    assert "'stsc' is out of order" in refused(patched(whole, b"stsc", 8, struct.pack(">I", 2)))


def test_a_missing_box_is_reported(whole: bytes) -> None:
    assert "no moov box" in refused(whole.replace(b"moov", b"free"))
    assert "no mdat box" in refused(whole.replace(b"mdat", b"free"))
    assert "has no video track; it has 2" in refused(whole.replace(b"vide", b"text"))
    assert "'stbl' has no 'stts'" in refused(whole.replace(b"stts", b"free"))
    assert "has no avcC" in refused(whole.replace(b"avcC", b"free"))


def test_a_fragmented_file_is_reported(tmp_path: Path) -> None:
    assert "fragmented" in refused(made(tmp_path, *H264, "-movflags", "+frag_keyframe+empty_moov"))


def test_numbers_that_would_take_forever_do_not(whole: bytes) -> None:
    huge = struct.pack(">I", 0xFFFFFFFF)
    assert "stts has 4294967295" in refused(patched(whole, b"stts", 8, huge))
    refused(patched(patched(whole, b"stsz", 4, huge), b"stsz", 8, huge))
    refused(patched(whole, b"stsc", 12, huge))


def test_a_file_that_does_not_exist_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "none.mp4")


def test_the_media_is_never_loaded(whole: bytes, tmp_path: Path) -> None:
    path, at = tmp_path / "large.mp4", whole.index(b"mdat") - 4
    room = 200 << 20
    with path.open("wb") as file:
        file.write(whole[:at] + struct.pack(">I", room) + whole[at + 4 :])
        file.truncate(at + room)
    tracemalloc.start()
    assert probe(path).nbytes == at + room
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_the_reader_needs_neither_pillow_nor_ffmpeg() -> None:
    code = "import sys, hobbyhorse.media.probe; print(sorted({'PIL', 'imageio_ffmpeg'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
