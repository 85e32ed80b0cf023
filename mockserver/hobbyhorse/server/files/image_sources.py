"""Where an input picture is to come from, told by its address alone; opens nothing and looks nothing up."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, unquote, urlsplit

OWN_PATH = "/fixtures/images/"


class Source(Enum):
    """What is done with a picture's address."""

    INLINE = "inline"  # a data: URI, decoded
    OWN = "own"  # one of the project's own pictures, read
    FETCH = "fetch"  # on this machine, or on a host that is allowed
    ELSEWHERE = "elsewhere"  # on another machine or the provider's own: not fetched, a placeholder stands in
    NONSENSE = "nonsense"  # no address at all


KEPT_PREFIX = "sha256:"

_OF_A_PROVIDER = re.compile(r"(?!https?:|ftps?:|file:)[a-z][a-z0-9+.-]*://\S+$", re.IGNORECASE)
"""A scheme of a provider's own, such as its uploads have."""


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """The hosts that pictures may be fetched from besides this machine; `*` is every public one."""

    hosts: frozenset[str] = frozenset()

    def allows(self, url: str) -> bool:
        """Whether an http(s) address may be fetched, as far as its spelling tells."""
        parts = split(url)
        if parts is None:
            return False
        host = host_of(parts)
        return is_loopback(host) or host in self.hosts or "*" in self.hosts

    def allows_address(self, host: str, address: str) -> bool:
        """Whether a host may be reached at the address that its name stands for."""
        where = ipaddress.ip_address(address.partition("%")[0])
        where = getattr(where, "ipv4_mapped", None) or where
        if host in self.hosts:
            return True
        return where.is_loopback if is_loopback(host) else where.is_global and "*" in self.hosts


def tell(url: str, policy: FetchPolicy, origin: str) -> Source:
    """Tell what is to be done with a picture's address, for a server that is reached at `origin`."""
    if url.startswith(KEPT_PREFIX):
        return Source.NONSENSE
    if url[:5].lower() == "data:":
        return Source.INLINE
    if own_name(url, origin) is not None:
        return Source.OWN
    if split(url) is None:
        return Source.ELSEWHERE if _OF_A_PROVIDER.match(url) else Source.NONSENSE
    return Source.FETCH if policy.allows(url) else Source.ELSEWHERE


def own_name(url: str, origin: str) -> str | None:
    """Return the name of the project's own picture that an address means, or None."""
    beginning = origin + OWN_PATH
    name = unquote(url[len(beginning) :].partition("?")[0]) if url.startswith(beginning) else ""
    return name if name and "/" not in name and name not in (".", "..") else None


def split(url: str) -> SplitResult | None:
    """Return the parts of an http(s) address, or None if it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return None
    return parts if usable and not any(character.isspace() for character in url) else None


def host_of(parts: SplitResult) -> str:
    """Return the host of an address, in lower case and without a final dot."""
    return (parts.hostname or "").rstrip(".").lower()


def is_loopback(host: str) -> bool:
    """Whether a host means this machine by its very spelling."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
