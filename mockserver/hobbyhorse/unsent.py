"""How much of what a socket was given has not reached the other end, as the system says; knows no event loop."""

from __future__ import annotations

import sys
from collections.abc import Callable

try:
    import fcntl
    import termios
except ImportError:  # where there is no such question, everything is thought to have arrived
    fcntl = termios = None  # type: ignore[assignment]


def unacknowledged(fileno: Callable[[], int]) -> int:
    """Return how many bytes the other end has not acknowledged; 0 where the system does not say."""
    if fcntl is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, AttributeError, ValueError):
        return 0
