"""Drawn pictures: they depend on their arguments alone, and show what was asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hobbyhorse.media.picture import read_header, read_picture
from hobbyhorse.media.scenery import WATERMARK, contact_sheet, jpeg, placeholder, scene, watermark
from tests.media_samples import distance

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 60), (40, 60, 200)


def nearest(canvas: Image.Image, ink: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """Return the box of the pixels that are nearly of a colour."""
    bands = [
        band.point(lambda value, wanted=wanted: 255 if abs(value - wanted) < 12 else 0)
        for band, wanted in zip(canvas.split(), ink, strict=True)
    ]
    both = Image.composite(bands[0], Image.new("L", canvas.size), bands[1])
    return Image.composite(both, Image.new("L", canvas.size), bands[2]).getbbox()


# --- scenes --------------------------------------------------------------------------------------------------------


@given(st.text(max_size=30), st.integers(), st.integers(16, 200), st.integers(16, 200))
def test_a_scene_follows_from_prompt_and_seed(prompt: str, seed: int, width: int, height: int) -> None:
    one = scene(prompt, seed, width, height)
    assert one.size == (width, height)
    assert one.tobytes() == scene(prompt, seed, width, height).tobytes()


def test_another_prompt_or_seed_is_another_scene() -> None:
    assert scene("one", 1).tobytes() != scene("one", 2).tobytes() != scene("two", 2).tobytes()


def test_a_scene_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = "from hobbyhorse.media.scenery import scene; print(scene('p', 3, 96, 64).tobytes().hex())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert done.stdout.strip() == scene("p", 3, 96, 64).tobytes().hex()


def test_a_scene_without_a_herd_has_the_same_landscape() -> None:
    one, other = scene("p", 1, 320, 180), scene("p", 1, 320, 180, herd=False)
    assert one.tobytes() != other.tobytes()
    assert one.crop((0, 0, 320, 40)).tobytes() == other.crop((0, 0, 320, 40)).tobytes()


def test_a_prompt_with_a_lone_surrogate_is_drawn() -> None:
    assert scene("\ud800", 1, 32, 32).tobytes() != scene("", 1, 32, 32).tobytes()


# --- placeholders --------------------------------------------------------------------------------------------------


@given(st.text(max_size=300), st.integers(16, 400), st.integers(16, 400))
def test_a_placeholder_is_a_picture_for_any_text(text: str, width: int, height: int) -> None:
    picture = read_picture(placeholder(text, width, height))
    assert (picture.width, picture.height) == (width, height)


def test_another_text_is_another_placeholder() -> None:
    assert placeholder("one") == placeholder("one") != placeholder("two")
    assert read_header(placeholder("one")).width == 1280


# --- contact sheets ------------------------------------------------------------------------------------------------


def test_pictures_stand_on_a_sheet_in_their_order_and_do_not_overlap() -> None:
    pictures = [Image.new("RGB", (90, 90), ink) for ink in (RED, GREEN, BLUE)]
    sheet = contact_sheet(pictures, 600, 200)
    assert sheet.size == (600, 200)
    boxes = [nearest(sheet, ink) for ink in (RED, GREEN, BLUE)]
    left = [box[0] for box in boxes if box]
    right = [box[2] for box in boxes if box]
    assert len(left) == 3
    assert all(end <= start for end, start in zip(right, left[1:], strict=False))


def test_pictures_stand_below_each_other_on_a_high_sheet() -> None:
    pictures = [Image.new("RGB", (90, 90), ink) for ink in (RED, GREEN)]
    upper, lower = (nearest(contact_sheet(pictures, 200, 600), ink) for ink in (RED, GREEN))
    assert upper is not None
    assert lower is not None
    assert upper[3] <= lower[1]


def test_a_picture_keeps_its_aspect_on_a_sheet() -> None:
    box = nearest(contact_sheet([Image.new("RGB", (300, 100), GREEN), Image.new("RGB", (9, 9), BLUE)], 800, 800), GREEN)
    assert box is not None
    assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (16, 16)])
def test_a_sheet_of_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    assert contact_sheet([Image.new("RGB", (50, 20), RED)] * 5, *size).size == size


# --- the watermark -------------------------------------------------------------------------------------------------


@given(st.integers(100, 2000).map(lambda half: 2 * half), st.integers(100, 2000).map(lambda half: 2 * half))
def test_the_watermark_is_in_the_lower_right_corner_on_even_pixels(width: int, height: int) -> None:
    strip, (left, top) = watermark(width, height)
    assert not any(side % 2 for side in (*strip.size, left, top))
    if left and top:
        assert width // 2 <= left + strip.width <= width
        assert height // 2 <= top + strip.height <= height


def test_the_watermark_is_white_text_on_a_transparent_strip() -> None:
    strip, _ = watermark(1280, 720)
    assert strip.mode == "RGBA"
    alpha = strip.getchannel("A")
    assert alpha.getextrema() == (0, 235)
    assert strip.getpixel(next(divmod(at, strip.width)[::-1] for at, a in enumerate(alpha.tobytes()) if a == 235)) == (
        *(255, 255, 255),
        235,
    )
    assert WATERMARK == "Happy Horse"


# --- JPEG ----------------------------------------------------------------------------------------------------------


def test_a_jpeg_is_nearly_the_picture() -> None:
    picture = scene("jpeg", 1, 320, 180)
    found = read_picture(jpeg(picture))
    assert found.format == "jpeg"
    assert distance(found.image, picture) < 3
