"""How much of what a socket was given has not reached the other end, as the system says; knows no event loop."""

from __future__ import annotations

import sys
from collections.abc import Callable

try:
    import fcntl
    import termios
except ImportError:  # where there is no such question, everything is thought to have arrived
    fcntl = termios = None  # type: ignore[assignment]

NOT_SENT = 0x894B
"""Linux's SIOCOUTQNSD: what of the queue has not been sent at all."""


def unacknowledged(fileno: Callable[[], int]) -> int:
    """Return how many bytes the other end has not acknowledged; 0 where the system does not say.

    They may have arrived all the same: a system acknowledges what nobody has read yet after some 40 ms only.
    """
    return 0 if fcntl is None else _asked(fileno, termios.TIOCOUTQ)


def not_sent(fileno: Callable[[], int]) -> int:
    """Return how many bytes wait for room at the other end; where the system does not say, those not acknowledged."""
    return _asked(fileno, NOT_SENT) if sys.platform == "linux" else unacknowledged(fileno)


def _asked(fileno: Callable[[], int], question: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(fileno(), question, bytes(4)), sys.byteorder)
    except (OSError, AttributeError, ValueError):
        return 0
