"""Requests that belong to another process: forwarded byte for byte, with every way to end a connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn

from hobbyhorse.server.request import header
from hobbyhorse.server.run import bind
from hobbyhorse.server.shared.forwarding import SECURE, SharedProtocol
from hobbyhorse.server.socket_faults import connection, reset_connection

pytestmark = pytest.mark.anyio

PATIENCE = 10.0


@dataclass
class Node:
    """A process, as far as the network can tell: requests with its name in `X-Owner` are its own."""

    name: str
    peers: dict[str, str]
    bound: socket.socket = field(default_factory=lambda: bind("127.0.0.1", 0))
    served: list[str] = field(default_factory=list)
    declines: bool = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.bound.getsockname()[1]}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        owner = header(scope["headers"], b"x-owner") or self.name
        transport = connection(scope)
        assert transport is not None
        protocol: Any = transport.get_protocol()
        if owner != self.name:
            if self.declines:
                protocol.decline(receive)
                return
            if not await protocol.forward(self.peers[owner], receive, scope["method"] == "GET"):
                await _respond(send, 503, b"nobody")
            return
        protocol.serve_here()
        self.served.append(scope["path"])
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if event["type"] == "http.disconnect":
                self.served.append("gone")
                return
            if not event.get("more_body"):
                break
        if scope["path"] == "/scheme":
            await _respond(send, 200, scope["scheme"].encode())
            return
        await self._act(scope["path"], body, transport, send, receive)

    async def _act(self, path: str, body: bytes, transport: Any, send: Any, receive: Any) -> None:
        if path == "/close":
            transport.close()
        elif path == "/reset":
            reset_connection(transport)
        elif path == "/hang":
            await receive()
            self.served.append("gone")
        elif path == "/short":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
            transport.close()
        elif path == "/large":
            await _respond(send, 200, b"x" * 5_000_000)
            return
        else:
            await _respond(send, 200, f"{self.name} {path} {len(body)}".encode())
            return
        receive.__self__.disconnected = True


async def _respond(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def running(node: Node, protocol: type[SharedProtocol] = SharedProtocol) -> AsyncIterator[Any]:
    """Serve a node; yields a function that ends it, which has a function `protocol` for connections of others."""
    config = uvicorn.Config(node, http=protocol, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[node.bound])

    async def stop() -> None:
        protocols: list[Any] = list(server.server_state.connections)
        for one in protocols:
            one.transport.abort()
        for listening in server.servers:
            listening.close()
        await asyncio.sleep(0.02)

    stop.protocol = lambda: SharedProtocol(config, server.server_state, {})  # type: ignore[attr-defined]
    try:
        yield stop
    finally:
        await stop()


@dataclass
class Pair:
    front: Node
    owner: Node
    stop_owner: Callable[[], Awaitable[None]]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    peers: dict[str, str] = {}
    front, owner = Node("front", peers), Node("owner", peers)
    peers |= {node.name: node.address for node in (front, owner)}
    async with running(front), running(owner) as stop:
        yield Pair(front, owner, stop)


def client_of(node: Node) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{node.address}", trust_env=False, timeout=PATIENCE)


async def test_requests_of_one_connection_go_to_their_owners(pair: Pair) -> None:
    async with client_of(pair.front) as client:
        for turn in range(3):
            for name in ("owner", "front", "owner", "owner"):
                response = await client.post(f"/{turn}", content=b"x" * turn, headers={"X-Owner": name})
                assert response.text == f"{name} /{turn} {turn}"
    assert len(pair.owner.served) == 9


async def test_a_large_body_arrives_whole_and_does_not_fill_the_memory_here(pair: Pair) -> None:
    async with client_of(pair.front) as client:
        response = await client.post("/body", content=b"x" * 3_000_000, headers={"X-Owner": "owner"})
        assert response.text == "owner /body 3000000"

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"y" * 1_000
                await asyncio.sleep(0.001)

        response = await client.post("/chunks", content=pieces(), headers={"X-Owner": "owner"})
        assert response.text == "owner /chunks 20000"
        assert (await client.post("/next", headers={"X-Owner": "front"})).text == "front /next 0"


async def test_a_large_response_arrives_whole(pair: Pair) -> None:
    async with client_of(pair.front) as client:
        for _ in range(2):
            response = await client.get("/large", headers={"X-Owner": "owner"})
            assert len(response.content) == 5_000_000


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("path", "error"),
    [("/close", httpx.RemoteProtocolError), ("/reset", httpx.ReadError), ("/short", httpx.RemoteProtocolError)],
)
async def test_a_connection_ends_for_the_client_as_the_owner_ends_it(
    pair: Pair, method: str, path: str, error: type[Exception]
) -> None:
    async with client_of(pair.front) as client:
        with pytest.raises(error):
            await client.request(method, path, headers={"X-Owner": "owner"})
        assert pair.owner.served == [path], "it is a fault of the owner, not its death: nothing is repeated"
        assert (await client.get("/after", headers={"X-Owner": "owner"})).text == "owner /after 0"


async def test_the_owner_sees_the_client_leave(pair: Pair) -> None:
    async with client_of(pair.front) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/hang", headers={"X-Owner": "owner"}, timeout=0.2)
    for _ in range(100):
        if "gone" in pair.owner.served:
            break
        await asyncio.sleep(0.01)
    assert pair.owner.served == ["/hang", "gone"]


async def test_an_owner_that_cannot_be_reached_is_reported_to_be_tried_elsewhere(pair: Pair) -> None:
    await pair.stop_owner()
    async with client_of(pair.front) as client:
        for method in ("GET", "POST"):
            response = await client.request(method, "/x", headers={"X-Owner": "owner"})
            assert (response.status_code, response.text) == (503, "nobody")
        assert (await client.get("/x", headers={"X-Owner": "front"})).text == "front /x 0"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_owner_that_dies_during_a_request_may_have_carried_it_out(pair: Pair, method: str) -> None:
    async with client_of(pair.front) as client:
        waiting = asyncio.create_task(client.request(method, "/hang", headers={"X-Owner": "owner"}))
        while "/hang" not in pair.owner.served:  # noqa: ASYNC110 - nothing sets an event
            await asyncio.sleep(0.005)
        await pair.stop_owner()
        if method == "GET":
            assert (await waiting).status_code == 503
        else:
            with pytest.raises(httpx.ReadError):
                await waiting


async def test_a_process_that_is_not_the_owner_declines(pair: Pair) -> None:
    pair.owner.declines = True
    pair.front.peers["other"] = pair.owner.address
    async with client_of(pair.front) as client:
        for method in ("GET", "POST"):
            response = await client.request(method, "/x", headers={"X-Owner": "other"})
            assert (response.status_code, response.text) == (503, "nobody")
    assert pair.owner.served == []


async def test_pipelined_requests_of_one_owner_are_served_in_order(pair: Pair) -> None:
    reader, writer = await asyncio.open_connection(*pair.front.address.split(":"))
    request = "GET /{} HTTP/1.1\r\nhost: x\r\nx-owner: owner\r\n\r\n"
    writer.write((request.format(1) + request.format(2)).encode())
    found = b""
    while b"/2" not in found:
        found += await asyncio.wait_for(reader.read(1000), PATIENCE)
    assert found.index(b"owner /1") < found.index(b"owner /2")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("by_peer", "responses"), [(True, b"https"), (False, b"HTTP/1.1 400")])
async def test_only_another_process_may_name_the_scheme_of_a_client(by_peer: bool, responses: bytes) -> None:
    node = Node("front", {})

    class Protocol(SharedProtocol):
        peer_port = node.bound.getsockname()[1] if by_peer else 1

    async with running(node, Protocol):
        reader, writer = await asyncio.open_connection(*node.address.split(":"))
        writer.write(SECURE + b"GET /scheme HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert responses in await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        await writer.wait_closed()
