"""The addresses that the forward proxy leads to this server. It forwards nothing, so every other one is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Address = tuple[str, int]

# The ports of http and https: a host of a contract is meant at these, unless it names another one.
WEB_PORTS = (80, 443)
# Of TCP (16 bits).
MOST_PORT = 65_535
# The longest domain name has 253 characters; more is not repeated in an error.
MOST_HOST = 260
# As many as the error of an unknown host names: all providers of the project, several times.
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Destinations:
    """The hosts of the contracts, and the server's own addresses.

    `own` has the address at which the server accepts connections, by the address that clients use.
    """

    hosts: Collection[str]
    own: Mapping[Address, Address] = field(default_factory=dict)

    def find(self, host: str, port: int) -> Address | None:
        """Return the address that the application sees as its own, or None for an address of others."""
        host = host.lower().rstrip(".")
        known = self.own.get((host, port))
        if known is not None:
            return known
        named = port in WEB_PORTS and host in self.hosts
        return (host, port) if named or f"{host}:{port}" in self.hosts else None

    def refusal(self, host: str, port: int) -> str:
        """Return why an address of others is refused, in one line."""
        named = sorted(self.hosts)
        more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
        return (
            f"{host[:MOST_HOST]}:{port} is not a host of this mock server, and it connects to no other server; "
            f"its hosts are {', '.join(named[:MOST_NAMED])}{more}"
        )


def read_authority(text: str) -> Address | None:
    """Return the host and port of `HOST:PORT` or `[IPV6]:PORT`, or None if the text is neither."""
    host, mark, digits = text.rpartition(":")
    if not mark or not digits.isascii() or not digits.isdigit() or len(digits) > len(str(MOST_PORT)):
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    # What follows goes into error messages: nothing in it may look like a header or another word.
    well_formed = host and len(host) <= MOST_HOST and host.isascii() and host.isprintable() and " " not in host
    return (host, int(digits)) if well_formed and 0 < int(digits) <= MOST_PORT else None
