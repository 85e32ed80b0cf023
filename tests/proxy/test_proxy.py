"""The proxy: bytes pass unchanged, both sides end alike, and each exchange is reported."""

from __future__ import annotations

import json
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hobbyhorse.conformance.contract_client import ContractClient
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.values import Contract
from hobbyhorse.proxy import live_judge
from hobbyhorse.proxy.live_judge import Finding, LiveJudge
from hobbyhorse.proxy.proxy import KEPT_BODY_BYTES, ObservedExchange, Proxy, ProxyThread, Upstream
from hobbyhorse.server.run import address, bind
from hobbyhorse.traces.har import read_har
from hobbyhorse.traces.har_file import parse_har
from tests.conftest import CONTRACTS

PATIENCE = 30.0
SECRET = "sk-of-nobody-42"


@dataclass
class Scripted:
    """An upstream on a bare socket: it reads `wanted` bytes, sends its pieces, and ends as `end` says."""

    pieces: list[bytes] = field(default_factory=list)
    end: str = "close"
    wanted: int | None = None
    """The number of bytes to read before the response; None is one head."""
    got: bytes = b""
    tls: ssl.SSLContext | None = None
    whole: bool = False
    """Whether to read the request's body, too."""
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
            with suppress(OSError):
                connection.settimeout(PATIENCE)
                if self.tls is not None:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                with connection:
                    self._serve(connection)

    def _enough(self) -> bool:
        if self.wanted is not None:
            return len(self.got) >= self.wanted
        head, mark, body = self.got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head) if self.whole else None
        return bool(mark) and len(body) >= int(length[1] if length else 0)

    def _serve(self, connection: socket.socket) -> None:
        self.got = b""
        self.over.clear()
        while not self._enough():
            more = connection.recv(1 << 20)
            if not more:
                break
            self.got += more
        for piece in self.pieces:
            connection.sendall(piece)
        if self.end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        elif self.end == "close" and self.tls is not None:
            connection.close()
            return
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
    """A proxy in a thread, with its reports."""

    upstream: str
    to: Upstream | None = None

    def __post_init__(self) -> None:
        self.passed: list[ObservedExchange] = []
        self.troubles: list[str] = []
        self._told = threading.Condition()
        bound = bind("127.0.0.1", 0)
        self.url = address(bound)
        self.port = bound.getsockname()[1]
        self.thread = ProxyThread(Proxy(self.to or Upstream.of(self.upstream), self._seen, self.troubles.append), bound)

    def _seen(self, passed: ObservedExchange) -> None:
        with self._told:
            self.passed.append(passed)
            self._told.notify_all()

    def wait(self, count: int = 1) -> list[ObservedExchange]:
        with self._told:
            assert self._told.wait_for(lambda: len(self.passed) >= count, PATIENCE)
        return self.passed


@contextmanager
def between(upstream: str, to: Upstream | None = None) -> Iterator[Watched]:
    watched = Watched(upstream, to)
    try:
        yield watched
    finally:
        watched.thread.stop()


def ask(port: int, *pieces: bytes, size: int | None = None, half: bool = False) -> tuple[bytes, str]:
    """Send bytes over a new connection; return up to `size` received bytes, and how the connection ended."""
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
    """A response as bytes, its content, and the way in which it ends."""

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
def test_every_byte_of_a_response_arrives_as_it_was_sent(
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
    assert (passed.exchange.answer, passed.exchange.size) == (answer.content[:KEPT_BODY_BYTES], len(answer.content))
    assert (passed.exchange.status, passed.exchange.whole) == (200, True)


@settings(max_examples=60)
@given(answer=answers(), data=st.data(), reset=st.booleans())
def test_a_response_that_breaks_off_breaks_off_for_the_client(
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
        whole = answer.ends == "length" and passed.exchange.status and passed.exchange.size == len(answer.content)
        assert passed.broken == ("" if whole else "upstream")
    assert (passed.exchange.status == 0) == headless
    assert passed.exchange.whole == (passed.exchange.status != 0 and not passed.broken)


@settings(max_examples=40)
@given(body=bodies, data=st.data(), chunked=st.booleans())
def test_every_byte_of_a_request_but_its_host_arrives_as_it_was_sent(
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
    assert (passed.exchange.body, passed.sent) == (body[:KEPT_BODY_BYTES], len(body))
    assert not passed.broken


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_one_connection_serves_pipelined_requests_in_order(upstream: Scripted, proxy: Watched) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    empty = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
    missing = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
    asked = GET.replace(b"GET", b"HEAD") + GET + b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + GET
    answered = head + empty + missing + OK
    upstream.pieces, upstream.end = [answered], "close"
    upstream.wanted = len(asked.replace(b"127.0.0.1:1", upstream.url.removeprefix("http://").encode()))
    proxy.passed.clear()
    assert ask(proxy.port, asked) == (answered, "eof")
    seen = proxy.wait(4)
    assert [(one.exchange.method, one.exchange.status, one.exchange.answer) for one in seen] == [
        ("HEAD", 200, b""),
        ("GET", 304, b""),
        ("POST", 404, b""),
        ("GET", 200, b"ok"),
    ]
    assert [one.exchange.body for one in seen] == [b"", b"", b"abc", b""]


def test_a_client_that_waits_for_100_continue_gets_it_and_then_sends(proxy: Watched, upstream: Scripted) -> None:
    upstream.pieces, upstream.end, upstream.wanted = [b"HTTP/1.1 100 Continue\r\n\r\n", OK], "keep", None
    proxy.passed.clear()
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        got = b""
        while not got.endswith(OK):
            got += connection.recv(1 << 16)
        connection.sendall(b"abc")
        (passed,) = proxy.wait()
    assert got == b"HTTP/1.1 100 Continue\r\n\r\n" + OK
    assert (passed.exchange.body, passed.exchange.answer, passed.request_complete) == (b"abc", b"ok", True)


def test_after_an_upgrade_all_bytes_pass_in_both_directions(proxy: Watched, upstream: Scripted) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\n\r\n"
    upstream.pieces, upstream.end, upstream.wanted = [switch, b"\x00\xffGET"], "close", None
    got, end = ask(proxy.port, GET, b"\x00\x01no HTTP\r\n\r\n", half=True)
    assert (got, end) == (switch + b"\x00\xffGET", "eof")
    assert upstream.over.wait(PATIENCE)
    assert upstream.got.endswith(b"\x00\x01no HTTP\r\n\r\n")


@pytest.mark.parametrize(
    "nonsense", [b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\nab", b"\x16\x03\x01\r\n\r\n"]
)
def test_a_request_that_cannot_be_parsed_is_passed_on(proxy: Watched, upstream: Scripted, nonsense: bytes) -> None:
    upstream.pieces, upstream.end, upstream.wanted = [b"HTTP/1.1 400 Bad\r\n\r\n"], "close", len(nonsense)
    proxy.troubles.clear()
    assert ask(proxy.port, nonsense) == (b"HTTP/1.1 400 Bad\r\n\r\n", "eof")
    assert upstream.got == nonsense
    assert len(proxy.troubles) == 1


def test_a_response_that_cannot_be_parsed_is_passed_on(proxy: Watched, upstream: Scripted) -> None:
    nonsense = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\nnothing"
    upstream.pieces, upstream.end, upstream.wanted = [nonsense], "close", None
    proxy.troubles.clear()
    assert ask(proxy.port, GET) == (nonsense, "eof")
    assert len(proxy.troubles) == 1


def test_a_client_that_disconnects_is_gone_for_the_upstream_too(proxy: Watched, upstream: Scripted) -> None:
    upstream.pieces, upstream.end, upstream.wanted = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"], "keep", None
    proxy.passed.clear()
    ask(proxy.port, GET, size=10)
    (passed,) = proxy.wait()
    assert upstream.over.wait(PATIENCE)
    assert (passed.broken, passed.exchange.answered, passed.exchange.answer) == ("client", None, b"ab")


def test_a_client_that_resets_the_connection_resets_the_upstreams(proxy: Watched) -> None:
    with bind("127.0.0.1", 0) as bound:
        bound.listen()
        with between(address(bound)) as watched:
            client = socket.create_connection(("127.0.0.1", watched.port))
            client.sendall(GET)
            server, _ = bound.accept()
            with server:
                server.settimeout(PATIENCE)
                assert server.recv(1 << 16).startswith(b"GET ")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                with pytest.raises(ConnectionResetError):
                    server.recv(1)
            (passed,) = watched.wait()
    assert (passed.broken, passed.exchange.status, passed.exchange.answered) == ("client", 0, None)


def test_an_exchange_in_progress_when_the_proxy_stops_is_no_finding(contract: Contract) -> None:
    served, bound = Scripted([], "keep", whole=True), bind("127.0.0.1", 0)
    with judged(contract, served.url, bound, f"{served.url}/{contract.key}") as seen:
        client = socket.create_connection(bound.getsockname())
        client.sendall(f"GET /{contract.key}/nothing HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while b"\r\n\r\n" not in served.got:
            pass
    client.close()
    served.close()
    assert seen.live_judge.total == 1
    assert [line for line in seen.lines if line.startswith("upstream")] == []


@contextmanager
def nobody_at() -> Iterator[str]:
    """An address that refuses every connection, reserved so that no other server gets it."""
    bound = bind("127.0.0.1", 0)
    with bound:
        yield address(bound)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_an_upstream_that_is_not_there_is_a_502_in_our_shape(method: str) -> None:
    with nobody_at() as url, between(url) as proxy:
        sent = f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".encode() + b"x" * 100_000
        got, _ = ask(proxy.port, sent)
        (passed,) = proxy.wait()
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"Connection: close" in head
    assert (body == b"") if method == "HEAD" else (json.loads(body)["error"]["code"] == "upstream_unreachable")
    assert passed.own
    assert passed.exchange.status == 502


def test_it_is_no_proxy_for_other_hosts(proxy: Watched, upstream: Scripted) -> None:
    upstream.got = b""
    for line in (b"GET http://elsewhere.example/ HTTP/1.1", b"CONNECT elsewhere.example:443 HTTP/1.1"):
        got, end = ask(proxy.port, line + b"\r\nHost: elsewhere.example\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 421 ")
        assert end == "eof"
    assert upstream.got == b""


@pytest.mark.parametrize(
    "path", ["/_mock/jobs", "/%5Fmock/reset", "/%5f%6dock?x=/", "/_mock", "/metrics", "/metric%73?x"]
)
@pytest.mark.parametrize(
    "hosts", ["evil.example", "localhost.evil.example", "10.0.0.1", "127.1", "", "localhost\r\nHost: evil.example"]
)
def test_a_foreign_host_does_not_reach_the_control_plane_of_the_upstream(
    hosts: str, path: str, proxy: Watched, upstream: Scripted
) -> None:
    upstream.pieces, upstream.end, upstream.wanted = [OK], "close", None
    head = f"GET {path} HTTP/1.1\r\n" + (f"Host: {hosts}\r\n" if hosts else "") + "\r\n"
    got, end = ask(proxy.port, head.encode())
    assert (got.split()[1], end, upstream.got) == (b"403", "eof", b"")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "LOCALHOST", "[::1]:80", "127.0.0.9:1"])
def test_this_machine_reaches_the_control_plane_of_the_upstream(host: str, proxy: Watched, upstream: Scripted) -> None:
    upstream.pieces, upstream.end, upstream.wanted = [OK], "close", None
    got, _ = ask(proxy.port, f"GET /_mock/jobs HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert got == OK


def test_a_failing_observer_stops_no_exchange(upstream: Scripted) -> None:
    def fails(passed: ObservedExchange) -> None:
        raise RuntimeError("broken judge")

    troubles: list[str] = []
    bound = bind("127.0.0.1", 0)
    thread = ProxyThread(Proxy(Upstream.of(upstream.url), fails, troubles.append), bound)
    upstream.pieces, upstream.end, upstream.wanted = [OK], "close", None
    try:
        assert ask(bound.getsockname()[1], GET) == (OK, "eof")
    finally:
        thread.stop()
    assert "broken judge" in troubles[0]


@pytest.mark.parametrize("chunked", [True, False])
def test_a_long_response_is_never_held(proxy: Watched, chunked: bool) -> None:
    """A client that does not read stops the upstream, once the buffers of the system are full."""
    size = 128 << 20
    block = b"x" * (1 << 20)
    part = b"%x\r\n%b\r\n" % (len(block), block) if chunked else block
    how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    sent = 0
    with bind("127.0.0.1", 0) as bound:
        bound.listen()
        with between(address(bound)) as watched, socket.create_connection(("127.0.0.1", watched.port)) as client:
            client.sendall(GET)
            server, _ = bound.accept()
            with server:
                assert server.recv(1 << 16).startswith(b"GET ")
                server.sendall(b"HTTP/1.1 200 OK\r\n" + how + b"\r\n\r\n")
                server.setblocking(False)
                while sent < size and select.select([], [server], [], 0.5)[1]:
                    sent += server.send(part[sent % len(part) :])
                assert sent < size // 2
            client.settimeout(PATIENCE)
            received = 0
            while more := client.recv(1 << 20):
                received += len(more)
            assert received >= sent
            (passed,) = watched.wait()
    assert len(passed.exchange.answer) == KEPT_BODY_BYTES
    assert passed.exchange.size > sent - 1000
    assert passed.broken == "upstream"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_an_upstream_behind_tls_is_reached_and_trusted_only_by_its_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*making, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    answer = b"HTTP/1.0 200 OK\r\n\r\n" + b"to the end" * 50_000
    served = Scripted([answer], tls=context)
    url = served.url.replace("http:", "https:")
    try:
        trusted = Upstream.of(url, lambda: ssl.create_default_context(cafile=str(certificate)))
        with between(url, trusted) as proxy:
            assert ask(proxy.port, GET) == (answer, "eof")
            assert proxy.wait()[0].exchange.size == 500_000
        with between(url, Upstream.of(url)) as proxy:
            got, _ = ask(proxy.port, GET)
        assert got.startswith(b"HTTP/1.1 502 ")
        assert b"certificate" in got
    finally:
        served.close()


class Judged:
    """A live judge that judges after each exchange, with its findings."""

    def __init__(self, contract: Contract, base: str, most: int = live_judge.MOST_KEPT_EXCHANGES) -> None:
        self.found: list[Finding] = []
        self.troubles: list[str] = []
        self.live_judge = LiveJudge(contract, base, self.found.append, self.troubles.append, most)

    def seen(self, passed: ObservedExchange) -> None:
        self.live_judge.seen(passed)
        self.live_judge.judge()

    @property
    def lines(self) -> list[str]:
        return [str(one) for one in self.found]


@contextmanager
def judged(contract: Contract, upstream: str, bound: socket.socket, base: str) -> Iterator[Judged]:
    found = Judged(contract, base)
    thread = ProxyThread(Proxy(Upstream.of(upstream), found.seen, found.troubles.append), bound)
    try:
        yield found
    finally:
        thread.stop()


def order(contract: Contract, port: int, client: httpx.Client) -> None:
    """Submit the documented job, and ignore the outcome."""
    model = contract.models[0]
    base = f"http://127.0.0.1:{port}/{contract.key}"
    with suppress(httpx.HTTPError):
        ContractClient(contract, base, SECRET, client).submit(model.id, order_for(contract, model))


@pytest.mark.parametrize("strict", [False, True])
def test_the_command_reports_live_and_writes_an_archive_without_the_key(tmp_path: Path, strict: bool) -> None:
    contract = CONTRACTS[0]
    served = Scripted([], "reset", whole=True)
    file = tmp_path / "seen.har"
    more = ["--upstream", f"{served.url}/{contract.key}", "--har", str(file), *(["--strict"] if strict else [])]
    command = [str(Path(sys.executable).with_name("hobbyhorse")), "proxy", "--provider", contract.key, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        late = threading.Timer(PATIENCE, running.kill)
        late.start()
        said = json.loads(running.stdout.readline())
        assert said["pid"] == running.pid
        assert said["url"].endswith(f"/{contract.key}")
        with httpx.Client() as client:
            for _ in range(2):
                order(contract, int(said["url"].split(":")[2].split("/")[0]), client)
        lines = []
        for line in running.stderr:
            lines.append(line)
            if "SUB-01" in line:
                break
        running.send_signal(signal.SIGINT if strict else signal.SIGTERM)
        out, err = running.communicate(timeout=PATIENCE)
        late.cancel()
    served.close()
    assert running.returncode == (1 if strict else 0)
    written = file.read_text()
    assert SECRET not in "".join([*lines, out, err, written])
    trace = read_har(parse_har(written.encode()), contract, f"{served.url}/{contract.key}").trace
    assert [one.role for one in trace.exchanges] == ["submit", "submit"]
    assert [one.whole for one in trace.exchanges] == [False, False]
