"""Films: packets counted, frames and samples decoded by PyAV, facts read by the MP4 prober."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from hobbyhorse.media import video
from hobbyhorse.media.picture import PictureError
from hobbyhorse.media.probe import probe
from hobbyhorse.media.video import AREAS, TURN, VideoError, VideoSpec, digest, film, first_frame_jpeg, frame_size, loops
from tests.media_samples import (
    PICTURES,
    SHOT,
    distance,
    encoded,
    first_frame,
    frames,
    packet_times,
    samples,
    shot_of,
)

RATIOS = ((16, 9), (9, 16), (1, 1), (4, 3), (3, 4))
SIDES = st.integers(1, 10_000)


def made(shot: VideoSpec, folder: Path) -> Path:
    out = folder / "film.mp4"
    film(shot, out)
    return out


# --- sizes ---------------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(AREAS)), st.integers(1, 100), st.integers(1, 100))
def test_a_frame_has_even_sides_the_ratio_within_a_pixel_and_nearly_the_tiers_area(tier: int, w: int, h: int) -> None:
    width, height = frame_size(tier, w, h)
    assert width % 2 == height % 2 == 0
    assert min(abs(width - height * w / h), abs(height - width * h / w)) <= 1
    # The longer side is off by a pixel at most, and the shorter then by two.
    assert abs(width * height - AREAS[tier]) <= 2 * max(width, height) + min(width, height) + 2


@given(st.sampled_from(sorted(AREAS)), SIDES, SIDES, st.integers(1, 50))
def test_a_frames_size_depends_on_the_ratio_alone_and_turns_with_it(tier: int, w: int, h: int, times: int) -> None:
    assert frame_size(tier, w, h) == frame_size(tier, w * times, h * times) == frame_size(tier, h, w)[::-1]


def test_the_usual_sizes_are_the_usual_ones() -> None:
    assert frame_size(720, 16, 9) == (1280, 720)
    assert frame_size(720, 9, 16) == (720, 1280)
    assert frame_size(1080, 16, 9) == (1920, 1080)
    assert frame_size(1080, 1, 1) == (1440, 1440)


# --- the whole matrix ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS, ids=lambda ratio: f"{ratio[0]}x{ratio[1]}")
@pytest.mark.parametrize("tier", sorted(AREAS))
def test_every_duration_has_exactly_its_frames_and_its_sound(tier: int, ratio: tuple[int, int], tmp_path: Path) -> None:
    for seconds in range(3, 16):
        shot = replace(SHOT, tier=tier, ratio=ratio, seconds=seconds, comment=f"{seconds} s")
        path = made(shot, tmp_path)
        facts = probe(path)
        assert (facts.width, facts.height) == frame_size(tier, *ratio)
        assert (facts.frames, facts.fps, facts.constant_frame_rate) == (24 * seconds, Fraction(24), True)
        assert facts.video_seconds == facts.audio_seconds == seconds
        assert (facts.comment, facts.disagreements) == (f"{seconds} s", ())
        assert packet_times(path, "video") == [Fraction(n, 24) for n in range(24 * seconds)]


@pytest.mark.parametrize("seconds", [1, 8, 60])
def test_a_full_decode_gives_every_frame_and_every_sample(seconds: int, tmp_path: Path) -> None:
    path = made(replace(SHOT, seconds=seconds, ratio=(4, 3)), tmp_path)
    with av.open(str(path)) as container:
        times = [f.pts * f.time_base for f in container.decode(video=0) if f.pts is not None and f.time_base]
    assert times == [Fraction(n, 24) for n in range(24 * seconds)]
    with av.open(str(path)) as container:
        sound = list(container.decode(audio=0))
    # A decoder that knows no durations gives the last AAC frame whole: up to 1023 samples more.
    assert 0 <= sum(frame.samples for frame in sound) - 48_000 * seconds < 1024
    assert sound[0].pts == 0
    assert {(frame.sample_rate, frame.layout.nb_channels) for frame in sound} == {(48_000, 2)}


def test_a_film_passes_the_checks_of_clients(tmp_path: Path) -> None:
    facts = probe(made(replace(SHOT, task="image-to-video", comment="job 42 ✓"), tmp_path))
    assert (facts.brand, facts.moov_first) == ("isom", True)
    assert (facts.video_codec, facts.pixel_format, facts.colour) == ("h264", "yuv420p", (1, 1, 1, False))
    assert (facts.audio_codec, facts.audio_rate, facts.audio_channels) == ("aac", 48_000, 2)
    assert (facts.title, facts.comment) == ("hobbyhorse image-to-video", "job 42 ✓")


def test_another_decoder_reads_the_same_words_and_colours(tmp_path: Path) -> None:
    with av.open(str(made(SHOT, tmp_path))) as container:
        context = container.streams.video[0].codec_context
        assert container.metadata["comment"] == "job-1"
        assert "hobbyhorse" in container.metadata["title"]
        assert "creation_time" not in container.metadata
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert context.has_b_frames == 0


# --- the first frame -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PICTURES)
def test_the_first_frame_is_the_given_picture(name: str, tmp_path: Path) -> None:
    given_picture = PICTURES[name]()
    path = made(shot_of(given_picture), tmp_path)
    shown = first_frame(path)
    assert shown.size == frame_size(720, *given_picture.size)
    wanted = given_picture.resize(shown.size, Image.Resampling.LANCZOS)
    assert distance(shown, wanted) <= 4


def test_the_first_frame_keeps_to_the_picture_at_1080_lines_too(tmp_path: Path) -> None:
    given_picture = PICTURES["portrait"]()
    shown = first_frame(made(shot_of(given_picture, tier=1080), tmp_path))
    assert shown.size == (1080, 1920)
    assert distance(shown, given_picture.resize(shown.size, Image.Resampling.LANCZOS)) <= 4


def test_the_measure_detects_a_wrong_colour_matrix(tmp_path: Path) -> None:
    """The bound of 4 is not so wide that the commonest mistake, BT.601 shown as BT.709, would pass."""
    bars = PICTURES["bars"]()
    wrong = bars.convert("RGB", (0.91, 0.08, 0.01, 0, 0, 0.92, 0.08, 0, 0.02, 0.06, 0.92, 0))
    assert distance(bars, wrong) > 4
    assert distance(bars, bars.transform(bars.size, Image.Transform.AFFINE, (1, 0, 8, 0, 1, 0))) > 4


def test_a_picture_outranks_the_asked_ratio(tmp_path: Path) -> None:
    assert first_frame(made(shot_of(PICTURES["portrait"](), ratio=(16, 9)), tmp_path)).size == (720, 1280)


def test_the_jpeg_of_the_first_frame_is_the_first_frame(tmp_path: Path) -> None:
    shot = shot_of(PICTURES["graphic"](), watermark=True)
    shown = first_frame(made(shot, tmp_path))
    (tmp_path / "still.jpg").write_bytes(first_frame_jpeg(shot))
    assert distance(Image.open(tmp_path / "still.jpg").convert("RGB"), shown) <= 4


# --- motion --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    """Two seconds of a picture with much detail."""
    return list(frames(made(shot_of(PICTURES["checks"](), seconds=2), tmp_path_factory.mktemp("moving"))))


def steps(shown: list[Image.Image]) -> Iterator[float]:
    return (distance(one, other) for one, other in pairwise(shown))


def test_frames_move_but_gently(moving: list[Image.Image]) -> None:
    assert max(distance(moving[0], frame) for frame in moving) > 5
    assert max(steps(moving)) < distance(moving[0], ImageChops.offset(moving[0], 3, 3))


def test_the_second_second_is_the_first_again(moving: list[Image.Image]) -> None:
    assert [distance(one, other) for one, other in zip(moving[:24], moving[24:], strict=True)] == [0] * 24


def test_the_loop_closes_without_a_jump(moving: list[Image.Image]) -> None:
    within = list(steps(moving[:24]))
    assert distance(moving[23], moving[24]) <= sorted(within)[len(within) // 2]


def test_a_still_film_and_a_jumping_one_would_be_noticed(moving: list[Image.Image]) -> None:
    assert max(steps([moving[0]] * 3)) == 0
    jump = distance(moving[0], ImageChops.offset(moving[0], 12, 0))
    assert jump > distance(moving[0], ImageChops.offset(moving[0], 3, 3))


def test_another_seed_is_another_motion_from_the_same_first_frame(tmp_path: Path) -> None:
    shots = [shot_of(PICTURES["checks"](), seed=seed) for seed in (1, 2)]
    one, other = (list(frames(made(shot, tmp_path))) for shot in shots)
    assert distance(one[0], other[0]) == 0
    assert distance(one[9], other[9]) > 2


def test_another_seed_is_another_sound(tmp_path: Path) -> None:
    one, again, other = (samples(made(replace(SHOT, seed=seed), tmp_path)) for seed in (1, 1, 2))
    assert one == again != other


def bend(sound: list[float]) -> float:
    """Return the greatest second difference: large for a click, small for a soft tone."""
    return max(abs(sound[i + 2] - 2 * sound[i + 1] + sound[i]) for i in range(len(sound) - 2))


def strokes(sound: list[float]) -> int:
    """Return how often the volume rises by a fifth: once or twice for each note that is struck."""
    loud = [sum(value * value for value in sound[at : at + 1024]) for at in range(0, len(sound), 1024)]
    return sum(after > 1.2 * before for before, after in pairwise(loud))


def test_the_sound_is_quiet_repeats_itself_and_has_neither_gap_nor_click(tmp_path: Path) -> None:
    sound = samples(made(replace(SHOT, seconds=4), tmp_path))
    turn = TURN * 1024
    assert 0.02 < max(map(abs, sound)) < 0.35
    assert min(max(map(abs, sound[at : at + 1024])) for at in range(0, len(sound) - 1024, 1024)) > 0.0005
    assert sound[:turn] == sound[turn : 2 * turn]
    assert bend(sound) < 0.002
    assert strokes(sound[:turn]) <= 8  # four notes, each struck within two packets


def test_a_click_in_the_sound_would_be_noticed(tmp_path: Path) -> None:
    sound = samples(made(SHOT, tmp_path))
    assert bend(sound[:20_000] + sound[20_100:]) > 0.002


def test_packets_out_of_order_would_be_noticed(tmp_path: Path) -> None:
    sound = samples(made(SHOT, tmp_path))
    mixed = [sound[at * 7 % TURN * 1024 : at * 7 % TURN * 1024 + 1024] for at in range(TURN)]
    assert strokes([value for packet in mixed for value in packet]) > 8


# --- references, watermark -----------------------------------------------------------------------------------------


def test_references_are_shown_in_order_in_the_asked_ratio(tmp_path: Path) -> None:
    inks = ((200, 30, 30), (30, 180, 60), (40, 60, 200))
    pictures = tuple(encoded(Image.new("RGB", (400, 400), ink)) for ink in inks)
    shown = first_frame(made(replace(SHOT, references=pictures, ratio=(16, 9)), tmp_path))
    assert shown.size == (1280, 720)
    for index, ink in enumerate(inks):
        middle = round(1280 * (2 * index + 1) / 6)
        spot = shown.crop((middle - 20, 340, middle + 20, 380))
        assert distance(spot, Image.new("RGB", spot.size, ink)) < 12


@given(st.integers(1, 9))
def test_any_number_of_references_makes_a_frame(count: int) -> None:
    references = tuple(encoded(Image.new("RGB", (300 + 50 * n, 400))) for n in range(count))
    assert first_frame_jpeg(replace(SHOT, references=references)) != first_frame_jpeg(SHOT)


@pytest.mark.parametrize("name", ["white", "landscape", "portrait"])
def test_the_watermark_changes_its_corner_and_nothing_else(name: str, tmp_path: Path) -> None:
    clean, marked = (first_frame(made(shot_of(PICTURES[name](), watermark=asked), tmp_path)) for asked in (False, True))
    width, height = clean.size
    corner = (width * 6 // 10, height * 85 // 100, width, height)
    difference = ImageChops.difference(clean, marked).convert("L")
    assert ImageStat.Stat(difference.crop(corner)).mean[0] > 2
    difference.paste(0, corner)
    assert difference.getbbox() is None


def test_the_watermark_stands_still_while_the_picture_moves(tmp_path: Path) -> None:
    shot = shot_of(PICTURES["black"](), watermark=True)
    shown = list(frames(made(shot, tmp_path)))
    assert max(distance(shown[0], frame) for frame in shown) < 0.5


# --- the same again ------------------------------------------------------------------------------------------------

AGAIN = """
import sys; from pathlib import Path
from hobbyhorse.media.video import VideoSpec, digest, film
shot = eval(Path(sys.argv[1]).read_text())
film(shot, Path(sys.argv[2])); print(digest(shot))
"""


@pytest.mark.parametrize("tier", sorted(AREAS))
def test_the_same_shot_is_the_same_bytes_in_another_process(tier: int, tmp_path: Path) -> None:
    shot = shot_of(PICTURES["landscape"](), tier=tier, watermark=True, seconds=3)
    here = made(shot, tmp_path).read_bytes()
    (tmp_path / "shot").write_text(repr(shot))
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "shot"), str(tmp_path / "there.mp4")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert (tmp_path / "there.mp4").read_bytes() == here
    assert told == digest(shot)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "image-to-video"},
        {"first_frame": b"x"},
        {"references": (b"x",)},
        {"references": (b"x", b"y")},
        {"prompt": "two horses"},
        {"tier": 1080},
        {"ratio": None},
        {"ratio": (9, 16)},
        {"seconds": 2},
        {"seed": 2},
        {"watermark": True},
        {"comment": "job-2"},
    ],
    ids=str,
)
def test_everything_in_a_shot_changes_its_digest(change: dict[str, Any]) -> None:
    assert digest(SHOT) == digest(replace(SHOT))
    assert digest(replace(SHOT, **change)) != digest(SHOT)


def test_a_film_from_the_cache_equals_a_new_one(tmp_path: Path) -> None:
    shot = replace(SHOT, seconds=3, comment="three")
    film(replace(SHOT, seconds=5), tmp_path / "five.mp4")
    remembered = made(shot, tmp_path).read_bytes()
    loops.cache_clear()
    assert made(shot, tmp_path).read_bytes() == remembered


def test_films_of_one_picture_are_encoded_once_whatever_their_prompts_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loops.cache_clear()
    encoded = 0

    def counted(*given: Any) -> None:
        nonlocal encoded
        encoded += 1
        encode(*given)

    encode = video._encode
    monkeypatch.setattr(video, "_encode", counted)
    pictured = shot_of(Image.new("RGB", (64, 36), "teal"))
    for prompt in ("one horse", "two horses"):
        film(replace(pictured, prompt=prompt, comment=prompt), tmp_path / f"{prompt}.mp4")
    assert encoded == 1
    assert (tmp_path / "one horse.mp4").read_bytes() != (tmp_path / "two horses.mp4").read_bytes()
    for prompt in ("one horse", "two horses"):
        film(replace(SHOT, prompt=prompt), tmp_path / f"{prompt}.mp4")
    assert encoded == 3


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tier": 480}, "tier is 480; allowed: 720, 1080"),
        ({"seconds": 0}, "seconds is 0; allowed: 1 to 60"),
        ({"seconds": 61}, "seconds is 61"),
        ({"ratio": (16, 0)}, "allowed: two positive numbers"),
    ],
)
def test_a_shot_outside_the_bounds_is_refused(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=words):
        film(replace(SHOT, **change), tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_picture_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PictureError):
        film(replace(SHOT, first_frame=b"no picture"), tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_ffmpegs_last_line_is_reported_and_nothing_is_left(tmp_path: Path) -> None:
    thread = Image.new("RGB", (4, 60_000))
    with pytest.raises(VideoError, match=r"^ffmpeg: \S.*$"):
        film(shot_of(thread), tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ffmpeg_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "none"))
    with pytest.raises(VideoError, match="ffmpeg could not be started"):
        film(replace(SHOT, prompt="never filmed"), tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_film_may_go_to_a_relative_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    film(replace(SHOT, watermark=True), Path("film.mp4"))
    assert probe(tmp_path / "film.mp4").frames == 24


def test_a_film_replaces_an_older_one_and_leaves_only_itself(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"older")
    probe(made(SHOT, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
