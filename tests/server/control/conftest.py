"""Fixtures for tests of the control plane."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from hobbyhorse.contract.values import Contract
from tests.conftest import CONTRACTS
from tests.server.control.plane import (
    SCENARIO,
    STEP,
)


@pytest.fixture(params=CONTRACTS[:1], ids=lambda contract: contract.key)
def one(request: pytest.FixtureRequest) -> Contract:
    """A single contract, for tests that do not depend on the provider."""
    found: Contract = request.param
    return found


@pytest.fixture
def catalogue(tmp_path: Path) -> tuple[Path, ...]:
    """A directory with scenarios of the test."""
    for name in ("lost-poll", "lost-polls", "lost-pool"):
        (tmp_path / f"{name}.json").write_bytes(orjson.dumps(SCENARIO))
    only = {
        "why": "no provider has this",
        "moves": {"callback": [{"move": "lost"}], "health": [STEP], "cancel": [STEP]},
    }
    (tmp_path / "nowhere.json").write_bytes(orjson.dumps(only))
    return (tmp_path,)
