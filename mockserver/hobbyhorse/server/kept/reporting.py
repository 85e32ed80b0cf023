"""Tells the operator of a server that a part of the kept state is damaged. Small, because every server imports it."""

from __future__ import annotations

import sys

# Different lines that a server prints: a client must not fill the log.
MOST_REPORTED = 1_000

_reported: set[str] = set()


def report(what: str) -> None:
    """Print a line for the operator of the server, once."""
    if what not in _reported and len(_reported) < MOST_REPORTED:
        _reported.add(what)
        print(f"hobbyhorse: {what}", file=sys.stderr, flush=True)
