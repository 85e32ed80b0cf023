"""Variations on a real socket: the bytes differ, the message is the same, and the connection stays usable."""

from __future__ import annotations

import gzip
import socket
import zlib
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hobbyhorse import MockServer
from hobbyhorse.clock.clock import ManualClock
from hobbyhorse.scenarios.effects import Framed, Sent
from hobbyhorse.server.file_requests import normalized
from hobbyhorse.server.socket_faults import (
    MOST_SEGMENTS,
    TRANSPORT,
    ClientConnection,
    _segments,
    send_with_fault,
    written,
)
from hobbyhorse.server.trouble import offered_codings
from hobbyhorse.worlds.journal import Handover
from tests.conftest import CONTRACTS
from tests.test_examples import REQUESTS

PLAIN = Sent(200, ((b"content-type", b"application/json"), (b"etag", b'"x"')), b'{"a":1}')


def parts(framed: Framed, method: str = "GET") -> tuple[list[bytes], bytes]:
    head, _, body = written(framed, PLAIN, [(b"server", b"s")], method).partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


@pytest.mark.parametrize(
    ("case", "name"), [("upper", b"CONTENT-TYPE"), ("title", b"Content-Type"), ("", b"content-type")]
)
def test_header_names_have_the_wanted_case(case: str, name: bytes) -> None:
    head, body = parts(Framed(names=case))
    assert name + b": application/json" in head
    assert body == PLAIN.body


def test_a_body_without_a_length_is_chunked_or_ends_with_the_connection() -> None:
    head, body = parts(Framed(framing="chunked"))
    assert b"transfer-encoding: chunked" in head
    assert not [line for line in head if line.startswith(b"content-length")]
    assert body == b'1;part=0\r\n{\r\n3;part=1\r\n"a"\r\n3;part=2\r\n:1}\r\n0\r\nX-Trailer: end\r\n\r\n'
    head, body = parts(Framed(framing="close"))
    assert not [line for line in head if line.startswith((b"content-length", b"transfer-encoding"))]
    assert body == PLAIN.body
    head, body = parts(Framed(version="1.0", framing="chunked", ends="announced"))
    assert head[0] == b"HTTP/1.0 200 OK"
    assert b"content-length: 7" in head
    assert b"connection: close" in head
    assert body == PLAIN.body, "HTTP/1.0 has no chunks"


@pytest.mark.parametrize(("coding", "decode"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_coded_body_has_the_headers_of_its_coding(coding: str, decode: Any) -> None:
    head, body = parts(Framed(coding=coding))
    assert decode(body) == PLAIN.body
    assert f"content-encoding: {coding}".encode() in head
    assert f"content-length: {len(body)}".encode() in head
    assert not [line for line in head if line.startswith(b"etag")], "it is the tag of the body before its coding"
    assert parts(Framed(coding=coding), "HEAD")[1] == b""


def test_segments_are_small_and_not_too_many() -> None:
    assert list(_segments(b"abcdef", 4)) == [b"abcd", b"ef"]
    assert list(_segments(b"abcdef", 0)) == [b"abcdef"]
    assert len(list(_segments(bytes(100_000), 1))) <= MOST_SEGMENTS


@pytest.mark.parametrize(
    ("accepted", "offered"),
    [("gzip, deflate;q=0.5", {"gzip", "deflate"}), ("gzip;q=0, br", {"br"}), ("GZIP ; q=0.000", set()), (None, {""})],
)
def test_only_codings_with_a_weight_are_offered(accepted: str | None, offered: set[str]) -> None:
    assert offered_codings(accepted) == offered


@pytest.mark.parametrize(
    ("given", "back", "same"),
    [("a=%2B", "a=%2b", True), ("a=%41", "a=A", True), ("a=%2B", "a=+", False), ("a=%2F", "a=/", False)],
)
def test_only_equivalent_spellings_of_a_query_are_equal(given: str, back: str, *, same: bool) -> None:
    assert (normalized(given) == normalized(back)) is same


def submitted(server: MockServer, scenario: dict[str, Any], http: httpx.Client) -> tuple[str, str]:
    """Submit under a scenario; return the base URL and the job."""
    world = server.world("hh-test-key-variations")
    world.arm(scenario, provider="vtrix")
    base = world.url("vtrix")
    http.headers["Authorization"] = f"Bearer {world.api_key}"
    found = http.post(f"{base}/model/v1/generation", json=REQUESTS["vtrix"])
    return base, str(found.json()["id"])


def test_the_connection_stays_usable_after_a_response_in_another_form() -> None:
    moves = [{"move": name, "times": "always"} for name in ("decoys", "json_text", "header_case", "coded", "framed")]
    with MockServer(CONTRACTS, pace="instant") as server, httpx.Client(trust_env=False) as http:
        base, job = submitted(server, {"moves": {"submit": moves, "status": moves}}, http)
        found = [http.get(f"{base}/model/v1/generation/task/{job}") for _ in range(3)]
        ports = {one.extensions["network_stream"].get_extra_info("client_addr") for one in found}
    assert len(ports) == 1, "one connection serves all requests"
    for one in found:
        assert one.headers["content-encoding"] == "gzip"
        assert one.headers["transfer-encoding"] == "chunked"
        assert b"Content-Type" in dict(one.headers.raw)
        assert one.json()["x_previous"]["id"] == f"old {job}"
        assert one.content.startswith(b"\r\n")


def test_a_link_that_comes_back_changed_is_refused() -> None:
    scenario = {"moves": {"status": [{"move": "odd_links", "times": "always"}]}}
    with MockServer(CONTRACTS, pace="instant") as server, httpx.Client(trust_env=False) as http:
        base, job = submitted(server, scenario, http)
        body = http.get(f"{base}/model/v1/generation/task/{job}").json()
        url = body["output"][0]["content"][0]["url"]
        assert "a%2Bb" in url
        assert [raw_status(url), raw_status(url.replace("%2B", "%2b")), raw_status(url.replace("%2B", "+"))] == [
            200,
            200,
            403,
        ]


def raw_status(url: str) -> int:
    """Return the status of a GET whose target is sent as it is."""
    _, _, rest = url.partition("://")
    place, _, target = rest.partition("/")
    host, _, port = place.partition(":")
    with socket.create_connection((host, int(port))) as stream:
        stream.sendall(f"GET /{target} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
        with stream.makefile("rb") as response:  # to its end: the server may not stop while it opens the video
            return int(response.read().split()[1])


class Leaving:
    """A transport whose client leaves once it has read a number of writes."""

    def __init__(self, reads: int) -> None:
        self.reads, self.writes, self.unread = reads, 0, None
        self.cycle = SimpleNamespace(default_headers=[], transport=None)

    def get_protocol(self) -> Leaving:
        return self

    def write(self, data: bytes) -> None:
        self.writes += 1

    def is_closing(self) -> bool:
        return self.writes >= self.reads


@pytest.mark.anyio
@pytest.mark.parametrize("reads", [1, 3])
async def test_a_client_that_leaves_right_after_the_last_byte_has_read_everything(reads: int) -> None:
    """And one that leaves before it has not."""
    sent, leaving, handover = Sent(200, (), bytes(100)), Leaving(reads), Handover(0.0)
    framed = Framed(segment=-(-len(written(Framed(), sent, (), "GET")) // 3))

    async def ignore(*_: Any) -> Any:
        return {}

    scope = {"method": "GET", "extensions": {TRANSPORT: leaving}}
    await send_with_fault(framed, sent, ClientConnection(scope, ignore, ignore, ManualClock(), handover))
    assert (leaving.writes, handover.whole) == (reads, reads == 3)
