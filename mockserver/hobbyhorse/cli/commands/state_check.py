"""`hobbyhorse state check`: whether the records of a state agree with each other."""

from __future__ import annotations

import typer

from hobbyhorse.cli.stored.reading import Place, read_state
from hobbyhorse.state.inspection import problems


def command(place: Place) -> None:
    """Check the consistency of a state; exit status 1 if there are problems."""
    found = read_state(place, problems)
    for problem in found:
        typer.echo(problem)
    if found:
        raise typer.Exit(1)
    typer.echo("no problems")
