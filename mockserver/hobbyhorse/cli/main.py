"""The entry point: run a command, and print its usage errors. Knows no command by name."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from hobbyhorse.cli.command_group import CommandGroup
from hobbyhorse.cli.usage import UsageError, complain
from hobbyhorse.contract.folder import ContractError

app = typer.Typer(cls=CommandGroup)

# The exit status of a usage error in the shell and its builtins, and in Click.
USAGE = 2
# As a shell reports a process that SIGINT ended: 128 and the number of the signal.
INTERRUPTED = 130
# The base class of typer's usage errors, found by name: older typers import the package click, newer ones a copy of it.
ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main() -> NoReturn:
    """Run the command line. Every usage error is one line on stderr, with exit status 2."""
    try:
        # Standalone, Click would print a usage error as a box of several lines, which a log or a script cannot use.
        status = app(standalone_mode=False)
    except (UsageError, ContractError) as error:
        status = _complain(str(error))
    except ClickError as error:
        status = _complain(getattr(error, "format_message", error.__str__)() or "no command; --help lists them")
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    # A command that ends with typer.Exit returns its status here; one that just returns, None.
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
    """A local stand-in for video-generation providers, and tests for their clients and servers."""
