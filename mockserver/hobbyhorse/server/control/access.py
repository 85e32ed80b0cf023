"""The access check of the control plane; knows no server and no world.

The control plane listens on loopback, where any web page in the developer's browser can send requests. Two headers
that a page cannot forge keep it out: `Origin`, which the browser adds to its requests from another origin, and
`Host`, which is foreign when a page's own domain name is rebound to 127.0.0.1 (DNS rebinding). A control key
replaces the check of the host, since no page knows it, but never the check of the origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import IPv4Address
from urllib.parse import urlsplit

KEY_HEADER = b"x-mock-control-key"
IN_PROCESS_HOST = "hobbyhorse.test"
"""The host name of the server for clients in the same process."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::([0-9]{1,5}))?")
_PORTS = {"http": "80", "https": "443"}

RawHeaders = Iterable[tuple[bytes, bytes]]
Origin = tuple[str, str, str]
"""Scheme, host and port, in lower case; a default port is written out."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A refusal: a code, the reason, and the remedy."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """The access check of one server: its control key, whether it is bound to loopback, its public URL."""

    key: str | None = None
    loopback: bool = True
    public_url: str | None = None

    def judge(self, scheme: str, headers: RawHeaders, health: bool = False) -> Forbidden | None:
        """Return why a request is refused, or None; `health` marks a health check, or another request without a key."""
        given = [(name.lower(), value) for name, value in headers]
        hosts = [value.decode("latin-1") for name, value in given if name == b"host"]
        origins = [value.decode("latin-1") for name, value in given if name == b"origin"]
        # Two Host headers are refused too: a proxy and this server may each believe another one.
        # A health check comes from another container by the service's name, or by an address, and learns nothing.
        named = health and not self.loopback
        if self.key is None and not named and not (len(hosts) == 1 and self._is_ours(hosts[0])):
            return Forbidden(
                "foreign_host",
                f"Host {', '.join(hosts)[:200]!r} is not this machine",
                "address the server as localhost or 127.0.0.1, or start it with --control-key and send the key",
            )
        # Behind a proxy, a page of this server has the origin of the public URL.
        allowed = {origin_of(f"{scheme}://{hosts[0]}") if len(hosts) == 1 else None, self._public} - {None}
        for text in origins:
            if origin_of(text) not in allowed:
                return Forbidden(
                    "foreign_origin",
                    f"Origin {text[:200]!r} is not the server's origin",
                    "the control plane is for programs; a web page can use it only from the same origin",
                )
        if health:
            return None
        if self.key is None and not self.loopback:
            return Forbidden(
                "control_key_needed",
                "the server is reachable from other machines and has no control key",
                "start it with --control-key KEY and send the key as X-Mock-Control-Key, or bind it to 127.0.0.1",
            )
        if self.key is not None:
            # Compared in constant time, so that the time of a refusal does not tell how much of a guess was right.
            sent = next((value for name, value in given if name == KEY_HEADER), b"")
            if not compare_digest(sent, self.key.encode()):
                return Forbidden(
                    "control_key_refused",
                    f"X-Mock-Control-Key is {'wrong' if sent else 'missing'}",
                    "send the key that the server was started with (--control-key) as X-Mock-Control-Key",
                )
        return None

    @property
    def _public(self) -> Origin | None:
        return None if self.public_url is None else origin_of(self.public_url, whole=False)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this machine, the in-process server, or the public host."""
        found = _AUTHORITY.fullmatch(host.lower())
        if found is None:
            return False
        name, public = found[1], self._public
        return name == IN_PROCESS_HOST or is_local(name) or (public is not None and name == public[1])


def origin_of(text: str, whole: bool = True) -> Origin | None:
    """Parse an origin; return None if the text is not one. Unless `whole`, a URL may have a path after its origin."""
    try:
        parts = urlsplit(text.lower())
    except ValueError:
        return None
    found = _AUTHORITY.fullmatch(parts.netloc)
    if found is None or parts.scheme not in _PORTS or (whole and text.lower() != f"{parts.scheme}://{parts.netloc}"):
        return None
    return parts.scheme, found[1], found[2] or _PORTS[parts.scheme]


def is_local(name: str) -> bool:
    """Whether a host in a URL or a Host header, in lower case, is this machine by its spelling."""
    if name in ("localhost", "[::1]"):
        return True
    try:
        return IPv4Address(name).is_loopback
    except ValueError:
        return False
