"""The proxy: every byte goes by as it came, what breaks is broken for both, and what goes by is judged."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hobbyhorse.proxy import KEPT, Passed, Proxy, ProxyThread, Upstream
from hobbyhorse.server import address, bind

PATIENCE = 30.0


@dataclass
class Scripted:
    """An upstream that is nothing but a socket: it reads so many bytes, sends its pieces, and ends as it is told."""

    pieces: list[bytes] = field(default_factory=list)
    end: str = "close"
    wanted: int | None = None
    """How many bytes it reads before it answers; None is one head."""
    got: bytes = b""
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.bound = bind("127.0.0.1", 0)
        self.bound.listen(16)
        self.url = address(self.bound)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.bound.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(PATIENCE)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        self.got = b""
        self.over.clear()
        while (b"\r\n\r\n" not in self.got) if self.wanted is None else (len(self.got) < self.wanted):
            more = connection.recv(1 << 20)
            if not more:
                break
            self.got += more
        for piece in self.pieces:
            connection.sendall(piece)
        if self.end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        elif self.end == "close":
            connection.shutdown(socket.SHUT_WR)
        while self.end != "reset" and (more := connection.recv(1 << 20)):
            self.got += more
        self.over.set()

    def close(self) -> None:
        self.bound.shutdown(socket.SHUT_RDWR)
        self.bound.close()
        self._thread.join(PATIENCE)


@dataclass
class Watched:
    """A proxy in a thread, and what it told."""

    upstream: str

    def __post_init__(self) -> None:
        self.passed: list[Passed] = []
        self.troubles: list[str] = []
        self._told = threading.Condition()
        bound = bind("127.0.0.1", 0)
        self.url = address(bound)
        self.port = bound.getsockname()[1]
        self.thread = ProxyThread(Proxy(Upstream.of(self.upstream), self._seen, self.troubles.append), bound)

    def _seen(self, passed: Passed) -> None:
        with self._told:
            self.passed.append(passed)
            self._told.notify_all()

    def wait(self, count: int = 1) -> list[Passed]:
        with self._told:
            assert self._told.wait_for(lambda: len(self.passed) >= count, PATIENCE)
        return self.passed


@contextmanager
def between(upstream: str) -> Iterator[Watched]:
    watched = Watched(upstream)
    try:
        yield watched
    finally:
        watched.thread.stop()


def ask(port: int, *pieces: bytes, size: int | None = None, half: bool = False) -> tuple[bytes, str]:
    """Send bytes over a connection of its own; return what came, to its end or so many bytes, and how it ended."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if half:
            connection.shutdown(socket.SHUT_WR)
        while size is None or len(got) < size:
            try:
                more = connection.recv(1 << 20)
            except ConnectionResetError:
                return got, "reset"
            if not more:
                return got, "eof"
            got += more
    return got, "open"


GET = b"GET /a/%20b?x=%2F HTTP/1.1\r\nHost: 127.0.0.1:1\r\nX-Odd-CASE: 1\r\nx-odd-case:2\r\n\r\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    found = Scripted()
    yield found
    found.close()


@pytest.fixture(scope="module")
def proxy(upstream: Scripted) -> Iterator[Watched]:
    with between(upstream.url) as found:
        yield found


names = st.sampled_from(["X-A", "x-a", "Set-Cookie", "CONNECTION", "Keep-Alive", "TE", "Content-Encoding", "X-ÄÖ"])
values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f\x85\xa0"), max_size=20)
bodies = st.binary(max_size=200) | st.integers(0, 200_000).map(lambda size: bytes(range(256)) * (size // 256))


@dataclass(frozen=True)
class Answer:
    """An answer as bytes, what of it is content, and how it has an end."""

    raw: bytes
    content: bytes
    ends: str


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    headers = draw(st.lists(st.tuples(names, values), max_size=4))
    said = "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
    body = draw(bodies)
    before = draw(
        st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"])
    )
    ends = draw(st.sampled_from(["length", "chunked", "close"]))
    if ends == "length":
        raw = body
        said += b"content-LENGTH:  %d\r\n" % len(body)
    elif ends == "close":
        raw = body
    else:
        said += b"Transfer-Encoding: Chunked\r\n"
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
        parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        extension = draw(st.sampled_from([b"", b";a=b", b' ; x="y"']))
        raw = b"".join(b"%X%b\r\n%b\r\n" % (len(part), extension, part) for part in parts if part)
        raw += b"0%b\r\n%b\r\n" % (extension, draw(st.sampled_from([b"", b"X-Sum: 1\r\n"])))
    return Answer(before + b"HTTP/1.1 200 Odd  reason\r\n" + said + b"\r\n" + raw, body, ends)


def cut(draw: Any, raw: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=4)))
    return [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


@settings(max_examples=60)
@given(answer=answers(), data=st.data())
def test_every_byte_of_an_answer_comes_as_it_was_sent(
    upstream: Scripted, proxy: Watched, answer: Answer, data: st.DataObject
) -> None:
    upstream.pieces, upstream.end, upstream.wanted = cut(data.draw, answer.raw), "close", None
    proxy.passed.clear()
    got, end = ask(proxy.port, GET)
    assert (got, end) == (answer.raw, "eof")
    assert upstream.got == GET.replace(b"127.0.0.1:1", upstream.url.removeprefix("http://").encode())
    (passed,) = proxy.wait()
    assert not proxy.troubles
    assert not passed.broken
    assert (passed.content, passed.size) == (answer.content[:KEPT], len(answer.content))
    assert passed.answer is not None
    assert (passed.answer.status, passed.answer.reason) == (200, "Odd  reason")


@settings(max_examples=60)
@given(answer=answers(), data=st.data(), reset=st.booleans())
def test_an_answer_that_breaks_off_breaks_off_for_the_client(
    upstream: Scripted, proxy: Watched, answer: Answer, data: st.DataObject, reset: bool
) -> None:
    kept = answer.raw[: data.draw(st.integers(0, len(answer.raw) - 1))]
    upstream.pieces, upstream.end, upstream.wanted = [kept], "reset" if reset else "close", None
    proxy.passed.clear()
    got, end = ask(proxy.port, GET)
    assert end == ("reset" if reset else "eof")
    assert got == kept
    (passed,) = proxy.wait()
    headless = answer.raw.index(b"\r\n\r\n", answer.raw.index(b" 200 ")) + 4 > len(kept)
    if headless or reset or answer.ends == "chunked" or (answer.ends == "length" and answer.content):
        whole = answer.ends == "length" and passed.answer is not None and passed.size == len(answer.content)
        assert passed.broken == ("" if whole else "upstream")
    assert (passed.answer is None) == headless


@settings(max_examples=40)
@given(body=bodies, data=st.data(), chunked=st.booleans())
def test_every_byte_of_a_request_but_its_host_comes_as_it_was_sent(
    upstream: Scripted, proxy: Watched, body: bytes, data: st.DataObject, chunked: bool
) -> None:
    half = len(body) // 2
    parts = [part for part in (body[:half], body[half:]) if part]
    coded = b"".join(b"%x;e=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nX-Sum: 2\r\n\r\n"
    raw = coded if chunked else body
    how = b"Transfer-Encoding: gzip, chunked\r\n" if chunked else b"Content-Length: %d\r\n" % len(body)
    head = b"POST /v1?a=b&&c HTTP/1.1\r\nAccept:*/*\r\nhOST:  elsewhere:99\r\nTE: trailers\r\n" + how + b"\r\n"
    host = upstream.url.removeprefix("http://").encode()
    sent = head.replace(b"hOST:  elsewhere:99", b"hOST: " + host) + raw
    blank = b"\r\n" * data.draw(st.integers(0, 1))
    wanted = len(blank + sent) if data.draw(st.booleans()) else None
    upstream.pieces, upstream.end, upstream.wanted = [b"HTTP/1.1 204 No Content\r\n\r\n"], "close", wanted
    proxy.passed.clear()
    got, _ = ask(proxy.port, *cut(data.draw, blank + head + raw))
    assert got == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert upstream.over.wait(PATIENCE)
    assert upstream.got == blank + sent
    (passed,) = proxy.wait()
    assert (passed.body, passed.sent) == (body[:KEPT], len(body))
    assert not passed.broken
