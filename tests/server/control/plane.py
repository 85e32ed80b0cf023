"""A client of the control plane that validates every response against the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from hobbyhorse.contract.schemas import Schemas, address
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.control.app import (
    DOCUMENT,
    ControlOperation,
    read_document,
    read_operations,
)
from tests.conftest import CONTRACTS
from tests.world import KEY, Mock, Reply

PLAN = read_document()


SCHEMAS = Schemas({DOCUMENT: PLAN})


OPERATIONS = read_operations(PLAN)


ROUTES = [(method, path) for path, methods in OPERATIONS.items() for method in methods]


BODIES = [(method, path) for method, path in ROUTES if OPERATIONS[path][method].body]


OPEN = [(method, path) for method, path in ROUTES if OPERATIONS[path][method].open and "worlds" not in path]


ADMIN = [(method, path) for method, path in ROUTES if "worlds" in path]


STEP = {"move": "reset_peer"}


SCENARIO = {"why": "a connection is lost", "moves": {"status": [STEP]}}


def met(method: str, path: str) -> tuple[str, ControlOperation] | None:
    """Return the path and the operation of the document that a request matches."""
    for template in OPERATIONS:
        if re.fullmatch(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)), path):
            operation = OPERATIONS[template].get("GET" if method == "HEAD" else method)
            return (template, operation) if operation else None
    return None


class Plane:
    """The control plane of an in-process fake; every response is validated against the document."""

    def __init__(self, contracts: list[Contract] | None = None, **options: Any) -> None:
        self.mock = Mock(contracts or CONTRACTS, **options)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
        host: str = "localhost",
        stays: bool = True,
    ) -> Reply:
        """Send a request to the control plane."""
        sent = dict(headers or {})
        if body is not None and content is None:
            content = orjson.dumps(body)
        if content is not None:
            sent.setdefault("content-type", "application/json")
        where = f"/_mock{path}"
        how: dict[str, Any] = {"headers": sent, "key": key, "host": host, "stays": stays}
        reply = await self.mock.send(method, where, body=content or b"", **how)
        check_reply(method, where.partition("?")[0], reply)
        return reply

    async def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send a request that must succeed; return its JSON."""
        reply = await self.request(method, path, body, **more)
        assert reply.status < 300, reply.body
        return reply.json

    async def refused(self, status: int, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send a request that must be refused; return the error."""
        reply = await self.request(method, path, body, **more)
        assert reply.status == status, reply.body
        return reply.json["error"]


def check_reply(method: str, path: str, reply: Reply) -> None:
    """Validate a response against the document."""
    found = met(method, path)
    if found is not None and found[1].id == "getAuthority" and reply.status == 200:
        assert reply.headers["content-type"] == "application/x-pem-file"
        return
    if found is not None and found[1].id == "getMetrics" and reply.status == 200:
        assert reply.headers["content-type"].startswith("text/plain; version=")
        return
    assert reply.headers["content-type"] == "application/json"
    if found is None:
        schema = f"{DOCUMENT}#/components/schemas/Problem"
        assert reply.status in (403, 404, 405)
    else:
        at = (*found[1].at, "responses", str(reply.status))
        said, _ = SCHEMAS.deref(SCHEMAS.at(address(DOCUMENT, at)), DOCUMENT)
        assert said, f"{method} {path} responds {reply.status}, which is not documented: {reply.body!r}"
        if reply.status < 300:
            schema = address(DOCUMENT, (*at, "content", "application/json", "schema"))
        else:
            schema = f"{DOCUMENT}#/components/schemas/Problem"
    assert not [str(violation) for violation in SCHEMAS.violations(schema, reply.json)]
    if reply.status >= 400:
        assert all(reply.json["error"].values()), reply.body


def concrete(path: str, **names: str) -> str:
    """Return a path of the document below `/_mock`, with names filled in."""
    for name, value in names.items():
        path = path.replace("{" + name + "}", value)
    return re.sub(r"\{[^}]+\}", "1", path).removeprefix("/_mock")


async def state(plane: Plane, key: str = KEY) -> dict[str, Any]:
    """Return the visible state of a world."""
    paths = {
        "jobs": "/jobs",
        "journal": "/journal",
        "scenarios": "/scenarios/armed",
        "clock": "/clock",
        "ledger": "/ledger",
        "settings": "/settings",
    }
    return {name: await plane.ok("GET", path, key=key) for name, path in paths.items()}
