"""What every test may use: each contract of the project, found by listing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hobbyhorse.contract.folder import data_directory, load_all
from hobbyhorse.contract.values import Contract

settings.register_profile(
    "project", deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

CONTRACTS = load_all()
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(params=CONTRACTS, ids=lambda contract: contract.key)
def contract(request: pytest.FixtureRequest) -> Contract:
    """Each contract of the project; a new provider is tested by being there."""
    found: Contract = request.param
    return found


@pytest.fixture
def contracts_directory() -> Path:
    return data_directory("contracts")


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, which the server uses."""
    return "asyncio"
