"""Hands a connection over to another process of this machine, which then serves it as if it had accepted it.

A connection is a file descriptor, and Linux can send one over a Unix socket. With it go the bytes that were read of the
current request. From then on nothing of the connection passes through this process: that costs nothing for each
request, while forwarding costs a process some reads and writes.

Each process has a datagram socket under its name, in Linux's abstract namespace: no file has to be removed, and a name
without a listener is an error at once. Then the process is on another machine, or dead, or this is not Linux.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from array import array
from collections.abc import Callable
from contextlib import suppress

from hobbyhorse.server.shared.forwarding import SharedProtocol

# Bytes that are handed over with a connection: a datagram has to fit into the buffer of its socket, 208 KiB.
MOST_BYTES = 128 * 1024
# A file descriptor is a C int.
FD_BYTES = array("i").itemsize
# The process, user and group of the sender.
CREDENTIALS = struct.Struct("3i")

Factory = Callable[[], SharedProtocol]
"""Makes the protocol of a connection."""


class Handing:
    """The end at which this process takes connections over, and from which it hands connections over."""

    def __init__(self, name: str, factory: Factory) -> None:
        """Listen under a name. Needs a running event loop."""
        self._factory = factory
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        if sys.platform.startswith("linux"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.bind(_address(name))
            self._loop.add_reader(self._socket, self._take)

    def give(self, name: str, protocol: SharedProtocol, raw: bytes) -> bool:
        """Hand a connection over to a process, with the bytes of its request; return False if that is not possible."""
        transport = protocol.transport
        if self._socket is None or len(raw) > MOST_BYTES or transport.get_extra_info("ssl_object") is not None:
            return False
        connection = transport.get_extra_info("socket")
        # A response that is still being written would be cut.
        if connection is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        transport.pause_reading()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [connection.fileno()]).tobytes())]
        try:
            self._socket.sendmsg([raw], rights, 0, _address(name))
        except OSError:
            transport.resume_reading()
            return False
        # Closes the descriptor of this process; the connection itself lives on in the other one.
        transport.abort()
        return True

    def _take(self) -> None:
        """Take over the connections that wait."""
        while self._socket is not None:
            space = socket.CMSG_SPACE(FD_BYTES) + socket.CMSG_SPACE(CREDENTIALS.size)
            try:
                raw, ancillary, _, _ = self._socket.recvmsg(MOST_BYTES, space)
            except BlockingIOError:
                return
            found, own = None, False
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    found = array("i", data[:FD_BYTES])[0]
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    own = CREDENTIALS.unpack(data)[1] == os.getuid()
            if found is None:
                continue
            if not own:
                os.close(found)
                continue
            task = self._loop.create_task(self._serve(socket.socket(fileno=found), raw))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket, raw: bytes) -> None:
        connection.setblocking(False)

        def make() -> asyncio.Protocol:
            protocol = self._factory()
            protocol.first = raw
            return protocol

        try:
            await self._loop.connect_accepted_socket(make, connection)
        except OSError:  # its client has left
            connection.close()

    def close(self) -> None:
        """Take no more."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            with suppress(OSError):
                self._take()
            self._socket.close()
            self._socket = None


def _address(name: str) -> str:
    return f"\0hobbyhorse-{name}"
