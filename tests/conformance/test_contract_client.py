"""A client made from a contract alone: the requests that it sends, and its reading of the responses."""

from __future__ import annotations

import httpx
import orjson
import pytest

from hobbyhorse.conformance.contract_client import ContractClient, credentials, filled
from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract, find_situation
from tests.tracing import JOB

BASE = "http://127.0.0.1:1/provider"


def client_of(contract: Contract, response: httpx.Response, sent: list[httpx.Request]) -> ContractClient:
    """Return a client whose every request is recorded and gets the same response."""

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return response

    http = httpx.Client(transport=httpx.MockTransport(respond))
    return ContractClient(contract, BASE + "/", "the-key", http)


def test_a_submission_goes_to_the_operation_with_key_and_json_body(contract: Contract) -> None:
    sent: list[httpx.Request] = []
    client_of(contract, httpx.Response(200), sent).submit(contract.models[0].id, {"n": 1}, {"x-more": "yes"})
    (request,) = sent
    operation = contract.operations["submit"]
    assert request.method == operation.method
    assert str(request.url) == BASE + filled(operation, {"model": contract.models[0].id})
    assert orjson.loads(request.content) == {"n": 1}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-more"] == "yes"
    for name, value in credentials(contract, "the-key").items():
        assert request.headers[name] == value


def test_a_request_without_a_body_has_no_content_type(contract: Contract) -> None:
    sent: list[httpx.Request] = []
    client_of(contract, httpx.Response(200), sent).call("status", path={"job": JOB}, query={"page": "2"})
    assert "content-type" not in sent[0].headers
    assert sent[0].content == b""
    assert sent[0].url.params["page"] == "2"
    assert JOB in sent[0].url.path


def test_a_given_content_type_is_kept(contract: Contract) -> None:
    sent: list[httpx.Request] = []
    client = client_of(contract, httpx.Response(200), sent)
    client.call("submit", path={"model": contract.models[0].id}, headers={"content-type": "text/plain"}, body={})
    assert sent[0].headers["content-type"] == "text/plain"


def test_a_response_is_read_through_the_contract(contract: Contract) -> None:
    situation = find_situation(contract.operations["submit"], "accepted")
    assert situation is not None
    body = situation.template.write(lambda name: JOB if name == "job" else MISSING)
    response = httpx.Response(situation.status, content=body, headers={"content-type": "application/json"})
    found = client_of(contract, response, []).submit(contract.models[0].id, {})
    assert (found.role, found.status) == ("submit", situation.status)
    assert found.reading.values["job"] == JOB
    assert found.value == orjson.loads(body)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{"])
def test_a_body_that_is_not_json_has_no_value(contract: Contract, body: bytes) -> None:
    found = client_of(contract, httpx.Response(502, content=body), []).call("status", path={"job": JOB})
    assert found.value is MISSING
    assert found.content == body
    assert found.items == []


def test_without_a_key_there_are_no_credentials(contract: Contract) -> None:
    assert credentials(contract, None) == {}
    (header,) = credentials(contract, "the-key").values()
    assert header.endswith("the-key")


def test_only_path_parameters_are_filled_in(contract: Contract) -> None:
    operation = contract.operations["status"]
    path = filled(operation, {"job": "job-1", "unknown": "x"})
    assert "job-1" in path
    assert "{" not in path.replace("{model}", "")
