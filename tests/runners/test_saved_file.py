"""A saved file is read to its end, or to a bound, and other kinds of file are refused without a wait."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hobbyhorse.runners import saved_file
from hobbyhorse.runners.saved_file import SavedFile, read_saved, still_there


def test_a_regular_file_has_a_digest_and_a_size(tmp_path: Path) -> None:
    (tmp_path / "video").write_bytes(b"horse")
    assert read_saved(tmp_path / "video") == SavedFile(hashlib.sha256(b"horse").hexdigest(), 5)


def test_only_the_beginning_of_a_very_large_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_file, "LARGEST", 1_000)
    with (tmp_path / "video").open("wb") as file:
        file.truncate(10 << 30)
    assert read_saved(tmp_path / "video") == SavedFile(hashlib.sha256(bytes(1_000)).hexdigest(), 10 << 30)


@pytest.mark.parametrize("make", ["fifo", "folder", "loop", "device"])
def test_another_kind_of_file_is_refused(make: str, tmp_path: Path) -> None:
    path = tmp_path / "video"
    if make == "fifo":
        os.mkfifo(path)
    elif make == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if make == "loop" else "/dev/zero")
    with pytest.raises(OSError, match="symbolic links" if make == "loop" else "not a regular file"):
        read_saved(path)


def test_a_file_is_still_there_only_with_the_same_digest(tmp_path: Path) -> None:
    path, digest = tmp_path / "video", hashlib.sha256(b"horse").hexdigest()
    assert not still_there(str(path), digest)
    path.write_bytes(b"horse")
    assert still_there(str(path), digest)
    path.write_bytes(b"mule")
    assert not still_there(str(path), digest)
