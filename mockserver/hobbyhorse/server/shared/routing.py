"""Finds the process that serves a request: the owner of the world that its key or its link names.

A request that names no world is served here. So is one whose key is refused, because that opens no world.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from hobbyhorse.server.kept.gate import LINK, named_world
from hobbyhorse.server.kept.refusing import refuse_world
from hobbyhorse.server.kept.reporting import report
from hobbyhorse.server.metrics.peers import FIGURES_PATH, Figures, send_figures
from hobbyhorse.server.request import Provider, Services
from hobbyhorse.server.shared.forwarding import SharedProtocol
from hobbyhorse.server.socket_faults import connection
from hobbyhorse.state.errors import StateError, StoreFailure
from hobbyhorse.state.redis_owners import Owner
from hobbyhorse.worlds.world import Worlds

if TYPE_CHECKING:
    from hobbyhorse.server.shared.keeper import SharedKeeper

# A request waits as long for the owner of its world, such as one that has just died, then it is refused.
WAIT_SECONDS = 5.0
# Short beside the wait for a dead owner's lease to end, and long enough not to spin.
RETRY_SECONDS = 0.1
# The methods that may be repeated although the last owner may have carried them out (RFC 9110, section 9.2.2).
SAFE = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class WorldRouter:
    """Decides for each request whether it is served here.

    `peer_port` is where other processes forward theirs to, and ask for the `figures` of this one.
    """

    keeper: SharedKeeper
    worlds: Worlds
    services: Services
    peer_port: int
    figures: Figures

    async def serves(self, scope: Scope, receive: Receive, send: Send, provider: Provider | None) -> bool:
        """Whether a request is to be served here; if not, it has been forwarded or refused."""
        protocol = _protocol(scope)
        handle = named_world(scope, provider, self.worlds, self.services)
        if handle is None or self.keeper.serves(handle):
            if protocol is not None:
                protocol.serve_here()
            # Only a process that shares the state knows this port; the figures have no secrets.
            if scope["path"] == FIGURES_PATH and scope["server"] and scope["server"][1] == self.peer_port:
                await send_figures(await self.figures(), send)
                return False
            return True
        return await self._find(handle, scope, receive, send, provider)

    async def _find(self, handle: str, scope: Scope, receive: Receive, send: Send, provider: Provider | None) -> bool:
        """Find the owner of a world, and forward the request to it if that is another process."""
        protocol, until = _protocol(scope), asyncio.get_running_loop().time() + WAIT_SECONDS
        try:
            if LINK.match(scope["path"]) and not await self.keeper.exists(handle):
                return self._here(protocol)
            while True:
                owner = await self.keeper.find(handle)
                # While the world was read, this process may have lost it.
                if owner.address is None and self.keeper.serves(handle):
                    return self._here(protocol)
                if owner.address is not None:
                    if protocol is None:
                        break
                    if await self._pass_on(owner, owner.address, protocol, scope, receive):
                        return False
                if asyncio.get_running_loop().time() > until:
                    break
                await asyncio.sleep(RETRY_SECONDS)
        except StoreFailure:
            pass
        except StateError as error:
            report(str(error))
        await refuse_world(scope, send, provider)
        return False

    async def _pass_on(
        self, owner: Owner, address: str, protocol: SharedProtocol, scope: Scope, receive: Receive
    ) -> bool:
        """Hand the connection of a request over to the owner of its world, or forward it; return whether it is done."""
        if scope["server"] and scope["server"][1] == self.peer_port:
            protocol.decline(receive)
            return True
        if self.keeper.hand_over(owner, protocol, receive):
            return True
        return await protocol.forward(address, receive, scope["method"] in SAFE)

    def _here(self, protocol: SharedProtocol | None) -> bool:
        if protocol is not None:
            protocol.serve_here()
        return True


def _protocol(scope: Scope) -> SharedProtocol | None:
    """Return the protocol of a request's connection, or None in process."""
    transport = connection(scope)
    found = transport.get_protocol() if transport is not None else None
    return found if isinstance(found, SharedProtocol) else None
