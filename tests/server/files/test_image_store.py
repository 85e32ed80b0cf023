"""Images are fetched only from allowed addresses, within bounds of time and size, and removed with the store."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hobbyhorse.contract.forms.expressions import Message
from hobbyhorse.contract.request import Order, ValidRequest, read_order
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.media.picture import PictureError
from hobbyhorse.server.files import image_store
from hobbyhorse.server.files.image_sources import FetchPolicy, Source
from hobbyhorse.server.files.image_store import ImageStore
from hobbyhorse.server.worker import names
from tests.server.files.test_image_checks import FIRST, encoded, inline, order, outcome, taking
from tests.world import Mock, documented

pytestmark = pytest.mark.anyio

# Seconds after which a hanging thread of a failed test ends.
PATIENCE = 30.0


@taking
async def test_an_image_of_exactly_the_documented_bytes_is_accepted_and_one_more_is_not(
    contract: Contract, model: Model, httpserver: HTTPServer
) -> None:
    assert model.images is not None
    most = model.images.most_bytes
    assert most is not None
    picture = encoded(600, 600, "JPEG")
    for extra, expected in ((0, "success"), (1, "failure")):
        data = picture + bytes(most + extra - len(picture))
        httpserver.expect_request(f"/{extra}.jpg").respond_with_data(data, content_type="image/jpeg")
        mock = Mock([contract])
        reply = await order(mock, contract, model, httpserver.url_for(f"/{extra}.jpg"))
        kind, error = await outcome(mock, contract, reply)
        assert kind == expected, error
        if extra:
            assert str(most) in error


async def test_a_response_other_than_200_fails_the_job(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    httpserver.expect_request("/gone.png").respond_with_data("no", status=404)
    mock = Mock([contract])
    reply = await order(mock, contract, model, httpserver.url_for("/gone.png"))
    kind, error = await outcome(mock, contract, reply)
    assert (kind, "404" in error) == ("failure", True)


async def test_a_port_without_a_listener_fails_the_job() -> None:
    contract, model = FIRST
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, "http://127.0.0.1:1/p.png"))
    assert (kind, "cannot be fetched" in error) == ("failure", True)


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://10.0.0.1/", "file:///etc/passwd"])
async def test_a_redirect_to_where_nothing_may_be_fetched_fails_the_job(target: str, httpserver: HTTPServer) -> None:
    contract, model = FIRST
    httpserver.expect_request("/p.png").respond_with_data("", status=302, headers={"location": target})
    mock = Mock([contract])
    reply = await order(mock, contract, model, httpserver.url_for("/p.png"))
    kind, error = await outcome(mock, contract, reply)
    assert (kind, "may not be fetched" in error) == ("failure", True)


async def test_a_redirect_on_this_machine_is_followed_and_endless_ones_are_not(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    httpserver.expect_request("/b.png").respond_with_data(encoded(600, 600), content_type="image/png")
    httpserver.expect_request("/a.png").respond_with_data("", status=302, headers={"location": "/b.png"})
    httpserver.expect_request("/loop.png").respond_with_data("", status=302, headers={"location": "/loop.png"})
    for path, expected in (("/a.png", "success"), ("/loop.png", "failure")):
        mock = Mock([contract])
        kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for(path)))
        assert kind == expected, error


async def test_a_host_that_hangs_fails_the_job(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    contract, model = FIRST
    monkeypatch.setattr(image_store, "SECONDS", 0.2)

    def hang(request: Request) -> Response:
        time.sleep(1)
        return Response(b"late")

    httpserver.expect_request("/slow.png").respond_with_handler(hang)
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for("/slow.png")))
    assert (kind, "within 0.2 s" in error) == ("failure", True)


async def test_an_endless_response_is_read_only_up_to_the_bound(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    sent: list[int] = []

    def pour(request: Request) -> Response:
        def chunks() -> Iterator[bytes]:
            while len(sent) < 1_000:
                sent.append(1)
                yield bytes(1 << 20)

        return Response(chunks(), mimetype="image/png")

    httpserver.expect_request("/pour.png").respond_with_handler(pour)
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for("/pour.png")))
    assert (kind, "bytes" in error) == ("failure", True)
    assert len(sent) < 100


async def test_a_redirect_to_a_path_with_a_raw_space_is_followed(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    httpserver.expect_request("/my picture.png").respond_with_data(encoded(600, 600), content_type="image/png")

    def point(request: Request) -> Response:
        response = Response(status=302)
        response.autocorrect_location_header = False
        response.headers["location"] = "/my picture.png"
        return response

    httpserver.expect_request("/a.png").respond_with_handler(point)
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for("/a.png")))
    assert kind == "success", error


async def test_a_compressed_response_is_not_unpacked(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    bomb = gzip.compress(bytes(50 << 20))
    httpserver.expect_request("/a.png").respond_with_data(bomb, headers={"content-encoding": "gzip"})
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for("/a.png")))
    assert (kind, "Content-Encoding 'gzip'" in error) == ("failure", True)


@pytest.mark.parametrize(
    ("addresses", "kind", "word"),
    [
        (("::1", "127.0.0.1"), "success", ""),
        (("127.0.0.1", "::1"), "success", ""),
        (("10.0.0.1", "127.0.0.1"), "success", ""),
        (("10.0.0.1", "169.254.169.254"), "failure", "is at 10.0.0.1, which may not be fetched from"),
        (("127.0.0.9", "127.0.0.8"), "failure", "cannot be fetched"),
    ],
)
async def test_each_address_of_a_name_is_tried_and_each_against_the_policy(
    addresses: tuple[str, ...], kind: str, word: str, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, model = FIRST
    httpserver.expect_request("/a.png").respond_with_data(encoded(600, 600), content_type="image/png")
    usual = socket.getaddrinfo

    def resolve(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        if host != "pictures.localhost":
            return usual(host, port, *rest, **more)
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    mock = Mock([contract])
    url = f"http://pictures.localhost:{httpserver.port}/a.png"
    found, error = await outcome(mock, contract, await order(mock, contract, model, url))
    assert found == kind, error
    assert word in error


async def test_a_key_that_fetches_from_a_host_that_hangs_delays_no_other_key(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, FetchPolicy())
    goes_on = asyncio.Event()
    asked: list[str] = []

    async def fetch(url: str, most: int, owner: str) -> bytes:
        asked.append(url)
        if "busy" in url:
            await goes_on.wait()
        return encoded(600, 600)

    store._fetch = fetch  # type: ignore[method-assign]
    fetched = frozenset({Source.FETCH})
    waiting = [
        asyncio.ensure_future(store.take(submission(f"http://localhost/busy/{one}"), "", fetched, "busy"))
        for one in range(20)
    ]
    await store.take(submission("http://localhost/other"), "", fetched, "other")
    assert len(asked) == image_store.MOST_FETCHES_OF_KEY + 1
    goes_on.set()
    await asyncio.gather(*waiting)


async def test_names_without_an_answer_fail_no_fetch_of_another_key(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, usual = threading.Event(), socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        if "slow" in str(host):
            goes_on.wait(PATIENCE)
        return usual("127.0.0.1" if str(host).endswith("localhost") else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    httpserver.expect_request("/a.png").respond_with_data(encoded(600, 600), content_type="image/png")
    store, fetched = ImageStore(tmp_path, FetchPolicy()), frozenset({Source.FETCH})
    # With more keys than the system has threads for all names.
    waiting = [
        asyncio.ensure_future(store.try_take(submission(f"http://slow.localhost:1/{one}"), "", fetched, f"busy-{one}"))
        for one in range(40)
    ]
    await asyncio.sleep(0.1)
    for host in ("localhost", "fast.localhost"):
        stored = await store.take(submission(f"http://{host}:{httpserver.port}/a.png"), "", fetched, "other")
        assert (stored.first_frame or "").startswith("sha256:")
    goes_on.set()
    ends = await asyncio.gather(*waiting)
    assert {one.code for one in ends if isinstance(one, PictureError)} == {"unreachable"}


async def test_a_name_that_is_not_resolved_in_time_fails_the_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 0.01)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *rest, **more: goes_on.wait(PATIENCE) and [])
    store, fetched = ImageStore(tmp_path, FetchPolicy()), frozenset({Source.FETCH})
    found = await store.try_take(submission("http://slow.localhost/a.png"), "", fetched, "key")
    goes_on.set()
    assert isinstance(found, PictureError)
    assert (found.code, "'slow.localhost' was not resolved within 0.01 s" in str(found)) == ("timeout", True)


@pytest.mark.parametrize("name", ["%00", "x" * 300, "a%00.png", "..%2f..%2fpyproject.toml"])
async def test_a_picture_that_no_file_can_be_named_after_is_refused(name: str) -> None:
    contract, model = FIRST
    mock = Mock([contract])
    url = f"http://mock.test/fixtures/images/{name}"
    if "%2f" not in name:
        reply = await order(mock, contract, model, url)
        assert reply.reading is not None
        assert "invalid_request" in reply.reading.situations, reply.body
    assert (await mock.send("GET", f"/fixtures/images/{unquote(name)}")).status == 404


async def test_no_image_is_left_after_the_close(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mock = Mock([contract])
    await order(mock, contract, contract.models[0], inline(encoded(600, 600)))
    await order(mock, contract, contract.models[0], inline(b"nothing"))
    assert list(tmp_path.iterdir())
    await mock.fake.close()
    assert not list(tmp_path.iterdir())


# ---- the store itself


def submission(url: str) -> Order:
    """Return the documented order of the first contract, with another image."""
    contract, model = FIRST
    operation, _, body = documented(contract, model)
    valid = read_order(contract, operation, Message({"model": model.id}, {}, lambda name: None, body))
    assert isinstance(valid, ValidRequest)
    return replace(valid.order, first_frame=url, references=())


async def test_a_stored_image_is_named_by_the_hash_of_its_bytes_and_can_be_read(tmp_path: Path) -> None:
    store, data = ImageStore(tmp_path, FetchPolicy()), encoded(600, 600)
    for _ in range(2):
        stored = await store.take(submission(inline(data)), "http://mock.test", frozenset({Source.INLINE}))
        assert stored.first_frame == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert store.has(stored.first_frame)
        assert store.read(stored.first_frame) == data
    assert len(list(tmp_path.iterdir())) == 1, "one file, and no temporary one"


async def test_an_image_of_another_source_is_left_as_it_is(tmp_path: Path) -> None:
    order = submission("http://127.0.0.1:1/never-fetched.png")
    store = ImageStore(tmp_path, FetchPolicy())
    assert await store.take(order, "http://mock.test", frozenset({Source.INLINE, Source.FIXTURE})) == order
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["sha256:../../etc/passwd", "sha256:" + "0" * 63, "sha256:" + "0" * 64 + "/x", "0" * 64, ""]
)
def test_nothing_else_has_the_form_of_a_stored_name(name: str, tmp_path: Path) -> None:
    assert not ImageStore(tmp_path, FetchPolicy()).has(name)


async def test_an_unusable_image_is_returned_as_an_error_with_its_code(tmp_path: Path) -> None:
    store = ImageStore(tmp_path, FetchPolicy())
    missing = submission("http://mock.test/fixtures/images/nothing.png")
    error = await store.try_take(missing, "http://mock.test", frozenset({Source.FIXTURE}))
    assert isinstance(error, PictureError)
    assert error.code == "not_found"
    assert "'nothing.png'" in str(error)
    with pytest.raises(PictureError):
        await store.take(missing, "http://mock.test", frozenset({Source.FIXTURE}))
    assert list(tmp_path.iterdir()) == []


async def test_stored_images_have_a_bound_which_an_earlier_server_is_held_to_as_well(tmp_path: Path) -> None:
    pictures = [encoded(600 + number, 600) for number in range(4)]
    sources = frozenset({Source.INLINE})

    async def take(store: ImageStore, data: bytes) -> str:
        return (await store.take(submission(inline(data)), "http://mock.test", sources, "key")).first_frame or ""

    first = ImageStore(tmp_path, FetchPolicy())
    names = [await take(first, data) for data in pictures[:3]]
    for age, name in enumerate(names):
        used = time.time() - 1_000 * (3 - age)
        os.utime(tmp_path / name.removeprefix("sha256:"), (used, used))
    first.read(names[0])
    abandoned, written = (tmp_path / f"{letter * 64}.1" for letter in "ab")
    for path in (abandoned, written):
        path.write_bytes(b"half a picture")
    os.utime(abandoned, (0, 0))
    store = ImageStore(tmp_path, FetchPolicy(), most_bytes=sum(map(len, (pictures[0], *pictures[2:]))))
    names.append(await take(store, pictures[3]))
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {names[at].removeprefix("sha256:") for at in (0, 2, 3)} | {written.name}
    with pytest.raises(FileNotFoundError):
        store.read(names[1])
