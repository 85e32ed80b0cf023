"""A picture that the provider would not take is refused at once where that can be told, else its job fails."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract, Model
from hobbyhorse.server.files import image_store as gallery
from tests.conftest import CONTRACTS
from tests.world import Mock, Reply, documented

pytestmark = pytest.mark.anyio

TAKING = [
    pytest.param(contract, model, id=f"{contract.key}-{model.task}")
    for contract in CONTRACTS
    for model in contract.models
    if model.images is not None
]
taking = pytest.mark.parametrize(("contract", "model"), TAKING)


def encoded(width: int, height: int, form: str = "PNG") -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (width, height), (40, 90, 160)).save(held, form)
    return held.getvalue()


def bomb() -> bytes:
    """A small PNG that says that it is 50,000 by 50,000."""
    held = io.BytesIO()
    Image.new("1", (8, 8)).save(held, "PNG")
    data = held.getvalue()
    return data[:16] + (50_000).to_bytes(4, "big") * 2 + data[24:]


BAD = {
    "truncated": encoded(800, 600, "JPEG")[:1_500],
    "empty": b"",
    "text under a picture's name": b"hello",
    "an HTML page": b"<!doctype html><html></html>",
    "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="600"></svg>',
    "a GIF": encoded(800, 600, "GIF"),
    "one pixel": encoded(1, 1),
    "a bomb": bomb(),
}


async def order(mock: Mock, contract: Contract, model: Model, url: str, role: str = "submit") -> Reply:
    """Order the documented job of a model with another picture."""
    operation, _, body = documented(contract, model, role)
    places = model.parameters.get("first_frame") or model.parameters["references"]
    body = replaced(body, (*operation.model_parameters.pointer, *places[0]), url)
    return await mock.call(contract, role, path={"model": model.id}, body=body)


def inline(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


async def outcome(mock: Mock, contract: Contract, reply: Reply) -> tuple[str, str]:
    """Return the class of the stage that an accepted job ends in, and the error that it shows."""
    assert reply.reading is not None
    assert "accepted" in reply.reading.situations, reply.body
    await mock.clock.advance(3_600)
    role = "result" if "result" in contract.operations else "status"
    shown = await mock.call(contract, role, path={"job": reply.reading.values["job"]})
    assert shown.reading is not None
    (kind,) = {contract.graph[name].kind for name in shown.reading.stages}
    return kind, str(shown.reading.values.get("error_message"))


@taking
@pytest.mark.parametrize("name", BAD)
async def test_an_inline_picture_that_cannot_be_used_is_refused_at_once(
    name: str, contract: Contract, model: Model
) -> None:
    mock = Mock([contract])
    reply = await order(mock, contract, model, inline(BAD[name]))
    assert reply.reading is not None
    assert "invalid_request" in reply.reading.situations, reply.body
    assert not mock.world.jobs


@taking
@pytest.mark.parametrize("name", BAD)
async def test_a_fetched_picture_that_cannot_be_used_fails_its_job(
    name: str, contract: Contract, model: Model, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/p.png").respond_with_data(BAD[name], content_type="image/png")
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for("/p.png")))
    assert kind == "failure"
    assert error


def sizes(model: Model) -> Iterator[tuple[int, int, str | None]]:
    """Yield sizes at and just beyond each bound of a model, and the word that the refusal must have."""
    assert model.images is not None
    side = model.images.least_side
    if side is not None:
        yield side, side, None
        yield side - 1, side + 100, "side"
        yield side + 100, side - 1, "side"
    if model.images.aspect is not None:
        yield 1000, 400, None
        yield 400, 1000, None
        yield 1001, 400, "width/height"
        yield 400, 1001, "width/height"


@taking
async def test_a_picture_at_a_documented_bound_is_taken_and_one_beyond_is_not(
    contract: Contract, model: Model, httpserver: HTTPServer
) -> None:
    for width, height, word in sizes(model):
        path = f"/{width}x{height}.png"
        httpserver.expect_request(path).respond_with_data(encoded(width, height), content_type="image/png")
        mock = Mock([contract])
        kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for(path)))
        assert kind == ("success" if word is None else "failure"), (width, height, error)
        if word is not None:
            assert word.split("/")[0] in error
            assert f"{width}x{height}" in error
        refused = await order(mock, contract, model, inline(encoded(width, height)))
        assert refused.reading is not None
        assert ("invalid_request" in refused.reading.situations) == (word is not None)


@taking
async def test_a_picture_of_exactly_the_documented_bytes_is_taken_and_one_more_is_not(
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


@taking
async def test_every_documented_format_is_taken(contract: Contract, model: Model, httpserver: HTTPServer) -> None:
    assert model.images is not None
    for form in ("jpeg", "png", "webp", "bmp"):
        path = f"/p.{form}"
        httpserver.expect_request(path).respond_with_data(encoded(600, 600, form.upper()), content_type="image/png")
        mock = Mock([contract])
        kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for(path)))
        assert (kind == "success") == (form in model.images.formats), error


@taking
@pytest.mark.parametrize("url", ["horse.png", "ftp://127.0.0.1/horse.png", "http://", "sha256:" + "0" * 64])
async def test_what_is_no_address_is_no_picture(url: str, contract: Contract, model: Model) -> None:
    mock = Mock([contract])
    reply = await order(mock, contract, model, url)
    assert reply.reading is not None
    if "invalid_request" in reply.reading.situations:
        assert not mock.world.jobs
        return
    kind, error = await outcome(mock, contract, reply)
    assert kind == "failure"
    assert "no http(s) address" in error


FIRST = CONTRACTS[0], CONTRACTS[0].models[0]


async def test_an_address_that_does_not_answer_200_fails_the_job(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    httpserver.expect_request("/gone.png").respond_with_data("no", status=404)
    mock = Mock([contract])
    reply = await order(mock, contract, model, httpserver.url_for("/gone.png"))
    kind, error = await outcome(mock, contract, reply)
    assert (kind, "404" in error) == ("failure", True)


async def test_an_address_that_nobody_listens_at_fails_the_job() -> None:
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


async def test_an_address_that_hangs_fails_the_job_while_others_are_served(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, model = FIRST
    monkeypatch.setattr(gallery, "SECONDS", 0.2)

    def hang(request: Request) -> Response:
        time.sleep(1)
        return Response(b"late")

    httpserver.expect_request("/slow.png").respond_with_handler(hang)
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for("/slow.png")))
    assert (kind, "within 0.2 s" in error) == ("failure", True)


async def test_an_address_that_streams_for_ever_is_read_only_as_far_as_allowed(httpserver: HTTPServer) -> None:
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


async def test_a_picture_elsewhere_is_not_fetched_and_that_is_noted(contract: Contract) -> None:
    mock = Mock([contract])
    await mock.submit(contract)
    notes = " ".join(next(iter(mock.world.journal)).notes)
    assert "not fetched" in notes


async def test_the_projects_own_pictures_are_pictures_for_every_model() -> None:
    names = sorted(path.name for path in (data_directory("fixtures") / "images").iterdir())
    assert names
    for contract in CONTRACTS:
        for name in names:
            mock = Mock([contract])
            reply = await order(mock, contract, contract.models[0], f"http://mock.test/fixtures/images/{name}")
            assert (await outcome(mock, contract, reply))[0] == "success", name


async def test_an_own_picture_that_is_not_there_is_refused_at_once() -> None:
    contract, model = FIRST
    mock = Mock([contract])
    reply = await order(mock, contract, model, "http://mock.test/fixtures/images/nobody.png")
    assert reply.reading is not None
    assert "invalid_request" in reply.reading.situations
    assert not mock.world.jobs


@pytest.mark.parametrize("name", ["..%2f..%2fREADME.md", "../README.md"])
async def test_a_way_out_of_our_own_pictures_is_an_address_elsewhere(name: str) -> None:
    contract, model = FIRST
    mock = Mock([contract])
    reply = await order(mock, contract, model, f"http://mock.test/fixtures/images/{name}")
    assert (await outcome(mock, contract, reply))[0] == "success"
    assert "not fetched" in " ".join(next(iter(mock.world.journal)).notes)


async def test_a_held_job_does_not_end_before_its_pictures_are_looked_at(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    httpserver.expect_request("/p.png").respond_with_data(encoded(600, 600), content_type="image/png")
    mock = Mock([contract], pace="instant")
    reply = await order(mock, contract, model, httpserver.url_for("/p.png"))
    assert reply.reading is not None
    job = mock.world.jobs[reply.reading.values["job"]]
    assert not job.stage(mock.clock.now() + 1e6).terminal
    await mock.clock.advance(0)
    assert job.stage(mock.clock.now()).kind == "success"


HOLDING = [
    pytest.param(contract, model, id=f"{contract.key}-{model.task}")
    for contract in CONTRACTS
    for model in contract.models
    if model.images is not None and "run" in contract.operations
]


@pytest.mark.parametrize(("contract", "model"), HOLDING)
@pytest.mark.parametrize("kind", ["success", "failure"])
async def test_a_held_request_fetches_its_picture_before_it_responds(
    kind: str, contract: Contract, model: Model, httpserver: HTTPServer
) -> None:
    data = encoded(600, 600) if kind == "success" else BAD["an HTML page"]
    httpserver.expect_request("/p.png").respond_with_data(data, content_type="image/png")
    mock = Mock([contract], pace="instant")
    reply = await order(mock, contract, model, httpserver.url_for("/p.png"), "run")
    assert [request.path for request, _ in httpserver.log] == ["/p.png"], "the fetch is over when the response comes"
    assert reply.reading is not None
    assert {contract.graph[name].kind for name in reply.reading.stages} == {kind}
    (job,) = mock.world.jobs.values()
    assert (job.held, job.collected) == (False, True)
    assert (job.error == (None, None)) == (kind == "success")


async def test_no_picture_stays_behind(contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mock = Mock([contract])
    await order(mock, contract, contract.models[0], inline(encoded(600, 600)))
    await order(mock, contract, contract.models[0], inline(b"nothing"))
    assert list(tmp_path.iterdir())
    await mock.fake.close()
    assert not list(tmp_path.iterdir())
