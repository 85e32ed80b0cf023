"""`hobbyhorse state export`: a state as JSON lines."""

from __future__ import annotations

import sys

from hobbyhorse.cli.stored.reading import Place, read_state
from hobbyhorse.state.inspection import Reader, lines


def command(place: Place) -> None:
    """Print a state as JSON lines: the facts, then each world and its records. Orders may have API keys in them."""
    read_state(place, _print)


async def _print(reader: Reader) -> None:
    out = sys.stdout.buffer
    async for line in lines(reader):
        out.write(line + b"\n")
    out.flush()
