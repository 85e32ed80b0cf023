"""One Redis for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.state.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path_factory.mktemp("redis"), "--appendonly", "yes", "--appendfsync", "always")
    found.start()
    yield found
    found.kill()
