"""The listening socket of a command."""

from __future__ import annotations

import socket

import pytest

from hobbyhorse.cli.listening import is_loopback, listen
from hobbyhorse.cli.usage import UsageError


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
