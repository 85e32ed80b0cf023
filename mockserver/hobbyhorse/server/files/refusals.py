"""Refusals of the media host, in the XML of an object store. Knows no HTTP framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

XML_TYPE = "application/xml"
# In seconds, and as short as the header can say: the next request renders the file anew.
RETRY_AFTER = "1"


@dataclass(frozen=True, slots=True)
class FileRefusal:
    """A status, and the code and message of an object store's error document."""

    status: int
    code: str
    message: str

    def xml(self) -> bytes:
        """Return the error document."""
        # Not xml.sax.saxutils, whose imports (urllib.request, email) take 15 ms of every start.
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message></Error>\n"
        ).encode()


# The codes and messages are taken from Amazon S3, so that a client for an object store can read them.
REFUSALS: Mapping[str, FileRefusal] = {
    "expired": FileRefusal(403, "AccessDenied", "Request has expired"),
    "not_found": FileRefusal(404, "NoSuchKey", "The specified key does not exist."),
    "unavailable": FileRefusal(503, "SlowDown", "Please reduce your request rate."),
}
"""The refusals, by the name of the fault that refuses a file."""
