"""Opens a kept state for the commands that look into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.state.errors import REDIS_SCHEMES, StateError, StoreFailure
from hobbyhorse.state.inspection import Reader
from hobbyhorse.state.sqlite import SqliteReader

Found = TypeVar("Found")
Place = Annotated[str, typer.Argument(metavar="DIR|URL", help="The folder of the state, or its URL in Redis.")]
REDIS_MODULE = "hobbyhorse.state.redis"
"""Imported for a URL alone: it needs an extra."""


class Opened(Reader, Protocol):
    """A state that can be closed."""

    async def close(self) -> None:
        """Let go of the state."""


def read_state(place: str, work: Callable[[Reader], Awaitable[Found]]) -> Found:
    """Return the result of some work on a state. Raises UsageError if there is no state that can be read."""

    async def run() -> Found:
        reader = await _opened(place)
        try:
            return await work(reader)
        finally:
            await reader.close()

    try:
        return asyncio.run(run())
    except (StateError, StoreFailure) as error:
        raise UsageError(str(error)) from None


async def _opened(place: str) -> Opened:
    """Open a state to read it. Raises StateError, and UsageError without the extra."""
    if not place.startswith(REDIS_SCHEMES):
        return SqliteReader(Path(place))
    if find_spec("hiredis") is None:
        raise UsageError("a state in Redis needs an extra: pip install 'hobbyhorse[redis]'")
    opened: Opened = await import_module(REDIS_MODULE).open_to_read(place)
    return opened
