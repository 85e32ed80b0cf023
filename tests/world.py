"""The fake in process, on a manual clock: the server of most tests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from starlette.types import Message as Event
from starlette.types import Scope

from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.reading import Reading, as_json, message_of, read_answer
from hobbyhorse.contract.request import Order
from hobbyhorse.contract.values import Contract, Model, Operation
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.worlds.world import World

KEY = "a-key"
HTTP = httpx.Client(trust_env=False, timeout=60)
"""A client for servers on a socket; a fixture closes it after the last test."""
MADE: list[Mock] = []
"""The mocks of the running test; a fixture closes them."""

__all__ = ["HTTP", "KEY", "ContractClient", "Mock", "Reply", "documented", "order_of"]


@dataclass(frozen=True)
class Reply:
    """A response: status, headers (names in lower case), body, and its reading by the contract."""

    status: int
    headers: dict[str, str]
    body: bytes
    reading: Reading | None = None

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Mock:
    """A fake whose worlds share one manual clock; every response is validated against its contract."""

    def __init__(self, contracts: list[Contract], **options: Any) -> None:
        self.clock = ManualClock()
        options = {"strict": True, "make_clock": lambda: self.clock, "pace": "realistic", **options}
        self.fake = Fake(contracts, Options(**options))
        MADE.append(self)

    def close(self) -> None:
        """Remove the files of this fake; its connections close with the test's event loop."""
        if self.fake._renderer is not None:
            self.fake._renderer.close()

    @property
    def world(self) -> World:
        found = self.fake.worlds.of(KEY)
        assert found is not None
        return found

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
        host: str = "mock.test",
        stays: bool = False,
    ) -> Reply:
        """Send a request to the application, without a socket. The client disconnects after it, unless it `stays`."""
        bare, _, query = path.partition("?")
        sent = {"host": host, **({"authorization": f"Bearer {key}"} if key is not None else {}), **(headers or {})}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        events: list[Event] = []

        pending: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Event:
            if stays and not pending:
                await asyncio.Event().wait()
            return pending.pop() if pending else {"type": "http.disconnect"}

        async def keep(event: Event) -> None:
            events.append(event)

        await self.fake(scope, receive, keep)
        start = events[0]
        return Reply(
            start["status"],
            {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]},
            b"".join(event.get("body", b"") for event in events[1:]),
        )

    async def call(self, contract: Contract, role: str, **how: Any) -> Reply:
        """Call an operation like `call_plain`, and read the response by its contract."""
        reply = await self.call_plain(contract, role, **how)
        message = message_of(reply.headers.items(), as_json(reply.body))
        reading = read_answer(contract.schemas, contract.operations[role], reply.status, message)
        return Reply(reply.status, reply.headers, reply.body, reading)

    async def call_plain(
        self,
        contract: Contract,
        role: str,
        *,
        path: Mapping[str, str] | None = None,
        query: str = "",
        body: Any = MISSING,
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
    ) -> Reply:
        """Call an operation without reading the response; `path` is by bound name (`job`, `model`)."""
        operation = contract.operations[role]
        where = operation.path
        for name, value in (path or {}).items():
            for place in operation.bindings[name].request:
                if place.part == "path":
                    where = where.replace("{" + place.name + "}", value)
        sent = dict(headers or {})
        content = b"" if body is MISSING else body if isinstance(body, bytes) else orjson.dumps(body)
        if body is not MISSING:
            sent.setdefault("content-type", "application/json")
        where = f"/{contract.key}{where}{query}"
        return await self.send(operation.method, where, body=content, headers=sent, key=key)

    async def submit(self, contract: Contract, model: Model | None = None, key: str | None = KEY) -> str:
        """Submit the documented job of a model; return its id."""
        operation, found, body = documented(contract, model)
        reply = await self.call(contract, operation.role, path={"model": found.id}, body=body, key=key)
        assert reply.reading is not None
        assert "accepted" in reply.reading.situations, reply.body
        job = reply.reading.values["job"]
        assert isinstance(job, str)
        return job


def order_of(contract: Contract, **changes: Any) -> Order:
    """Return an order for five seconds of the contract's first model."""
    values: dict[str, Any] = {"prompt": "a horse", "first_frame": None, "references": (), "resolution": None}
    values |= {"seconds": 5, "ratio": None, "seed": None, "watermark": False, "echoed": {}}
    return Order(contract.models[0], **{**values, **changes})


def documented(contract: Contract, model: Model | None = None, role: str = "submit") -> tuple[Operation, Model, Any]:
    """Return the documented operation, model and body for a job of a model (default: the first)."""
    wanted = model or contract.models[0]
    return next(
        (operation, found, body)
        for operation, found, body in documented_jobs(contract)
        if operation.role == role and found is wanted
    )
