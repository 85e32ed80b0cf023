"""Watches folders and files, and has their contents read again when one changes. Knows no contract.

The files are listed a few times a second. The system's notifications would be cheaper, but they do not arrive from the
other side of a bind mount or a network, and they end with a folder that is removed and created again.

The new contents replace the old ones whole, or not at all. Two looks must agree before anything is read, so that files
that are being written are not; and a file that changes during the reading is seen by the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

Contents = TypeVar("Contents")
# Seconds between two looks: a person who saves a file and then sends a request is slower than two of them.
LOOK_SECONDS = 0.25
# Characters of a problem in the response of the health check, whose reader takes 4 KiB.
MOST_PROBLEM = 400

Signature = tuple[tuple[str, int, int, int], ...]
"""Each file with its time, size and number; equal as long as no file has changed."""


class ReloadError(ValueError):
    """The contents cannot be used; the message is one line."""


@dataclass(slots=True)
class Source(Generic[Contents]):
    """Folders, or single files, that are read together.

    `read` may block; `adopt` replaces the old contents. Both raise ReloadError.
    """

    name: str
    folders: Sequence[Path]
    read: Callable[[], Contents]
    adopt: Callable[[Contents], None]
    problem: str | None = None
    _read: Signature = field(default=(), init=False)
    _seen: Signature = field(default=(), init=False)

    def begin(self) -> None:
        """Take the present files as the ones that were read."""
        self._read = self._seen = signature(self.folders)

    def changed(self) -> bool:
        """Whether the files have changed since the reading, but not since the last look."""
        last, self._seen = self._seen, signature(self.folders)
        if self._seen == last != self._read:
            self._read = last
            return True
        return False


@dataclass(slots=True)
class Watch:
    """Watches sources, and reports each reading and each problem, in one line."""

    sources: Sequence[Source[Any]]
    report: Callable[[str], None]
    """Gets the line of a reading."""
    complain: Callable[[str], None]
    """Gets the line of a problem."""
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def problems(self) -> list[str]:
        """Return why sources have older contents than their files, in one line each."""
        return [f"{source.name}: {source.problem[:MOST_PROBLEM]}" for source in self.sources if source.problem]

    async def run(self) -> None:
        """Look until the task is cancelled."""
        for source in self.sources:
            source.begin()
        while True:
            # Real time: the files are not part of any world.
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look at each source once, and have it read if it has changed."""
        async with self._looking:  # after it, what another look found is read, too
            for source in self.sources:
                if await asyncio.to_thread(source.changed):
                    await self._reload(source)

    async def _reload(self, source: Source[Any]) -> None:
        try:
            source.adopt(await asyncio.to_thread(source.read))
        except ReloadError as error:
            source.problem = _relative(str(error), source.folders)
        except Exception as error:  # a defect of ours, on unforeseen contents, must not end the watch
            source.problem = f"internal error: {type(error).__name__}: {error}"
        else:
            source.problem = None
            self.report(f"the {source.name} were read again")
            return
        source.problem = " ".join(source.problem.split())
        self.complain(f"the {source.name} have changed and cannot be used; the old ones stay: {source.problem}")


def signature(folders: Sequence[Path]) -> Signature:
    """Return the signature of every JSON file below folders, and of files; what does not exist has none."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*.json")) if folder.is_dir() else (folder,):
            with suppress(OSError):  # removed between the listing and here
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _relative(text: str, folders: Sequence[Path]) -> str:
    """Return a message without the path of a folder: the health check shows it to everybody."""
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return text
