"""Count the bytes of a socket's send queue that have not reached its peer, as the kernel reports them. No event loop.

A TCP send queue holds two kinds of bytes: bytes sent and not yet acknowledged, and bytes not sent because the peer's
receive window is full. Linux reports both for sockets, by `ioctl`: `TIOCOUTQ` (SIOCOUTQ) counts all of them,
`SIOCOUTQNSD` only the bytes not sent.

Other systems report less. macOS has no counterpart of `SIOCOUTQNSD`, and documents `TIOCOUTQ` for terminals only. So
`not_sent` falls back to `unacknowledged` there, and a request that the kernel refuses counts as an empty queue. Windows
has no `ioctl`: both functions return 0. An empty queue means that every byte counts as arrived once asyncio has written
it, which on loopback it has, unless the client does not read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

try:
    import fcntl
    import termios
except ImportError:  # Windows has neither module nor request
    fcntl = termios = None  # type: ignore[assignment]

# SIOCOUTQNSD of <linux/sockios.h>. Neither `termios` nor `socket` exports it.
NOT_SENT = 0x894B


def unacknowledged(fileno: Callable[[], int]) -> int:
    """Return how many bytes the peer has not acknowledged, or 0 if the system does not report it.

    They may have arrived all the same: Linux delays the acknowledgement of bytes that are still unread by some 40 ms.
    """
    return 0 if fcntl is None else _queued(fileno, termios.TIOCOUTQ)


def not_sent(fileno: Callable[[], int]) -> int:
    """Return how many bytes wait for room at the peer. On systems other than Linux, return `unacknowledged`."""
    return _queued(fileno, NOT_SENT) if sys.platform == "linux" else unacknowledged(fileno)


def _queued(fileno: Callable[[], int], request: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(fileno(), request, bytes(4)), sys.byteorder)
    except (OSError, AttributeError, ValueError):
        # A closed socket, a transport without one, or a file descriptor of -1: nothing is queued there any more.
        return 0
