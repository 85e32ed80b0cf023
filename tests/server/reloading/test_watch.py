"""A watch: when contents are read again, when the old ones stay, and what is reported."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hobbyhorse.server.reloading import watch as module
from hobbyhorse.server.reloading.watch import MOST_PROBLEM, ReloadError, Source, Watch, signature

pytestmark = pytest.mark.anyio


@dataclass
class Folder:
    """A watched folder whose contents are the text of one file; `bad...` cannot be used."""

    path: Path
    adopted: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    before_read: Callable[[], None] = lambda: None

    def write(self, text: str) -> None:
        """Replace the file; another number or time makes the change visible on every file system."""
        new = self.path / "new"
        new.write_text(text)
        new.rename(self.path / "a.json")

    def read(self) -> str:
        self.before_read()
        text = (self.path / "a.json").read_text()
        if text.startswith("bad"):
            raise ReloadError(f"{self.path}/a.json: cannot\nbe used: {text}")
        if text.startswith("worse"):
            raise ZeroDivisionError("oh")
        return text


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path / "watched")
    found.path.mkdir()
    found.write("first")
    return found


def watched(folder: Folder) -> Watch:
    source = Source("things", [folder.path], folder.read, folder.adopted.append)
    source.begin()
    return Watch([source], folder.lines.append, folder.problems.append)


async def look(watch: Watch, times: int = 2) -> None:
    for _ in range(times):
        await watch.look()


async def test_nothing_is_read_while_no_file_changes(folder: Folder) -> None:
    watch = watched(folder)
    await look(watch, 4)
    assert (folder.adopted, folder.lines, watch.problems()) == ([], [], [])


async def test_a_change_is_read_when_two_looks_agree(folder: Folder) -> None:
    watch = watched(folder)
    folder.write("second")
    await watch.look()
    assert folder.adopted == []
    await watch.look()
    assert folder.adopted == ["second"]
    await look(watch, 3)
    assert folder.adopted == ["second"]
    assert folder.lines == ["the things were read again"]


async def test_a_file_that_keeps_changing_is_not_read(folder: Folder) -> None:
    watch = watched(folder)
    for number in range(4):
        folder.write(f"part {number}")
        await watch.look()
    assert folder.adopted == []
    await watch.look()
    assert folder.adopted == ["part 3"]


async def test_a_change_during_the_reading_is_read_too(folder: Folder) -> None:
    watch = watched(folder)
    folder.write("second")
    await watch.look()
    changes = iter(["third"])

    def change() -> None:
        for text in changes:
            folder.write(text)

    folder.before_read = change
    await look(watch, 4)
    assert folder.adopted[-1] == "third"


async def test_a_look_returns_after_the_reading_of_another_one(folder: Folder) -> None:
    watch, reading, go_on = watched(folder), threading.Event(), threading.Event()
    folder.write("second")
    await watch.look()

    def pause() -> None:
        reading.set()
        go_on.wait(30)

    folder.before_read = pause
    first = asyncio.create_task(watch.look())
    assert await asyncio.to_thread(reading.wait, 30)
    second = asyncio.create_task(watch.look())
    for _ in range(50):  # in which it would end, if it did not wait
        await asyncio.to_thread(lambda: None)
    assert not second.done()
    go_on.set()
    await second
    assert folder.adopted == ["second"]
    await first


async def test_broken_contents_keep_the_old_ones_and_are_one_line(folder: Folder) -> None:
    watch = watched(folder)
    folder.write("bad one")
    await look(watch, 5)
    assert folder.adopted == []
    assert watch.problems() == ["things: a.json: cannot be used: bad one"]
    assert folder.problems == [
        "the things have changed and cannot be used; the old ones stay: a.json: cannot be used: bad one"
    ]
    folder.write("good again")
    await look(watch)
    assert folder.adopted == ["good again"]
    assert watch.problems() == []
    assert folder.lines == ["the things were read again"]


async def test_an_error_of_ours_does_not_end_the_watch(folder: Folder) -> None:
    watch = watched(folder)
    folder.write("worse")
    await look(watch)
    assert watch.problems() == ["things: internal error: ZeroDivisionError: oh"]
    folder.write("good again")
    await look(watch)
    assert folder.adopted == ["good again"]


async def test_a_problem_is_cut(folder: Folder) -> None:
    watch = watched(folder)
    folder.write("bad " + "x" * 10_000)
    await look(watch)
    assert [len(problem) for problem in watch.problems()] == [MOST_PROBLEM + len("things: ")]


async def test_contents_that_are_refused_keep_the_old_ones(folder: Folder) -> None:
    def refuse(text: str) -> None:
        raise ReloadError(f"{text} is refused")

    source = Source("things", [folder.path], folder.read, refuse)
    source.begin()
    watch = Watch([source], folder.lines.append, folder.problems.append)
    folder.write("second")
    await look(watch)
    assert watch.problems() == ["things: second is refused"]


async def test_a_folder_that_is_removed_and_made_again_is_still_watched(folder: Folder) -> None:
    watch = watched(folder)
    (folder.path / "a.json").unlink()
    folder.path.rmdir()
    await watch.look()
    folder.path.mkdir()
    folder.write("new folder")
    await look(watch)
    assert folder.adopted == ["new folder"]


async def test_the_watch_runs_until_it_is_cancelled(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    adopted = asyncio.Event()
    source = Source("things", [folder.path], folder.read, lambda text: adopted.set())
    task = asyncio.create_task(Watch([source], folder.lines.append, folder.problems.append).run())
    await asyncio.sleep(0.05)
    folder.write("second")
    await asyncio.wait_for(adopted.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_signature_tells_of_names_sizes_times_and_numbers(tmp_path: Path) -> None:
    def changed(change: Callable[[], object]) -> bool:
        before = signature([tmp_path])
        change()
        return signature([tmp_path]) != before

    (tmp_path / "below").mkdir()
    file = tmp_path / "below" / "a.json"
    assert changed(lambda: file.write_text("a"))
    assert changed(lambda: file.write_text("ab"))
    assert changed(lambda: os.utime(file, (1, 1)))
    assert changed(lambda: file.rename(tmp_path / "b.json"))
    assert not changed(lambda: (tmp_path / "notes.txt").write_text("a"))
    assert signature([tmp_path / "notes.txt"]) != ()
    assert changed((tmp_path / "b.json").unlink)
    assert signature([tmp_path / "nowhere"]) == ()
    (tmp_path / "dangling.json").symlink_to(tmp_path / "nowhere.json")
    assert signature([tmp_path]) == ()
