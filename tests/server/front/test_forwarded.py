"""The headers of reverse proxies: followed from trusted proxies alone, and read from the end."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.front.forwarded import PUBLIC, TrustedProxies, read_networks
from hobbyhorse.server.request import requested_origin
from tests.conftest import CONTRACTS
from tests.world import Mock

PROXY = "10.0.0.1"
TRUSTED = TrustedProxies(read_networks(["10.0.0.0/8", "fd00::/8"]))


def origin(headers: dict[str, str], peer: str = PROXY, trusted: TrustedProxies = TRUSTED) -> str:
    """Return the origin of a request that a peer sends."""
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "client": (peer, 1),
        "server": ("192.0.2.1", 8000),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    scope["headers"].append((b"host", b"backend:8000"))
    trusted.read(scope)
    return requested_origin(scope)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "http://backend:8000"),
        ({"X-Forwarded-Proto": "https"}, "https://backend:8000"),
        ({"X-Forwarded-Proto": "HTTPS"}, "https://backend:8000"),
        ({"X-Forwarded-Host": "mock.example"}, "http://mock.example"),
        ({"X-Forwarded-Host": "mock.example:444", "X-Forwarded-Proto": "https"}, "https://mock.example:444"),
        ({"X-Forwarded-Host": "[2001:db8::1]:444"}, "http://[2001:db8::1]:444"),
        ({"X-Forwarded-Prefix": "/mock/"}, "http://backend:8000/mock"),
        (
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "mock.example", "X-Forwarded-Prefix": "/a/b"},
            "https://mock.example/a/b",
        ),
        ({"Forwarded": "for=192.0.2.9;proto=https;host=mock.example"}, "https://mock.example"),
        ({"Forwarded": 'for="[2001:db8::1]:80"; Proto=https; Host="mock.example:444"'}, "https://mock.example:444"),
        ({"Forwarded": "proto=https", "X-Forwarded-Proto": "http"}, "https://backend:8000"),
        ({"Forwarded": "proto=https", "X-Forwarded-Prefix": "/mock"}, "https://backend:8000/mock"),
    ],
)
def test_a_trusted_proxy_names_the_address_that_its_client_used(headers: dict[str, str], expected: str) -> None:
    assert origin(headers) == expected
    assert origin(headers, "fd00::1") == expected
    assert origin(headers, "::ffff:10.1.2.3") == expected


@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.1", "11.0.0.1", "::1", "unix", ""])
def test_any_other_peer_is_not_followed(peer: str) -> None:
    headers = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "proto=https;host=evil.example",
    }
    assert origin(headers, peer) == "http://backend:8000"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Proto": "javascript"},
        {"X-Forwarded-Proto": ""},
        {"X-Forwarded-Host": ""},
        {"X-Forwarded-Host": "evil.example/path"},
        {"X-Forwarded-Host": "user@evil.example"},
        {"X-Forwarded-Host": "evil.example:port"},
        {"X-Forwarded-Host": "a b"},
        {"X-Forwarded-Host": 'x"y'},
        {"X-Forwarded-Host": "evil\u00e4.example"},
        {"X-Forwarded-Prefix": "mock"},
        {"X-Forwarded-Prefix": "//evil.example"},
        {"X-Forwarded-Prefix": "/a b"},
        {"X-Forwarded-Prefix": "/<script>"},
        {"Forwarded": "nonsense"},
        {"Forwarded": "host="},
        {"Forwarded": 'host="a b"'},
        {"Forwarded": ';;;=,"'},
        {"Forwarded": 'host=evil.example"'},
    ],
)
def test_a_value_of_another_form_is_not_followed(headers: dict[str, str]) -> None:
    assert origin(headers) == "http://backend:8000"


def test_values_before_those_of_trusted_proxies_are_the_clients_own() -> None:
    """The client has sent the first value, and the proxy appends its own."""
    assert origin({"X-Forwarded-Host": "evil.example, mock.example"}) == "http://mock.example"
    assert origin({"Forwarded": "host=evil.example, for=192.0.2.9;host=mock.example"}) == "http://mock.example"


def test_of_a_chain_of_trusted_proxies_the_outermost_counts() -> None:
    chain = {
        "X-Forwarded-For": "192.0.2.9, 10.0.0.7:4711",
        "X-Forwarded-Host": "evil.example, mock.example, inner.example",
        "X-Forwarded-Proto": "http, https, http",
    }
    assert origin(chain) == "https://mock.example"
    forwarded = "host=evil.example, for=192.0.2.9;host=mock.example, for=10.0.0.7;host=inner.example"
    assert origin({"Forwarded": forwarded}) == "http://mock.example"


def test_a_proxy_that_replaces_the_values_may_stand_behind_another() -> None:
    chain = {"X-Forwarded-For": "192.0.2.9, 10.0.0.7", "X-Forwarded-Host": "mock.example"}
    assert origin(chain) == "http://mock.example"


def test_nonsense_costs_little() -> None:
    begun = time.process_time()
    for text in ('"' + '\\"' * 30_000, '"' * 60_000, ",;=" * 20_000, 'a="' * 20_000):
        assert origin({"Forwarded": text, "X-Forwarded-For": text}) == "http://backend:8000"
    assert time.process_time() - begun < 2


def test_a_request_without_such_headers_is_left_alone() -> None:
    scope: dict[str, Any] = {"client": (PROXY, 1), "scheme": "http", "headers": [(b"host", b"x")]}
    TRUSTED.read(scope)
    assert PUBLIC not in scope


@pytest.mark.parametrize("text", ["10.0.0.0/33", "proxy.example", "10.0.0.1/x", ""])
def test_a_network_is_an_address_or_a_range(text: str) -> None:
    with pytest.raises(ValueError, match="network"):
        read_networks([text])


def test_an_address_with_host_bits_is_its_network() -> None:
    assert [str(one) for one in read_networks(["10.0.0.1/8", " 192.0.2.1 "])] == ["10.0.0.0/8", "192.0.2.1/32"]


# ---- the application


def mock(contract: Contract, **options: Any) -> Mock:
    return Mock([contract], pace="instant", **options)


HEADERS = {"x-forwarded-proto": "https", "x-forwarded-host": "mock.example", "x-forwarded-prefix": "/base"}


@pytest.mark.anyio
async def test_links_use_the_address_that_a_trusted_proxy_names() -> None:
    server = mock(CONTRACTS[0], trusted_proxies=read_networks(["127.0.0.1"]))
    reply = await server.send("GET", "/", headers=HEADERS)
    assert reply.json["providers"] == {CONTRACTS[0].key: f"https://mock.example/base/{CONTRACTS[0].key}"}


@pytest.mark.anyio
async def test_without_trusted_proxies_nobody_is_followed() -> None:
    reply = await mock(CONTRACTS[0]).send("GET", "/", headers=HEADERS)
    assert reply.json["providers"] == {CONTRACTS[0].key: f"http://mock.test/{CONTRACTS[0].key}"}


@pytest.mark.anyio
async def test_the_public_url_overrules_the_proxy() -> None:
    networks = read_networks(["127.0.0.1"])
    server = mock(CONTRACTS[0], trusted_proxies=networks, public_url="https://public.example/x")
    reply = await server.send("GET", "/", headers=HEADERS)
    assert reply.json["providers"] == {CONTRACTS[0].key: f"https://public.example/x/{CONTRACTS[0].key}"}


@pytest.mark.anyio
async def test_the_host_that_a_trusted_proxy_names_selects_the_provider() -> None:
    server = mock(CONTRACTS[0], trusted_proxies=read_networks(["127.0.0.1"]))
    headers = {"x-forwarded-host": CONTRACTS[0].hosts[0], "x-forwarded-proto": "https"}
    reply = await server.send("GET", "/nowhere", headers=headers)
    assert b"belongs to no provider" not in reply.body
    assert b"belongs to no provider" in (await server.send("GET", "/nowhere")).body


@pytest.mark.anyio
async def test_no_forwarded_host_opens_the_control_plane() -> None:
    """A page whose name is rebound to this machine can send any header but Host, and its peer is this machine."""
    server = mock(CONTRACTS[0], trusted_proxies=read_networks(["127.0.0.1"]))
    headers = {"x-forwarded-host": "localhost", "forwarded": "host=localhost"}
    reply = await server.send("GET", "/_mock/jobs", headers=headers, host="evil.example")
    assert (reply.status, reply.json["error"]["code"]) == (403, "foreign_host")


def test_the_fake_reads_the_headers_only_if_there_are_trusted_proxies() -> None:
    assert Fake(CONTRACTS, Options())._trusted is None
