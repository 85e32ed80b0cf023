"""A session opens the worlds of the key that was given at its login, for a working day, and nothing else does."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from hobbyhorse.server.control.access import AccessCheck, Team
from hobbyhorse.server.ui.sessions import LIFE, Sessions, Viewer, cookie_name

A, B = Team("team-a", "a-"), Team("team-b", "b-")
GUARDED = Sessions(AccessCheck("main", teams={"key-a": A, "key-b": B}))


def scope(method: str = "GET", scheme: str = "http", **headers: str) -> dict[str, Any]:
    given = {"host": "localhost:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    return {"type": "http", "method": method, "scheme": scheme, "headers": raw, "path": "/_mock/ui"}


def cookie(found: str | None) -> str:
    assert found is not None
    return found.partition(";")[0]


def test_without_a_control_key_this_machine_sees_every_world() -> None:
    assert Sessions(AccessCheck()).viewer(scope()) == Viewer()


def test_a_login_opens_the_worlds_of_its_key() -> None:
    for key, team in (("main", None), ("key-a", A), ("key-b", B)):
        given = cookie(GUARDED.login(scope(), key))
        assert key not in given
        assert GUARDED.viewer(scope(cookie=given)) == Viewer(team, logged_in=True)
        assert GUARDED.viewer(scope(cookie=f"other=1; bad[=2; {given}; more=\x7f")) == Viewer(team, logged_in=True)
    assert Viewer(A).may_see("a-1")
    assert not Viewer(A).may_see("b-1")


@pytest.mark.parametrize("key", ["", "mai", "main ", "MAIN", "m\u00e4in"])
def test_another_key_opens_nothing(key: str) -> None:
    assert GUARDED.login(scope(), key) is None


def test_a_changed_or_foreign_cookie_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = cookie(GUARDED.login(scope(), "key-a"))
    name, _, value = given.partition("=")
    text, _, signature = value.partition(".")
    other = cookie(GUARDED.login(scope(), "main")).partition("=")[2].partition(".")[0]
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    deep = urlsafe_b64encode(b"[" * 40_000).decode()
    changed = (f"{other}.{signature}", f"{text}.{flipped}", f"{text}.", text)
    for wrong in (*changed, "", ".", "e30=.x", "bnVsbA==.x", deep, f"{deep}.x"):
        assert GUARDED.viewer(scope(cookie=f"{name}={wrong}")) is None
    assert GUARDED.viewer(scope()) is None
    # A server with another key.
    assert Sessions(AccessCheck("other", teams={"key": A})).viewer(scope(cookie=given)) is None
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + LIFE + 2)
    assert GUARDED.viewer(scope(cookie=given)) is None


def test_the_cookie_is_closed_to_scripts_and_other_sites() -> None:
    found = GUARDED.login(scope(scheme="https"), "main") or ""
    assert {"HttpOnly", "SameSite=Strict", "Secure", "Path=/_mock/ui", f"Max-Age={LIFE}"} <= set(found.split("; "))
    assert "Secure" not in (GUARDED.login(scope(), "main") or "")
    assert "Max-Age=0" in GUARDED.logout(scope())


def test_servers_on_one_machine_have_cookies_of_their_own() -> None:
    assert cookie_name(scope()) == "hobbyhorse-8000"
    assert cookie_name(scope(host="localhost")) == "hobbyhorse-80"
    assert cookie_name(scope(scheme="https", host="mock.example")) == "hobbyhorse-443"
    assert cookie_name(scope(host="[[")) == "hobbyhorse-0"


OURS = {"origin": "http://localhost:8000"}
OPENED = {"sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}


@pytest.mark.parametrize(
    ("method", "headers", "admitted"),
    [
        ("GET", {}, True),
        ("GET", {"sec_fetch_site": "same-origin"}, True),
        ("GET", {"sec_fetch_site": "none", **OPENED}, True),
        ("GET", {"sec_fetch_site": "cross-site", **OPENED}, True),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"}, False),
        ("GET", {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, False),
        ("GET", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"}, False),
        ("GET", {"origin": "http://evil.example"}, False),
        ("GET", {"host": "evil.example"}, False),
        ("POST", OURS, True),
        ("POST", {"sec_fetch_site": "same-origin"}, True),
        ("POST", {}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"origin": "http://localhost:9000"}, False),
        ("POST", {"sec_fetch_site": "cross-site", **OPENED}, False),
        ("POST", {"origin": "http://evil.example", "sec_fetch_site": "same-origin"}, False),
    ],
)
def test_another_page_is_refused(method: str, headers: dict[str, str], admitted: bool) -> None:
    assert (Sessions(AccessCheck()).judge(scope(method, **headers)) is None) is admitted


def test_other_machines_need_a_control_key() -> None:
    refused = Sessions(AccessCheck(loopback=False)).judge(scope())
    assert refused is not None
    assert refused.code == "control_key_needed"
    assert Sessions(AccessCheck("main", loopback=False)).judge(scope(host="mock.internal")) is None
