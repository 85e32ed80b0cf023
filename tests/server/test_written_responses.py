"""Responses on the wire as a contract declares them: without content."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from hobbyhorse.conformance.server.rules.shape import documented_answer
from hobbyhorse.contract.folder import load
from hobbyhorse.contract.lint import lint
from hobbyhorse.scenarios.scenario import read_scenario
from hobbyhorse.server.app import Fake, Options
from hobbyhorse.server.run import serving
from tests import specimen
from tests.judging import messages, teller
from tests.world import KEY, Mock, documented

pytestmark = pytest.mark.anyio

CANCEL = "/paths/~1v1~1jobs~1{id}~1cancel/post/responses"
EMPTY = {"openapi.json#" + CANCEL + "/204": {"description": "Cancelled."}}
WITH_BODY = {
    "openapi.json#" + CANCEL + "/204": {
        "description": "Cancelled.",
        "content": {"application/json": {"schema": {"type": "null"}, "examples": {"cancelled": {"value": None}}}},
    }
}
NAMED = {"lifecycle.json#/operations/cancel/situations/cancelled": {"status": 204}}
REMOVED = ["openapi.json#" + CANCEL + "/200/content/application~1json/examples/cancelled"]


def acme(directory: Path, changes: Mapping[str, Any], removed: list[str] | None = None) -> Path:
    """Write the specimen, in its short form, with changes."""
    return specimen.write(directory / "acme", specimen.shortened(changes, removed or []))


def no_content(directory: Path, changes: Mapping[str, Any] = EMPTY) -> Path:
    """Write the specimen with a cancellation that is confirmed with 204."""
    return acme(directory, {**changes, **NAMED}, REMOVED)


def test_lint_accepts_a_response_without_content(tmp_path: Path) -> None:
    assert lint(no_content(tmp_path)) == []


def test_lint_refuses_content_under_a_status_without_a_body(tmp_path: Path) -> None:
    (problem,) = lint(no_content(tmp_path, WITH_BODY))
    assert problem.pointer == CANCEL + "/204/content"
    assert problem.message == "a response 204 has no body: remove 'content', and name its situation in lifecycle.json"


async def test_the_fake_sends_no_body_and_both_sides_read_the_situation(tmp_path: Path) -> None:
    contract = load(no_content(tmp_path))
    mock = Mock([contract])
    job = await mock.submit(contract)
    reply = await mock.call(contract, "cancel", path={"job": job})
    assert (reply.status, reply.body, reply.headers) == (204, b"", {})
    assert reply.reading is not None
    assert reply.reading.situations == ("cancelled",)
    assert reply.reading.stages == {"cancelled"}
    read = await mock.call(contract, "status", path={"job": job})
    assert read.json["state"] == "cancelled"


async def test_a_status_of_success_without_content_has_the_length_zero(tmp_path: Path) -> None:
    changes = {"openapi.json#" + CANCEL + "/202": {"description": "Cancelled."}}
    named = {"lifecycle.json#/operations/cancel/situations/cancelled": {"status": 202}}
    contract = load(acme(tmp_path, {**changes, **named}, REMOVED))
    mock = Mock([contract])
    reply = await mock.call(contract, "cancel", path={"job": await mock.submit(contract)})
    assert (reply.status, reply.body, reply.headers) == (202, b"", {"content-length": "0"})


@pytest.mark.parametrize(
    "move", ["extra_field", "reordered", "malformed_json", "json_text", "json_number", "null_absent"]
)
async def test_no_fault_gives_an_empty_response_a_body(tmp_path: Path, move: str) -> None:
    contract = load(no_content(tmp_path))
    mock = Mock([contract])
    job = await mock.submit(contract)
    mock.world.scenarios.arm(read_scenario({"moves": {"cancel": [{"move": move}]}}), [contract])
    reply = await mock.call(contract, "cancel", path={"job": job})
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers


@pytest.mark.parametrize("declared", [EMPTY, WITH_BODY])
def test_a_connection_stays_usable_after_a_response_without_content(
    tmp_path: Path, declared: Mapping[str, Any]
) -> None:
    # A server may be given a contract that lint refuses: even then it sends no body under 204.
    contract = load(no_content(tmp_path, declared))
    fake = Fake([contract], Options(pace="realistic"))
    with serving(fake) as url, socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 10) as client:
        job = _exchange(client, "POST", "/acme/v1/jobs", orjson.dumps(documented(contract)[2]))
        id = job.partition(b'"id":"')[2].partition(b'"')[0].decode()
        told = _exchange(client, "POST", f"/acme/v1/jobs/{id}/cancel")
        assert told.startswith(b"HTTP/1.1 204 No Content\r\n")
        assert told.endswith(b"\r\n\r\n")
        assert b"content-length" not in told
        assert _exchange(client, "GET", f"/acme/v1/jobs/{id}").startswith(b"HTTP/1.1 200 OK\r\n")


def _exchange(client: socket.socket, method: str, path: str, body: bytes = b"") -> bytes:
    """Send a request, and return all bytes up to the end of its response."""
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    found = client.recv(65_536)
    length = int(found.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
    while len(found.partition(b"\r\n\r\n")[2]) < length:
        found += client.recv(65_536)
    return found


def test_the_server_suite_accepts_an_empty_response_only_where_no_content_is_documented(tmp_path: Path) -> None:
    contract = load(no_content(tmp_path))
    right = teller(contract).call("cancel", "cancelled", answer_headers=()).story()
    assert messages(documented_answer, right) == []
    assert right.steps[-1].clean
    assert right.steps[-1].terminal
    wrong = teller(contract).call("cancel", "cancelled", answer=b"{}").story()
    (told,) = messages(documented_answer, wrong) or []
    assert "{} is not documented: the response has no content" in told
    assert not teller(contract).call("cancel", "cancelled", answer=b"{").story().steps[-1].clean


# ---- bound headers

LOCATION = "https://api.acme.example/v1/jobs/job-00000000000000aa"


def located(directory: Path, text: str) -> Path:
    """Write the specimen with a Location in the responses to a submission."""
    submit = "lifecycle.json#/operations/submit"
    created = "openapi.json#/paths/~1v1~1jobs/post/responses/201/headers"
    changes = {
        f"{created}/Location": {"schema": {"type": "string"}},
        f"{submit}/bindings/status_url": "$response.header.Location",
        f"{submit}/situations/accepted": {"headers": {"Location": text}},
        f"{submit}/situations/replayed/headers/Location": text,
    }
    return acme(directory, changes)


@pytest.mark.parametrize(
    ("text", "origin"), [(LOCATION, "http://mock.test"), (LOCATION.removeprefix("https://api.acme.example"), "")]
)
async def test_a_bound_header_leads_to_the_job_on_this_server(tmp_path: Path, text: str, origin: str) -> None:
    folder = located(tmp_path, text)
    assert lint(folder) == []
    contract = load(folder)
    mock, body = Mock([contract]), documented(contract)[2]
    for _ in ("accepted", "replayed"):
        reply = await mock.call(contract, "submit", body=body, headers={"idempotency-key": "key-0001"})
        assert reply.headers["location"] == f"{origin}/acme/v1/jobs/{reply.json['id']}"
        assert reply.reading is not None
        assert reply.reading.values["status_url"] == reply.headers["location"]
    assert reply.headers["replayed"] == "true"


async def test_a_fault_keeps_the_bound_header(tmp_path: Path) -> None:
    contract = load(located(tmp_path, LOCATION))
    mock = Mock([contract])
    mock.world.scenarios.arm(read_scenario({"moves": {"submit": [{"move": "extra_field"}]}}), [contract])
    reply = await mock.call(contract, "submit", body=documented(contract)[2])
    assert "x_unexpected" in reply.json
    assert reply.headers["location"] == f"http://mock.test/acme/v1/jobs/{reply.json['id']}"


# ---- media types

PROBLEM = "application/problem+json"


async def test_a_media_type_with_the_suffix_json_is_read_and_sent(tmp_path: Path) -> None:
    documents = specimen.shortened({})
    for name in ("NotFound", "BadRequest", "WrongMethod"):
        response = documents["openapi.json"]["components"]["responses"][name]
        response["content"] = {"text/plain": {"schema": {}}, PROBLEM: response["content"]["application/json"]}
    folder = specimen.write(tmp_path / "acme", documents)
    assert lint(folder) == []
    contract = load(folder)
    mock = Mock([contract])
    unknown = await mock.call(contract, "status", path={"job": "nowhere"})
    assert (unknown.status, unknown.headers["content-type"]) == (404, PROBLEM)
    assert unknown.reading is not None
    assert unknown.reading.situations == ("unknown_job",)
    assert (await mock.send("GET", "/acme/nowhere")).headers["content-type"] == PROBLEM
    mock.world.scenarios.arm(read_scenario({"moves": {"submit": [{"move": "invalid_request"}]}}), [contract])
    refused = await mock.call(contract, "submit", body=documented(contract)[2])
    assert (refused.status, refused.headers["content-type"]) == (400, PROBLEM)
    good = await mock.call(contract, "submit", body=documented(contract)[2])
    assert good.headers["content-type"] == "application/json"
