"""Who may drive the control plane, so that no web page can; knows no server and no world."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import IPv4Address
from urllib.parse import urlsplit

KEY_HEADER = b"x-mock-control-key"
IN_PROCESS_HOST = "hobbyhorse.test"
"""The name that clients in the same process give the server."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:/@\s]+)(?::([0-9]{1,5}))?")
_PORTS = {"http": "80", "https": "443"}

RawHeaders = Iterable[tuple[bytes, bytes]]
Origin = tuple[str, str, str]
"""Scheme, name and port, in lower case; the port is never left out."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """Why a request is refused, and what to do."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """The rules of one server: its control key, whether it is bound to loopback, its public address."""

    key: str | None = None
    loopback: bool = True
    public_url: str | None = None

    def judge(self, scheme: str, headers: RawHeaders, health: bool = False) -> Forbidden | None:
        """Return why a request may not come in, or None if it may; `health` asks only whether the server is up."""
        given = [(name.lower(), value) for name, value in headers]
        hosts = [value.decode("latin-1") for name, value in given if name == b"host"]
        origins = [value.decode("latin-1") for name, value in given if name == b"origin"]
        if self.key is None and not (len(hosts) == 1 and self._is_ours(hosts[0])):
            return Forbidden(
                "foreign_host",
                f"Host {', '.join(hosts)[:200]!r} is not this machine",
                "address the server as localhost or 127.0.0.1, or start it with --control-key and send the key",
            )
        own = {origin_of(f"{scheme}://{hosts[0]}") if len(hosts) == 1 else None, self._public} - {None}
        for text in origins:
            if origin_of(text) not in own:
                return Forbidden(
                    "foreign_origin",
                    f"Origin {text[:200]!r} is another than the server's",
                    "the control plane is for programs; a web page can use it only if it comes from the same origin",
                )
        if health:
            return None
        if self.key is None and not self.loopback:
            return Forbidden(
                "control_key_needed",
                "the server is bound to more than this machine and has no control key",
                "start it with --control-key KEY and send the key as X-Mock-Control-Key, or bind it to 127.0.0.1",
            )
        if self.key is not None:
            sent = next((value for name, value in given if name == KEY_HEADER), b"")
            if not compare_digest(sent, self.key.encode()):
                return Forbidden(
                    "control_key_refused",
                    f"X-Mock-Control-Key is {'another than the server was started with' if sent else 'missing'}",
                    "send the key that the server was started with (--control-key) as X-Mock-Control-Key",
                )
        return None

    @property
    def _public(self) -> Origin | None:
        return None if self.public_url is None else origin_of(self.public_url, whole=False)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this machine, the server in process, or its public address."""
        found = _AUTHORITY.fullmatch(host.lower())
        if found is None:
            return False
        name, public = found[1], self._public
        return (
            name in ("localhost", "[::1]", IN_PROCESS_HOST)
            or _is_loopback(name)
            or (public is not None and name == public[1])
        )


def origin_of(text: str, whole: bool = True) -> Origin | None:
    """Return the origin that a text is, or None if it is none; not `whole`: the origin of an address."""
    try:
        parts = urlsplit(text.lower())
    except ValueError:
        return None
    found = _AUTHORITY.fullmatch(parts.netloc)
    if found is None or parts.scheme not in _PORTS or (whole and text.lower() != f"{parts.scheme}://{parts.netloc}"):
        return None
    return parts.scheme, found[1], found[2] or _PORTS[parts.scheme]


def _is_loopback(name: str) -> bool:
    try:
        return IPv4Address(name).is_loopback
    except ValueError:
        return False
