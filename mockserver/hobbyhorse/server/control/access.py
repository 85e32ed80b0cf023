"""The access check of the control plane; knows no server and no world.

The control plane listens on loopback, where any web page in the developer's browser can send requests. Two headers
that a page cannot forge keep it out: `Origin`, which the browser adds to its requests from another origin, and
`Host`, which is foreign when a page's own domain name is rebound to 127.0.0.1 (DNS rebinding). A control key
replaces the check of the host, since no page knows it, but never the check of the origin.

A team has a control key of its own, for the worlds whose API keys begin with its prefix. The admin key opens the
operations on all worlds, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from ipaddress import IPv4Address
from urllib.parse import urlsplit

FORWARDED = frozenset({b"forwarded", b"x-forwarded-for"})
KEY_HEADER, ADMIN_HEADER = b"x-mock-control-key", b"x-mock-admin-key"
IN_PROCESS_HOST = "hobbyhorse.test"
"""The host name of the server for clients in the same process."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::([0-9]{1,5}))?")
_PORTS = {"http": "80", "https": "443"}

RawHeaders = Iterable[tuple[bytes, bytes]]
GivenHeaders = Sequence[tuple[bytes, bytes]]
"""Headers with their names in lower case."""
Origin = tuple[str, str, str]
"""Scheme, host and port, in lower case; a default port is written out."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """A refusal: a code, the reason, and the remedy."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Team:
    """A team that shares the server with others: its name, and the beginning of each of its API keys."""

    name: str
    prefix: str


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """The access check of one server.

    `key` is its control key, `admin_key` the key for the operations on all worlds, and `teams` has the teams by their
    control keys. A `loopback` server is bound to loopback.
    """

    key: str | None = None
    loopback: bool = True
    public_url: str | None = None
    admin_key: str | None = None
    teams: Mapping[str, Team] = field(default_factory=dict)

    def judge(self, scheme: str, headers: RawHeaders, health: bool = False) -> Forbidden | None:
        """Return why a request is refused, or None; `health` marks a health check, or another request without a key."""
        given = [(name.lower(), value) for name, value in headers]
        # A health check comes from another container by the service's name, or by an address, and learns nothing.
        named = health and not self.loopback
        refused = self._judge_host(given, self.guarded or named) or self._judge_origin(scheme, given)
        return refused if refused is not None or health else self._judge_key(_first(given, KEY_HEADER))

    def judge_admin(self, scheme: str, headers: RawHeaders) -> Forbidden | None:
        """Return why a request for an operation on all worlds is refused, or None."""
        given = [(name.lower(), value) for name, value in headers]
        refused = self._judge_host(given, self.admin_key is not None) or self._judge_origin(scheme, given)
        if refused is not None:
            return refused
        if self.admin_key is None:
            hint = "start it with --admin-key KEY and send the key as X-Mock-Admin-Key"
            return Forbidden("admin_key_needed", "the server was started without an admin key", hint)
        sent = _first(given, ADMIN_HEADER)
        if not compare_digest(sent, self.admin_key.encode()):
            message = f"X-Mock-Admin-Key is {'wrong' if sent else 'missing'}"
            hint = "send the key that the server was started with (--admin-key) as X-Mock-Admin-Key"
            return Forbidden("admin_key_refused", message, hint)
        return None

    def judge_page(self, scheme: str, headers: RawHeaders) -> Forbidden | None:
        """Return why a request for the page is refused, or None; whether a session is needed is not judged here."""
        given = [(name.lower(), value) for name, value in headers]
        refused = self._judge_host(given, self.guarded) or self._judge_origin(scheme, given)
        return refused or (None if self.guarded else self._judge_key(b""))

    def judge_metrics(self, scheme: str, headers: RawHeaders, client: str | None) -> Forbidden | None:
        """Return why a scrape from the address `client` is refused, or None.

        On a loopback server, no key is needed from loopback, unless a proxy has passed the request on.
        """
        given = [(name.lower(), value) for name, value in headers]
        keys = [key for key in (self.key, self.admin_key) if key is not None]
        # Scrapers can send Authorization only; the name of its scheme is case-insensitive.
        word, _, token = _first(given, b"authorization").partition(b" ")
        sent = (token.strip() if word.lower() == b"bearer" else b"", _first(given, KEY_HEADER))
        has_key = any(compare_digest(one, key.encode()) for one in sent for key in keys)
        refused = self._judge_host(given, has_key or not self.loopback) or self._judge_origin(scheme, given)
        address = f"[{client}]" if client is not None and ":" in client else client
        # A proxy on this machine passes on the requests of others; it may be trusted to name them, or not.
        passed_on = any(name in FORWARDED for name, _ in given)
        here = self.loopback and not passed_on and (address is None or is_local(address))
        if refused is not None or has_key or here:
            return refused
        hint = "send the server's control key or admin key as Authorization: Bearer KEY; a team's key opens no metrics"
        if not keys:
            hint = (
                "start the server with --control-key KEY or --admin-key KEY, and send it as Authorization: Bearer KEY"
            )
        return Forbidden("control_key_refused", "the metrics of this server need a key", hint)

    def team(self, headers: RawHeaders) -> Team | None:
        """Return the team whose control key an admitted request carries; None if its worlds are not limited."""
        return self.team_of(_first([(name.lower(), value) for name, value in headers], KEY_HEADER))

    def team_of(self, sent: bytes) -> Team | None:
        """Return the team of a control key, or None."""
        # Every key is compared, in constant time, so that the time of a refusal does not tell how much of a guess was
        # right.
        found = [team for key, team in self.teams.items() if compare_digest(sent, key.encode())]
        return found[0] if found else None

    def opens(self, sent: bytes) -> bool:
        """Whether a key is the server's control key or that of a team."""
        main = self.key is not None and compare_digest(sent, self.key.encode())
        return self.team_of(sent) is not None or main

    @property
    def guarded(self) -> bool:
        """Whether the control plane needs a key."""
        return self.key is not None or bool(self.teams)

    def _judge_host(self, given: GivenHeaders, any_host: bool) -> Forbidden | None:
        """Refuse a request that is not addressed to this machine, unless any host is allowed."""
        hosts = [value.decode("latin-1") for name, value in given if name == b"host"]
        # Two Host headers are refused too: a proxy and this server may each believe another one.
        if any_host or (len(hosts) == 1 and self._is_ours(hosts[0])):
            return None
        return Forbidden(
            "foreign_host",
            f"Host {', '.join(hosts)[:200]!r} is not this machine",
            "address the server as localhost or 127.0.0.1, or start it with --control-key and send the key",
        )

    def _judge_origin(self, scheme: str, given: GivenHeaders) -> Forbidden | None:
        """Refuse a request of a web page of another origin."""
        hosts = [value.decode("latin-1") for name, value in given if name == b"host"]
        # Behind a proxy, a page of this server has the origin of the public URL.
        allowed = {origin_of(f"{scheme}://{hosts[0]}") if len(hosts) == 1 else None, self._public} - {None}
        for text in (value.decode("latin-1") for name, value in given if name == b"origin"):
            if origin_of(text) not in allowed:
                return Forbidden(
                    "foreign_origin",
                    f"Origin {text[:200]!r} is not the server's origin",
                    "the control plane is for programs; a web page can use it only from the same origin",
                )
        return None

    def _judge_key(self, sent: bytes) -> Forbidden | None:
        """Refuse a request without an accepted control key, if one is needed."""
        if not self.guarded and not self.loopback:
            return Forbidden(
                "control_key_needed",
                "the server is reachable from other machines and has no control key",
                "start it with --control-key KEY and send the key as X-Mock-Control-Key, or bind it to 127.0.0.1",
            )
        if self.guarded and not self.opens(sent):
            return Forbidden(
                "control_key_refused",
                f"X-Mock-Control-Key is {'wrong' if sent else 'missing'}",
                "send the key that the server was started with (--control-key), or your team's, as X-Mock-Control-Key",
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


def _first(given: GivenHeaders, name: bytes) -> bytes:
    """Return the first header of a name, or b""."""
    return next((value for key, value in given if key == name), b"")


def is_local(name: str) -> bool:
    """Whether a host in a URL or a Host header, in lower case, is this machine by its spelling."""
    if name in ("localhost", "[::1]"):
        return True
    try:
        return IPv4Address(name).is_loopback
    except ValueError:
        return False
