"""`hobbyhorse health`: a health check. Imports little, because probes run it every few seconds."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.server.files.image_sources import split
from hobbyhorse.server.health import failure

# The port of `serve` and its variable: a check in the container of the server needs no address.
PORT, PORT_VARIABLE = 8000, "HOBBYHORSE_SERVE_PORT"
# A health check that waits longer has hung. The bound also excludes inf, for which a thread cannot wait.
MOST_TIMEOUT_SECONDS = 3_600


def command(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]", help="The server; by default this machine's, at HOBBYHORSE_SERVE_PORT or at port 8000."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Wait SECONDS for the response.")] = 2.0,
) -> None:
    """Check whether a server is up: exit status 0 if it is, else 1. For probes without curl."""
    url = url or f"http://127.0.0.1:{os.environ.get(PORT_VARIABLE) or PORT}"
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
