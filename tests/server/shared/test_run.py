"""The start of a server that shares its state."""

from __future__ import annotations

import pytest

from hobbyhorse.server.shared.run import check
from hobbyhorse.state.errors import StateError
from tests.conftest import CONTRACTS
from tests.state.redis_server import needs_redis, shared_redis

pytestmark = needs_redis


def test_a_state_belongs_to_its_seed() -> None:
    url = shared_redis()
    warning = check(url, 3, CONTRACTS)
    assert warning is not None
    assert warning.startswith("Redis does not write each change to its disk")
    check(url, 3, CONTRACTS)
    with pytest.raises(StateError, match="made with the seed 3, not 4"):
        check(url, 4, CONTRACTS)


def test_a_redis_that_needs_a_password_is_one_line() -> None:
    with pytest.raises(StateError, match="the URL of Redis"):
        check("redis://", 0, CONTRACTS)
