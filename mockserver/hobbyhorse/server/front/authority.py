"""A throwaway certificate authority, and a certificate of it for a few names, as files in one folder.

The files are made once and used again, by every process and every later start: a client that trusts the authority must
not have to fetch it again. One certificate covers all names, so that no connection has to wait for one. It is issued
anew if names are missing or its time is nearly over; the authority stays. A lock keeps two starts in the same folder
from making two authorities, and each file appears complete or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme

from hobbyhorse.server.front.certificates import CertificateError, Certificates, server_context

AUTHORITY, AUTHORITY_KEY, CERTIFICATE, ISSUED, LOCK = "ca.pem", "ca-key.pem", "server.pem", "server.json", "tls.lock"
# macOS accepts no certificate for longer than 825 days, also from an authority that its user has added.
LIFETIME = timedelta(days=800)
# A server that runs for a quarter of a year must not outlive its certificate.
SPARE = timedelta(days=90)
# Clocks of other machines may be slow.
SLACK = timedelta(days=2)


def own_certificates(folder: Path, names: Collection[str], now: datetime | None = None) -> Certificates:
    """Return the certificate for `names`, and its authority, from a folder; make them if needed.

    Raises CertificateError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / LOCK):
            _prepare(folder, sorted({name.lower() for name in names}), now or datetime.now(timezone.utc))
    except (OSError, ValueError) as error:  # ValueError for a name that no certificate can have
        reason = getattr(error, "strerror", None) or str(error)
        raise CertificateError(f"the certificates in {str(folder)!r} cannot be made: {reason}") from None
    return Certificates(folder / CERTIFICATE, folder / CERTIFICATE, folder / AUTHORITY)


def new_authority() -> tuple[bytes, bytes]:
    """Return the certificate and the key of a new authority, as PEM."""
    made = trustme.CA(organization_name="hobbyhorse", organization_unit_name="throwaway authority for tests")
    return made.cert_pem.bytes(), made.private_key_pem.bytes()


def place_authority(folder: Path, certificate: bytes, key: bytes) -> None:
    """Put an authority into a folder in which `own_certificates` will find it."""
    # The certificate last: it is of use only with its key.
    _write(folder / AUTHORITY_KEY, key, 0o600)
    _write(folder / AUTHORITY, certificate, 0o644)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _prepare(folder: Path, names: list[str], now: datetime) -> None:
    """Make the files that are missing or can no longer be used."""
    if _is_issued(folder, names, now):
        return
    authority = _authority(folder)
    until = now + LIFETIME
    leaf = authority.issue_cert(*names, not_before=now - SLACK, not_after=until)
    _write(folder / CERTIFICATE, leaf.private_key_and_cert_chain_pem.bytes(), 0o600)
    issued = {"names": names, "until": until.timestamp(), "by": _digest(folder / AUTHORITY)}
    _write(folder / ISSUED, json.dumps(issued).encode(), 0o600)


def _is_issued(folder: Path, names: list[str], now: datetime) -> bool:
    """Whether the certificate in a folder covers all names for long enough, and is of the authority there."""
    # Files that a user has damaged are made anew.
    with suppress(OSError, ValueError, TypeError, KeyError, CertificateError):
        issued = json.loads((folder / ISSUED).read_bytes())
        lasts = now.timestamp() < issued["until"] - SPARE.total_seconds()
        if lasts and set(names) <= set(issued["names"]) and issued["by"] == _digest(folder / AUTHORITY):
            server_context(Certificates(folder / CERTIFICATE, folder / CERTIFICATE))
            return True
    return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _authority(folder: Path) -> trustme.CA:
    """Return the authority of a folder, or a new one."""
    with suppress(OSError, ValueError, TypeError):
        return trustme.CA.from_pem((folder / AUTHORITY).read_bytes(), (folder / AUTHORITY_KEY).read_bytes())
    certificate, key = new_authority()
    place_authority(folder, certificate, key)
    return trustme.CA.from_pem(certificate, key)


def _write(path: Path, content: bytes, mode: int) -> None:
    new = path.with_name(f"{path.name}.new")
    # Left by a start that was killed; it may have another mode.
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    new.replace(path)
