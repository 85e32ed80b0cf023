"""The sample pictures of the project, by name. Imports nothing that decodes."""

from __future__ import annotations

from pathlib import Path

from hobbyhorse.contract.folder import data_directory


def fixture_images() -> dict[str, Path]:
    """Return the sample pictures by name."""
    return {path.name: path for path in sorted((data_directory("fixtures") / "images").glob("*.*"))}


def fixture_image(name: str) -> Path | None:
    """Return the sample picture of a name, which a client chooses, or None."""
    # Looked up, not opened: the name may have a NUL, 300 characters, or a way out of the directory.
    return fixture_images().get(name)
