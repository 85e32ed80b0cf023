"""The handlers of the operations on all worlds, for the holder of the admin key. Shows no API key, only a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from hobbyhorse.server.control.handlers import DEFAULT_LIMIT, ControlError, ControlRequest, Handler
from hobbyhorse.worlds.world import World

# Hexadecimal digits of the hash of a key: no two keys of a server will share them.
HASH_DIGITS = 16


def hash_of(key: str) -> str:
    """Return the beginning of the SHA-256 of an API key, by which its holder recognizes it."""
    return hashlib.sha256(key.encode()).hexdigest()[:HASH_DIGITS]


async def list_worlds(request: ControlRequest) -> Any:
    """List the worlds, most recently used first."""
    worlds = sorted(request.context.worlds, key=lambda world: world.used, reverse=True)
    cursor = request.query.get("cursor")
    if cursor is not None:
        # `int` accepts other digits, signs and underscores; a cursor has none of them.
        if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 16):
            hint = "list again without a cursor"
            raise ControlError(422, "invalid_query", f"unknown cursor {cursor[:100]!r}", hint)
        older = [world for world in worlds if world.used < int(cursor)]
    else:
        older = worlds
    shown = older[: request.query.get("limit", DEFAULT_LIMIT)]
    return {
        "total": len(worlds),
        "worlds": [world_json(request, world) for world in shown],
        "older": str(shown[-1].used) if len(shown) < len(older) else None,
    }


def world_json(request: ControlRequest, world: World) -> dict[str, Any]:
    """Return a world as JSON."""
    world.jobs.settle(world.clock.now())
    team = request.context.team_of(world.key)
    return {
        "handle": world.handle,
        "key": hash_of(world.key),
        "label": world.label,
        "team": team.name if team is not None else None,
        "jobs": len(world.jobs),
        "running": len(world.jobs.running),
        "exchanges": world.journal.total,
        "armed": [armed.scenario.name for armed in world.scenarios.armed],
        "used": world.used_at,
    }


async def drop_world(request: ControlRequest) -> Any:
    """Forget a world."""
    handle = request.names["handle"]
    world = request.context.worlds.by_handle(handle)
    # The world of requests without a key belongs to nobody, and is always there.
    if world is None or world is request.context.worlds.keyless:
        message = f"there is no world {handle[:100]!r}"
        raise ControlError(404, "unknown_world", message, "GET /_mock/worlds lists the handles")
    request.context.forget(world)
    return {"forgotten": handle}


HANDLERS: Mapping[str, Handler] = {"listWorlds": list_worlds, "dropWorld": drop_world}
"""By operationId of control.openapi.json."""
