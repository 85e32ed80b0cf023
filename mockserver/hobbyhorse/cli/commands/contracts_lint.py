"""`hobbyhorse contracts lint`: list the problems of contracts, and rewrite an older format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.contract.authoring.upgrade import UpgradeError, upgrade_folder
from hobbyhorse.contract.folder import find_folders
from hobbyhorse.contract.lint import lint_directory


def command(
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="A directory of contracts; by default, the project's.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="First rewrite folders of an older format in the current one.")
    ] = False,
) -> None:
    """Check contracts against the requirements of contracts/README.md; exit status 1 if there are problems."""
    if fix:
        if directory is None:
            raise UsageError("--fix needs DIR: the contracts of the package are not rewritten")
        _fix(directory)
    folders, problems = lint_directory(directory)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(folders)} contract{'s' if len(folders) != 1 else ''} without problems")


def _fix(directory: Path) -> None:
    for folder in find_folders(directory):
        try:
            changed = upgrade_folder(folder)
        except UpgradeError as error:
            raise UsageError(f"{error}; {folder} is unchanged") from None
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from None
        typer.echo(f"{folder} {'rewritten' if changed else 'unchanged'}")
