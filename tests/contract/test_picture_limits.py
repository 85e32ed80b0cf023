"""Picture limits: plain values that load without an image library."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from hobbyhorse.contract.picture_limits import PictureLimits


def test_only_the_formats_are_always_limited() -> None:
    assert PictureLimits(("png",)) == PictureLimits(("png",), least_side=None, aspect=None, most_bytes=None)


def test_limits_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PictureLimits(("png",)).most_bytes = 1  # type: ignore[misc]


def test_a_contract_with_limits_is_loaded_without_an_image_library() -> None:
    code = """
import sys
from hobbyhorse.contract.folder import load_all
assert any(model.images for contract in load_all() for model in contract.models)
print(sorted({"PIL", "av", "imageio_ffmpeg"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
