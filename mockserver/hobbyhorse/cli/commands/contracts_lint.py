"""`hobbyhorse contracts lint`: the problems of contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.contract.lint import lint_directory


def command(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="A directory of providers.")] = None,
) -> None:
    """Check contracts against the requirements of contracts/README.md; exit status 1 if there are problems."""
    folders, problems = lint_directory(directory)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(folders)} contract{'s' if len(folders) != 1 else ''} without a problem")
