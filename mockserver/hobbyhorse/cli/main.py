"""The entry point: runs a command, and prints its usage errors. Knows no command by name."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from hobbyhorse.cli.command_group import CommandGroup
from hobbyhorse.cli.usage import UsageError, complain
from hobbyhorse.contract.folder import ContractError

app = typer.Typer(cls=CommandGroup, add_completion=False)

# The exit status of usage errors, as of every command of Click and of the shell's builtins.
USAGE = 2
ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""The base class of typer's usage errors, found by name: older typers use the package click, newer ones their own."""


def main() -> NoReturn:
    """Run the command line; every usage error is one line on stderr and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except (UsageError, ContractError) as error:
        status = _complain(str(error))
    except ClickError as error:
        status = _complain(getattr(error, "format_message", error.__str__)() or "no command; --help lists them")
    except (typer.Abort, KeyboardInterrupt):
        status = 130
    raise SystemExit(status if isinstance(status, int) else 0)


def _complain(message: str) -> int:
    complain(message)
    return USAGE


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - 5 ms at each start, for --version alone

        typer.echo(f"hobbyhorse {version('hobbyhorse')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A local stand-in for video-generation providers, and its contracts."""
