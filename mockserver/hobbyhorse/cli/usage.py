"""Errors and warnings of the command line: one line on stderr."""

from __future__ import annotations

import sys


class UsageError(Exception):
    """A mistake that the user has to correct: one line on stderr, exit status 2."""


def complain(message: str) -> None:
    """Print a message on stderr, in one line."""
    # Flushed, because the proxy reports findings while it runs, and stderr may be a file or a pipe.
    print(f"hobbyhorse: {' '.join(message.split())}", file=sys.stderr, flush=True)
