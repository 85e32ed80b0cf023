"""A URL decides the source of an image; the resolved address of its name is checked again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.server.files.image_sources import FetchPolicy, Source, classify, fixture_name

ORIGIN = "http://127.0.0.1:8000"
NAMED = FetchPolicy(frozenset({"cdn.example.com", "10.0.0.5"}))
ANY = FetchPolicy(frozenset({"*"}))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:image/png;base64,AAAA", Source.INLINE),
        ("DATA:image/png;base64,AAAA", Source.INLINE),
        ("http://127.0.0.1:8000/fixtures/images/horse.png", Source.FIXTURE),
        ("http://127.0.0.1:9000/fixtures/images/horse.png", Source.FETCH),
        ("http://localhost/horse.png", Source.FETCH),
        ("http://LOCALHOST./horse.png", Source.FETCH),
        ("http://[::1]:80/horse.png", Source.FETCH),
        ("http://127.8.9.1/horse.png", Source.FETCH),
        ("https://example.com/horse.png", Source.ELSEWHERE),
        ("http://192.168.1.1/horse.png", Source.ELSEWHERE),
        ("http://169.254.169.254/latest/meta-data", Source.ELSEWHERE),
        ("http://localhost.example.com/", Source.ELSEWHERE),
        ("http://user:pass@example.com/", Source.ELSEWHERE),
        ("ftp://127.0.0.1/horse.png", Source.INVALID),
        ("file:///etc/passwd", Source.INVALID),
        ("runflow://assets/0b0f1a52", Source.ELSEWHERE),
        ("runflow://", Source.INVALID),
        ("horse.png", Source.INVALID),
        ("http://", Source.INVALID),
        ("http://exa mple.com/", Source.INVALID),
        ("http://[::1", Source.INVALID),
        ("http://127.0.0.1:99999/", Source.INVALID),
        ("sha256:" + "0" * 64, Source.INVALID),
        ("", Source.INVALID),
    ],
)
def test_a_url_decides_its_source(url: str, expected: Source) -> None:
    assert classify(url, FetchPolicy(), ORIGIN) is expected


@given(st.text())
def test_any_text_has_a_source(url: str) -> None:
    assert classify(url, FetchPolicy(), ORIGIN) in Source


@pytest.mark.parametrize(
    ("policy", "url", "allowed"),
    [
        (NAMED, "https://cdn.example.com/a.png", True),
        (NAMED, "https://CDN.example.com./a.png", True),
        (NAMED, "https://other.example.com/a.png", False),
        (ANY, "https://other.example.com/a.png", True),
        (ANY, "ftp://other.example.com/a.png", False),
    ],
)
def test_hosts_are_allowed_by_name(policy: FetchPolicy, url: str, allowed: bool) -> None:
    assert policy.allows(url) is allowed


@pytest.mark.parametrize(
    ("policy", "host", "address", "allowed"),
    [
        (ANY, "example.com", "93.184.216.34", True),
        (ANY, "example.com", "10.0.0.1", False),
        (ANY, "example.com", "127.0.0.1", False),
        (ANY, "example.com", "169.254.169.254", False),
        (ANY, "example.com", "::1", False),
        (ANY, "example.com", "::ffff:10.0.0.1", False),
        (ANY, "example.com", "fe80::1%eth0", False),
        (ANY, "example.com", "fd00::1", False),
        (NAMED, "cdn.example.com", "10.0.0.1", True),
        (NAMED, "10.0.0.5", "10.0.0.5", True),
        (FetchPolicy(), "localhost", "127.0.0.1", True),
        (FetchPolicy(), "localhost", "10.0.0.1", False),
        (FetchPolicy(), "example.com", "93.184.216.34", False),
    ],
)
def test_a_name_that_leads_to_a_private_address_is_refused_unless_it_was_named(
    policy: FetchPolicy, host: str, address: str, allowed: bool
) -> None:
    assert policy.allows_address(host, address) is allowed


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"{ORIGIN}/fixtures/images/a.png", "a.png"),
        (f"{ORIGIN}/fixtures/images/a%20b.png?x=1", "a b.png"),
        (f"{ORIGIN}/fixtures/images/", None),
        (f"{ORIGIN}/fixtures/images/../a.png", None),
        (f"{ORIGIN}/fixtures/images/..%2fa.png", None),
        (f"{ORIGIN}/fixtures/images/..", None),
        ("http://127.0.0.1:9000/fixtures/images/a.png", None),
    ],
)
def test_only_a_plain_name_is_a_fixture_image(url: str, name: str | None) -> None:
    assert fixture_name(url, ORIGIN) == name
