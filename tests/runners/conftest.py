"""Fixtures for runs in virtual time: a server with a manual clock, and worlds with one client each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.runners.virtual_time import Ran, VirtualTime
from hobbyhorse.testing.local import MockServer, MockWorld
from tests.conftest import CONTRACTS

CONTRACT = next(contract for contract in CONTRACTS if contract.key == "hiapi")
ORDER = order_for(CONTRACT, CONTRACT.models[0])

Client = Callable[[str, str], Any]


def http_client(key: str, timeout: float = 10.0) -> httpx.Client:
    """Return an HTTP client that sends the key and ignores the proxies of this machine."""
    return httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=timeout, trust_env=False)


@dataclass
class Trial:
    """A world and the virtual time of the client that runs against it. Moments count from the start of the trial."""

    server: MockServer
    world: MockWorld
    time: VirtualTime
    begun: float

    def run(self, client: Client) -> Ran:
        return self.time.run(lambda: client(self.world.url(CONTRACT.key), self.world.api_key))

    def after(self, ran: Ran) -> float:
        return ran.ended - self.begun

    @property
    def trace(self) -> list[tuple[float, str, str]]:
        """The moment, method and path of each request."""
        return [(one.moment - self.begun, one.method, one.path) for one in self.world.journal]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer([CONTRACT], clock="manual", pace="realistic", strict=False, seed=3) as server:
        yield server


@pytest.fixture
def trial(server: MockServer) -> Callable[..., Trial]:
    """Return a function that opens a trial, with a scenario armed and options of `VirtualTime`."""

    def make(scenario: dict[str, Any] | None = None, draws: int = 0, **options: Any) -> Trial:
        world = server.world(seed=5)
        if scenario:
            world.arm(scenario, jobs="all")
        return Trial(server, world, VirtualTime(server.timeline(world), seed=draws, **options), world.clock.now())

    return make
