"""The address that clients of a reverse proxy use, from the headers that the proxy adds to their requests.

Any client can send these headers, so they count only if the connection comes from a trusted proxy. A proxy adds its
values after the client's, or replaces them. So the values are read from the end: the last ones are the trusted
proxy's, and earlier ones count only while the sender that the proxy names is a trusted proxy too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from starlette.types import Scope

Network = IPv4Network | IPv6Network

FORWARDED, FOR, PROTO, HOST, PREFIX = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-prefix",
)
PUBLIC = "hobbyhorse.server.public"
"""The name of the `PublicAddress` in the scope."""
# More than a chain of proxies needs; a quoted text without an end takes the square of its length.
MOST_VALUE = 1_024
# Texts, which are compiled on first use: every server imports this module, and few have trusted proxies.
SCHEME = r"(?i:https?)"
AUTHORITY = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?"
PATH = r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+/?"
PAIR = r"\s*([A-Za-z]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^;,\s\"]*))\s*(?:;|$)"
ELEMENT = r"(?:\"(?:[^\"\\]|\\.)*\"|[^,\"])+"


class PublicAddress(NamedTuple):
    """The host that a client of a reverse proxy uses, with the port if it is named, and the path before ours."""

    host: str | None
    prefix: str


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """The networks of reverse proxies whose headers count."""

    networks: tuple[Network, ...]

    def read(self, scope: Scope) -> None:
        """Put the scheme and the address that the client uses into the scope, if a trusted proxy names them."""
        client = scope.get("client")
        if client is None or not _trusts(self.networks, client[0]):
            return
        given = _by_name(scope["headers"])
        if not given:
            return
        senders, values = _senders(given), _values(given)
        # How many values of each kind are from trusted proxies.
        hops = 1
        for sender in reversed(senders):
            if not _trusts(self.networks, sender):
                break
            hops += 1
        scheme, host = _outermost(values[PROTO], hops, SCHEME), _outermost(values[HOST], hops, AUTHORITY)
        if scheme is not None:
            scope["scheme"] = scheme.lower()
        prefix = _outermost(values[PREFIX], hops, PATH) or ""
        scope[PUBLIC] = PublicAddress(host, prefix.rstrip("/"))


def read_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return networks by address, such as 10.0.0.1, or as ranges, such as 10.0.0.0/8. Raises ValueError."""
    return tuple(ip_network(text.strip(), strict=False) for text in texts)


# The peers of a server are a few proxies, and the senders that they name a few clients.
@lru_cache(maxsize=1024)
def _trusts(networks: tuple[Network, ...], address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    # On a socket for both families, an IPv4 peer has an IPv6 address.
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in network for network in networks)


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[str]]:
    """Return the values of the headers of reverse proxies; several headers of one name are one list."""
    found: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name in (FORWARDED, FOR, PROTO, HOST, PREFIX):
            text = value[:MOST_VALUE].decode("latin-1")
            found.setdefault(name, []).extend(_elements(text) if name == FORWARDED else text.split(","))
    return found


def _elements(text: str) -> list[str]:
    """Return the elements of `Forwarded`, in which commas may be quoted; none if a quotation does not end."""
    found = re.findall(ELEMENT, text)
    return found if ",".join(found) == text else []


def _values(given: Mapping[bytes, Sequence[str]]) -> dict[bytes, list[str | None]]:
    """Return the schemes, hosts and prefixes in the order of the proxies. `Forwarded` replaces schemes and hosts."""
    found: dict[bytes, list[str | None]] = {
        name: [one.strip() for one in given.get(name, ())] for name in (PROTO, HOST, PREFIX)
    }
    if FORWARDED in given:
        elements = [_pairs(one) for one in given[FORWARDED]]
        found |= {PROTO: [one.get("proto") for one in elements], HOST: [one.get("host") for one in elements]}
    return found


def _senders(given: Mapping[bytes, Sequence[str]]) -> list[str]:
    """Return the address of the sender that each proxy names."""
    if FORWARDED in given:
        named = [_pairs(one).get("for", "") for one in given[FORWARDED]]
    else:
        named = [one.strip() for one in given.get(FOR, ())]
    return [_without_port(one) for one in named]


def _without_port(node: str) -> str:
    """Return the address of a node, which may be `192.0.2.1:80`, `[2001:db8::1]:80` or `2001:db8::1`."""
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node


def _pairs(element: str) -> dict[str, str]:
    """Return the parameters of an element of `Forwarded` (RFC 7239, section 4)."""
    found = {}
    for name, quoted, plain in re.findall(PAIR, element):
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or plain
    return found


def _outermost(values: Sequence[str | None], hops: int, form: str) -> str | None:
    """Return the value of the outermost trusted proxy; None if it has none, or one of another form."""
    if not values:
        return None
    # A proxy that replaces the value leaves fewer than there are hops.
    found = values[max(-hops, -len(values))]
    return found if found is not None and re.fullmatch(form, found) else None
