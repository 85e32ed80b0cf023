"""A sample picture is found by its exact name; a name from a client can lead nowhere else."""

from __future__ import annotations

import pytest

from hobbyhorse.server.files.fixtures import fixture_image, fixture_images


def test_each_sample_is_found_by_its_name() -> None:
    found = fixture_images()
    assert "product.png" in found
    for name, path in found.items():
        assert fixture_image(name) == path
        assert path.is_file()


@pytest.mark.parametrize("name", ["", ".", "..", "\0", "product.png\0", "x" * 300, "../images/product.png", "/etc"])
def test_no_other_name_is_a_sample(name: str) -> None:
    assert fixture_image(name) is None
