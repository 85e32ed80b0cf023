"""The steps of a request: their order, and what holds however they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message as Event

from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.scenarios.scenario import Scenario, read_scenario
from hobbyhorse.server import pipeline
from hobbyhorse.server.request import ContractBroken, OperationRequest
from tests.conftest import contracts_that
from tests.world import KEY, Mock, documented

pytestmark = pytest.mark.anyio


async def send(mock: Mock, method: str, path: str, seen: Callable[[Event], None], *body: Event) -> None:
    """Send a request, and show each event of its response as it leaves."""
    key = (b"authorization", f"Bearer {KEY}".encode())
    headers = [(b"host", b"mock.test"), key, (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "scheme": "http", "path": path, "query_string": b"", "headers": headers}
    events = list(body) or [{"type": "http.request", "body": b""}]

    async def receive() -> Event:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def leave(event: Event) -> None:
        seen(event)

    await mock.fake({**scope, "server": ("127.0.0.1", 80)}, receive, leave)


def armed(contract: Contract, mock: Mock, role: str, move: str) -> None:
    scenario: Scenario = read_scenario({"moves": {role: [{"move": move}]}})
    mock.world.scenarios.arm(scenario, [contract])


async def test_every_response_is_noted_then_kept_then_sent(contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    mock, order = Mock([contract]), []

    async def keep(call: OperationRequest) -> None:
        order.append(("kept", mock.world.journal.total))
        await asyncio.sleep(0)
        order.append(("kept", mock.world.journal.total))

    monkeypatch.setattr(pipeline, "keep", keep)
    job = await mock.submit(contract)
    order.clear()
    status = contract.operations["status"].path.partition("{")[0]
    found = f"/{contract.key}{status}{job}{contract.operations['status'].path.partition('}')[2]}"
    for number, path in enumerate((found, f"/{contract.key}/nowhere"), 1):
        await send(mock, "GET", path, lambda event: order.append((event["type"], mock.world.journal.total)))
        assert order == [
            ("kept", number + 1),
            ("kept", number + 1),
            ("http.response.start", number + 1),
            ("http.response.body", number + 1),
        ]
        order.clear()


async def test_a_faulted_response_takes_the_same_last_steps(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock, order = Mock([contract]), []

    async def keep(call: OperationRequest) -> None:
        order.append(("kept", mock.world.journal.total))

    monkeypatch.setattr(pipeline, "keep", keep)
    armed(contract, mock, "status", "html_page")
    job = await mock.submit(contract)
    order.clear()
    path = contract.operations["status"].path
    path = f"/{contract.key}{path.partition('{')[0]}{job}{path.partition('}')[2]}"
    await send(mock, "GET", path, lambda event: order.append((event["type"], mock.world.journal.total)))
    assert order == [("kept", 2), ("http.response.start", 2), ("http.response.body", 2)]
    assert [one.move for one in mock.world.journal] == [None, "html_page"]
    assert all(one.whole for one in mock.world.journal)


async def test_a_response_that_breaks_the_contract_is_neither_noted_nor_sent(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock, events = Mock([contract]), list[Event]()
    monkeypatch.setattr(type(contract.schemas), "violations", lambda *args, **how: ["a violation"])
    with pytest.raises(ContractBroken, match="a violation"):
        await send(mock, "GET", f"/{contract.key}/nowhere", events.append)
    assert (events, len(mock.world.journal)) == ([], 0)


def failing(error: type[BaseException]) -> Callable[[OperationRequest], Awaitable[Any]]:
    """Return an operation that claims its idempotency key and fails."""

    async def operation(call: OperationRequest) -> Any:
        call.world.idempotency.begin(call.contract.key, "a-key")
        call.claimed = "a-key"
        raise error

    return operation


@contracts_that(lambda contract: contract.idempotency.key is not None)
async def test_a_claimed_key_is_released_however_the_request_ends(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock, (_, model, body) = Mock([contract]), documented(contract)
    for error in (ZeroDivisionError, asyncio.CancelledError):
        monkeypatch.setattr(pipeline, "ROLES", {"submit": failing(error)})
        call = mock.call(contract, "submit", path={"model": model.id}, body=body)
        if error is ZeroDivisionError:
            with pytest.raises(error):
                await call
        else:
            expected = find_situation(contract.operations["submit"], "overloaded")
            assert expected is not None
            assert (await call).status == expected.status
        assert mock.world.idempotency.begin(contract.key, "a-key"), "free again"
        mock.world.idempotency.end(contract.key, "a-key")


async def test_a_request_that_its_client_abandons_is_not_recorded(contract: Contract) -> None:
    mock, (operation, model, _), events = Mock([contract]), documented(contract), list[Event]()
    path = operation.path
    for place in operation.bindings["model"].request:
        path = path.replace("{" + place.name + "}", model.id)
    begun = {"type": "http.request", "body": b'{"a":', "more_body": True}
    await send(mock, operation.method, f"/{contract.key}{path}", events.append, begun)
    assert (events, mock.world.journal.total, mock.fake.journal.total) == ([], 0, 0)


async def test_a_body_is_held_no_longer_than_until_it_is_noted(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bytes] = []

    async def respond(call: OperationRequest) -> None:
        held.append(call.body)
        await usual(call)

    usual = pipeline.respond
    monkeypatch.setattr(pipeline, "respond", respond)
    mock = Mock([contract])
    await mock.submit(contract)
    assert held == [b""]
    (exchange,) = mock.world.journal
    assert exchange.body
