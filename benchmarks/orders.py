"""Requests of a contract's client: the submission of a documented job, and a poll of it."""

from __future__ import annotations

import httpx

from hobbyhorse.conformance.contract_client import ContractClient, ContractResponse
from hobbyhorse.contract.example_orders import documented_jobs
from hobbyhorse.contract.values import Contract

KEY = "bench"


def order(contract: Contract, url: str) -> httpx.Request:
    """Return the submission of a contract's first documented job, without sending it."""
    sent: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={})

    with httpx.Client(transport=httpx.MockTransport(keep)) as http:
        _submit(ContractClient(contract, f"{url}/{contract.key}", KEY, http))
    return sent[0]


def poll(contract: Contract, url: str) -> tuple[httpx.Request, bytes]:
    """Submit the documented job and poll it once; return the poll's request and the response's body."""
    sent: list[httpx.Request] = []
    with httpx.Client(trust_env=False, event_hooks={"request": [sent.append]}) as http:
        client = ContractClient(contract, f"{url}/{contract.key}", KEY, http)
        job = _submit(client).reading.values["job"]
        response = client.call("status", path={"job": job})
    assert response.status == 200, response
    return sent[-1], response.content


def credentials(contract: Contract, request: httpx.Request) -> dict[str, str]:
    """Return the headers of a request that contain the API key."""
    return {name: request.headers[name] for part, name, _ in contract.security if part == "header"}


def _submit(client: ContractClient) -> ContractResponse:
    jobs = documented_jobs(client.contract)
    return next(client.submit(model.id, body) for operation, model, body in jobs if operation.role == "submit")
