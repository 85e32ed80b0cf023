"""`hobbyhorse state show`: what is in a state."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer

from hobbyhorse.cli.stored.reading import Place, read_state
from hobbyhorse.state.inspection import summary


def command(
    place: Place,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the seed and the contracts of a state, and the number of its worlds, jobs and other records."""
    found = read_state(place, summary)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    contracts = found.pop("contracts")
    rows = [(name, str(value)) for name, value in found.items()]
    for row in (*rows, *((f"contract {key}", digest[:12]) for key, digest in sorted(contracts.items()))):
        typer.echo(f"{row[0]:20} {row[1]}")
