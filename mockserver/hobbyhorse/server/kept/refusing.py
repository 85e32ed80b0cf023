"""Refuses a request whose world cannot be reached or read."""

from __future__ import annotations

from starlette.types import Scope, Send

from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.values import find_situation
from hobbyhorse.server.pipeline import headers_of
from hobbyhorse.server.request import Provider, refusal_of

OVERLOADED = b'{"error":{"code":"overloaded","message":"the state cannot be reached","hint":"try again later"}}'


async def refuse_world(scope: Scope, send: Send, provider: Provider | None) -> None:
    """Refuse a request because its world cannot be reached, in the provider's shape if it has one."""
    status, body, headers = 503, OVERLOADED, [(b"content-type", b"application/json")]
    match = None
    if provider is not None:
        path: str = scope["path"]
        prefix = f"/{provider.contract.key}"
        below = path[len(prefix) :] if path.startswith(prefix + "/") else path
        match = provider.routes.match(scope["method"], below)
    if provider is not None and match is not None and find_situation(match[0].operation, "overloaded") is not None:
        response = refusal_of(provider.contract, match[0], Refusal("overloaded"))
        status, body, headers = response.situation.status, response.body, headers_of(response)
    else:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
