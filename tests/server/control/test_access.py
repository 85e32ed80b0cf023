"""The access check admits this machine, or a client with the control key, and never a web page of another origin."""

from __future__ import annotations

import pytest

from hobbyhorse.server.control.access import AccessCheck, origin_of

OURS = [
    "localhost",
    "localhost:8000",
    "LOCALHOST:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.9.9.9:1",
    "[::1]",
    "[::1]:8000",
    "hobbyhorse.test",
]
FOREIGN = [
    "",
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example/localhost",
    "localhost@evil.example",
    "evil.example:80@localhost",
    "localhost:8000:9000",
    "localhost, evil.example",
    "10.0.0.1",
    "128.0.0.1",
    "0.0.0.0",
    "127.1",
    "2130706433",
    "::1",
    "[::]",
    "[::1",
    "[::ffff:10.0.0.1]",
    "local\u00adhost",
]


def verdict(guard: AccessCheck, *, scheme: str = "http", health: bool = False, **headers: str) -> str | None:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    found = guard.judge(scheme, raw, health)
    return found.code if found else None


@pytest.mark.parametrize("host", OURS)
def test_this_machine_may_come_in(host: str) -> None:
    assert verdict(AccessCheck(), host=host) is None


@pytest.mark.parametrize("health", [False, True])
@pytest.mark.parametrize("host", FOREIGN)
def test_another_host_may_not_even_request_health(host: str, health: bool) -> None:
    assert verdict(AccessCheck(), host=host, health=health) == "foreign_host"


def test_two_hosts_or_none_are_foreign() -> None:
    both = [(b"host", b"localhost"), (b"host", b"evil.example")]
    for raw in (both, both[::-1], []):
        found = AccessCheck().judge("http", raw)
        assert found is not None
        assert found.code == "foreign_host"


def test_the_public_host_is_admitted() -> None:
    guard = AccessCheck(public_url="https://mock.example:8443/base")
    assert verdict(guard, host="mock.example:8443") is None
    assert verdict(guard, host="mock.example") is None
    assert verdict(guard, host="other.example") == "foreign_host"
    assert verdict(guard, host="localhost", origin="https://mock.example:8443") is None
    assert verdict(guard, host="localhost", origin="https://mock.example") == "foreign_origin"


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://localhost",
        "https://localhost:8000",
        "http://127.0.0.1:8000",
        "http://localhost:8000.evil.example",
        "http://localhost:8000/",
        "http://localhost:8000@evil.example",
        "http://user@localhost:8000",
        "http://localhost:8000 http://evil.example",
        "localhost:8000",
        "file://",
        "http://[::1",
        "chrome-extension://localhost:8000",
    ],
)
@pytest.mark.parametrize("key", [None, "secret"])
def test_another_origin_may_not_come_in_with_the_key_neither(origin: str, key: str | None) -> None:
    assert (
        verdict(AccessCheck(key), host="localhost:8000", origin=origin, x_mock_control_key=key or "")
        == "foreign_origin"
    )
    assert verdict(AccessCheck(key), host="localhost:8000", origin=origin, health=True) == "foreign_origin"


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("http", "localhost:8000", "http://localhost:8000"),
        ("http", "localhost:8000", "HTTP://LOCALHOST:8000"),
        ("http", "localhost", "http://localhost:80"),
        ("http", "localhost:80", "http://localhost"),
        ("https", "localhost", "https://localhost:443"),
        ("http", "[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_same_origin_may_come_in(scheme: str, host: str, origin: str) -> None:
    assert verdict(AccessCheck(), scheme=scheme, host=host, origin=origin) is None


def test_with_a_key_any_host_will_do_and_nothing_without_it() -> None:
    guard = AccessCheck("secret", loopback=False)
    assert verdict(guard, host="mock.internal", x_mock_control_key="secret") is None
    assert verdict(guard, host="mock.internal", x_mock_control_key="secre") == "control_key_refused"
    assert verdict(guard, host="mock.internal", x_mock_control_key="s\u00e9cret") == "control_key_refused"
    assert verdict(guard, host="localhost") == "control_key_refused"
    assert verdict(guard, host="mock.internal", health=True) is None
    assert verdict(AccessCheck("secret"), host="localhost") == "control_key_refused"


def test_bound_to_more_than_this_machine_a_key_is_needed_but_for_health() -> None:
    guard = AccessCheck(loopback=False)
    found = guard.judge("http", [(b"host", b"localhost")])
    assert found is not None
    assert found.code == "control_key_needed"
    assert "--control-key" in found.hint
    assert verdict(guard, host="localhost", health=True) is None
    for host in ("mock:8692", "10.244.0.5:8692", "mock.internal"):
        assert verdict(guard, host=host, health=True) is None, "a health check by a service's name, or by an address"
        assert verdict(guard, host=host) == "foreign_host"
    assert verdict(guard, host="mock:8692", health=True, origin="http://evil.example") == "foreign_origin"


def test_an_origin_has_a_scheme_a_name_and_a_port() -> None:
    assert origin_of("https://Mock.example") == ("https", "mock.example", "443")
    assert origin_of("https://mock.example/path") is None
    assert origin_of("https://mock.example/path", whole=False) == ("https", "mock.example", "443")
    assert origin_of("null") is None


@pytest.mark.parametrize(
    ("headers", "client", "admitted"),
    [
        ({}, "127.0.0.1", True),
        ({}, "::1", True),
        ({}, None, True),
        ({}, "10.0.0.9", False),
        ({"x_forwarded_for": "127.0.0.1"}, "127.0.0.1", False),
        ({"forwarded": "for=127.0.0.1"}, "127.0.0.1", False),
        ({"authorization": "bEARER  secret", "x_forwarded_for": "1.2.3.4"}, "127.0.0.1", True),
        ({"authorization": "Bearer admin"}, "10.0.0.9", True),
        ({"x_mock_control_key": "secret"}, "10.0.0.9", True),
        ({"authorization": "Basic secret"}, "10.0.0.9", False),
        ({"authorization": "Bearer secre"}, "10.0.0.9", False),
    ],
)
def test_the_metrics_are_open_to_this_machine_or_with_a_key(
    headers: dict[str, str], client: str | None, admitted: bool
) -> None:
    guard = AccessCheck("secret", admin_key="admin")
    given = {"host": "localhost", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
    assert (guard.judge_metrics("http", raw, client) is None) is admitted
