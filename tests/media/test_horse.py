"""The horse: where it stands, which way it looks, and its two colours."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from hobbyhorse.media.horse import draw_horse

COAT, HAIR, GROUND = (200, 0, 0), (0, 0, 200), (255, 255, 255)


def drawn(size: float, left: float = 50, foot: float = 350) -> Image.Image:
    canvas = Image.new("RGB", (400, 400), GROUND)
    draw_horse(canvas, left, foot, size, coat=COAT, hair=HAIR)
    return canvas


def box(canvas: Image.Image) -> tuple[int, int, int, int]:
    found = ImageChops.difference(canvas, Image.new("RGB", canvas.size, GROUND)).getbbox()
    assert found is not None
    return found


@pytest.mark.parametrize("size", [40, 150, 300])
def test_the_hooves_touch_the_ground_and_the_horse_fits_its_square(size: int) -> None:
    left, top, right, bottom = box(drawn(size))
    assert abs(bottom - 350) <= 2
    assert top >= 350 - 0.93 * size - 1
    assert left >= 49
    assert right <= 50 + size
    assert right - left > 0.8 * size


def test_a_negative_size_is_the_mirror_image_in_the_same_place() -> None:
    right = drawn(300).crop((50, 0, 350, 400))
    left = drawn(-300).crop((50, 0, 350, 400))
    assert left.tobytes() == right.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes() != right.tobytes()


def test_the_body_has_the_coat_and_the_tail_the_hair() -> None:
    canvas = drawn(300)
    body, tail = (50 + round(0.45 * 300), 71 + round(0.45 * 300)), (50 + round(0.05 * 300), 71 + round(0.47 * 300))
    assert canvas.getpixel(body) == COAT
    assert canvas.getpixel(tail) == HAIR


def test_a_tiny_horse_has_eight_pixels() -> None:
    left, _, right, bottom = box(drawn(0.5))
    assert right - left <= 8
    assert abs(bottom - 350) <= 2


def test_a_horse_outside_of_the_canvas_changes_nothing() -> None:
    assert drawn(100, left=1000).tobytes() == Image.new("RGB", (400, 400), GROUND).tobytes()
