"""Opens a kept state for the commands that look into it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.state.sqlite import SqliteReader
from hobbyhorse.state.store import StateError

Found = TypeVar("Found")
Place = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the state.")]


def read_state(place: Path, work: Callable[[SqliteReader], Awaitable[Found]]) -> Found:
    """Return the result of some work on a state. Raises UsageError if there is no state that can be read."""

    async def run() -> Found:
        reader = SqliteReader(place)
        try:
            return await work(reader)
        finally:
            await reader.close()

    try:
        return asyncio.run(run())
    except StateError as error:
        raise UsageError(str(error)) from None
