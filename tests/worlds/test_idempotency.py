"""An idempotency key makes one job: as a store of claims and uses, and as a client of the server meets it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.worlds.idempotency import IdempotencyKeys, UsedKey
from tests.conftest import contracts_that
from tests.world import KEY, Mock, Reply, documented

pytestmark = pytest.mark.anyio

keyed = contracts_that(lambda contract: contract.idempotency.mode == "replay")


async def order(mock: Mock, contract: Contract, idempotency_key: str, key: str = KEY, **changes: Any) -> Reply:
    operation, model, body = documented(contract)
    assert contract.idempotency.key is not None
    headers = {contract.idempotency.key.name: idempotency_key}
    return await mock.call(
        contract, operation.role, path={"model": model.id}, body={**body, **changes}, headers=headers, key=key
    )


@keyed
async def test_the_same_key_and_body_give_the_same_job(contract: Contract) -> None:
    mock = Mock([contract])
    replies = [await order(mock, contract, "k") for _ in range(5)]
    assert len({reply.body for reply in replies}) == 1
    assert len(mock.world.jobs) == 1
    replayed = contract.operations["submit"].situations["replayed"]
    for name, value in replayed.headers:
        assert name.lower() not in replies[0].headers
        assert replies[1].headers[name.lower()] == value


@keyed
async def test_the_same_key_with_another_body_is_refused(contract: Contract) -> None:
    mock = Mock([contract])
    await order(mock, contract, "k")
    reply = await order(mock, contract, "k", another="member")
    assert reply.status == contract.operations["submit"].situations["key_mismatch"].status
    assert len(mock.world.jobs) == 1


@keyed
async def test_the_order_of_members_does_not_make_another_body(contract: Contract) -> None:
    mock = Mock([contract])
    _, model, body = documented(contract)
    assert contract.idempotency.key is not None
    for one in (body, dict(reversed(body.items()))):
        headers = {contract.idempotency.key.name: "k"}
        await mock.call(contract, "submit", path={"model": model.id}, body=one, headers=headers)
    assert len(mock.world.jobs) == 1


@keyed
async def test_a_key_is_free_again_after_its_life(contract: Contract) -> None:
    mock = Mock([contract])
    await order(mock, contract, "k")
    await mock.clock.advance(contract.idempotency.life - 1)
    await order(mock, contract, "k")
    assert len(mock.world.jobs) == 1
    await mock.clock.advance(2)
    await order(mock, contract, "k")
    assert len(mock.world.jobs) == 2


@keyed
async def test_a_refused_request_does_not_use_up_its_key(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, _ = documented(contract)
    assert contract.idempotency.key is not None
    headers = {contract.idempotency.key.name: "k"}
    refused = await mock.call(contract, "submit", path={"model": model.id}, body={}, headers=headers)
    assert refused.status >= 400
    reply = await order(mock, contract, "k")
    assert reply.status == operation.situations["accepted"].status


@keyed
async def test_another_world_may_use_the_same_key(contract: Contract) -> None:
    mock = Mock([contract])
    first = await order(mock, contract, "k")
    second = await order(mock, contract, "k", key="another")
    assert first.body != second.body


@keyed
async def test_a_claimed_key_is_in_flight(contract: Contract) -> None:
    mock = Mock([contract])
    assert mock.world.idempotency.begin(contract.key, "k")
    reply = await order(mock, contract, "k")
    in_flight = contract.operations["submit"].situations["key_in_flight"]
    assert reply.status == in_flight.status
    assert "retry-after" in reply.headers
    mock.world.idempotency.end(contract.key, "k")
    assert (await order(mock, contract, "k")).status == contract.operations["submit"].situations["accepted"].status


@keyed
async def test_concurrent_duplicates_make_one_job(contract: Contract) -> None:
    mock = Mock([contract])
    replies = await asyncio.gather(*(order(mock, contract, "k") for _ in range(50)))
    assert len(mock.world.jobs) == 1
    allowed = {contract.operations["submit"].situations[name].status for name in ("accepted", "key_in_flight")}
    assert {reply.status for reply in replies} <= allowed


@keyed
@pytest.mark.parametrize("length", [255, 256])
async def test_a_key_over_255_bytes_is_refused(length: int, contract: Contract) -> None:
    mock = Mock([contract])
    reply = await order(mock, contract, "k" * length)
    name = "accepted" if length == 255 else "invalid_request"
    assert reply.reading is not None
    assert name in reply.reading.situations
    assert len(mock.world.jobs) == (1 if length == 255 else 0)


@contracts_that(lambda contract: contract.idempotency.mode == "none")
async def test_without_a_documented_key_the_header_means_nothing(contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    for _ in range(3):
        headers = {"Idempotency-Key": "k"}
        await mock.call(contract, operation.role, path={"model": model.id}, body=body, headers=headers)
    assert len(mock.world.jobs) == 3, "one click becomes three billed jobs"


def test_a_claimed_key_is_free_for_another_provider_and_after_its_release() -> None:
    keys = IdempotencyKeys()
    assert keys.begin("p", "k")
    assert not keys.begin("p", "k")
    assert keys.begin("q", "k")
    keys.end("p", "k")
    assert keys.begin("p", "k")
    keys.end("p", "never claimed")


def test_a_used_key_expires_at_its_moment() -> None:
    keys = IdempotencyKeys()
    keys.remember("p", "k", UsedKey(b"x", "job", until=10.0))
    assert keys.recall("p", "k", 9.9) is not None
    assert keys.recall("q", "k", 9.9) is None
    assert keys.recall("p", "k", 10.0) is None
    assert keys.recall("p", "k", 9.9) is None, "an expired key stays expired"


def test_the_newest_used_keys_are_kept() -> None:
    keys = IdempotencyKeys(most=3)
    for number in range(6):
        keys.remember("acme", str(number), UsedKey(b"", f"job {number}", 100.0))
    assert [number for number in range(6) if keys.recall("acme", str(number), 0.0)] == [3, 4, 5]
