"""Find HTTP/1.1 messages in a stream of bytes without changing a byte. Knows no connection, clock or contract.

One `Framer` reads one direction of one connection. It is in one of five states, and `_left` says which:

    0            between messages: collects a head until its blank line
    > 0          in a body of known length; `_left` bytes are missing
    CHUNKED      in a chunked body; `Chunks` knows the place in it
    UNTIL_CLOSE  in a body that ends with the connection
    OPAQUE       after an upgrade or CONNECT: not HTTP any more, until the end

    0 --body(n)--> any state         the caller derives n from the head, because a response's length depends on the
                                     method of its request, which is in the other direction
    > 0, CHUNKED --last byte--> 0
    UNTIL_CLOSE, OPAQUE              are never left

The invariant: the yielded bytes followed by `held` are the bytes fed so far, unchanged and in order. Only the
incomplete beginning of a head is held; bodies, chunk sizes, trailers and blank lines are yielded as they arrive,
however small the piece. Without this invariant a proxy would change or delay the traffic that it only wants to observe.

Heads and lines are bounded, because an endless one would be held forever. A FramingError means that the stream cannot
be followed any further, not that it must be stopped: the caller still has the bytes and passes them on unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# Servers accept heads of 8 to 64 KB. A longer head is probably not HTTP, and must not be held.
MOST_HEAD = 256 * 1024
# Chunk sizes and trailers are short; a longer line is a sign that the stream is not chunked.
MOST_LINE = 64 * 1024

# Body lengths that are not a number of bytes; negative, so that they cannot be confused with one.
CHUNKED, UNTIL_CLOSE, OPAQUE = -1, -2, -3

# The longest end of a head, CR LF CR LF.
_END_BYTES = 4
_BLANK = re.compile(rb"(?:\r?\n)+")
_END = re.compile(rb"\r?\n\r?\n")
_HOST = re.compile(rb"(?im)^(host[ \t]*:)[^\r\n]*")
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(1\.[01])")
_RESPONSE = re.compile(rb"HTTP/(1\.[01]) ([1-9]\d\d)(?: (.*))?")
_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")

Headers = tuple[tuple[str, str], ...]


class FramingError(ValueError):
    """Bytes that are not valid HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request (`method`, `target`) or of a response (`status`, `reason`), with its exact bytes."""

    raw: bytes
    headers: Headers
    version: str
    method: str = ""
    target: str = ""
    status: int = 0
    reason: str = ""

    def all(self, name: str) -> list[str]:
        """Return every value of a header; `name` is in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def chunked(self) -> bool:
        """Whether the body is chunked, which must be the last coding."""
        codings = ",".join(self.all("transfer-encoding"))
        return codings.rpartition(",")[2].strip().lower() == "chunked"

    @property
    def length(self) -> int | None:
        """The Content-Length, or None if there is none. Raises FramingError."""
        given = {one.strip() for value in self.all("content-length") for one in value.split(",")}
        if not given:
            return None
        one = given.pop()
        # Two different lengths are request smuggling (RFC 9112, 6.3); 18 digits fit into 64 bits.
        if given or not (one.isascii() and one.isdigit()) or len(one) > 18:
            raise FramingError(f"Content-Length is {self.all('content-length')!r}; allowed: one number")
        return int(one)

    def with_host(self, host: str) -> bytes:
        """Return the head's bytes with another Host value. A head without a Host header is unchanged."""
        # Not re-serialized: the case, order and spacing of all other headers must survive.
        return _HOST.sub(lambda found: found[1] + b" " + host.encode(), self.raw, count=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a stream outside of heads, the content among them, and whether they end a message."""

    raw: bytes
    content: bytes = b""
    last: bool = False


def read_request(raw: bytes) -> Head:
    """Parse the head of a request. Raises FramingError."""
    first, headers = _split(raw)
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise FramingError(f"a request starts with {first[:40]!r}; expected METHOD TARGET HTTP/1.1")
    method, target, version = (part.decode("latin-1") for part in found.groups())
    return Head(raw, headers, version, method=method, target=target)


def read_response(raw: bytes) -> Head:
    """Parse the head of a response. Raises FramingError."""
    first, headers = _split(raw)
    found = _RESPONSE.fullmatch(first)
    if found is None:
        raise FramingError(f"a response starts with {first[:40]!r}; expected HTTP/1.1 STATUS")
    return Head(raw, headers, found[1].decode(), status=int(found[2]), reason=(found[3] or b"").decode("latin-1"))


def _split(raw: bytes) -> tuple[bytes, Headers]:
    first, *lines = raw.rstrip(b"\r\n").split(b"\n")
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and headers:  # obsolete line folding (RFC 9112, 5.2)
            name, value = headers[-1]
            headers[-1] = (name, f"{value} {line.decode('latin-1').strip()}")
            continue
        key, colon, text = line.decode("latin-1").partition(":")
        if not colon:
            raise FramingError(f"a header line has no colon: {line[:40]!r}")
        headers.append((key.strip(), text.strip()))
    return first.rstrip(b"\r"), tuple(headers)


def length_of_request(head: Head) -> int:
    """Return the length of a request's body. Raises FramingError."""
    if head.all("transfer-encoding"):
        if not head.chunked:
            raise FramingError(f"Transfer-Encoding is {head.all('transfer-encoding')!r}; chunked must be last")
        return CHUNKED
    return head.length or 0


def length_of_response(head: Head, method: str) -> int:
    """Return the length of the body in a response to `method`. Raises FramingError."""
    if head.status == 101 or (method == "CONNECT" and 200 <= head.status < 300):
        return OPAQUE
    # These never have a body, whatever their headers say (RFC 9112, 6.3).
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    if head.all("transfer-encoding"):
        return CHUNKED if head.chunked else UNTIL_CLOSE
    length = head.length
    return UNTIL_CLOSE if length is None else length


@dataclass(slots=True)
class Chunks:
    """Follows a chunked body and its trailer."""

    _left: int = 0
    _line: bytearray = field(default_factory=bytearray)
    _at: str = "size"

    def read(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces of a stream up to the end of the body. Raises FramingError."""
        start = 0
        while start < len(data):
            if self._at == "data":
                end = min(len(data), start + self._left)
                self._left -= end - start
                if not self._left:
                    self._at = "end"
                yield Piece(data[start:end], data[start:end])
            else:
                end = data.find(b"\n", start) + 1 or len(data)
                last = self._take(data[start:end])
                yield Piece(data[start:end], last=last)
                if last:
                    return
            start = end

    def _take(self, part: bytes) -> bool:
        """Take a line or a part of one; return whether it ends the body."""
        self._line += part
        if not part.endswith(b"\n"):
            if len(self._line) > MOST_LINE:
                raise FramingError(f"a line between chunks is longer than {MOST_LINE} bytes")
            return False
        line = bytes(self._line.rstrip(b"\r\n"))
        self._line.clear()
        if self._at == "size":
            found = _SIZE.fullmatch(line)
            if found is None:
                raise FramingError(f"a chunk size is {line[:40]!r}")
            self._left = int(found[1], 16)
            self._at = "data" if self._left else "trailer"
            return False
        if self._at == "trailer":
            return not line
        if line:
            raise FramingError(f"a chunk is followed by {line[:40]!r}")
        self._at = "size"
        return False


@dataclass(slots=True)
class Framer:
    """Splits a stream into heads and pieces. The module's docstring explains its states and its invariant.

    The caller must call `body` after each head, before it takes the next item from `feed`.
    """

    _held: bytes = b""
    _left: int = 0
    _chunks: Chunks | None = None

    def body(self, length: int) -> None:
        """Set the length of the body that follows."""
        self._left = length
        self._chunks = Chunks() if length == CHUNKED else None

    @property
    def until_close(self) -> bool:
        """Whether the end of the connection is the end of the message."""
        return self._left == UNTIL_CLOSE

    def feed(self, data: bytes) -> Iterator[bytes | Piece]:
        """Yield heads as bytes and all other data as pieces. Raises FramingError."""
        # The end of a head is searched for in the new bytes only, or a head that comes byte by byte costs its square.
        searched = max(0, len(self._held) - _END_BYTES + 1)
        data, self._held = self._held + data if self._held else data, b""
        while data:
            if self._left == 0:
                # Clients may send blank lines between requests (RFC 9112, 2.2); held, they would join the next head.
                if blank := _BLANK.match(data):
                    yield Piece(blank[0])
                    data = data[blank.end() :]
                    continue
                found = _END.search(data, searched)
                searched = 0
                if found is None:
                    self._held = data
                    if len(data) > MOST_HEAD:
                        raise FramingError(f"a head is longer than {MOST_HEAD} bytes")
                    return
                head, data = data[: found.end()], data[found.end() :]
                yield head
            elif self._chunks is not None:
                used = 0
                for piece in self._chunks.read(data):
                    used += len(piece.raw)
                    if piece.last:
                        self.body(0)
                    yield piece
                data = data[used:]
            elif self._left > 0:
                part, data = data[: self._left], data[self._left :]
                self._left -= len(part)
                yield Piece(part, part, last=not self._left)
            else:
                yield Piece(data, data if self._left == UNTIL_CLOSE else b"")
                return

    @property
    def held(self) -> bytes:
        """The incomplete head that has not been yielded."""
        return self._held
