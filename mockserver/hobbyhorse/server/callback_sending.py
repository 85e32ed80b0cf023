"""Posts callbacks in lanes: one for each key and receiver, so that a receiver that hangs delays no other one.

A post waits for two turns: one of its receiver, then one of its key. In this order a receiver that never responds holds
its own turns only, and the key has turns left for its other receivers. Keys share nothing: the pool of connections is
unbounded, and the lanes bound it. So no attempt can fail because of the attempts of another key, and the wait for a
turn counts neither as an attempt nor towards the deadline, which begins with the post, when the name of the receiver
has been resolved (`worker/names.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx

from hobbyhorse.clock.quiescence import awaiting_response, unheld
from hobbyhorse.clock.race import first_of
from hobbyhorse.server.worker.names import Names, response_from
from hobbyhorse.server.worker.turns import Turns
from hobbyhorse.worlds.world import World

# Posts of one key to one receiver at a time: as many as a small server handles at once.
MOST_POSTS_TO_RECEIVER = 8
# Posts of one key at a time, so that one key cannot use up the file descriptors of the process (often 1,024).
MOST_POSTS_OF_KEY = 32
# Bytes of a response that are read, so that its connection can be used again; only the status matters.
MOST_RESPONSE_BYTES = 64 * 1024
# A virtual clock may stand still while the receiver works; a receiver that hangs must still fail in real time.
LEAST_REAL_SECONDS = 60.0
# Seconds between two parts of a body, in which the receiver reads the first one: on a virtual clock, or in real time.
BETWEEN_PARTS = 0.05


class CallbackSender:
    """Posts callbacks, at most `MOST_POSTS_TO_RECEIVER` of a key to one receiver, `MOST_POSTS_OF_KEY` of a key."""

    def __init__(self) -> None:
        self.turns = Turns()
        self._names = Names()
        self._client: httpx.AsyncClient | None = None

    @property
    def waiting(self) -> int:
        """The posts that are under way or await their turn."""
        # A post that has both of its turns counts once; so does one that awaits its first.
        return sum(self.turns.waiting(name) for name in self.turns if isinstance(name, tuple))

    @asynccontextmanager
    async def turn(self, world: World, url: str) -> AsyncIterator[None]:
        """Wait until the world may post to the receiver at a URL; it may within the context."""
        async with (
            self.turns.of((world.handle, _receiver(url)), MOST_POSTS_TO_RECEIVER),
            self.turns.of(world.handle, MOST_POSTS_OF_KEY),
        ):
            yield

    async def post(
        self, world: World, url: str, body: bytes | tuple[bytes, ...], headers: Mapping[str, str], deadline: float
    ) -> int:
        """Post within a turn, and return the response's status. A body of several parts has a pause between them.

        Raises the errors of httpx, and TimeoutError if the whole response is not there at the deadline, or the name
        of the receiver cannot be resolved in time.
        """
        client, clock, found = await self._opened(), world.clock, []
        content: bytes | AsyncIterator[bytes] = body if isinstance(body, bytes) else _apart(body, world)
        # With a length of its own, httpx does not send parts in chunks.
        length = {} if isinstance(body, bytes) else {"content-length": str(sum(map(len, body)))}
        request = client.build_request("POST", url, content=content, headers={**headers, **length})
        request.extensions = {**request.extensions, "trace": awaiting_response()}
        if request.url.scheme == "https":
            # Connections are kept by address, and two names at one address have two certificates.
            request.headers["connection"] = "close"
        try:
            addresses = await self._names.addresses(world.handle, request.url.raw_host.decode("ascii"))
        except TimeoutError:
            raise
        except OSError as error:
            raise httpx.ConnectError(str(error)) from None
        until = clock.now() + deadline

        async def post() -> None:
            async with response_from(client, request, addresses, deadline) as response:
                found.append(await _read(response))

        async def until_deadline() -> None:
            # This wait must not count as idle: the post beside it is doing the work.
            with unheld():
                await clock.sleep_until(until)

        # Of the whole post: a time-out of httpx begins anew with each byte, and a receiver may send one now and then.
        bound = max(deadline, LEAST_REAL_SECONDS) if world.virtual else deadline
        work = first_of(post(), until_deadline()) if world.virtual else post()
        try:
            await asyncio.wait_for(work, bound)
        except asyncio.TimeoutError:  # not the builtin TimeoutError before Python 3.11
            found.clear()
        if not found:
            raise TimeoutError(f"no response within {deadline:g} s")
        return found[0]

    async def _opened(self) -> httpx.AsyncClient:
        """Return the client, making it on first use."""
        if self._client is None:
            # In a thread: it imports modules and reads the system's authorities, which takes 30 ms.
            made = await asyncio.to_thread(_make_client)
            # One for all: another post may have made it in the meantime.
            self._client = self._client or made
        return self._client

    async def close(self) -> None:
        """Close the connections to all receivers."""
        if self._client is not None:
            await self._client.aclose()


def in_two_parts(body: bytes) -> tuple[bytes, bytes]:
    """Return the parts of a body, cut within the first character of several bytes, or else in the middle."""
    # Every byte of a character but the first one begins with the bits 10 (RFC 3629, section 3).
    at = next((at for at, byte in enumerate(body) if byte & 0xC0 == 0x80), len(body) // 2)
    return body[:at], body[at:]


async def _apart(parts: tuple[bytes, ...], world: World) -> AsyncIterator[bytes]:
    for at, part in enumerate(parts):
        if at and world.virtual:
            await world.clock.sleep_until(world.clock.now() + BETWEEN_PARTS)
        elif at:
            await asyncio.sleep(BETWEEN_PARTS)
        yield part


def _make_client() -> httpx.AsyncClient:
    """Return a client without bounds of its own."""
    # Callbacks go to the receiver directly: a proxy from the environment cannot reach a loopback receiver. The lanes
    # bound the connections; a bound here would be one for all keys.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=MOST_POSTS_OF_KEY)
    return httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=None, limits=limits)


async def _read(response: httpx.Response) -> int:
    """Read a response as far as its connection needs it, and return its status."""
    size = 0
    # Raw, because a compressed body could unpack to gigabytes.
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > MOST_RESPONSE_BYTES:
            break
    return response.status_code


def _receiver(url: str) -> str:
    """Return the origin of a callback URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()
