"""A directory whose process has died is removed by the next server; a held one is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hobbyhorse.server.files.scratch import LOCK, ScratchDirectory, sweep

HOLD = """
import sys, time
from pathlib import Path
from hobbyhorse.server.files.scratch import ScratchDirectory
found = ScratchDirectory(Path(sys.argv[1]))
(found.path / "picture").write_bytes(b"x")
print(found.path, flush=True)
time.sleep(60)
"""


def test_a_directory_is_private_and_removed_by_its_cleanup(tmp_path: Path) -> None:
    found = ScratchDirectory(tmp_path)
    (found.path / "picture").write_bytes(b"x")
    assert found.path.stat().st_mode & 0o777 == 0o700
    found.cleanup()
    found.cleanup()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_of_a_killed_process_is_swept_and_no_other(tmp_path: Path) -> None:
    held = ScratchDirectory(tmp_path)
    process = subprocess.Popen((sys.executable, "-c", HOLD, str(tmp_path)), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    assert left.parent == tmp_path
    assert sweep(tmp_path) == [], "its process lives"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left.exists()
    assert sweep(tmp_path) == [left]
    assert (left.exists(), held.path.exists()) == (False, True)
    held.cleanup()


def test_nothing_else_is_swept(tmp_path: Path) -> None:
    (tmp_path / "hobbyhorse-without-a-lock").mkdir()
    (tmp_path / "another-program").mkdir()
    (tmp_path / "another-program" / LOCK).touch()
    linked = tmp_path / "hobbyhorse-linked"
    linked.mkdir()
    (linked / LOCK).symlink_to(tmp_path / "another-program" / LOCK)
    before = sorted(tmp_path.rglob("*"))
    assert sweep(tmp_path) == []
    assert sorted(tmp_path.rglob("*")) == before
    assert sweep(tmp_path / "missing") == []


def test_without_a_temporary_directory_nothing_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", refuse)
    assert sweep() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        ScratchDirectory(tmp_path)
