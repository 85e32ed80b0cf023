"""The files of a server's certificate, and the TLS context of these files. Makes no certificate."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

# The protocol that the server speaks; without it, some clients would negotiate HTTP/2.
PROTOCOLS = ("http/1.1",)


class CertificateError(Exception):
    """A certificate cannot be made or used."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files of a certificate: its chain, its key, and the authority's certificate if the server made it."""

    chain: Path
    key: Path
    authority: Path | None = None


class ServedCertificate:
    """The certificate that new connections get; connections that are open keep the one they have."""

    def __init__(self, files: Certificates) -> None:
        """Read the files. Raises CertificateError."""
        self.files = files
        self.context = server_context(files)

    def adopt(self, context: ssl.SSLContext) -> None:
        """Replace the certificate by that of another context."""
        self.context = context


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Return a TLS context for connections of clients. Raises CertificateError."""
    for path in (certificates.chain, certificates.key):
        # Python's own error does not name the file.
        try:
            path.open("rb").close()
        except OSError as error:
            raise CertificateError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(PROTOCOLS))
    try:
        context.load_cert_chain(certificates.chain, certificates.key, _no_password)
    except (OSError, ValueError) as error:
        raise CertificateError(_unusable(certificates, error)) from None
    return context


def _no_password() -> str:
    """Refuse an encrypted key: OpenSSL would wait for a password at the terminal."""
    raise ValueError("the key is encrypted, and the server takes no password")


def _unusable(certificates: Certificates, error: OSError | ValueError) -> str:
    """Return why the files are not a certificate and its key."""
    chain, key = str(certificates.chain), str(certificates.key)
    if not isinstance(error, OSError):
        return f"{key!r} cannot be used: {error}"
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"{key!r} is the key of another certificate than {chain!r}"
    return f"{chain!r} and {key!r} are not a certificate and its key in PEM format"
