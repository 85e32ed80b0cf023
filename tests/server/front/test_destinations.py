"""The destinations: the contracts' hosts at the ports of the web, the server's own addresses, and nothing else."""

from __future__ import annotations

import pytest

from hobbyhorse.server.front.destinations import MOST_NAMED, Destinations, read_authority

LED = Destinations(
    frozenset({"api.example.com", "local.example.com:8080"}),
    {("localhost", 8443): ("127.0.0.1", 8443), ("::1", 8443): ("127.0.0.1", 8443)},
)


@pytest.mark.parametrize(
    ("host", "port", "found"),
    [
        ("api.example.com", 443, ("api.example.com", 443)),
        ("api.example.com", 80, ("api.example.com", 80)),
        ("API.Example.com.", 443, ("api.example.com", 443)),
        ("local.example.com", 8080, ("local.example.com", 8080)),
        ("localhost", 8443, ("127.0.0.1", 8443)),
        ("::1", 8443, ("127.0.0.1", 8443)),
        ("api.example.com", 8443, None),
        ("local.example.com", 443, None),
        ("localhost", 443, None),
        ("127.0.0.1", 8443, None),
        ("example.com", 443, None),
        ("evil.api.example.com", 443, None),
        ("", 443, None),
    ],
)
def test_only_known_addresses_lead_to_the_server(host: str, port: int, found: tuple[str, int] | None) -> None:
    assert LED.find(host, port) == found


def test_a_refusal_names_the_host_and_the_hosts_that_there_are() -> None:
    said = LED.refusal("example.org", 443)
    assert said.startswith("example.org:443 is not a host of this mock server")
    assert said.endswith("its hosts are api.example.com, local.example.com:8080")


def test_a_refusal_is_short_whatever_the_host_and_the_number_of_hosts() -> None:
    many = Destinations(frozenset(f"api-{number}.example.com" for number in range(MOST_NAMED + 5)))
    said = many.refusal("x" * 10_000, 443)
    assert len(said) < 1_000
    assert said.endswith(" and 5 more")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("example.com:443", ("example.com", 443)),
        ("[2001:db8::1]:8443", ("2001:db8::1", 8443)),
        ("example.com", None),
        ("example.com:", None),
        (":443", None),
        ("example.com:0", None),
        ("example.com:65536", None),
        ("example.com:99999999999999999999", None),
        ("example.com:443x", None),
        ("example.com:\u0663", None),
        ("2001:db8::1:443", None),
        ("a b:443", None),
        ("a\tb:443", None),
        ("\u00e4.example:443", None),
        ("http://example.com:443", None),
        ("x" * 300 + ":443", None),
        ("", None),
    ],
)
def test_an_authority_is_a_host_and_a_port(text: str, found: tuple[str, int] | None) -> None:
    assert read_authority(text) == found
