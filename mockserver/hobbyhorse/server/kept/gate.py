"""Lets each request wait until the world that it names is read from the state.

A request that names no world passes, and so does one whose key is refused, because that opens no world.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from hobbyhorse.server.kept.refusing import refuse_world
from hobbyhorse.server.kept.reporting import report
from hobbyhorse.server.request import Provider, Services, api_key, caller_of, first_headers
from hobbyhorse.state.errors import StateError
from hobbyhorse.worlds.world import Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.kept.keeper import Keeper

BEARER = ("header", "authorization", "bearer ")
# A path that names a world by its handle.
LINK = re.compile("/(?:media|_mock/(?:ui/)?worlds)/([0-9a-f]{16})(?:/|$)")


def named_world(scope: Scope, provider: Provider | None, worlds: Worlds, services: Services) -> str | None:
    """Return the handle of the world that a request names, or None."""
    path: str = scope["path"]
    if provider is not None:
        key = caller_of(services, provider, scope).key
    elif (found := LINK.match(path)) is not None:
        return found[1]
    elif path.startswith("/_mock"):
        ways = dict.fromkeys((BEARER, *(way for one in services.contracts for way in one.security)))
        key = api_key(ways, first_headers(scope), scope["query_string"])
    else:
        return None
    return worlds.handle(key) if key and worlds.accepts(key) else None


@dataclass(frozen=True, slots=True)
class WorldGate:
    """Decides when a request is served, in a server whose state is its own."""

    keeper: Keeper
    worlds: Worlds
    services: Services

    async def serves(self, scope: Scope, receive: Receive, send: Send, provider: Provider | None) -> bool:
        """Wait until the world of a request is read; return False if it cannot be, and the request was refused."""
        handle = named_world(scope, provider, self.worlds, self.services)
        if handle is not None:
            try:
                await self.keeper.until_ready(handle)
            except StateError as error:
                report(str(error))
                await refuse_world(scope, send, provider)
                return False
        return True
