"""Decide the source of an input image by its URL alone. Opens no file and resolves no name.

The fake runs on developers' machines and in CI, and must not become a way to request internal addresses (SSRF). Only
loopback and explicitly allowed hosts are fetched. This module checks the spelling of a URL. After name resolution,
`FetchPolicy.allows_address` checks the address, because a public name may point to a private address.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, unquote, urlsplit

FIXTURES_PATH = "/fixtures/images/"


class Source(Enum):
    """How an image URL is handled."""

    INLINE = "inline"  # a data URI: decoded
    FIXTURE = "fixture"  # a fixture image of this server: read from disk
    FETCH = "fetch"  # on loopback or an allowed host: fetched
    ELSEWHERE = "elsewhere"  # on another machine, or in a provider's own scheme: a placeholder stands in
    INVALID = "invalid"  # not a URL


STORED_PREFIX = "sha256:"

_PROVIDER_SCHEME = re.compile(r"(?!https?:|ftps?:|file:)[a-z][a-z0-9+.-]*://\S+$", re.IGNORECASE)
"""A URL in a provider's own scheme, such as the URL of an upload."""
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """The hosts from which images may be fetched, in addition to loopback; `*` means every public host."""

    hosts: frozenset[str] = frozenset()

    def allows(self, url: str) -> bool:
        """Whether an http(s) URL may be fetched, by its spelling."""
        parts = split(url)
        if parts is None:
            return False
        host = host_of(parts)
        return is_loopback(host) or host in self.hosts or "*" in self.hosts

    def allows_address(self, host: str, address: str) -> bool:
        """Whether a host may be reached at `address`, to which its name resolves."""
        where = ipaddress.ip_address(address.partition("%")[0])
        # ::ffff:10.0.0.1 is the private IPv4 address 10.0.0.1.
        where = getattr(where, "ipv4_mapped", None) or where
        if host in self.hosts:
            return True
        return where.is_loopback if is_loopback(host) else where.is_global and "*" in self.hosts


def classify(url: str, policy: FetchPolicy, origin: str) -> Source:
    """Return the source of an image URL, for a server at `origin`."""
    # The name of a stored image is internal; from a client it would read another client's image.
    if url.startswith(STORED_PREFIX):
        return Source.INVALID
    if url[:5].lower() == "data:":
        return Source.INLINE
    if fixture_name(url, origin) is not None:
        return Source.FIXTURE
    if split(url) is None:
        return Source.ELSEWHERE if _PROVIDER_SCHEME.match(url) else Source.INVALID
    return Source.FETCH if policy.allows(url) else Source.ELSEWHERE


def fixture_name(url: str, origin: str) -> str | None:
    """Return the name of the fixture image that a URL of this server names, or None."""
    beginning = origin + FIXTURES_PATH
    name = unquote(url[len(beginning) :].partition("?")[0]) if url.startswith(beginning) else ""
    return name if name and "/" not in name and name not in (".", "..") else None


def split(url: str) -> SplitResult | None:
    """Split an http(s) URL, or return None for any other text."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return None
    return parts if usable and _SPACE.search(url) is None else None


def host_of(parts: SplitResult) -> str:
    """Return the host of a URL, in lower case and without a trailing dot."""
    return (parts.hostname or "").rstrip(".").lower()


def is_loopback(host: str) -> bool:
    """Whether a host is loopback by its spelling."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
