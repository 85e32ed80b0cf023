"""The store in memory: what only it does. `test_store` has what every store does."""

from __future__ import annotations

import time

import pytest

from hobbyhorse.state.memory import MemoryStore
from hobbyhorse.state.records import Head
from hobbyhorse.state.store import Changes

pytestmark = pytest.mark.anyio


async def test_its_time_is_the_time_of_the_system() -> None:
    assert abs((await MemoryStore().look("a-world")).now - time.time()) < 5


async def test_a_closed_store_keeps_its_records_for_a_reader() -> None:
    store = MemoryStore()
    await store.keep(Changes(world="a-world", head=Head()))
    await store.close()
    assert (await store.look("a-world")).head == Head()
