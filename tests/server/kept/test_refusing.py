"""The refusal of a request whose world cannot be reached."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hobbyhorse.contract.routes import Routes
from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.server.kept.refusing import refuse_world
from hobbyhorse.server.request import Provider

pytestmark = pytest.mark.anyio


async def refused(path: str, provider: Provider | None) -> tuple[int, Any]:
    events: list[Any] = []

    async def send(event: Any) -> None:
        events.append(event)

    await refuse_world({"type": "http", "method": "GET", "path": path}, send, provider)
    return events[0]["status"], orjson.loads(events[1]["body"])


async def test_a_provider_refuses_in_its_own_shape(contract: Contract) -> None:
    route = contract.operations["status"]
    situation = find_situation(route, "overloaded")
    assert situation is not None
    path = route.path.replace("{", "").replace("}", "")
    status, body = await refused(f"/{contract.key}{path}", Provider(contract, Routes(contract)))
    assert status == situation.status
    assert "error" not in body or body["error"] != {"code": "overloaded"}


async def test_other_requests_get_the_shape_of_the_server(contract: Contract) -> None:
    for provider in (None, Provider(contract, Routes(contract))):
        status, body = await refused("/nowhere", provider)
        assert (status, body["error"]["code"]) == (503, "overloaded")
