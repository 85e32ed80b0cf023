"""Redirects: to the other origins that faults point clients to, in a circle, and to nowhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import LURE, MEDIA, OPERATION, Decided, Fault, Options
from hobbyhorse.scenarios.options import ACCEPTED, REDIRECT_STATUS

# After the fields, before the variations.
RANK = 40
LINK_ORIGINS: Mapping[str, str] = {
    "foreign": "http://foreign.invalid",
    "port": "http://127.0.0.1:9",
    "private": "http://169.254.169.254",
}
"""The default origins: a reserved name (RFC 2606), the discard port (RFC 863) of this machine, where nothing listens,
and the metadata service of cloud hosts."""
PRIVATE_PATH = "/latest/meta-data"
# The parameter by which a redirect to the same host changes a URL: a request that follows it is not a repetition.
HOP = re.compile(r"(?<=[?&])hop=(\d)")


def _location(status: int, location: str) -> Sent:
    return Sent(status, ((b"location", location.encode("latin-1")),), b"")


def _redirected(kind: str) -> Callable[[Decided, Options], Sent]:
    """Return the effect that redirects to an origin."""

    def effect(decided: Decided, options: Options) -> Sent:
        # Joined as text, so that path and query stay the same byte for byte.
        return _location(307, decided.origins.get(kind, LINK_ORIGINS[kind]).rstrip("/") + decided.target)

    return effect


def _to_private(decided: Decided, options: Options) -> Sent:
    return _location(302, decided.origins.get("private", LINK_ORIGINS["private"]).rstrip("/") + PRIVATE_PATH)


def _here(decided: Decided, options: Options) -> Sent:
    """Redirect to another URL of the same resource; its redirect, and the one after it, lead to each other."""
    hop, target = HOP.search(decided.target), decided.target
    if hop is None:
        # Not back to the first URL: a client that begins anew can be told from one that goes round in a circle.
        target += f"{'&' if '?' in target else '?'}hop=1"
    else:
        target = HOP.sub(f"hop={3 - int(hop[1])}", target)
    return _location(options["redirect_status"], decided.origins.get("here", "") + target)


REDIRECT = Fault(
    name="redirect",
    stands=(OPERATION, MEDIA),
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
REDIRECT_PRIVATE = Fault(
    name="redirect_private",
    stands=(MEDIA,),
    says="redirects the client to a private host (302)",
    effect=_to_private,
    rank=RANK,
    uses=frozenset({LURE}),
)
REDIRECT_HERE = Fault(
    name="redirect_here",
    stands=(OPERATION, MEDIA),
    says="redirects the client to another URL of the same host; with `times`, in a circle",
    effect=_here,
    options=(REDIRECT_STATUS,),
    rank=RANK,
    replaces=True,
    uses=frozenset({LURE}),
)
REDIRECT_NOWHERE = Fault(
    name="redirect_nowhere",
    stands=(OPERATION, MEDIA),
    says="redirects the client without a Location (302)",
    effect=lambda decided, options: Sent(302, (), b""),
    rank=RANK,
    replaces=True,
)
