"""The exit statuses of the conformance commands."""

from __future__ import annotations

# In the order of precedence. 130 is the status with which a shell reports a process that SIGINT ended: 128 and 2.
UNJUDGED, INTERRUPTED, INTERNAL_ERROR, FINDING, NOT_OBSERVED, CLEAN = 2, 130, 3, 1, 4, 0


def exit_status(
    *,
    unjudged: bool = False,
    interrupted: bool = False,
    internal_error: bool = False,
    finding: bool = False,
    not_observed: bool = False,
) -> int:
    """Return the exit status for a result: that of the first condition that holds."""
    conditions = (
        (unjudged, UNJUDGED),
        (interrupted, INTERRUPTED),
        (internal_error, INTERNAL_ERROR),
        (finding, FINDING),
        (not_observed, NOT_OBSERVED),
    )
    return next((status for holds, status in conditions if holds), CLEAN)
