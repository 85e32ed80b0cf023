"""The given certificate of a server with TLS as a source of a watch: its chain and its key are read together.

Programs that renew certificates replace the two files one after the other, or both at once by a link. Between the two,
the key is that of another certificate: the pair cannot be used, the old one stays, and the next look finds the new one.
"""

from __future__ import annotations

import ssl

from hobbyhorse.server.front.certificates import CertificateError, ServedCertificate, server_context
from hobbyhorse.server.reloading.watch import ReloadError, Source


def certificate_source(served: ServedCertificate) -> Source[ssl.SSLContext]:
    """Return the source of a certificate that new connections get."""

    def read() -> ssl.SSLContext:
        try:
            return server_context(served.files)
        except CertificateError as error:
            raise ReloadError(str(error)) from None

    return Source("certificate files", (served.files.chain, served.files.key), read, served.adopt)
