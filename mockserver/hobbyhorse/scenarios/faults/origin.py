"""The other origins that faults point clients to: their defaults, and a redirect there."""

from __future__ import annotations

from collections.abc import Mapping

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import LURE, OPERATION, DecidedOperation, Fault, Options
from hobbyhorse.scenarios.options import ACCEPTED

# After the fields, before the variations.
RANK = 40
LINK_ORIGINS: Mapping[str, str] = {"foreign": "http://foreign.invalid", "private": "http://169.254.169.254"}
"""The default origins: a reserved name (RFC 2606), and the metadata service of cloud hosts."""


def _redirected(decided: DecidedOperation, options: Options) -> Sent:
    # Joined as text, so that path and query stay the same byte for byte.
    location = decided.origins.get("foreign", LINK_ORIGINS["foreign"]).rstrip("/") + decided.target
    return Sent(307, ((b"location", location.encode("latin-1")),), b"")


REDIRECT = Fault(
    name="redirect",
    stands=(OPERATION,),
    says="redirects the client to the same path on another origin (307)",
    effect=_redirected,
    options=(ACCEPTED,),
    rank=RANK,
    replaces=True,
    uses=frozenset({LURE}),
)
