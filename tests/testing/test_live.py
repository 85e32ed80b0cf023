"""Records of a server in this process are taken at the moment of reading, and still have the names of its objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hobbyhorse import MockServer, MockWorld
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.values import Contract
from hobbyhorse.testing.live import exchange_record
from tests.world import HTTP, documented


def order(world: MockWorld, contract: Contract) -> None:
    _, model, body = documented(contract)
    ContractClient(contract, world.url(contract.key), world.api_key, HTTP).submit(model.id, body)


def test_a_record_does_not_change_after_it_was_read(contract: Contract) -> None:
    with MockServer(clock="manual", pace="realistic") as server:
        world = server.world()
        armed = world.arm("status_reset_peer")
        order(world, contract)
        (job,) = world.jobs
        before = job.stage()
        world.clock.advance(86_400)
        world.transition(order_id(world, contract), contract.graph[contract.graph.initial].next[0])
        assert job.stage() == before
        assert job.stage(world.clock.now()).kind == "success"
        assert (armed.begun, world.armed[0].begun) == (0, 1)


def order_id(world: MockWorld, contract: Contract) -> str:
    order(world, contract)
    return world.jobs[-1].id


def test_the_names_of_live_objects_are_readable(contract: Contract) -> None:
    with MockServer(clock="manual", pace="realistic") as server:
        world = server.world()
        world.arm("status_reset_peer")
        order(world, contract)
        job: Any = world.jobs[0]
        exchange: Any = world.journal[0]
        armed: Any = world.armed[0]
        for record, name, value in (
            (job, "contract", contract),
            (job, "begins", 0.0),
            (job.stage(), "next", contract.graph[contract.graph.initial].next),
            (job.order, "model", documented(contract)[1]),
            (exchange, "root", world.url(contract.key)),
            (exchange, "raw_query", b""),
            (armed.scenario, "timeline", None),
        ):
            with pytest.warns(DeprecationWarning, match=rf"\.{name} will be removed"):
                assert getattr(record, name) == value


def test_a_long_picture_is_shown_whole(contract: Contract) -> None:
    with MockServer(clock="manual") as server:
        world = server.world()
        order(world, contract)
        (live,) = world._world.jobs.values()
        assert world.jobs[0].order.first_frame == live.order.first_frame


def test_secrets_of_the_contract_are_replaced(contract: Contract) -> None:
    with MockServer(clock="manual") as server:
        world = server.world()
        headers = {"authorization": f"Bearer {world.api_key}", "x-horse": "secret"}
        HTTP.get(f"{world.url(contract.key)}/no/such?token=secret&page=1", headers=headers)
        (exchange,) = world._world.journal
    guarded = replace(contract, security=(("header", "x-horse", ""), ("query", "token", "")))
    record = exchange_record(exchange, guarded)
    assert dict(record.headers)["x-horse"] == dict(record.headers)["authorization"] == "[redacted]"
    assert record.query == "token=[redacted]&page=1"
    assert "secret" not in repr(record)
    assert exchange_record(exchange, None).nearest is None
