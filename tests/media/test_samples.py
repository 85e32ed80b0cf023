"""The sample pictures: the files are the generator's output, small, and within the usual limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hobbyhorse.contract.picture_limits import PictureLimits
from hobbyhorse.media.picture import check_picture, read_picture
from hobbyhorse.media.samples import SAMPLES, main
from tests.media_samples import IMAGES, distance

LIMITS = PictureLimits(("jpeg", "png", "webp"), least_side=300, aspect=(1 / 2.5, 2.5), most_bytes=10 << 20)
SUFFIXES = {".jpg": "jpeg", ".png": "png", ".webp": "webp"}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples") / "new" / "folder"
    main(str(folder))
    return folder


def test_the_files_are_those_of_the_generator(generated: Path) -> None:
    assert {path.name for path in generated.iterdir()} == {path.name for path in IMAGES.iterdir()} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_file_is_the_generators_picture(name: str, generated: Path) -> None:
    """Another version of Pillow may encode the same picture in other bytes."""
    kept, drawn = read_picture((IMAGES / name).read_bytes()), read_picture((generated / name).read_bytes())
    assert kept.format == drawn.format == SUFFIXES[Path(name).suffix]
    assert kept.image.size == drawn.image.size
    assert distance(kept.image, drawn.image) < 2


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_keeps_the_limits_of_providers(name: str) -> None:
    check_picture(read_picture((IMAGES / name).read_bytes()), LIMITS)


def test_the_samples_are_small_together() -> None:
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) <= 400_000


def test_drawing_a_sample_again_gives_the_same_pixels() -> None:
    first, second = (SAMPLES["reference-1-character.jpg"]() for _ in range(2))
    assert isinstance(first, Image.Image)
    assert first.tobytes() == second.tobytes()
