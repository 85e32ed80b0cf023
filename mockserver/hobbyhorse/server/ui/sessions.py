"""Sessions of the page: the worlds that a browser may see. Knows no world.

Without a control key, a server on loopback shows every world to this machine. With one, the browser logs in with the
key once and then sends a signed cookie, which has no key in it. The signature is made with the control key itself, so
that every process accepts it and a changed key ends every session.

A cookie is sent to every port of a host, so its name has the port: two servers on one machine keep two sessions.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.types import Scope

from hobbyhorse.server.control.access import AccessCheck, Forbidden, Team, origin_of
from hobbyhorse.server.request import header

# Seconds of a session: a working day.
LIFE = 12 * 3600
PURPOSE = b"hobbyhorse page"


@dataclass(frozen=True, slots=True)
class Viewer:
    """The reader of the page: a team, or None for a reader of every world; `logged_in` if there is a session."""

    team: Team | None = None
    logged_in: bool = False

    def may_see(self, key: str) -> bool:
        """Whether the world of an API key is shown."""
        return self.team is None or key.startswith(self.team.prefix)


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of one server."""

    access: AccessCheck

    def judge(self, scope: Scope) -> Forbidden | None:
        """Return why a request is refused, with or without a login, or None."""
        refused = self.access.judge_page(scope["scheme"], scope["headers"])
        if refused is not None:
            return refused
        headers, method = scope["headers"], scope["method"]
        site = header(headers, b"sec-fetch-site")
        if method in ("GET", "HEAD"):
            # A link elsewhere may lead to the page, but no other page may embed or read a part of it.
            opened = (
                header(headers, b"sec-fetch-mode") == "navigate" and header(headers, b"sec-fetch-dest") == "document"
            )
            foreign = site not in (None, "same-origin", "none") and not opened
        else:
            # Browsers send one of the two with every form; the origin itself has been checked.
            foreign = site != "same-origin" and header(headers, b"origin") is None
        if not foreign:
            return None
        return Forbidden("foreign_page", "the request comes from another page", "open the page itself")

    def viewer(self, scope: Scope) -> Viewer | None:
        """Return the reader that sent a request, or None if a login is needed."""
        if not self.access.guarded:
            return Viewer()
        claims = self._claims(_cookies(scope).get(cookie_name(scope), ""))
        if claims is None:
            return None
        team = next((one for one in self.access.teams.values() if one.name == claims["team"]), None)
        return Viewer(team, logged_in=True)

    def login(self, scope: Scope, key: str) -> str | None:
        """Return the Set-Cookie header for a control key, or None if it is wrong."""
        sent = key.encode()
        if not self.access.opens(sent):
            return None
        team = self.access.team_of(sent)
        claims = json.dumps({"team": team.name if team else None, "until": int(time.time()) + LIFE})
        text = urlsafe_b64encode(claims.encode()).decode()
        return _set_cookie(scope, f"{text}.{_signature(key, text)}", LIFE)

    def logout(self, scope: Scope) -> str:
        """Return the Set-Cookie header that ends a session."""
        return _set_cookie(scope, "", 0)

    def _claims(self, cookie: str) -> Mapping[str, Any] | None:
        """Return the claims of a cookie that this server has signed and that is still valid, or None."""
        text, _, signature = cookie.partition(".")
        try:
            claims: Mapping[str, Any] = json.loads(urlsafe_b64decode(text))
            name, until = claims["team"], claims["until"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        key = self._key_of(name)
        if key is None or not hmac.compare_digest(_signature(key, text).encode(), signature.encode()):
            return None
        return claims if until > time.time() else None

    def _key_of(self, name: str | None) -> str | None:
        """Return the control key of a team, or the server's for None."""
        if name is None:
            return self.access.key
        return next((key for key, team in self.access.teams.items() if team.name == name), None)


def _signature(key: str, text: str) -> str:
    # Derived first, so that a signature for another purpose with the same key is worth nothing here.
    derived = hmac.digest(key.encode(), PURPOSE, "sha256")
    return hmac.new(derived, text.encode(), "sha256").hexdigest()


def cookie_name(scope: Scope) -> str:
    """Return the name of the session's cookie, which has the port that the browser uses."""
    found = origin_of(f"{scope['scheme']}://{header(scope['headers'], b'host')}")
    return f"hobbyhorse-{found[2] if found else 0}"


def _cookies(scope: Scope) -> dict[str, str]:
    """Return the cookies of a request."""
    # Other programs on the machine may have set cookies that the library refuses.
    text = re.sub(r"[^\x20-\x7e]", "", header(scope["headers"], b"cookie") or "")
    found: dict[str, str] = {}
    for part in text.split(";"):
        try:
            found |= {name: one.value for name, one in SimpleCookie(part.strip()).items()}
        except CookieError:
            continue
    return found


def _set_cookie(scope: Scope, value: str, life: int) -> str:
    secure = "; Secure" if scope["scheme"] == "https" else ""
    return f"{cookie_name(scope)}={value}; Path=/_mock/ui; Max-Age={life}; HttpOnly; SameSite=Strict{secure}"
