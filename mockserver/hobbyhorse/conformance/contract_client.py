"""A client made from a contract alone: it sends and reads what a fake reads and sends. Knows no rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.reading import Reading, as_json, message_of, read_answer, read_items
from hobbyhorse.contract.values import Contract, Operation


@dataclass(frozen=True, slots=True)
class ContractResponse:
    """A response, with the contract's reading of it."""

    role: str
    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes
    reading: Reading
    items: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def value(self) -> Any:
        """The body as JSON, or MISSING if it is not JSON."""
        return as_json(self.content)


class ContractClient:
    """Calls the operations of a contract at a base URL with an API key."""

    def __init__(self, contract: Contract, base_url: str, api_key: str | None, http: httpx.Client) -> None:
        self.contract = contract
        self._base = base_url.rstrip("/")
        self._key = api_key
        self._http = http

    def call(
        self,
        role: str,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = MISSING,
    ) -> ContractResponse:
        """Call a role's operation; `path` has the values of its path parameters by bound name (`job`, `model`)."""
        operation = self.contract.operations[role]
        path_of_call = filled(operation, path or {})
        sent = {**credentials(self.contract, self._key), **(headers or {})}
        content = b"" if body is MISSING else orjson.dumps(body)
        if body is not MISSING:
            sent.setdefault("content-type", "application/json")
        response = self._http.request(
            operation.method, self._base + path_of_call, params=query, headers=sent, content=content or None
        )
        message = message_of(response.headers.items(), as_json(response.content))
        return ContractResponse(
            role,
            operation.method,
            str(response.request.url),
            response.status_code,
            response.headers,
            response.content,
            read_answer(self.contract.schemas, operation, response.status_code, message),
            read_items(operation, message),
        )

    def submit(self, model: str, body: Any, headers: Mapping[str, str] | None = None) -> ContractResponse:
        """Submit a job."""
        return self.call("submit", path={"model": model}, body=body, headers=headers)


def credentials(contract: Contract, key: str | None) -> dict[str, str]:
    """Return the header that carries a key in the contract's first scheme; empty without a key."""
    scheme = next((scheme for scheme in contract.security if scheme[0] == "header"), None)
    # Contracts keep the prefix in lower case, to compare it; providers document it capitalised ("Bearer").
    return {} if key is None or scheme is None else {scheme[1]: scheme[2].capitalize() + key}


def filled(operation: Operation, values: Mapping[str, str]) -> str:
    """Return an operation's path with its parameters filled in by bound name (`job`, `model`)."""
    path = operation.path
    for name, value in values.items():
        for place in operation.bindings[name].request if name in operation.bindings else ():
            if place.part == "path":
                path = path.replace("{" + place.name + "}", value)
    return path
