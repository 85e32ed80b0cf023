"""Turns: at most so many users of one name at a time; the others wait in the order of their arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hobbyhorse.clock.quiescence import held


@dataclass(slots=True)
class _Lane:
    """The turns of one name; `users` counts those who have or await one."""

    turns: asyncio.Semaphore
    users: int = 0


class Turns:
    """Turns by name, on one event loop. A name that nobody uses is forgotten."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(tuple(self._lanes))

    @property
    def users(self) -> int:
        """How many have or await a turn of any name."""
        return sum(lane.users for lane in self._lanes.values())

    def waiting(self, name: Hashable) -> int:
        """Return how many have or await a turn of a name."""
        lane = self._lanes.get(name)
        return lane.users if lane is not None else 0

    @asynccontextmanager
    async def of(self, name: Hashable, most: int) -> AsyncIterator[None]:
        """Wait for one of the `most` turns of a name, and have it within the context."""
        await self.take(name, most)
        try:
            yield
        finally:
            self.give(name)

    async def take(self, name: Hashable, most: int) -> None:
        """Wait for one of the `most` turns of a name, and have it until `give`."""
        lane = self._lanes.setdefault(name, _Lane(asyncio.Semaphore(most)))
        lane.users += 1
        try:
            # Only the end of another turn gives one, and in virtual time that one counts as busy, or its peer does.
            with held():
                await lane.turns.acquire()
        except BaseException:
            self._leave(name, lane)
            raise

    def give(self, name: Hashable) -> None:
        """Give back a turn of a name."""
        lane = self._lanes[name]
        lane.turns.release()
        self._leave(name, lane)

    def _leave(self, name: Hashable, lane: _Lane) -> None:
        lane.users -= 1
        if not lane.users:
            del self._lanes[name]
