"""`hobbyhorse health`: a health check. Imports little, because probes run it every few seconds."""

from __future__ import annotations

from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.server.files.image_sources import split
from hobbyhorse.server.health import failure

# A health check that waits longer has hung. The bound also excludes inf, for which a thread cannot wait.
MOST_TIMEOUT_SECONDS = 3_600


def command(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, such as http://127.0.0.1:8000.")],
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Wait SECONDS for the response.")] = 2.0,
) -> None:
    """Check whether a server is up: exit status 0 if it is, else 1. For probes without curl."""
    if split(url) is None:
        raise UsageError(f"{url!r} is not a server URL; allowed: http:// or https:// and a host")
    if not 0 < timeout <= MOST_TIMEOUT_SECONDS:
        raise UsageError(
            f"--timeout is {timeout!r}; allowed: greater than 0, and at most {MOST_TIMEOUT_SECONDS} seconds"
        )
    if (reason := failure(url, timeout)) is not None:
        # A reason may quote a response of several lines; an orchestrator's log has one line per check.
        typer.echo(f"{url}: {' '.join(reason.split())}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{url}: ok")
