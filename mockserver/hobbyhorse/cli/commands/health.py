"""`hobbyhorse health`: a health check. Imports little, because probes run it every few seconds."""

from __future__ import annotations

from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.server.files.image_sources import split
from hobbyhorse.server.health import failure


def command(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, such as http://127.0.0.1:8000.")],
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Wait SECONDS for the response.")] = 2.0,
) -> None:
    """Check whether a server is up: exit status 0 if it is, else 1. For probes without curl."""
    if split(url) is None:
        raise UsageError(f"{url!r} is no address of a server; it is http:// or https:// and a host")
    if not 0 < timeout <= 3600:
        raise UsageError(f"--timeout {timeout!r}; it is a number of seconds greater than 0, and at most 3600")
    if (reason := failure(url, timeout)) is not None:
        typer.echo(f"{url}: {' '.join(reason.split())}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{url}: ok")
