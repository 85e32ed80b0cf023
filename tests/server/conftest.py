"""Fixtures for tests of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import CONTRACTS
from tests.server.media_host import Host
from tests.world import Mock


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    mock = Mock(list(CONTRACTS), cache=tmp_path / "cache")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(mock.fake), base_url="http://mock.test") as client:
        yield Host(mock, client)
