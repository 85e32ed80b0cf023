"""The server routes list the providers, serve fixtures and media, and refuse every other path."""

from __future__ import annotations

import pytest

from hobbyhorse.contract.folder import data_directory, load_all
from tests.conftest import CONTRACTS
from tests.server.media_host import CONTRACT, Host
from tests.world import Mock

pytestmark = pytest.mark.anyio


async def test_a_path_that_belongs_to_no_provider_is_refused_in_the_servers_own_shape() -> None:
    reply = await Mock(load_all()).send("GET", "/nobody/v1/things")
    assert reply.status == 404
    assert reply.json["error"]["code"] == "unknown_path"
    assert CONTRACTS[0].key in reply.json["error"]["hint"]


async def test_a_method_that_a_server_route_does_not_allow_is_refused_with_405() -> None:
    mock = Mock(load_all())
    for path in ("/", "/fixtures/images/square.webp"):
        reply = await mock.send("DELETE", path)
        assert (reply.status, reply.json["error"]["code"]) == (405, "wrong_method")


@pytest.mark.parametrize(
    ("method", "end", "status", "code"),
    [
        ("GET", "/", 404, b"NoSuchKey"),
        ("POST", "", 405, b"MethodNotAllowed"),
        ("POST", "/", 404, b"NoSuchKey"),
        ("DELETE", "/more", 404, b"NoSuchKey"),
    ],
)
async def test_a_request_that_no_media_link_allows_is_refused_in_the_xml_of_the_media_host(
    method: str, end: str, status: int, code: bytes, host: Host
) -> None:
    path, _, query = (await host.video()).partition("?")
    response = await host.client.request(method, f"{path}{end}?{query}")
    assert (response.status_code, response.headers["content-type"]) == (status, "application/xml")
    assert b"<Code>" + code + b"</Code>" in response.content
    assert ("allow" in response.headers) == (status == 405)


async def test_the_index_lists_the_providers_under_the_origin_of_the_request() -> None:
    reply = await Mock(load_all()).send("GET", "/", host="elsewhere.test:81")
    assert reply.json == {"providers": {one.key: f"http://elsewhere.test:81/{one.key}" for one in CONTRACTS}}


async def test_the_control_plane_and_the_renderer_are_created_by_the_first_request_that_needs_them() -> None:
    fake = Mock([CONTRACT]).fake
    mock = Mock([CONTRACT])
    assert fake._control is None
    assert (await mock.send("GET", "/_mock/health", host="localhost")).json == {"status": "ok"}
    assert mock.fake._control is not None
    assert mock.fake._renderer is None


async def test_a_job_that_has_not_succeeded_has_no_video(host: Host) -> None:
    job = await host.mock.submit(CONTRACT)
    path = f"/media/{host.mock.world.handle}/{job}/video.mp4"
    response = await host.client.get(f"{path}?{host.mock.fake.worlds.signer.query(path, None)}")
    assert response.status_code == 404
    assert b"<Code>NoSuchKey</Code>" in response.content


async def test_an_unsigned_link_is_refused_before_the_job_is_looked_up(host: Host) -> None:
    job = await host.mock.submit(CONTRACT)
    handle = host.mock.world.handle
    known, unknown = [await host.client.get(f"/media/{handle}/{name}/video.mp4") for name in (job, "no-such-job")]
    assert (known.status_code, unknown.status_code) == (403, 403)
    assert known.content == unknown.content


async def test_the_fixture_images_are_served_and_nothing_outside_their_directory(host: Host) -> None:
    for name in ("", "..", "..%2f..%2fREADME.md", "nothing.png"):
        assert (await host.client.get(f"/fixtures/images/{name}")).status_code == 404
        assert (await host.mock.send("GET", f"/fixtures/images/{name}")).status == 404, "as a client may send it"
    images = list((data_directory("fixtures") / "images").iterdir())
    assert images
    for path in images:
        assert (await host.client.get(f"/fixtures/images/{path.name}")).content == path.read_bytes()
