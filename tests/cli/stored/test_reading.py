"""Opening a state for the commands that look into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hobbyhorse.cli.stored.reading import read_state
from hobbyhorse.cli.usage import UsageError
from hobbyhorse.state.sqlite import SqliteReader, SqliteStore
from hobbyhorse.state.store import Meta


async def seed(reader: SqliteReader) -> int:
    meta = await reader.meta()
    assert meta is not None
    return meta.seed


def test_the_work_gets_the_state(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.write_meta(Meta(5))
    store.stop()
    assert read_state(tmp_path, seed) == 5


def test_a_place_without_a_state_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no state"):
        read_state(tmp_path, seed)
