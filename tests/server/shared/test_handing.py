"""Connections that are handed over to another process of this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from hobbyhorse.server.shared.forwarding import SharedProtocol
from hobbyhorse.server.shared.handing import Handing
from hobbyhorse.server.socket_faults import connection
from tests.server.shared.test_forwarding import Node, client_of, running

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux hands connections over by name"),
]


class HandingNode(Node):
    """A node that hands the requests of others over, if it can."""

    handing: Handing

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        owner = dict(scope["headers"]).get(b"x-owner", b"").decode()
        transport = connection(scope)
        assert transport is not None
        protocol: Any = transport.get_protocol()
        if owner not in ("", self.name) and protocol.hand_over(partial(self.handing.give, self.unique(owner)), receive):
            return
        await super().__call__(scope, receive, send)

    def unique(self, name: str) -> str:
        return f"test-{os.getpid()}-{id(self.peers)}-{name}"


@pytest.fixture
async def nodes() -> AsyncIterator[dict[str, HandingNode]]:
    peers: dict[str, str] = {}
    found = {name: HandingNode(name, peers) for name in ("front", "owner", "third")}
    peers |= {name: node.address for name, node in found.items()}
    async with AsyncExitStack() as stack:
        for name, node in found.items():
            make = await stack.enter_async_context(running(node))
            node.handing = Handing(node.unique(name), make.protocol)
            stack.callback(node.handing.close)
        yield found


async def test_a_connection_goes_from_owner_to_owner(nodes: dict[str, HandingNode]) -> None:
    async with client_of(nodes["front"]) as client:
        for turn in range(3):
            for name in ("owner", "third", "front", "owner"):
                response = await client.post(f"/{turn}", content=b"x" * 1000 * turn, headers={"X-Owner": name})
                assert response.text == f"{name} /{turn} {1000 * turn}"
    assert [len(node.served) for node in nodes.values()] == [3, 6, 3]


async def test_a_body_that_comes_later_arrives_at_the_owner(nodes: dict[str, HandingNode]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"y" * 5_000
            await asyncio.sleep(0)

    for _ in range(10):
        async with client_of(nodes["front"]) as client:
            response = await client.post("/later", content=pieces(), headers={"X-Owner": "owner"})
            assert response.text == "owner /later 250000"


async def test_nobody_can_be_given_to_a_process_that_is_not_there(nodes: dict[str, HandingNode]) -> None:
    nodes["owner"].handing.close()
    async with client_of(nodes["front"]) as client:
        assert (await client.get("/x", headers={"X-Owner": "owner"})).text == "owner /x 0", "it is forwarded instead"


async def test_a_message_without_a_connection_is_ignored(nodes: dict[str, HandingNode]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"GET / HTTP/1.1\r\n\r\n", f"\0hobbyhorse-{nodes['owner'].unique('owner')}")
    async with client_of(nodes["front"]) as client:
        assert (await client.get("/x", headers={"X-Owner": "owner"})).text == "owner /x 0"
    assert nodes["owner"].served == ["/x"]


def test_the_protocol_has_no_bytes_at_first() -> None:
    assert SharedProtocol.first == b""
