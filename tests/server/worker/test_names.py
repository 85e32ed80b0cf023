"""A name without an answer delays its key only, and nothing that needs no resolver."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hobbyhorse.server.worker import names
from hobbyhorse.server.worker.names import LOCALHOST, MOST_LOOKUPS_OF_KEY, Names, response_from

pytestmark = pytest.mark.anyio

FOUND = ("192.0.2.7", "2001:db8::7")


class Resolver:
    """A resolver that never answers for names that begin with `slow`; it counts the lookups."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.asked: list[str] = []
        self.daemons: set[bool] = set()

    def __call__(self, host: str, port: object, *rest: Any, **more: Any) -> list[Any]:
        self.asked.append(host)
        self.daemons.add(threading.current_thread().daemon)
        if host.startswith("slow"):
            self.goes_on.wait()
        if host.startswith("unknown"):
            raise socket.gaierror(-2, "Name or service not known")
        # Twice each, as with several kinds of sockets.
        return [(0, 0, 0, "", (address, 0)) for address in FOUND for _ in range(2)]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.goes_on.set()


async def until_asked(resolver: Resolver, count: int) -> None:
    while len(resolver.asked) < count:  # noqa: ASYNC110 - the threads set no event of this loop
        await asyncio.sleep(0.005)


async def test_each_address_of_a_host_is_returned_once_in_the_order_of_the_system(resolver: Resolver) -> None:
    assert await Names().addresses("key", "a.test") == [*FOUND]
    assert resolver.daemons == {True}, "the process does not wait for them when it ends"


async def test_names_without_an_answer_delay_neither_other_keys_nor_what_needs_no_resolver(resolver: Resolver) -> None:
    found = Names()
    waiting = [asyncio.ensure_future(found.addresses("busy", f"slow{number}.test")) for number in range(40)]
    await until_asked(resolver, MOST_LOOKUPS_OF_KEY)
    assert await found.addresses("other", "a.test") == [*FOUND]
    assert await found.addresses("busy", "localhost") == LOCALHOST
    for address in ("127.0.0.9", "::1", "fe80::1"):
        assert await found.addresses("busy", address) == (address,)
    assert len(resolver.asked) == MOST_LOOKUPS_OF_KEY + 1, "a key has as many threads, and a literal none"
    resolver.goes_on.set()
    assert await asyncio.gather(*waiting) == [[*FOUND]] * 40
    assert len(found._turns) == 0


async def test_a_lookup_that_is_given_up_keeps_its_turn_until_it_ends(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 0.01)
    found = Names()
    for number in range(MOST_LOOKUPS_OF_KEY):
        with pytest.raises(TimeoutError, match=rf"'slow{number}.test' was not resolved within 0.01 s"):
            await found.addresses("busy", f"slow{number}.test")
    monkeypatch.undo()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    last = asyncio.ensure_future(found.addresses("busy", "a.test"))
    await found.addresses("other", "a.test")
    assert len(resolver.asked) == MOST_LOOKUPS_OF_KEY + 1
    assert not last.done(), "it has no turn, and its time has not begun"
    resolver.goes_on.set()
    assert await last == [*FOUND]


async def test_the_error_of_a_lookup_is_raised_and_its_turn_given_back(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Names()
    for _ in range(2 * MOST_LOOKUPS_OF_KEY):
        with pytest.raises(socket.gaierror, match="not known"):
            await found.addresses("key", "unknown.test")

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(2 * MOST_LOOKUPS_OF_KEY):
        with pytest.raises(OSError, match="can't start new thread"):
            await found.addresses("key", "a.test")


async def test_the_addresses_of_a_host_are_tried_in_turn_and_the_request_keeps_its_name() -> None:
    seen: list[httpx.Request] = []
    urls: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        urls.append(str(request.url))
        if request.url.host != "192.0.2.3":
            raise httpx.ConnectError("refused")
        return httpx.Response(204)

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        request = client.build_request("POST", "https://Mock.test:9/a?b=c")
        async with response_from(client, request, ("2001:db8::1", "192.0.2.3", "192.0.2.4"), 9.0) as response:
            assert response.status_code == 204
        assert urls == ["https://[2001:db8::1]:9/a?b=c", "https://192.0.2.3:9/a?b=c"]
        assert (seen[1].headers["host"], seen[1].extensions["sni_hostname"]) == ("mock.test:9", "mock.test")
        assert seen[1].extensions["timeout"]["connect"] == 3.0
        with pytest.raises(httpx.ConnectError):
            async with response_from(client, client.build_request("GET", "http://a.test"), ("192.0.2.4",), 9.0):
                pass
