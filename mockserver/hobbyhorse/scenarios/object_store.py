"""Refusals of the media host, in the XML of an object store; knows no HTTP framework."""

from __future__ import annotations

from dataclasses import dataclass

XML_TYPE = "application/xml"
# What a text must escape (XML 1.0, section 2.4). The modules of the standard library for it import a table of the
# entities of HTML, or a client for HTTP, at each start.
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
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
        code, message = self.code.translate(ESCAPES), self.message.translate(ESCAPES)
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>\n'
        ).encode()


# The codes and messages are taken from Amazon S3, so that a client for an object store can read them.
EXPIRED = FileRefusal(403, "AccessDenied", "Request has expired")
NOT_FOUND = FileRefusal(404, "NoSuchKey", "The specified key does not exist.")
WRONG_METHOD = FileRefusal(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
WRONG_RANGE = FileRefusal(400, "InvalidArgument", "The Range header is malformed.")
NO_RANGE = FileRefusal(416, "InvalidRange", "The requested range is not satisfiable")
UNAVAILABLE = FileRefusal(503, "SlowDown", "Please reduce your request rate.")
