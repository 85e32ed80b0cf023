"""Errors and warnings of the command line: one line on stderr."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")
# The exit status of an unexpected error, as `conformance/exit_status.py` documents it.
INTERNAL_ERROR = 3
# Errors that `main` turns into an exit status: typer's own, and mistakes of the user.
EXPECTED_MODULES = ("typer", "click")


class UsageError(Exception):
    """A mistake that the user has to correct: one line on stderr, exit status 2."""


def complain(message: str) -> None:
    """Print a warning on stderr, in one line: of the log, if it is open."""
    _print(message, "WARNING")


def inform(message: str) -> None:
    """Print a message that is not a warning, as `complain` does."""
    _print(message, "INFO")


def _print(message: str, level: str) -> None:
    line = " ".join(message.split())
    # Most commands have no log, and the health check does not even import the module.
    logging = sys.modules.get("logging")
    if logging is not None and (logger := logging.getLogger("hobbyhorse")).handlers:
        logger.log(logging.getLevelName(level), line)
    else:
        # Flushed, because the proxy reports findings while it runs, and stderr may be a file or a pipe.
        print(f"hobbyhorse: {line}", file=sys.stderr, flush=True)


def reports_internal_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Return a command that reports an unexpected error in one line, with exit status 3."""

    @functools.wraps(command)
    def reporting(*given: P.args, **options: P.kwargs) -> R:
        try:
            return command(*given, **options)
        except Exception as error:
            if isinstance(error, UsageError) or type(error).__module__.partition(".")[0] in EXPECTED_MODULES:
                raise
            at = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{at.filename}, line {at.lineno}"
            complain(f"internal error: {type(error).__name__}: {error} (in {where}); please report it")
            raise typer.Exit(INTERNAL_ERROR) from None

    return reporting
