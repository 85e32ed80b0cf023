"""Serves with the state in Redis, in one process or in several. Knows no HTTP."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from hobbyhorse.cli.listening import bound_again, listen
from hobbyhorse.cli.usage import UsageError, complain
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.app import Options
from hobbyhorse.server.files.scratch import ScratchDirectory
from hobbyhorse.server.run import address
from hobbyhorse.state.errors import REDIS_SCHEMES, StateError

if TYPE_CHECKING:
    from hobbyhorse.server.front.gate import Front

SHARED_MODULE = "hobbyhorse.server.shared.run"
"""Imported for a shared state alone: it needs an extra, and 60 ms (httpx)."""
SUPERVISOR_MODULE = "hobbyhorse.cli.processes.supervisor"
"""Imported for several processes alone: 2 ms."""
AUTHORITY_MODULE = "hobbyhorse.server.front.authority"
"""Imported for TLS alone: it needs an extra, and 25 ms (cryptography)."""


class Ready(Protocol):
    """Tells that the server is ready."""

    def __call__(self, url: str, pids: Sequence[int] = ()) -> None:
        """Tell the URL, and the processes that serve if there are several."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """A state in Redis, by its URL, and the number of processes on this machine."""

    url: str
    processes: int

    def certificates(self) -> Path:
        """Return a folder with the certificate authority of the state, the same in each process and on each machine.

        It ends with this process. Raises UsageError.
        """
        if find_spec("trustme") is None:
            raise UsageError("--tls: it needs the package trustme: pip install 'hobbyhorse[tls]'")
        authority = import_module(AUTHORITY_MODULE)
        try:
            found = import_module(SHARED_MODULE).shared_authority(self.url, authority.new_authority)
        except StateError as error:
            raise UsageError(f"--state: {error}") from None
        folder = ScratchDirectory().path
        authority.place_authority(folder, *found)
        return folder

    def serve(
        self,
        contracts: Sequence[Contract],
        options: Options,
        bound: socket.socket,
        ready: Ready,
        front: Front | None = None,
    ) -> None:
        """Serve until a signal. Raises UsageError, and typer's Exit with the status of several processes."""
        shared = import_module(SHARED_MODULE)
        try:
            warning = shared.check(self.url, options.seed, contracts)
        except StateError as error:
            raise UsageError(f"--state: {error}") from None
        if warning is not None:
            complain(f"--state: {warning}; what was acknowledged may be lost if it is killed")

        def serve(own: socket.socket, ready_at: Callable[[str], None], own_front: Front | None) -> None:
            try:
                shared.serve_shared(self.url, contracts, options, own, ready_at, front=own_front)
            except StateError as error:
                raise UsageError(f"--state: {error}") from None

        if self.processes == 1:
            serve(bound, ready, front)
            return
        host, port = bound.getsockname()[:2]

        def work(serves: Callable[[], None]) -> None:
            own = listen(host, port, shared=True)
            serve(own, lambda url: serves(), None if front is None else bound_again(front))

        # Its own socket only holds the port: nothing listens on it.
        supervisor = import_module(SUPERVISOR_MODULE)
        status = supervisor.Supervisor(self.processes, work, lambda pids: ready(address(bound), pids)).run()
        raise typer.Exit(status)


def read_sharing(state: str | None, processes: int) -> Sharing | None:
    """Return how the state is shared, or None if it is not. Raises UsageError."""
    if state is None or not state.startswith(REDIS_SCHEMES):
        if processes > 1:
            raise UsageError(f"--processes is {processes}, but processes share nothing without --state redis://HOST")
        return None
    if find_spec("hiredis") is None:
        raise UsageError("--state redis:// needs an extra: pip install 'hobbyhorse[redis]'")
    if processes > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError(f"--processes is {processes}, but this system does not let processes share a port")
    return Sharing(state, processes)
