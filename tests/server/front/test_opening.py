"""The names of the certificate, and the addresses that lead to the server."""

from __future__ import annotations

import socket
import ssl
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hobbyhorse.server.front.certificates import CertificateError, Certificates, server_context
from hobbyhorse.server.front.opening import certificates_for, hosts_of, make_front
from hobbyhorse.server.run import bind
from tests.conftest import CONTRACTS

CONTRACT = replace(CONTRACTS[0], hosts=("API.Example.com", "local.example.com:8080"))


def names_in(certificates: Certificates) -> set[str]:
    """Return the names in a certificate, as a client reads them."""
    client = ssl.create_default_context(cafile=str(certificates.authority))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    other = server_context(certificates).wrap_bio(to_server, to_client, server_side=True)
    for side in (one, other, one):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = one.getpeercert()
    assert found is not None
    return {str(entry[1]) for entry in found["subjectAltName"]}


@pytest.fixture
def bound() -> socket.socket:
    return bind("127.0.0.1", 0)


def test_the_certificate_covers_the_hosts_of_the_providers_and_the_server(
    bound: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Machine")
    with bound:
        made = certificates_for([CONTRACT], bound, tmp_path, "https://public.example:444/x", ["Mock"])
    expected = {"api.example.com", "local.example.com", "localhost", "127.0.0.1", "machine", "public.example", "mock"}
    assert names_in(made) - {"0:0:0:0:0:0:0:1"} == expected


def test_a_machine_with_an_unusual_name_gets_a_certificate_too(
    bound: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "my machine_1")
    with bound:
        assert certificates_for([CONTRACT], bound, tmp_path).authority


def test_without_trustme_there_is_a_clear_error(
    bound: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trustme", None)
    monkeypatch.delitem(sys.modules, "hobbyhorse.server.front.authority", raising=False)
    with bound, pytest.raises(CertificateError, match=r"needs the package trustme: pip install 'hobbyhorse\[tls\]'"):
        certificates_for([CONTRACT], bound, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_servers_own_addresses_lead_to_it(host: str, certificates: Certificates) -> None:
    with bind(host, 0) as plain, bind(host, 0) as tls, bind("127.0.0.2", 0) as other, bind(host, 0) as proxy:
        public = "https://public.example/x"
        front = make_front(
            [CONTRACT], certificates, plain=[plain, other], tls=[tls], proxy=proxy, public_url=public, names=["Mock"]
        )
        find = front.destinations.find
        for port in (plain.getsockname()[1], tls.getsockname()[1]):
            for name in ("localhost", "127.0.0.1", "::1", "mock", "public.example", socket.gethostname()):
                assert find(name, port) == ("127.0.0.1", port), name
        elsewhere = other.getsockname()[1]
        assert find("127.0.0.2", elsewhere) == ("127.0.0.2", elsewhere)
        assert find("localhost", elsewhere) is None
        assert find("public.example", 443) == ("public.example", 443)
        assert find("public.example", 80) is None
        assert find("localhost", proxy.getsockname()[1]) is None
        assert front.sockets == (tls, proxy)


def test_the_ready_line_gets_the_addresses(certificates: Certificates) -> None:
    with bind("127.0.0.1", 0) as tls, bind("127.0.0.1", 0) as proxy:
        front = make_front([CONTRACT], certificates, plain=(), tls=[tls], proxy=proxy)
        assert front.addresses == {
            "tls_url": f"https://127.0.0.1:{tls.getsockname()[1]}",
            "ca": str(certificates.authority),
            "connect_proxy": f"http://127.0.0.1:{proxy.getsockname()[1]}",
        }
        given = replace(certificates, authority=None)
        front = make_front([CONTRACT], given, plain=(), tls=[tls], proxy=None)
        assert (front.addresses["ca"], front.addresses["connect_proxy"]) == (None, None)


def test_hosts_are_compared_in_lower_case() -> None:
    assert hosts_of([CONTRACT]) == {"api.example.com", "local.example.com:8080"}
