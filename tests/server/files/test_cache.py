"""The cache keeps its bound, removes the least recently used files first, and never a file in use."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hobbyhorse.server.files.cache import ABANDONED_SECONDS, Cache, user_directory


def put(cache: Cache, name: str, size: int, age: float) -> Path:
    path = cache.path(name)
    path.write_bytes(bytes(size))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def names(cache: Cache) -> list[str]:
    return sorted(path.name for path in cache.directory.iterdir())


def test_the_least_recently_used_go_first_and_only_as_many_as_must(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=250)
    for number in range(5):
        put(cache, f"{number}", 100, age=1_000 - number)
    cache.trim()
    assert names(cache) == ["3", "4"]


def test_a_file_that_was_used_is_recent(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=150)
    put(cache, "old", 100, age=2_000)
    put(cache, "new", 100, age=1_000)
    assert cache.find("old") == tmp_path / "old"
    cache.trim()
    assert names(cache) == ["old"]


def test_a_file_in_use_stays_even_over_the_bound(tmp_path: Path) -> None:
    cache = Cache(tmp_path, most_bytes=10)
    put(cache, "just made", 100, age=1)
    cache.trim()
    assert names(cache) == ["just made"]


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert Cache(tmp_path, 1).find("nothing") is None


def test_an_abandoned_file_is_swept_and_an_unfinished_one_is_not(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1_000)
    put(cache, ".dead", 10, age=ABANDONED_SECONDS + 10)
    put(cache, ".alive", 10, age=10)
    room = tmp_path / ".dead-room"
    room.mkdir()
    (room / "film.mp4").write_bytes(b"x")
    then = time.time() - ABANDONED_SECONDS - 10
    os.utime(room, (then, then))
    assert names(Cache(tmp_path, 1_000)) == [".alive"]


def test_the_cache_is_the_users() -> None:
    assert user_directory().name == "hobbyhorse"
    assert user_directory().is_absolute()
