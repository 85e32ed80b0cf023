"""HTTP on connections that came through the gate, whose requests may belong to other processes.

Such a connection is never handed over, because the other process would have neither its TLS nor the rules of the
forward proxy. Its requests are forwarded, together with the scheme that the client has used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hobbyhorse.server.front.protocols import ForwardProtocol, FrontProtocol
from hobbyhorse.server.shared.forwarding import SharedProtocol


class SharedFrontProtocol(FrontProtocol, SharedProtocol):
    """Serves a connection over TLS, or in a tunnel."""

    def hand_over(self, give: Callable[[SharedProtocol, bytes], bool], receive: Any) -> bool:
        """Refuse to be handed over."""
        return False


class SharedForwardProtocol(ForwardProtocol, SharedProtocol):
    """Serves a connection to the forward proxy."""

    def hand_over(self, give: Callable[[SharedProtocol, bytes], bool], receive: Any) -> bool:
        """Refuse to be handed over."""
        return False


KINDS: Mapping[type[FrontProtocol], type[FrontProtocol]] = {
    FrontProtocol: SharedFrontProtocol,
    ForwardProtocol: SharedForwardProtocol,
}
"""Stand in for the protocols of a server whose state is its own."""
