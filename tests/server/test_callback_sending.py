"""A receiver that hangs takes turns from nobody but its own key, and from none of that key's other receivers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hobbyhorse.clock.clock import RealClock
from hobbyhorse.clock.quiescence import ActivityGroup
from hobbyhorse.server.callback_sending import (
    MOST_POSTS_OF_KEY,
    MOST_POSTS_TO_RECEIVER,
    CallbackSender,
    in_two_parts,
)
from hobbyhorse.server.worker.names import MOST_LOOKUPS_OF_KEY
from hobbyhorse.worlds.world import World, Worlds

pytestmark = pytest.mark.anyio

# Seconds after which a hanging thread of a failed test ends.
PATIENCE = 30.0
# Seconds for which a receiver may hang here.
DEADLINE = 0.3
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class Receiver:
    """A receiver that responds with some bytes, then keeps the connection open; it counts its posts."""

    def __init__(self, response: bytes = OK) -> None:
        self.response = response
        self.posts = self.now = self.most = 0
        self.url = ""
        self.goes_on = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.posts += 1
                await reader.readexactly(2)
                writer.write(self.response)
                if self.response != OK:
                    await self._drip(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.now -= 1
            writer.close()

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        while not self.goes_on.is_set():
            await asyncio.sleep(DEADLINE / 10)
            # Older versions of uvloop raise RuntimeError if the sender has closed the connection meanwhile.
            if writer.is_closing():
                return
            if self.response:
                writer.write(b"x")
                await writer.drain()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Receiver]:
        server = await asyncio.start_server(self._serve, "0.0.0.0", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
        try:
            yield self
        finally:
            self.goes_on.set()
            server.close()
            await asyncio.sleep(0.05)


def world(key: str) -> World:
    found = Worlds(RealClock).of(key)
    assert found is not None
    return found


async def attempt(sender: CallbackSender, of: World, url: str, deadline: float = DEADLINE) -> int | str:
    """Post once in a turn; return the status, or the kind of the error."""
    async with sender.turn(of, url):
        try:
            return await sender.post(of, url, b"{}", {}, deadline)
        except (httpx.HTTPError, TimeoutError) as error:
            return type(error).__name__


async def test_a_receiver_that_never_responds_delays_neither_other_keys_nor_other_receivers_of_its_key() -> None:
    sender, busy, other = CallbackSender(), world("busy"), world("other")
    async with Receiver(b"").listening() as dead, Receiver().listening() as alive:
        # More than the 100 connections of a usual pool.
        waiting = [asyncio.ensure_future(attempt(sender, busy, dead.url, 60.0)) for _ in range(150)]
        while dead.posts < MOST_POSTS_TO_RECEIVER:  # noqa: ASYNC110 - the receiver has no event
            await asyncio.sleep(0.01)
        began = time.monotonic()
        assert await attempt(sender, other, alive.url) == 200
        assert await attempt(sender, busy, alive.url) == 200
        assert time.monotonic() - began < DEADLINE
        assert dead.most == MOST_POSTS_TO_RECEIVER
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert len(sender.turns) == 0, "lanes that nothing uses are forgotten"
    await sender.close()


async def test_a_key_with_many_dead_receivers_has_a_bounded_number_of_connections() -> None:
    sender, busy = CallbackSender(), world("busy")
    async with Receiver(b"").listening() as dead:
        # The path of a URL is no other receiver; the port is, and so is the spelling of the host.
        hosts = [f"127.0.0.{number}" for number in range(1, 9)]
        urls = [dead.url.replace("127.0.0.1", host) for host in hosts for _ in range(20)]
        assert len(urls) > MOST_POSTS_OF_KEY
        waiting = [asyncio.ensure_future(attempt(sender, busy, url, 60.0)) for url in urls]
        # The first posts wait for their client, which is imported in a thread.
        while dead.posts < len(hosts):  # noqa: ASYNC110 - the receiver has no event
            await asyncio.sleep(0.01)
        await asyncio.sleep(DEADLINE)
        assert sender.turns.waiting(busy.handle) == len(hosts) * MOST_POSTS_TO_RECEIVER
        assert sender._client is not None
        assert len(sender._client._transport._pool.connections) <= MOST_POSTS_OF_KEY  # type: ignore[attr-defined]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    await sender.close()


async def test_a_body_in_two_parts_arrives_in_two_segments_and_with_its_length() -> None:
    body = '{"why": "Zürich 駿馬"}'.encode()
    heads, parts = list[bytes](), list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).lower())
        while len(b"".join(parts)) < len(body):
            parts.append(await reader.read(4_096))
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
    sender, of = CallbackSender(), world("parts")
    async with sender.turn(of, url):
        assert await sender.post(of, url, in_two_parts(body), {"x": "y"}, 60.0) == 200
    assert b"".join(parts) == body
    assert f"content-length: {len(body)}\r\n".encode() in heads[0]
    assert b"transfer-encoding" not in heads[0]
    server.close()
    await sender.close()


@pytest.mark.parametrize(
    ("body", "first"), [("aé", b"a\xc3"), ("駿馬", b"\xe9"), ("abcd", b"ab"), ("a", b""), ("", b"")]
)
def test_a_body_is_cut_within_a_character_if_it_can_be(body: str, first: bytes) -> None:
    parts = in_two_parts(body.encode())
    assert parts[0] == first
    assert b"".join(parts).decode() == body


async def test_the_wait_for_a_turn_is_no_part_of_the_deadline() -> None:
    sender, busy = CallbackSender(), world("busy")
    async with Receiver(b"").listening() as dead, Receiver().listening() as alive:
        # The first post of a sender takes longer than the others, on a busy machine longer than the deadline.
        assert await attempt(sender, busy, alive.url, 60.0) == 200
        count = 3 * MOST_POSTS_TO_RECEIVER
        ends = await asyncio.gather(*(attempt(sender, busy, dead.url, 4 * DEADLINE) for _ in range(count)))
        assert ends == ["TimeoutError"] * count
        assert dead.posts == count, "each attempt was really made"
    await sender.close()


@pytest.mark.parametrize("response", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n"])
async def test_a_receiver_that_sends_a_byte_now_and_then_has_no_more_time(response: bytes) -> None:
    sender, busy = CallbackSender(), world("busy")
    async with Receiver(response).listening() as slow:
        began = time.monotonic()
        assert await attempt(sender, busy, slow.url) == "TimeoutError"
        assert DEADLINE <= time.monotonic() - began < 10 * DEADLINE
    await sender.close()


async def test_an_endless_response_is_not_read_to_its_end() -> None:
    sender, busy = CallbackSender(), world("busy")
    endless = Receiver(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + bytes(200_000))
    async with endless.listening():
        assert await attempt(sender, busy, endless.url, 60.0) == 200
    await sender.close()


async def test_a_post_that_waits_for_its_turn_is_held_so_that_virtual_time_can_pass() -> None:
    sender, busy, work = CallbackSender(), world("busy"), ActivityGroup()
    goes_on = asyncio.Event()

    async def act() -> None:
        with work.activity():
            async with sender.turn(busy, "http://127.0.0.1:1/a"):
                await goes_on.wait()

    tasks = [asyncio.ensure_future(act()) for _ in range(MOST_POSTS_TO_RECEIVER + 3)]
    await asyncio.sleep(0.01)
    assert work.busy == MOST_POSTS_TO_RECEIVER
    goes_on.set()
    await asyncio.gather(*tasks)


async def test_a_url_that_cannot_be_split_has_a_lane_too() -> None:
    sender = CallbackSender()
    async with sender.turn(world("busy"), "http://[::1"):
        assert len(sender.turns) == 2
    await sender.close()


async def test_names_without_an_answer_fail_no_post_of_another_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on = threading.Event()
    sender, busy, other, usual = CallbackSender(), world("busy"), world("other"), socket.getaddrinfo
    asked: list[Any] = []

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        if "slow" in str(host):
            asked.append(host)
            goes_on.wait(PATIENCE)
            raise socket.gaierror(-2, "Name or service not known")
        return usual("127.0.0.1" if "fast" in str(host) else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with Receiver().listening() as alive:
        # The first post of a sender makes the client.
        assert await attempt(sender, other, alive.url, 60.0) == 200
        urls = [f"http://slow-{number}.test/" for number in range(2 * MOST_POSTS_OF_KEY)]
        waiting = [asyncio.ensure_future(attempt(sender, busy, url)) for url in urls]
        while len(asked) < MOST_LOOKUPS_OF_KEY:  # noqa: ASYNC110 - nothing sets an event
            await asyncio.sleep(0.01)
        await asyncio.sleep(DEADLINE)
        for host in ("localhost", "fast.test"):
            assert await attempt(sender, other, alive.url.replace("127.0.0.1", host), 10.0) == 200
        assert not any(task.done() for task in waiting), "the deadline begins when the name is resolved"
        goes_on.set()
        assert await asyncio.gather(*waiting) == ["ConnectError"] * len(urls)
    await sender.close()


async def test_a_connection_over_tls_is_not_kept_for_another_name_at_its_address() -> None:
    sender, found = CallbackSender(), []

    async def respond(request: httpx.Request) -> httpx.Response:
        found.append((str(request.url), request.headers["host"], request.headers["connection"]))
        return httpx.Response(200, stream=httpx.ByteStream(b""))

    sender._client = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    for scheme in ("http", "https"):
        assert await attempt(sender, world("key"), f"{scheme}://localhost/callback", 60.0) == 200
    assert found == [
        ("http://127.0.0.1/callback", "localhost", "keep-alive"),
        ("https://127.0.0.1/callback", "localhost", "close"),
    ]
    await sender.close()
