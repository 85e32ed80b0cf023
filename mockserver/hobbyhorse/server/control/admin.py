"""The handlers of the operations on all worlds, for the holder of the admin key. Shows no API key, only a hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hobbyhorse.contract.formats import whole_number
from hobbyhorse.server.control.handlers import DEFAULT_LIMIT, ControlError, ControlRequest, Handler
from hobbyhorse.worlds.kept_worlds import listed_world
from hobbyhorse.worlds.world import World


async def list_worlds(request: ControlRequest) -> Any:
    """List the worlds, most recently used first."""
    limit, cursor = request.query.get("limit", DEFAULT_LIMIT), request.query.get("cursor")
    before = None if cursor is None else whole_number(cursor, 17)
    if cursor is not None and before is None:
        raise ControlError(422, "invalid_query", f"unknown cursor {cursor[:100]!r}", "list again without a cursor")
    if request.context.listed is not None:
        return await _list_kept(request, before, limit)
    worlds = sorted(request.context.worlds, key=lambda world: world.used, reverse=True)
    older = [world for world in worlds if before is None or world.used < before]
    shown = older[:limit]
    return {
        "total": len(worlds),
        "worlds": [world_json(request, world) for world in shown],
        "older": str(shown[-1].used) if len(shown) < len(older) else None,
    }


async def _list_kept(request: ControlRequest, before: int | None, limit: int) -> Any:
    total, worlds, older = await kept_worlds(request, before, limit)
    return {"total": total, "worlds": worlds, "older": None if older is None else str(older)}


async def kept_worlds(
    request: ControlRequest, before: int | None, limit: int
) -> tuple[int, list[dict[str, Any]], int | None]:
    """Return the worlds of a kept state, of all its processes: its own from memory, the others as kept.

    The values are their number, those written before a moment as JSON, and the moment before which older ones were
    written, or None. Raises NotKept.
    """
    worlds, listed = request.context.worlds, request.context.listed
    assert listed is not None
    total, heads = await listed(before, limit + 1)
    shown, found = heads[:limit], []
    for handle, head in shown:
        world = worlds.opened(handle)
        here = world is not None and not worlds.is_asleep(world)
        found.append(world_json(request, world) if world is not None and here else listed_world(handle, head))
    return total, found, shown[-1][1].written if len(shown) < len(heads) else None


def world_json(request: ControlRequest, world: World) -> dict[str, Any]:
    """Return a world as JSON."""
    world.jobs.settle(world.clock.now())
    team = request.context.team_of(world.key)
    return {
        "handle": world.handle,
        "key": world.key_hash,
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
    # Another process may be asked next.
    await request.context.written()
    return {"forgotten": handle}


HANDLERS: Mapping[str, Handler] = {"listWorlds": list_worlds, "dropWorld": drop_world}
"""By operationId of control.openapi.json."""
