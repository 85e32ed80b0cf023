"""Web pages elsewhere are refused by the providers, unless an option admits them; then they can read the responses."""

from __future__ import annotations

import pytest

from hobbyhorse.contract.values import Contract, find_situation
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.origins import Origins
from hobbyhorse.server.run import serving
from tests.raw_client import ask
from tests.world import Mock, documented

pytestmark = pytest.mark.anyio

PAGE = "https://evil.example"
FOREIGN = [PAGE, "null", "http://localhost.evil.example", "http://10.0.0.1:8000", "file://", "http://mock.test:81", ""]
OURS = ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8080", "https://localhost", "http://mock.test"]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_elsewhere_is_refused_as_the_provider_refuses_what_is_forbidden(
    origin: str, contract: Contract
) -> None:
    mock = Mock([contract])
    for role, operation in contract.operations.items():
        situation = find_situation(operation, "forbidden")
        if situation is None:
            continue
        values = {"job": "no-job", "model": "m"}
        where = {name: value for name, value in values.items() if name in operation.bindings}
        reply = await mock.call(contract, role, path=where, headers={"origin": origin}, body={})
        assert reply.reading is not None
        assert reply.status == situation.status
        assert situation.name in reply.reading.situations
        assert not [name for name in reply.headers if name.startswith("access-control")]
    assert any("--allow-origin" in note for one in mock.world.journal for note in one.notes)
    assert not mock.world.jobs


@pytest.mark.parametrize("origin", OURS)
async def test_a_page_of_this_machine_or_of_the_server_passes(origin: str, contract: Contract) -> None:
    mock = Mock([contract])
    operation, model, body = documented(contract)
    reply = await mock.call(contract, operation.role, path={"model": model.id}, body=body, headers={"origin": origin})
    assert reply.reading is not None
    assert "accepted" in reply.reading.situations


@pytest.mark.parametrize("allowed", ["*", PAGE])
async def test_a_page_that_is_allowed_can_send_an_order_and_read_everything(allowed: str, contract: Contract) -> None:
    mock = Mock([contract], allow_origins=frozenset({allowed}), pace="instant")
    operation, model, body = documented(contract)
    headers = {"origin": PAGE}
    asked = await mock.send(
        "OPTIONS",
        f"/{contract.key}{operation.path}",
        key=None,
        headers={
            **headers,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "POST" in asked.headers["access-control-allow-methods"]
    made = await mock.call(contract, operation.role, path={"model": model.id}, body=body, headers=headers)
    wrong = await mock.call(contract, operation.role, path={"model": model.id}, body={}, headers=headers)
    media = await mock.send("GET", "/fixtures/images/product.png", headers=headers)
    for reply, status in ((made, made.status), (wrong, wrong.status), (media, 200), (asked, 204)):
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, allowed)
        assert ("vary" in reply.headers) == (allowed != "*" or reply is asked)
    assert "Retry-After" in made.headers["access-control-expose-headers"]
    assert len(mock.world.jobs) == 1, "a preflight and a refusal make no job"


async def test_only_the_named_pages_are_allowed(contract: Contract) -> None:
    mock = Mock([contract], allow_origins=frozenset({"https://app.example"}))
    path = f"/{contract.key}/any"
    for origin, found in (("https://APP.example", True), (PAGE, False), ("null", False), ("http://localhost:1", False)):
        reply = await mock.send("GET", path, headers={"origin": origin})
        assert ("access-control-allow-origin" in reply.headers) == found
    without = await mock.send("GET", path)
    assert "access-control-allow-origin" not in without.headers


async def test_the_control_plane_stays_closed_to_pages_whatever_is_allowed(contract: Contract) -> None:
    mock = Mock([contract], allow_origins=frozenset({"*"}))
    for method in ("GET", "OPTIONS"):
        headers = {"origin": PAGE, "access-control-request-method": "POST"}
        reply = await mock.send(method, "/_mock/jobs", headers=headers, host="localhost")
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers


def test_on_a_socket_every_response_has_the_headers_of_the_page(contract: Contract) -> None:
    with serving(Fake([contract], Options(allow_origins=frozenset({PAGE})))) as url:
        for method, status in (("OPTIONS", 204), ("GET", 200)):
            asked = {"Method": "GET", "Private-Network": "true"}
            headers = {"Origin": PAGE, **{f"Access-Control-Request-{name}": value for name, value in asked.items()}}
            seen = ask(method, f"{url}/fixtures/images/product.png", headers)
            assert (seen.status, seen.headers["access-control-allow-origin"]) == (status, PAGE)
            assert ("access-control-allow-private-network" in seen.headers) == (method == "OPTIONS")
        # The next request of another client has none of them.
        assert "access-control-allow-origin" not in ask("GET", f"{url}/fixtures/images/product.png").headers


def test_an_own_origin_has_the_port_and_scheme_of_the_server() -> None:
    origins = Origins()
    assert origins.admits("https://mock.example", "https://mock.example:443/base")
    assert not origins.admits("http://mock.example", "https://mock.example")
    assert not origins.allows("http://localhost:3000")
