"""Fixtures of the commands that test clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.sample_clients import BREAKS


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def breaks(working_directory: Path) -> tuple[str, str]:
    """The option that names a client which breaks a rule."""
    (working_directory / "broken.py").write_text(BREAKS.source)
    return "--python", "broken.py:generate"
