"""The listening socket of `serve` and `proxy`."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.server.run import bind


def listen(host: str, port: int, shared: bool = False) -> socket.socket:
    """Return a bound socket; port 0 picks a free one, and a `shared` one may be bound again. Raises UsageError."""
    try:
        return bind(host, port, shared)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free port"
        ) from None


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach a socket, by its address, because a name may resolve to any address."""
    try:
        return ip_address(bound.getsockname()[0]).is_loopback
    except ValueError:  # not an IP address: unknown, so the control plane stays off
        return False
