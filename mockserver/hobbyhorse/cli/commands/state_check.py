"""`hobbyhorse state check`: whether the records of a state agree with each other."""

from __future__ import annotations

from functools import partial

import typer

from hobbyhorse.cli.stored.reading import Place, read_state
from hobbyhorse.state.inspection import problems
from hobbyhorse.worlds.kept_jobs import JOB_VALUES
from hobbyhorse.worlds.kept_worlds import HEAD_VALUES


def command(place: Place) -> None:
    """Check the consistency of a state; exit status 1 if there are problems."""
    found = read_state(place, partial(problems, members={"head": HEAD_VALUES, "job": JOB_VALUES}))
    for problem in found:
        typer.echo(problem)
    if found:
        raise typer.Exit(1)
    typer.echo("no problems")
