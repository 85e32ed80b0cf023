"""Finds the process that serves a request: the owner of the world that its key or its link names.

A request that names no world is served here. So is one whose key is refused, because that opens no world.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.values import find_situation
from hobbyhorse.server.kept.gate import LINK, named_world
from hobbyhorse.server.metrics.peers import FIGURES_PATH, Figures, send_figures
from hobbyhorse.server.pipeline import headers_of
from hobbyhorse.server.request import Provider, Services, refusal_of
from hobbyhorse.server.shared.forwarding import SharedProtocol
from hobbyhorse.server.socket_faults import connection
from hobbyhorse.state.errors import StoreFailure
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
OVERLOADED = b'{"error":{"code":"overloaded","message":"the state cannot be reached","hint":"try again later"}}'


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
        await _refuse(scope, send, provider)
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


async def _refuse(scope: Scope, send: Send, provider: Provider | None) -> None:
    """Refuse a request because its world cannot be reached, in the provider's shape if it has one."""
    status, body, headers = 503, OVERLOADED, [(b"content-type", b"application/json")]
    match = None
    if provider is not None:
        path: str = scope["path"]
        prefix = f"/{provider.contract.key}"
        below = path[len(prefix) :] if path.startswith(prefix + "/") else path
        match = provider.routes.match(scope["method"], below)
    if provider is not None and match is not None and find_situation(match[0].operation, "overloaded") is not None:
        response = refusal_of(provider.contract, match[0], Refusal("overloaded"))
        status, body, headers = response.situation.status, response.body, headers_of(response)
    else:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
