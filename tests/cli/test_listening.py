"""The listening socket of a command."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hobbyhorse.cli.listening import TlsOptions, is_loopback, kept_certificates, listen, open_front, read_authority
from hobbyhorse.cli.usage import UsageError
from tests.conftest import CONTRACTS


def test_port_0_is_a_free_port() -> None:
    with listen("127.0.0.1", 0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"
        assert bound.getsockname()[1] > 0


def test_a_port_in_use_is_an_error_that_names_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as error:
            listen("127.0.0.1", port)
    assert str(error.value).startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert str(error.value).endswith("; --port 0 picks a free port")


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 203\.0\.113\.1:0: "):
        listen("203.0.113.1", 0)


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_a_loopback_address_is_reached_by_this_machine_alone(host: str, expected: bool) -> None:
    with listen(host, 0) as bound:
        assert is_loopback(bound) is expected


def test_a_socket_without_an_ip_address_is_not_taken_for_a_loopback() -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("\0hobbyhorse-test-listening")
        assert is_loopback(bound) is False


def test_the_ports_for_tls_and_the_proxy_are_bound_at_the_host_of_the_server(tmp_path: Path) -> None:
    with listen("127.0.0.2", 0) as bound:
        front = open_front(CONTRACTS, bound, TlsOptions(0, 0), folder=tmp_path)
        assert {one.getsockname()[0] for one in front.sockets} == {"127.0.0.2"}
        for one in front.sockets:
            one.close()
    assert front.served.files.authority == tmp_path / "ca.pem"
    assert read_authority(front) == (tmp_path / "ca.pem").read_bytes()


def test_a_folder_keeps_the_authority_over_starts(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        with listen("127.0.0.1", 0) as bound:
            front = open_front(CONTRACTS, bound, TlsOptions(0, 0), folder=tmp_path)
            found.append(read_authority(front))
            for one in front.sockets:
                one.close()
    assert found[0] == found[1]


def test_if_a_port_is_taken_no_other_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bound = listen("127.0.0.1", 0)
        with pytest.raises(UsageError, match="--connect-port 0 picks a free port"):
            open_front(CONTRACTS, bound, TlsOptions(0, taken.getsockname()[1]))
    assert bound.fileno() == -1


def test_the_usual_ports_are_those_of_https_and_of_proxies() -> None:
    found = TlsOptions.read(True, None, None, names=None, cert=None, key=None)
    assert found == TlsOptions(8443, 8888)
    assert TlsOptions.read(False, None, None, names=None, cert=None, key=None) is None


@pytest.mark.parametrize(
    ("state", "folder"),
    [(None, None), ("kept", Path("kept/tls")), ("kept?sync=full", Path("kept/tls")), ("redis://localhost/0", None)],
)
def test_a_kept_state_has_the_certificates_too(state: str | None, folder: Path | None) -> None:
    assert kept_certificates(state) == folder
