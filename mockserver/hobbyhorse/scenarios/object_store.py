"""Refusals of the media host, in the XML of an object store; knows no HTTP framework."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

XML_TYPE = "application/xml"
# A Retry-After in seconds, as short as the header can say: the next request renders the file anew.
SOON = "1"


@dataclass(frozen=True, slots=True)
class FileRefusal:
    """A status, and the code and message of an object store's error document."""

    status: int
    code: str
    message: str

    def xml(self) -> bytes:
        """Return the error document."""
        # Not `xml.sax.saxutils`: it imports a client for HTTP, and the escapes are the same.
        code, message = escape(self.code, quote=False), escape(self.message, quote=False)
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>\n'
        ).encode()


# The codes and messages are taken from Amazon S3, so that a client for an object store can read them.
EXPIRED = FileRefusal(403, "AccessDenied", "Request has expired")
NOT_FOUND = FileRefusal(404, "NoSuchKey", "The specified key does not exist.")
UNAVAILABLE = FileRefusal(503, "SlowDown", "Please reduce your request rate.")
