"""Framing: heads and pieces add up to the stream, however it is cut; bodies end where HTTP/1.1 says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hobbyhorse.proxy.framing import (
    CHUNKED,
    MOST_HEAD,
    MOST_LINE,
    OPAQUE,
    UNTIL_CLOSE,
    Chunks,
    Framer,
    FramingError,
    Head,
    Piece,
    length_of_request,
    length_of_response,
    read_request,
    read_response,
)


def response(*lines: str, status: int = 200) -> Head:
    return read_response("\r\n".join([f"HTTP/1.1 {status} OK", *lines, "", ""]).encode())


def request(*lines: str) -> Head:
    return read_request("\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode())


def test_the_head_of_a_request_is_read_and_its_bytes_are_kept() -> None:
    raw = b"GET /a%20b?x=1 HTTP/1.0\r\nHost: h\r\nX-A:  1 \r\nx-a: 2\r\n\r\n"
    head = read_request(raw)
    assert (head.method, head.target, head.version, head.raw) == ("GET", "/a%20b?x=1", "1.0", raw)
    assert head.headers == (("Host", "h"), ("X-A", "1"), ("x-a", "2"))
    assert head.all("x-a") == ["1", "2"]


def test_the_head_of_a_response_is_read_with_a_reason_or_without() -> None:
    assert (response(status=404).status, response(status=404).reason) == (404, "OK")
    bare = read_response(b"HTTP/1.1 204\r\n\r\n")
    assert (bare.status, bare.reason) == (204, "")


def test_a_folded_header_is_one_value() -> None:
    assert response("X-Long: one", "  two", "\tthree").all("x-long") == ["one two three"]


@pytest.mark.parametrize(
    ("read", "raw", "message"),
    [
        (read_request, b"NONSENSE\r\n\r\n", "a request starts with b'NONSENSE'"),
        (read_request, b"GET / HTTP/2.0\r\n\r\n", "a request starts with"),
        (read_response, b"HTTP/1.1 20 OK\r\n\r\n", "a response starts with"),
        (read_response, b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a header line has no colon: b'no colon"),
    ],
)
def test_a_head_that_is_not_http_is_an_error_that_shows_it(
    read: Callable[[bytes], Head], raw: bytes, message: str
) -> None:
    with pytest.raises(FramingError) as found:
        read(raw)
    assert message in str(found.value)


def test_only_the_value_of_the_first_host_header_is_replaced() -> None:
    raw = b"GET / HTTP/1.1\r\nX-Host: a\r\nhOsT :  old:80\r\nAccept: */*\r\n\r\n"
    assert read_request(raw).with_host("new:81") == raw.replace(b"hOsT :  old:80", b"hOsT : new:81")
    bare = b"GET / HTTP/1.0\r\nAccept: */*\r\n\r\n"
    assert read_request(bare).with_host("new:81") == bare


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (request(), 0),
        (request("Content-Length: 12"), 12),
        (request("Content-Length: 12", "content-length: 12"), 12),
        (request("Transfer-Encoding: gzip, Chunked", "Content-Length: 12"), CHUNKED),
    ],
)
def test_the_length_of_a_requests_body(head: Head, length: int) -> None:
    assert length_of_request(head) == length


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: 1, 2",
        "Content-Length: -1",
        "Content-Length: 0x10",
        "Content-Length: \u0661",
        f"Content-Length: {10**18}",
        "Transfer-Encoding: chunked, gzip",
    ],
)
def test_an_ambiguous_length_of_a_request_is_an_error(line: str) -> None:
    with pytest.raises(FramingError):
        length_of_request(request(line))


@pytest.mark.parametrize(
    ("head", "method", "length"),
    [
        (response("Content-Length: 7"), "GET", 7),
        (response("Content-Length: 7"), "HEAD", 0),
        (response("Content-Length: 7", status=304), "GET", 0),
        (response("Content-Length: 7", status=204), "GET", 0),
        (response("Content-Length: 7", status=103), "GET", 0),
        (response(), "GET", UNTIL_CLOSE),
        (response("Transfer-Encoding: chunked", "Content-Length: 7"), "GET", CHUNKED),
        (response("Transfer-Encoding: gzip"), "GET", UNTIL_CLOSE),
        (response(status=101), "GET", OPAQUE),
        (response(), "CONNECT", OPAQUE),
        (response("Content-Length: 7", status=407), "CONNECT", 7),
    ],
)
def test_the_length_of_a_responses_body_depends_on_its_status_and_its_request(
    head: Head, method: str, length: int
) -> None:
    assert length_of_response(head, method) == length


def chunked(data: bytes) -> list[Piece]:
    return list(Chunks().read(data))


def test_a_chunked_body_ends_after_its_trailer_and_leaves_the_rest() -> None:
    body = b"3;ext=1\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    pieces = chunked(body + b"HTTP/1.1")
    assert b"".join(piece.raw for piece in pieces) == body
    assert b"".join(piece.content for piece in pieces) == b"abc"
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"xyz\r\n", "a chunk size is b'xyz'"),
        (b"\r\n", "a chunk size is b''"),
        (b"1\r\nabc\r\n", "a chunk is followed by b'bc'"),
        (b"1" * (MOST_LINE + 1), f"longer than {MOST_LINE} bytes"),
    ],
)
def test_a_broken_chunk_is_an_error_that_shows_it(data: bytes, message: str) -> None:
    with pytest.raises(FramingError) as found:
        chunked(data)
    assert message in str(found.value)


MESSAGES = (
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"abc"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", b"4\r\nabcd\r\n1;x\nz\n0\r\nA: b\r\n\r\n"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\r\n\n"),
)


def framed(pieces: list[bytes]) -> tuple[bytes, list[bytes], bytes]:
    """Return everything that a framer yielded, the heads, and the content."""
    framer, passed, heads, content = Framer(), b"", list[bytes](), b""
    for data in pieces:
        for one in framer.feed(data):
            if isinstance(one, bytes):
                passed += one
                heads.append(one)
                framer.body(length_of_response(read_response(one), "GET"))
            else:
                passed += one.raw
                content += one.content
    return passed + framer.held, heads, content


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.data())
def test_what_is_yielded_and_held_is_the_stream_however_it_is_cut(
    messages: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(head + body for head, body in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    passed, heads, content = framed(pieces)
    assert passed == stream
    assert heads == [head for head, _ in messages]
    assert content == b"".join({0: b"abc", 1: b"", 2: b"abcdz", 3: b""}[MESSAGES.index(one)] for one in messages)


def test_only_the_beginning_of_a_head_is_held() -> None:
    framer = Framer()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert list(framer.feed(head[:-1])) == []
    assert framer.held == head[:-1]
    assert list(framer.feed(head[-1:])) == [head]
    assert framer.held == b""
    framer.body(5)
    assert list(framer.feed(b"a")) == [Piece(b"a", b"a")]
    assert list(framer.feed(b"bcde\r\n")) == [Piece(b"bcde", b"bcde", last=True), Piece(b"\r\n")]


def test_a_head_without_an_end_is_an_error_and_not_held_forever() -> None:
    framer = Framer()
    assert list(framer.feed(b"x" * MOST_HEAD)) == []
    with pytest.raises(FramingError, match=f"longer than {MOST_HEAD} bytes"):
        list(framer.feed(b"x"))


@pytest.mark.parametrize(("length", "content"), [(UNTIL_CLOSE, b"HTTP/1.1 200 OK\r\n\r\n"), (OPAQUE, b"")])
def test_a_body_without_an_end_of_its_own_takes_everything(length: int, content: bytes) -> None:
    framer = Framer()
    framer.body(length)
    assert list(framer.feed(b"HTTP/1.1 200 OK\r\n\r\n")) == [Piece(b"HTTP/1.1 200 OK\r\n\r\n", content)]
    assert framer.until_close is (length == UNTIL_CLOSE)
    assert framer.held == b""
