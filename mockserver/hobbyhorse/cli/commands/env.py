"""`hobbyhorse env`: print shell commands that point a client at the server."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from hobbyhorse.cli.options import ContractsOption, load_contracts, one_of
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET


def command(
    provider: Annotated[str, typer.Argument(help="The provider.")],
    url: Annotated[str, typer.Option(help="The URL of the server.")] = "http://127.0.0.1:8000",
    key: Annotated[str, typer.Option(help="The client's API key.")] = "test",
    contracts: ContractsOption = None,
) -> None:
    """Print the environment variables and SDK settings that point a client at the server."""
    contract = one_of(load_contracts(contracts), provider)
    # `serve` signs callbacks with this secret unless it is given another one.
    for variable, value in contract.environment(url, key, DEFAULT_SECRET).items():
        typer.echo(f"export {variable}={shlex.quote(value)}")
    values = {"url": f"{url.rstrip('/')}/{contract.key}", "key": key, "secret": DEFAULT_SECRET}
    for client in contract.clients:
        if client.code:  # as a comment, so that a shell can evaluate the whole output
            typer.echo(f"# {client.name}: {client.code.format(**values)}")
