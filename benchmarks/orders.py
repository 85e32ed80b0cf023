"""The requests that a client of a contract sends: the order of its documented job, and a poll of that job."""

from __future__ import annotations

import httpx

from hobbyhorse.conformance.contract_client import ContractClient, ContractResponse
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract

KEY = "bench"


def order(contract: Contract, url: str) -> httpx.Request:
    """Return the request that orders the documented job of a contract's first model; it is not sent."""
    sent: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    with httpx.Client(transport=httpx.MockTransport(keep)) as http:
        _submit(ContractClient(contract, f"{url}/{contract.key}", KEY, http))
    return sent[0]


def poll(contract: Contract, url: str) -> tuple[httpx.Request, bytes]:
    """Order the documented job, ask for its status, and return that request and the answer's body."""
    sent: list[httpx.Request] = []
    with httpx.Client(trust_env=False, event_hooks={"request": [sent.append]}) as http:
        client = ContractClient(contract, f"{url}/{contract.key}", KEY, http)
        job = _submit(client).reading.values["job"]
        reply = client.call("status", path={"job": job})
    assert reply.status == 200, reply
    return sent[-1], reply.content


def credentials(contract: Contract, request: httpx.Request) -> dict[str, str]:
    """Return the headers of a request that hold the key."""
    return {name: request.headers[name] for part, name, _ in contract.security if part == "header"}


def _submit(client: ContractClient) -> ContractResponse:
    ways = documented_jobs(client.contract)
    return next(client.submit(model.id, body) for operation, model, body in ways if operation.role == "submit")
