"""The properties of a video, and the likeness of its first frame to a picture."""

from __future__ import annotations

import importlib
import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hobbyhorse.conformance.server.rules.media import ALIKE, MARKED, SAME, SILENT
from hobbyhorse.conformance.server.video_check import (
    LATER,
    START,
    aspect,
    first_frame_difference,
    frames_differ,
    loudness,
    viewed,
)
from hobbyhorse.media.video import film
from tests.broken_servers import films
from tests.media_samples import SHOT

ORIENTATION, LYING = 0x0112, 6
"""The EXIF tag of a picture's orientation, and the value of a camera held upright."""


def picture(size: tuple[int, int], colour: tuple[int, int, int] = (200, 80, 80), exif: int | None = None) -> bytes:
    out, tags = io.BytesIO(), Image.Exif()
    if exif is not None:
        tags[ORIENTATION] = exif
    Image.new("RGB", size, colour).save(out, "JPEG", exif=tags)
    return out.getvalue()


def test_a_video_has_its_properties_and_no_comparison_without_a_picture() -> None:
    video = viewed("job-1", "http://x/a.mp4", films.plain(640, 360))
    assert (video.job, video.url, video.error) == ("job-1", "http://x/a.mp4", None)
    assert (video.facts["width"], video.facts["height"], video.facts["fps"]) == (640, 360, 24)
    assert not {"asked_aspect", "first_frame_difference"} & set(video.facts)


def test_with_a_picture_the_aspect_and_the_first_frame_are_compared() -> None:
    video = viewed(None, "http://x", films.plain(640, 360), picture((1280, 720)))
    assert video.facts["asked_aspect"] == pytest.approx(16 / 9)
    assert video.facts["first_frame_difference"] < 5


def test_a_file_that_is_not_a_video_has_an_error_and_no_properties() -> None:
    video = viewed("job-1", "http://x", b"<html>" * 100, picture((64, 64)))
    assert video.error
    assert not video.facts


def test_the_aspect_is_that_of_the_picture_as_it_is_displayed() -> None:
    assert aspect(picture((640, 360))) == pytest.approx(16 / 9)
    assert aspect(picture((640, 360), exif=LYING)) == pytest.approx(9 / 16)
    assert aspect(b"not a picture") is None


def test_another_picture_differs_by_much_and_one_of_another_size_by_little() -> None:
    video = films.plain(640, 360)
    near, far = (
        first_frame_difference(video, picture((320, 320), colour)) for colour in ((200, 80, 80), (20, 200, 20))
    )
    assert near is not None
    assert far is not None
    assert near < 5 < 50 < far


def test_a_picture_or_a_video_that_cannot_be_read_is_not_compared() -> None:
    assert first_frame_difference(films.plain(640, 360), b"not a picture") is None
    assert first_frame_difference(b"not a video", picture((64, 64))) is None


def test_without_a_decoder_the_first_frame_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module
    video = films.plain(640, 360)

    def without_av(name: str) -> object:
        if name == "av":
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without_av)
    assert first_frame_difference(video, picture((64, 64))) is None
    assert "asked_aspect" in viewed(None, "http://x", video, picture((64, 64))).facts
    assert "av" in sys.modules


def test_with_a_shape_nothing_but_the_shape_is_compared() -> None:
    video = viewed(None, "http://x", films.plain(640, 360), picture((1280, 720)), shape=0.5625)
    assert video.facts["asked_aspect"] == 0.5625
    assert "first_frame_difference" not in video.facts


def test_a_small_mark_shows_in_the_difference_of_two_first_frames(tmp_path: Path) -> None:
    usual, marked = films.good(), tmp_path / "marked.mp4"
    film(replace(SHOT, watermark=not SHOT.watermark), marked)
    assert (frames_differ(usual, marked.read_bytes()) or 0) > MARKED
    assert frames_differ(usual, usual) == 0
    assert (frames_differ(usual, films.remade(usual, rate=25)) or 0) < 1, "the same picture"
    assert (frames_differ(usual, films.plain(1280, 720)) or 0) > 20


def test_a_picture_that_comes_a_little_later_than_the_first_frame_is_found() -> None:
    usual, own, other = films.plain(640, 360), picture((640, 360)), picture((640, 360), (20, 200, 20))
    assert LATER not in viewed(None, "http://x", usual, start=own).facts
    late = viewed(None, "http://x", films.faded(usual), start=own).facts
    assert late[LATER] <= SAME < ALIKE < late[START]
    assert viewed(None, "http://x", films.faded(usual), start=other).facts[LATER] > ALIKE


def test_first_frames_that_cannot_be_decoded_are_not_compared() -> None:
    assert frames_differ(b"not a video", films.good()) is None
    assert frames_differ(films.good(), b"not a video") is None


def test_a_silent_sound_is_told_from_one_that_can_be_heard() -> None:
    heard, silent = loudness(films.good()), loudness(films.muted(films.good()))
    assert heard is not None
    assert silent is not None
    assert silent < SILENT < heard <= 1
    assert loudness(films.plain(64, 64)) is None, "no sound at all"
    assert loudness(b"no video") is None
