"""Finds the messages of HTTP/1.1 in a stream of bytes, and keeps every byte; no connection, no clock, no contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_HEAD = 256 * 1024
"""How long a head may be."""
MOST_LINE = 64 * 1024
"""How long a line between chunks may be."""

CHUNKED, UNTIL_CLOSE, OPAQUE = -1, -2, -3
"""How long a body is, where it is no number: in chunks, to the end of the connection, or no HTTP any more."""

_BLANK = re.compile(rb"(?:\r?\n)+")
_END = re.compile(rb"\r?\n\r?\n")
_HOST = re.compile(rb"(?im)^(host[ \t]*:)[^\r\n]*")
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/(1\.[01])")
_ANSWER = re.compile(rb"HTTP/(1\.[01]) ([1-9]\d\d)(?: (.*))?")
_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")

Headers = tuple[tuple[str, str], ...]


class FramingError(ValueError):
    """Bytes that are no HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request (`method`, `target`) or of an answer (`status`, `reason`), and its bytes."""

    raw: bytes
    headers: Headers
    version: str
    method: str = ""
    target: str = ""
    status: int = 0
    reason: str = ""

    def all(self, name: str) -> list[str]:
        """Return every value of a header; the name is in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        codings = ",".join(self.all("transfer-encoding"))
        return codings.rpartition(",")[2].strip().lower() == "chunked"

    @property
    def length(self) -> int | None:
        """The length that the head gives, None where it gives none. Raises FramingError."""
        given = {one.strip() for value in self.all("content-length") for one in value.split(",")}
        if not given:
            return None
        one = given.pop()
        if given or not (one.isascii() and one.isdigit()) or len(one) > 18:
            raise FramingError(f"its Content-Length is {self.all('content-length')!r}")
        return int(one)

    def with_host(self, host: str) -> bytes:
        """Return the bytes with another Host; where there is none, none is made."""
        return _HOST.sub(lambda found: found[1] + b" " + host.encode(), self.raw, count=1)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a stream that are no head, what of them is content, and whether they end a message."""

    raw: bytes
    content: bytes = b""
    last: bool = False


def read_request(raw: bytes) -> Head:
    """Read the head of a request. Raises FramingError."""
    first, headers = _split(raw)
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise FramingError(f"a request begins with {first[:40]!r}")
    method, target, version = (part.decode("latin-1") for part in found.groups())
    return Head(raw, headers, version, method=method, target=target)


def read_answer(raw: bytes) -> Head:
    """Read the head of an answer. Raises FramingError."""
    first, headers = _split(raw)
    found = _ANSWER.fullmatch(first)
    if found is None:
        raise FramingError(f"an answer begins with {first[:40]!r}")
    return Head(raw, headers, found[1].decode(), status=int(found[2]), reason=(found[3] or b"").decode("latin-1"))


def _split(raw: bytes) -> tuple[bytes, Headers]:
    first, *lines = raw.rstrip(b"\r\n").split(b"\n")
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and headers:  # a line that goes on, as HTTP had it once
            name, value = headers[-1]
            headers[-1] = (name, f"{value} {line.decode('latin-1').strip()}")
            continue
        key, colon, text = line.decode("latin-1").partition(":")
        if not colon:
            raise FramingError(f"a header is {line[:40]!r}")
        headers.append((key.strip(), text.strip()))
    return first.rstrip(b"\r"), tuple(headers)


def length_of_request(head: Head) -> int:
    """Return how long the body of a request is. Raises FramingError."""
    if head.all("transfer-encoding"):
        if not head.chunked:
            raise FramingError(f"its Transfer-Encoding is {head.all('transfer-encoding')!r}")
        return CHUNKED
    return head.length or 0


def length_of_answer(head: Head, method: str) -> int:
    """Return how long the body of the answer to a method is. Raises FramingError."""
    if head.status == 101 or (method == "CONNECT" and 200 <= head.status < 300):
        return OPAQUE
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return 0
    if head.all("transfer-encoding"):
        return CHUNKED if head.chunked else UNTIL_CLOSE
    length = head.length
    return UNTIL_CLOSE if length is None else length


@dataclass(slots=True)
class Chunks:
    """Reads a body in chunks, with its trailer."""

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
        """Take (a part of) a line; return whether the body ends with it."""
        self._line += part
        if not part.endswith(b"\n"):
            if len(self._line) > MOST_LINE:
                raise FramingError(f"a line between chunks has more than {MOST_LINE} bytes")
            return False
        line = bytes(self._line.rstrip(b"\r\n"))
        self._line.clear()
        if self._at == "size":
            found = _SIZE.fullmatch(line)
            if found is None:
                raise FramingError(f"a chunk's size is {line[:40]!r}")
            self._left = int(found[1], 16)
            self._at = "data" if self._left else "trailer"
            return False
        if self._at == "trailer":
            return not line
        if line:
            raise FramingError(f"behind a chunk comes {line[:40]!r}")
        self._at = "size"
        return False


@dataclass(slots=True)
class Framer:
    """Cuts a stream into heads and pieces; what it yields is, one behind the other, what it was fed.

    Whoever is given a head says with `body`, before asking for more, how long what follows is. A head is held back
    until it is whole; nothing else is.
    """

    _held: bytes = b""
    _left: int = 0
    _chunks: Chunks | None = None

    def body(self, length: int) -> None:
        """Say how long the body is that follows."""
        self._left = length
        self._chunks = Chunks() if length == CHUNKED else None

    @property
    def until_close(self) -> bool:
        """Whether the end of the connection is the end of the message."""
        return self._left == UNTIL_CLOSE

    def feed(self, data: bytes) -> Iterator[bytes | Piece]:
        """Yield heads as bytes, and pieces. Raises FramingError."""
        data, self._held = self._held + data if self._held else data, b""
        while data:
            if self._left == 0:
                if blank := _BLANK.match(data):
                    yield Piece(blank[0])
                    data = data[blank.end() :]
                    continue
                found = _END.search(data)
                if found is None:
                    self._held = data
                    if len(data) > MOST_HEAD:
                        raise FramingError(f"a head has more than {MOST_HEAD} bytes")
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
        """The beginning of a head that is held back."""
        return self._held
