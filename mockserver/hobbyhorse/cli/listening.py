"""The listening sockets of `serve` and `proxy`, and the certificate of those for TLS."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from hobbyhorse.cli.usage import UsageError
from hobbyhorse.contract.values import Contract
from hobbyhorse.server.files.scratch import ScratchDirectory
from hobbyhorse.server.front.forwarded import Network, read_networks
from hobbyhorse.server.run import bind

if TYPE_CHECKING:  # see open_front
    from hobbyhorse.server.front.gate import Front

# The usual ports of HTTPS and of proxies for users without privileges.
TLS_PORT, CONNECT_PORT = 8443, 8888


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The options of a server with TLS: its ports, the names of its certificate, or the files of a given one."""

    port: int
    connect_port: int
    names: tuple[str, ...] = ()
    files: tuple[Path, Path] | None = None

    @classmethod
    def read(
        cls,
        wanted: bool,
        port: int | None,
        connect_port: int | None,
        *,
        names: Iterable[str] | None,
        cert: Path | None,
        key: Path | None,
    ) -> TlsOptions | None:
        """Return the options of a server, or None for one without TLS. Raises UsageError."""
        if (cert is None) != (key is None):
            raise UsageError("--tls-cert and --tls-key need each other: the certificate with its chain, and its key")
        files = (cert, key) if cert is not None and key is not None else None
        named = tuple(names or ())
        if not wanted and files is None:
            given = (("--tls-port", port), ("--connect-port", connect_port), ("--tls-name", named or None))
            for option, value in given:
                if value is not None:
                    raise UsageError(f"{option} needs --tls")
            return None
        if files is not None and named:
            raise UsageError("--tls-name names the server's own certificate; --tls-cert has its names already")
        ports = (TLS_PORT if port is None else port, CONNECT_PORT if connect_port is None else connect_port)
        return cls(*ports, named, files)


def listen(host: str, port: int, option: str = "--port", *, shared: bool = False) -> socket.socket:
    """Return a bound socket; port 0 picks a free one, and a `shared` one may be bound again. Raises UsageError."""
    try:
        return bind(host, port, shared)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; {option} 0 picks a free port"
        ) from None


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine can reach a socket, by its address, because a name may resolve to any address."""
    try:
        return ip_address(bound.getsockname()[0]).is_loopback
    except ValueError:  # not an IP address: unknown, so the control plane stays off
        return False


def open_front(
    contracts: Sequence[Contract],
    bound: socket.socket,
    options: TlsOptions,
    public_url: str | None = None,
    folder: Path | None = None,
    *,
    shared: bool = False,
) -> Front:
    """Bind the ports for TLS and the forward proxy, at the host of a bound socket. Raises UsageError.

    The server's own certificates are kept in `folder`, or in a temporary directory that ends with this process.
    The ports may be bound again if they are `shared`.
    """
    from hobbyhorse.server.front import opening  # noqa: PLC0415 - 4 ms, for --tls alone

    with ExitStack() as opened:
        opened.enter_context(bound)  # it is of no use without the others
        try:
            if options.files is not None:
                certificates = opening.Certificates(*options.files)
            else:
                kept = folder or ScratchDirectory().path
                certificates = opening.certificates_for(contracts, bound, kept, public_url, options.names)
            # Once before the server runs, so that unusable files are reported.
            opening.server_context(certificates)
        except opening.CertificateError as error:
            raise UsageError(f"{'--tls' if options.files is None else '--tls-cert'}: {error}") from None
        host = bound.getsockname()[0]
        tls = opened.enter_context(listen(host, options.port, "--tls-port", shared=shared))
        proxy = opened.enter_context(listen(host, options.connect_port, "--connect-port", shared=shared))
        opened.pop_all()
    return opening.make_front(
        contracts, certificates, plain=[bound], tls=[tls], proxy=proxy, public_url=public_url, names=options.names
    )


def bound_again(front: Front) -> Front:
    """Return a front at the same ports as one whose ports are shared. Raises UsageError."""

    def again(one: socket.socket) -> socket.socket:
        host, port = one.getsockname()[:2]
        return listen(host, port, shared=True)

    return replace(front, tls=tuple(map(again, front.tls)), proxy=None if front.proxy is None else again(front.proxy))


def kept_certificates(state: str | None) -> Path | None:
    """Return the folder of certificates in a kept state, or None for a state in memory or on another machine."""
    path = (state or "").partition("?")[0]
    return Path(path) / "tls" if path and "://" not in path else None


def read_authority(front: Front | None) -> bytes | None:
    """Return the certificate of a server's own authority."""
    authority = None if front is None else front.served.files.authority
    return None if authority is None else authority.read_bytes()


def read_proxies(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks of --trusted-proxies. Raises UsageError."""
    parts = [part for text in texts for part in text.split(",") if part.strip()]
    try:
        return read_networks(parts)
    except ValueError as error:
        raise UsageError(
            f"--trusted-proxies: {error}; allowed: addresses and ranges, such as 10.0.0.1 or 10.0.0.0/8"
        ) from None
