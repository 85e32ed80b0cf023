"""A running server is used over its control plane; test_world.py has the behaviour that both worlds share."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hobbyhorse import MockServer, MockWorld
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.values import Contract
from hobbyhorse.testing import remote
from hobbyhorse.testing.remote import RemoteError, RemoteServer, RemoteValueError, RemoteWorld
from hobbyhorse.worlds.journal import MOST_EXCHANGES
from tests.conftest import CONTRACTS
from tests.world import HTTP, documented

# Three pages of the control plane.
MANY = 2_500


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer() as running:
        yield running


@pytest.fixture
def world(server: MockServer) -> Iterator[RemoteWorld]:
    found = RemoteServer(server.url, clock="manual", pace="realistic")
    yield found.world()
    found.stop()


def order(world: RemoteWorld, contract: Contract) -> None:
    _, model, body = documented(contract)
    ContractClient(contract, world.url(contract.key), world.api_key, HTTP).submit(model.id, body)


def test_the_clock_and_the_pace_are_its_own(server: MockServer, world: RemoteWorld) -> None:
    assert (world.clock.speed, world.pace) == (0, "realistic")
    another = RemoteServer(server.url)
    other = another.world()
    assert (other.clock.speed, other.pace) == (1, "fast")
    world.pace = "instant"
    world.clock.set_speed(60)
    assert (world.clock.speed, world.pace, other.pace) == (60, "instant", "fast")
    another.stop()
    with pytest.raises(ValueError, match="'sundial'; allowed: 'real', 'manual'"):
        RemoteServer(server.url, clock="sundial")


def entry_of_an_order(world: RemoteWorld, local: MockWorld, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Submit an order, and return what the server added to the journal for it."""
    entries: list[Any] = []
    add = local._world.journal.add

    def added(entry: Any) -> None:
        entries.append(entry)
        add(entry)

    with monkeypatch.context() as patched:
        patched.setattr(local._world.journal, "add", added)
        order(world, CONTRACTS[0])
    (entry,) = entries
    return entry


def test_lists_follow_the_cursor_to_the_oldest_entry(
    server: MockServer, world: RemoteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = server.world(world.api_key)
    entry = entry_of_an_order(world, local, monkeypatch)
    (first,) = local._world.jobs.values()

    def fill() -> None:
        local.keep(2 * MANY)
        for _ in range(MANY):
            local._world.submit(CONTRACTS[0], first.order)
            local._world.journal.add(entry)

    server.run(fill)
    jobs = world.jobs
    assert [job.id for job in jobs] == list(local._world.jobs)
    assert len(jobs) == MANY + 1 == len(world.ledger.entries)
    assert len(world.journal) == MANY
    assert len(world.wait_for(count=1_000, role="submit")) == MANY


def test_a_journal_keeps_the_newest_exchanges(
    server: MockServer, world: RemoteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = server.world(world.api_key)
    entry = entry_of_an_order(world, local, monkeypatch)

    def fill() -> None:
        for _ in range(MANY):
            local._world.journal.add(entry)

    server.run(fill)
    assert len(world.journal) == MOST_EXCHANGES


@pytest.mark.parametrize(("name", "value"), [("seed", 7), ("strict", True), ("strict", False)])
def test_options_of_the_whole_server_are_refused(server: MockServer, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' is {value}.*hobbyhorse serve --help` documents --{name}"):
        RemoteServer(server.url, **{name: value})


def test_a_refusal_has_the_code_of_the_control_plane(world: RemoteWorld) -> None:
    with pytest.raises(RemoteError, match="this world has no job 'x'; GET /_mock/jobs lists its jobs") as refused:
        world.redeliver("x")
    assert refused.value.code == "unknown_job"
    # A filter that can never match is a mistake of the test, not a timeout.
    with pytest.raises(RemoteValueError, match="unknown role 'paint'"):
        world.wait_for(role="paint")


def test_a_wait_lasts_longer_than_one_request_may(world: RemoteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 0.5
    waits: list[float] = []
    send = world.ask

    def ask(method: str, path: str, body: Any = None, **query: Any) -> Any:
        if path == "/journal/wait":
            waits.append(body["timeout"])
            if len(waits) < 3:
                raise RemoteError("nothing yet", code="timeout")
            return {}
        return send(method, path, body, **query)

    monkeypatch.setattr(remote, "LONGEST_WAIT_SECONDS", longest)
    monkeypatch.setattr(world, "ask", ask)
    assert world.wait_for(timeout=3_600.0) == []
    assert waits == [longest] * 3
    waits.clear()
    with pytest.raises(TimeoutError, match="nothing yet"):
        world.wait_for(timeout=0.0)
    assert waits == [0.0]


def test_a_url_without_a_server_is_refused_immediately() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(
        RemoteError, match=r"no usable server at .*: Connection refused; start one with `hobbyhorse serve`"
    ):
        RemoteServer(url)
