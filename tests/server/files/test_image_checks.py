"""An invalid image is refused with its submission if it is at hand; if it must be fetched, it fails the job."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import pytest
from PIL import Image
from pytest_httpserver import HTTPServer

from hobbyhorse.contract.folder import data_directory
from hobbyhorse.contract.forms.expressions import replaced
from hobbyhorse.contract.values import Contract, Model
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
    """Return a small PNG that declares 50,000 by 50,000 pixels."""
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
    """Submit the documented job of a model with another image."""
    operation, _, body = documented(contract, model, role)
    places = model.parameters.get("first_frame") or model.parameters["references"]
    body = replaced(body, (*operation.model_parameters.pointer, *places[0]), url)
    return await mock.call(contract, role, path={"model": model.id}, body=body)


def inline(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


async def outcome(mock: Mock, contract: Contract, reply: Reply) -> tuple[str, str]:
    """Return the class of the final stage of an accepted job, and its error."""
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
async def test_an_inline_image_that_is_not_usable_is_refused_with_its_submission(
    name: str, contract: Contract, model: Model
) -> None:
    mock = Mock([contract])
    reply = await order(mock, contract, model, inline(BAD[name]))
    assert reply.reading is not None
    assert "invalid_request" in reply.reading.situations, reply.body
    assert not mock.world.jobs


@taking
@pytest.mark.parametrize("name", BAD)
async def test_a_fetched_image_that_is_not_usable_fails_its_job(
    name: str, contract: Contract, model: Model, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/p.png").respond_with_data(BAD[name], content_type="image/png")
    mock = Mock([contract])
    kind, error = await outcome(mock, contract, await order(mock, contract, model, httpserver.url_for("/p.png")))
    assert kind == "failure"
    assert error


def sizes(model: Model) -> Iterator[tuple[int, int, str | None]]:
    """Yield sizes at each bound of a model and just beyond it, with a word of the refusal."""
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
async def test_an_image_at_a_documented_bound_is_accepted_and_one_beyond_is_not(
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
async def test_an_invalid_url_is_not_an_image(url: str, contract: Contract, model: Model) -> None:
    mock = Mock([contract])
    reply = await order(mock, contract, model, url)
    assert reply.reading is not None
    if "invalid_request" in reply.reading.situations:
        assert not mock.world.jobs
        return
    kind, error = await outcome(mock, contract, reply)
    assert kind == "failure"
    assert "is neither an http(s) URL nor a data URI" in error


FIRST = CONTRACTS[0], CONTRACTS[0].models[0]


async def test_an_image_on_another_machine_is_not_fetched_and_that_is_noted(contract: Contract) -> None:
    mock = Mock([contract])
    await mock.submit(contract)
    notes = " ".join(next(iter(mock.world.journal)).notes)
    assert "not fetched" in notes


async def test_the_fixture_images_are_valid_for_every_model() -> None:
    names = sorted(path.name for path in (data_directory("fixtures") / "images").iterdir())
    assert names
    for contract in CONTRACTS:
        for name in names:
            mock = Mock([contract])
            reply = await order(mock, contract, contract.models[0], f"http://mock.test/fixtures/images/{name}")
            assert (await outcome(mock, contract, reply))[0] == "success", name


async def test_a_fixture_image_that_does_not_exist_is_refused_with_its_submission() -> None:
    contract, model = FIRST
    mock = Mock([contract])
    reply = await order(mock, contract, model, "http://mock.test/fixtures/images/nobody.png")
    assert reply.reading is not None
    assert "invalid_request" in reply.reading.situations
    assert not mock.world.jobs


@pytest.mark.parametrize("name", ["..%2f..%2fREADME.md", "../README.md"])
async def test_a_path_out_of_the_fixtures_is_a_url_on_another_machine(name: str) -> None:
    contract, model = FIRST
    mock = Mock([contract])
    reply = await order(mock, contract, model, f"http://mock.test/fixtures/images/{name}")
    assert (await outcome(mock, contract, reply))[0] == "success"
    assert "not fetched" in " ".join(next(iter(mock.world.journal)).notes)


async def test_a_held_job_does_not_end_before_its_images_are_checked(httpserver: HTTPServer) -> None:
    contract, model = FIRST
    httpserver.expect_request("/p.png").respond_with_data(encoded(600, 600), content_type="image/png")
    mock = Mock([contract], pace="instant")
    reply = await order(mock, contract, model, httpserver.url_for("/p.png"))
    assert reply.reading is not None
    job = mock.world.jobs[reply.reading.values["job"]]
    assert not job.stage(mock.clock.now() + 1e6).terminal
    await mock.clock.advance(0)
    assert job.stage(mock.clock.now()).kind == "success"
