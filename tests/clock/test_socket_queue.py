"""The send queue of a socket: unacknowledged bytes, bytes without room at the peer, and no queue at all."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from hobbyhorse.clock import socket_queue
from hobbyhorse.clock.socket_queue import not_sent, unacknowledged

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the bytes not sent")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a connected writer, non-blocking, and its reader."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as reader,
        listening.accept()[0] as writer,
    ):
        writer.setblocking(False)
        yield writer, reader


def fill(writer: socket.socket) -> None:
    with suppress(BlockingIOError):
        while writer.send(bytes(65_536)):
            pass


def test_an_idle_socket_has_an_empty_queue(pair: tuple[socket.socket, socket.socket]) -> None:
    writer, _ = pair
    assert (unacknowledged(writer.fileno), not_sent(writer.fileno)) == (0, 0)


@linux
def test_bytes_without_room_at_the_peer_are_not_sent_until_the_peer_reads(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    writer, reader = pair
    fill(writer)
    waiting = not_sent(writer.fileno)
    assert 0 < waiting <= unacknowledged(writer.fileno)
    read = 0
    while not_sent(writer.fileno):
        read += len(reader.recv(1 << 20))
    assert read


@linux
def test_bytes_with_room_at_the_peer_are_sent_immediately(pair: tuple[socket.socket, socket.socket]) -> None:
    writer, reader = pair
    writer.send(b"seven..")
    assert not_sent(writer.fileno) == 0
    assert reader.recv(7) == b"seven.."


def test_a_closed_socket_or_a_transport_without_one_has_an_empty_queue(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    writer, _ = pair
    fill(writer)
    writer.close()
    transport = None
    for fileno in (writer.fileno, lambda: transport.fileno(), lambda: 1_000_000):  # type: ignore[attr-defined]
        assert (unacknowledged(fileno), not_sent(fileno)) == (0, 0)


@linux
def test_a_system_that_does_not_count_unsent_bytes_reports_the_unacknowledged_ones(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = pair
    fill(writer)
    only_unsent = not_sent(writer.fileno)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not_sent(writer.fileno) == unacknowledged(writer.fileno) > only_unsent
    assert reader.recv(1)


def test_a_system_without_ioctl_reports_empty_queues(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, _ = pair
    fill(writer)
    monkeypatch.setattr(socket_queue, "fcntl", None)
    monkeypatch.setattr(sys, "platform", "win32")
    assert (unacknowledged(writer.fileno), not_sent(writer.fileno)) == (0, 0)
