"""One fixture for tests in pytest: `hobbyhorse`, a fresh world on a server that the whole session shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hobbyhorse.mock import MockServer, MockWorld

MARK = "hobbyhorse"
OPTIONS = ("pace", "clock", "speed", "seed", "strict", "complain")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(pace='fast', clock='real', speed=1.0, seed=0, strict=True, complain=True): "
        "how the server of the fixture `hobbyhorse` behaves, and whether a wrong request fails the test",
    )


@pytest.fixture(scope="session")
def hobbyhorse_servers() -> Iterator[dict[tuple[Any, ...], MockServer]]:
    """The servers of the session by what they were asked to be; one of each kind."""
    servers: dict[tuple[Any, ...], MockServer] = {}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture
def hobbyhorse(
    request: pytest.FixtureRequest, hobbyhorse_servers: dict[tuple[Any, ...], MockServer]
) -> Iterator[MockWorld]:
    """A world of its own on a running server; requests that break the contract fail the test in its teardown."""
    wanted: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(MARK))):
        wanted |= mark.kwargs
    if unknown := sorted(set(wanted) - set(OPTIONS)):
        raise pytest.UsageError(f"@pytest.mark.{MARK}({unknown[0]}=...): allowed are {', '.join(OPTIONS)}")
    complain = wanted.pop("complain", True)
    kind = tuple(sorted(wanted.items()))
    if kind not in hobbyhorse_servers:
        hobbyhorse_servers[kind] = MockServer(**wanted).start()
    world = hobbyhorse_servers[kind].world()
    yield world
    if complain and (said := world.complaints()):
        pytest.fail("\n".join(["the client sent what no provider takes:", *said]), pytrace=False)
