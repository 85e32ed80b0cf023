"""A client made from a contract alone: the bindings read in the direction that a fake writes them."""

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
    """An answer as it came, and what the contract reads in it."""

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
        """The body as JSON, or MISSING where it is none."""
        return as_json(self.content)


class ContractClient:
    """Calls the operations of a contract at a base address with a key."""

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
        """Call the operation of a role; `path` gives its path parameters by bound name (`job`, `model`)."""
        operation = self.contract.operations[role]
        where = filled(operation, path or {})
        sent = {**credentials(self.contract, self._key), **(headers or {})}
        content = b"" if body is MISSING else orjson.dumps(body)
        if body is not MISSING:
            sent.setdefault("content-type", "application/json")
        answer = self._http.request(
            operation.method, self._base + where, params=query, headers=sent, content=content or None
        )
        message = message_of(answer.headers.items(), as_json(answer.content))
        return ContractResponse(
            role,
            operation.method,
            str(answer.request.url),
            answer.status_code,
            answer.headers,
            answer.content,
            read_answer(self.contract.schemas, operation, answer.status_code, message),
            read_items(operation, message),
        )

    def submit(self, model: str, body: Any, headers: Mapping[str, str] | None = None) -> ContractResponse:
        """Submit a job."""
        return self.call("submit", path={"model": model}, body=body, headers=headers)


def credentials(contract: Contract, key: str | None) -> dict[str, str]:
    """Return the header that gives a key, in the first way that a contract has; none without a key."""
    way = next((way for way in contract.security if way[0] == "header"), None)
    return {} if key is None or way is None else {way[1]: way[2].capitalize() + key}


def filled(operation: Operation, values: Mapping[str, str]) -> str:
    """Return an operation's path with its parameters filled in, given by bound name (`job`, `model`)."""
    where = operation.path
    for name, value in values.items():
        for place in operation.bindings[name].request if name in operation.bindings else ():
            if place.part == "path":
                where = where.replace("{" + place.name + "}", value)
    return where
