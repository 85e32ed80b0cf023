"""The other origins that faults point clients to: their defaults, and a redirect there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import LURE, OPERATION, DecidedOperation, Fault, Options
from hobbyhorse.scenarios.options import ACCEPTED

# After the fields, before the variations.
RANK = 40
LINK_ORIGINS: Mapping[str, str] = {
    "foreign": "http://foreign.invalid",
    "port": "http://127.0.0.1:9",
    "private": "http://169.254.169.254",
}
"""The default origins: a reserved name (RFC 2606), the discard port (RFC 863) of this machine, where nothing listens,
and the metadata service of cloud hosts."""


def _redirected(kind: str) -> Callable[[DecidedOperation, Options], Sent]:
    """Return the effect that redirects to an origin."""

    def effect(decided: DecidedOperation, options: Options) -> Sent:
        # Joined as text, so that path and query stay the same byte for byte.
        location = decided.origins.get(kind, LINK_ORIGINS[kind]).rstrip("/") + decided.target
        return Sent(307, ((b"location", location.encode("latin-1")),), b"")

    return effect


REDIRECT = Fault(
    name="redirect",
    stands=(OPERATION,),
    says="redirects the client to the same path on another host (307)",
    effect=_redirected("foreign"),
    options=(ACCEPTED,),
    rank=RANK,
    replaces=True,
    uses=frozenset({LURE}),
)
REDIRECT_PORT = Fault(
    name="redirect_port",
    stands=(OPERATION,),
    says="redirects the client to the same path on another port of the same host (307)",
    effect=_redirected("port"),
    options=(ACCEPTED,),
    rank=RANK,
    replaces=True,
    uses=frozenset({LURE}),
)
