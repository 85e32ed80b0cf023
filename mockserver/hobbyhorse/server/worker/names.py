"""Resolves the names of hosts in threads of our own, so that a name without an answer delays its key only.

The event loop has four threads for names, which all keys would share, and the system waits for a resolver for up to a
minute. Nothing can end such a wait. So each lookup has a thread of its own, at which the process does not wait when it
ends, and a key has `MOST_LOOKUPS_OF_KEY` of them. A lookup that is given up keeps its turn until the system has given
up, too. The wait for a turn counts towards no deadline.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

import httpx

from hobbyhorse.server.worker.turns import Turns

# Enough for the few hosts that a key uses, also if one of them gets no answer.
MOST_LOOKUPS_OF_KEY = 4
# Longer than a resolver takes that asks another one after its usual 5 s.
LOOKUP_SECONDS = 10.0
# RFC 6761, section 6.3: `localhost` needs no resolver. Most servers of a developer listen on IPv4.
LOCALHOST = ("127.0.0.1", "::1")


class Names:
    """The lookups of one server."""

    def __init__(self) -> None:
        self._turns = Turns()

    async def addresses(self, owner: str, host: str) -> Sequence[str]:
        """Return the addresses of a host, each once, in the order of the system; `owner` is the handle of a world.

        Raises OSError and ValueError if the host has none, and TimeoutError after `LOOKUP_SECONDS`.
        """
        if host == "localhost":
            return LOCALHOST
        if _is_address(host):
            return (host,)
        await self._turns.take(owner, MOST_LOOKUPS_OF_KEY)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()

        def end(result: Sequence[str] | Exception) -> None:
            self._turns.give(owner)
            if found.done():
                return
            if isinstance(result, Exception):
                found.set_exception(result)
            else:
                found.set_result(result)

        def run() -> None:
            result = _look_up(host)
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(end, result)

        try:
            threading.Thread(target=run, name="name", daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            end(OSError(str(error)))
        try:
            return await asyncio.wait_for(found, LOOKUP_SECONDS)
        except asyncio.TimeoutError:  # not the builtin TimeoutError before Python 3.11
            raise TimeoutError(f"{host!r} was not resolved within {LOOKUP_SECONDS:g} s") from None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str) -> Sequence[str] | Exception:
    """Return the addresses of a host, or the error."""
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except Exception as error:
        return error
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


@asynccontextmanager
async def response_from(
    client: httpx.AsyncClient, request: httpx.Request, addresses: Sequence[str], seconds: float
) -> AsyncIterator[httpx.Response]:
    """Send a request to the first of its host's addresses that accepts a connection. Raises the errors of httpx.

    Several addresses share the seconds for the connections. The client resolves nothing.
    """
    request.extensions = {**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii").rstrip(".")}
    if len(addresses) > 1:
        request.extensions["timeout"]["connect"] = seconds / len(addresses)
    for address in addresses:
        request.url = request.url.copy_with(host=address)
        try:
            response = await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if address == addresses[-1]:
                raise
            continue
        try:
            yield response
        finally:
            await response.aclose()
        return
