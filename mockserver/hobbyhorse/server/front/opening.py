"""The names and addresses of a server with TLS: what its certificate has to cover, and where its proxy may lead."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from hobbyhorse.contract.values import Contract
from hobbyhorse.server.front.certificates import CertificateError, Certificates, ServedCertificate, server_context
from hobbyhorse.server.front.destinations import WEB_PORTS, Address, Destinations, read_authority
from hobbyhorse.server.front.gate import Front
from hobbyhorse.server.run import address

__all__ = ["CertificateError", "Certificates", "Front", "certificates_for", "hosts_of", "make_front", "server_context"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


def hosts_of(contracts: Iterable[Contract]) -> frozenset[str]:
    """Return the hosts of the providers, in lower case; with a port if the contract names one."""
    return frozenset(host.lower() for contract in contracts for host in contract.hosts)


def certificates_for(
    contracts: Iterable[Contract],
    bound: socket.socket,
    folder: Path,
    public_url: str | None = None,
    names: Iterable[str] = (),
) -> Certificates:
    """Return the certificate of a server at a bound socket, for its names and for the hosts of its providers.

    It is kept in `folder`. Raises CertificateError.
    """
    try:
        from hobbyhorse.server.front.authority import own_certificates  # noqa: PLC0415 - optional; 25 ms (cryptography)
    except ImportError:
        raise CertificateError("it needs the package trustme: pip install 'hobbyhorse[tls]'") from None
    hosts = {(read_authority(host) or (host, 0))[0] for host in hosts_of(contracts)}
    return own_certificates(folder, {*hosts, *LOOPBACK, *_own_names(bound, public_url), *names})


def make_front(
    contracts: Sequence[Contract],
    certificates: Certificates,
    *,
    plain: Sequence[socket.socket],
    tls: Sequence[socket.socket],
    proxy: socket.socket | None,
    public_url: str | None = None,
    names: Iterable[str] = (),
) -> Front:
    """Return the front of a server: the first of `tls` is the server's own port, and `plain` are the others it has.

    Raises CertificateError.
    """
    known = {*LOOPBACK, *_own_names(tls[0], public_url), *(name.lower() for name in names)}
    own_host, own = tls[0].getsockname()[0], dict[Address, Address]()
    for one in (*plain, *tls):
        host, port = one.getsockname()[:2]
        everywhere = ip_address(host).is_unspecified
        # Not for another address of this machine, such as 127.0.0.2: it has a purpose of its own.
        here = known if everywhere or host in (*LOOPBACK, own_host) else {host}
        own |= {(name, port): ("127.0.0.1" if everywhere else host, port) for name in here}
    if public_url is not None:
        parts = urlsplit(public_url)
        at = (str(parts.hostname), parts.port or WEB_PORTS[parts.scheme == "https"])
        own[at] = at
    authority = certificates.authority
    addresses = {
        "tls_url": address(tls[0], "https"),
        "ca": None if authority is None else str(authority),
        "connect_proxy": None if proxy is None else address(proxy),
    }
    return Front(ServedCertificate(certificates), tuple(tls), proxy, Destinations(hosts_of(contracts), own), addresses)


def _own_names(bound: socket.socket, public_url: str | None) -> set[str]:
    """Return the names of this server beyond loopback: of its machine, of its address, and of its public URL."""
    machine, host = socket.gethostname().lower(), bound.getsockname()[0]
    found = {machine} if _NAME.fullmatch(machine) else set()
    if not ip_address(host).is_unspecified:
        found.add(host)
    if public_url is not None:
        found.add(str(urlsplit(public_url).hostname))
    return found
