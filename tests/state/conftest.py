"""The stores that the tests of this folder run over. A further store is one more entry of `STORES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hobbyhorse.state.memory import MemoryStore
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.sqlite import SqliteStore
from hobbyhorse.state.store import Store
from tests.state.redis_server import shared_redis


@dataclass
class Wall:
    """A clock that stands until a test moves it. A store with a clock of its own skips the tests that move it."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def memory(folder: Path, now: Callable[[], float]) -> Store:
    return MemoryStore(now)


async def sqlite(folder: Path, now: Callable[[], float]) -> Store:
    return SqliteStore(folder / "state", now)


async def redis(folder: Path, now: Callable[[], float]) -> Store:
    found = RedisStore(shared_redis(), now=now)
    await found.open()
    return found


STORES: Mapping[str, Callable[[Path, Callable[[], float]], Awaitable[Store]]] = {
    "memory": memory,
    "sqlite": sqlite,
    "redis": redis,
}


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, wall: Wall) -> AsyncIterator[Store]:
    found = await STORES[request.param](tmp_path, wall)
    yield found
    await found.close()
