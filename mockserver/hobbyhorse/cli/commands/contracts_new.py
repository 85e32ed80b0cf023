"""`hobbyhorse contracts new`: write the skeleton of a contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.contract.authoring.skeleton import write_skeleton
from hobbyhorse.contract.authoring.source import SourceError


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new folder, which is also the path prefix.")],
    openapi: Annotated[
        Path | None, typer.Option("--from", metavar="OPENAPI", help="Take the operations from OPENAPI: JSON or YAML.")
    ] = None,
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE=OPERATION_ID", help="Set the operation of submit or status (repeatable)."),
    ] = None,
) -> None:
    """Write the skeleton of a contract to ./NAME; it passes lint, and marks what is not known yet."""
    chosen: dict[str, str] = {}
    for text in roles or ():
        role, mark, operation = text.partition("=")
        if not mark or role in chosen:
            raise UsageError(f"--role is {text!r}; allowed: ROLE=OPERATION_ID, each role once")
        chosen[role] = operation
    if chosen and openapi is None:
        raise UsageError("--role needs --from OPENAPI, because only a document has operations to choose from")
    try:
        notes = write_skeleton(Path(name), openapi, chosen)
    except SourceError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{name} cannot be written: {error.strerror or error}") from None
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(f"{name} written; now fill in the facts that are marked `todo`")
