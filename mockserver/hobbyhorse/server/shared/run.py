"""Starts a server that shares its state: checks the state once, then serves in this process or in a child of it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.files.cache import user_directory
from hobbyhorse.server.kept.reading import digest
from hobbyhorse.server.run import Shared, bind, serve
from hobbyhorse.server.shared.forwarding import SharedProtocol
from hobbyhorse.server.shared.front import KINDS
from hobbyhorse.server.shared.keeper import SharedKeeper
from hobbyhorse.state.errors import StateError, StoreFailure
from hobbyhorse.state.redis import RedisStore
from hobbyhorse.state.store import agreed

if TYPE_CHECKING:  # made only for a server with TLS
    from hobbyhorse.server.front.gate import Front

# Two processes never have the same run: as many bytes as a UUID has.
RUN_BYTES = 16


def check(url: str, seed: int, contracts: Sequence[Contract]) -> str | None:
    """Check that the state and this server agree; return a warning, or None. Raises StateError."""
    return asyncio.run(_check(url, seed, contracts))


async def _check(url: str, seed: int, contracts: Sequence[Contract]) -> str | None:
    store = RedisStore(url)
    try:
        await store.open()
        found = await store.meta()
        running = await store.running(sorted({*(found.contracts if found else ()), *(one.key for one in contracts)}))
        await store.set_meta(agreed(found, seed, {one.key: digest(one) for one in contracts}, running))
        return await store.risk()
    except StoreFailure as error:
        raise StateError(f"the state cannot be used: {error}") from None
    finally:
        await store.close()


def shared_authority(url: str, new: Callable[[], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """Return the certificate authority of a state, its certificate and its key; `new` makes it. Raises StateError."""
    return asyncio.run(_shared_authority(url, new))


async def _shared_authority(url: str, new: Callable[[], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    store = RedisStore(url)
    try:
        await store.open()
        found = await store.once("hh:tls", lambda: json.dumps([pem.decode() for pem in new()]).encode())
        certificate, key = json.loads(found)
        return certificate.encode(), key.encode()
    except StoreFailure as error:
        raise StateError(f"the state cannot be used: {error}") from None
    finally:
        await store.close()


def serve_shared(
    url: str,
    contracts: Sequence[Contract],
    options: Options,
    bound: socket.socket,
    ready_at: Callable[[str], None],
    *,
    front: Front | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, with the state at a URL of Redis; a front adds TLS and the forward proxy."""
    host = bound.getsockname()[0]
    with bind(host, 0) as peer:
        # The processes of a machine share the pictures of jobs, as they share the videos.
        pictures = (options.cache or user_directory()) / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        keeper = SharedKeeper(url, contracts, peer, pictures)
        fake = Fake(contracts, replace(options, state=keeper, run=os.urandom(RUN_BYTES).hex()))

        class Protocol(SharedProtocol):
            peer_port = peer.getsockname()[1]

        serve(fake, bound, ready_at, front, Shared(peer, Protocol, keeper.accept, KINDS))
