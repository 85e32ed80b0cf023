"""The folder of a state, and its lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hobbyhorse.state.errors import StateError
from hobbyhorse.state.folder import StateFolder, write_whole


def test_a_second_server_is_told_who_has_the_folder(tmp_path: Path) -> None:
    first = StateFolder(tmp_path / "a" / "state")
    with pytest.raises(StateError, match=rf"another server uses '.*state': process {os.getpid()} on .*, since 20"):
        StateFolder(tmp_path / "a" / "state")
    first.close()
    first.close()
    StateFolder(tmp_path / "a" / "state").close()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from hobbyhorse.state.folder import StateFolder; "
    code += "held = StateFolder(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    StateFolder(tmp_path).close()


def test_a_holder_that_says_nothing_is_refused_too(tmp_path: Path) -> None:
    first = StateFolder(tmp_path)
    os.truncate(tmp_path / "lock", 0)
    with pytest.raises(StateError, match="it does not say which"):
        StateFolder(tmp_path)
    first.close()


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StateError, match="cannot be written to: File exists"):
        StateFolder(tmp_path / "file")


def test_only_the_user_can_read_the_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    assert (folder.path / "lock").stat().st_mode & 0o077 == 0
    assert folder.path.stat().st_mode & 0o077 == 0
    folder.close()


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"
