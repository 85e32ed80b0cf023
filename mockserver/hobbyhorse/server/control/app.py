"""The control plane: routes, parameters and bodies as `control.openapi.json` describes them.

The document is the source: routes are built from it, and each request is validated against it before its handler
runs. A refused request therefore changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from hobbyhorse.contract.formats import whole_number
from hobbyhorse.contract.forms.expressions import Pointer, format_pointer
from hobbyhorse.contract.request import Refusal, read_body
from hobbyhorse.contract.schemas import Schemas, address
from hobbyhorse.server.control import admin, authority, handlers
from hobbyhorse.server.control.access import AccessCheck, Forbidden, Team
from hobbyhorse.server.control.handlers import ControlContext, ControlError, ControlRequest, Handler
from hobbyhorse.server.files.large_bodies import MOST_INLINE_BYTES
from hobbyhorse.server.request import api_key, first_headers, header
from hobbyhorse.state.errors import NotKept, StateError
from hobbyhorse.worlds.journal import next_number
from hobbyhorse.worlds.world import World

__all__ = ["AccessCheck", "ControlContext", "ControlPlane", "read_document", "read_operations"]

DOCUMENT = "control.openapi.json"
# Far above any scenario, the largest body that the document allows; as a submission, it is validated in milliseconds.
MOST_BODY = MOST_INLINE_BYTES
SEE = "GET /_mock/openapi.json documents the allowed values"
JSON_TYPE = "application/json"
METRICS_PATH, ADMIN_PATH = "/_mock/metrics", "/_mock/worlds"
# Open to everybody who can reach the server: neither tells of a world.
OPEN_PATHS = ("/_mock/health", "/_mock/ca.pem")
# Where scrapers look if they are given only an address.
USUAL_METRICS_PATH = "/metrics"
HANDLERS: Mapping[str, Handler] = {**handlers.HANDLERS, **admin.HANDLERS, **authority.HANDLERS}
BEARER = ("header", "authorization", "bearer ")

# 15 digits: every integer of that length is exact as a JSON number in any language.
_INTEGER = re.compile(r"-?[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class ControlOperation:
    """An operation of the document: its location there, its status on success, its parameters and body."""

    id: str
    at: Pointer
    status: int
    open: bool
    query: Mapping[str, tuple[str, str]]
    """By name: the type, and the URI of the schema."""
    body: str | None
    """The URI of the body's schema."""
    body_needed: bool


def read_document() -> dict[str, Any]:
    """Return the OpenAPI document of the control plane."""
    document: dict[str, Any] = orjson.loads(Path(__file__).with_name(DOCUMENT).read_bytes())
    return document


def read_operations(document: Mapping[str, Any]) -> dict[str, dict[str, ControlOperation]]:
    """Return the document's operations by path and method, templated paths last."""
    found: dict[str, dict[str, ControlOperation]] = {}
    # Last, because the router takes the first match: `{id}` would match literal segments too.
    for path in sorted(document["paths"], key=lambda path: ("{" in path, path)):
        for method, spec in document["paths"][path].items():
            at = ("paths", path, method)
            query = {
                one["name"]: (one["schema"]["type"], address(DOCUMENT, (*at, "parameters", str(number), "schema")))
                for number, one in enumerate(spec.get("parameters", ()))
                if one["in"] == "query"
            }
            body = spec.get("requestBody")
            found.setdefault(path, {})[method.upper()] = ControlOperation(
                id=spec["operationId"],
                at=at,
                status=next(int(status) for status in spec["responses"] if status.startswith("2")),
                open=any("world" not in way for way in spec.get("security", document["security"])),
                query=query,
                body=address(DOCUMENT, (*at, "requestBody", "content", JSON_TYPE, "schema")) if body else None,
                body_needed=bool(body and body["required"]),
            )
    return found


SAFE = frozenset({"GET", "HEAD"})
"""The methods that change nothing (RFC 9110, section 9.2.1)."""


class ControlPlane:
    """The control plane as an ASGI application, for paths that begin with `/_mock`."""

    def __init__(self, context: ControlContext, access: AccessCheck) -> None:
        self.context = self._context = context
        self._access = access
        document = read_document()
        self._document = orjson.dumps(document)
        self._schemas = Schemas({DOCUMENT: document})
        others = (way for contract in context.contracts for way in contract.security if way != BEARER)
        self._security = (BEARER, *others)
        self.router = Router(
            [
                Route(path, self._endpoint(operations), methods=list(operations))
                for path, operations in read_operations(document).items()
            ],
            redirect_slashes=False,
            default=self._unknown_path,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request that passes the access check."""
        # With an `app` in the scope, Starlette raises for a wrong method; without one it responds in plain text.
        scope = {**scope, "app": self}
        if scope["path"] == USUAL_METRICS_PATH:
            scope["path"] = METRICS_PATH
        forbidden = self._judge(scope)
        if forbidden is not None:
            return await _problem(403, forbidden.code, forbidden.message, forbidden.hint)(scope, receive, send)
        try:
            await self.router(scope, receive, send)
        except HTTPException as error:
            allowed = dict(error.headers or {}).get("Allow", "")
            message = f"{scope['path'][:200]} does not allow {scope['method'][:40]}"
            response = _problem(error.status_code, "wrong_method", message, f"allowed: {allowed}", error.headers)
            await response(scope, receive, send)

    def _judge(self, scope: Scope) -> Forbidden | None:
        """Return why a request is refused, or None."""
        path, scheme, headers = scope["path"], scope["scheme"], scope["headers"]
        if path == METRICS_PATH:
            client = scope["client"][0] if scope.get("client") else None
            return self._access.judge_metrics(scheme, headers, client)
        if path == ADMIN_PATH or path.startswith(ADMIN_PATH + "/"):
            return self._access.judge_admin(scheme, headers)
        return self._access.judge(scheme, headers, path in OPEN_PATHS)

    async def _unknown_path(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"{scope['method'][:40]} {scope['path'][:200]} is not an operation of the control plane"
        await _problem(404, "unknown_path", message, SEE)(scope, receive, send)

    def _endpoint(self, operations: Mapping[str, ControlOperation]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            operation = operations["GET" if request.method == "HEAD" else request.method]
            try:
                return await self._handle(operation, request)
            except ControlError as error:
                headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
                return _problem(error.status, error.code, error.message, error.hint, headers)
            except StateError as error:
                return _problem(503, "overloaded", str(error), "restore the state, or forget the world")
            except NotKept:
                return _problem(503, "overloaded", "the state cannot be reached: nothing was changed", "try later")

        return endpoint

    async def _handle(self, operation: ControlOperation, request: Request) -> Response:
        """Find the world, validate the request, run its handler."""
        team = self._access.team(request.scope["headers"])
        world = self._context.worlds.keyless if operation.open else self._world(request.scope, team)
        query = self._query(operation, request.scope)
        body = await self._body(operation, request)
        if operation.id == "getDocument":
            return Response(self._document, media_type=JSON_TYPE)
        control_request = ControlRequest(
            self._context, world, request.scope, request.path_params, query, body, team, request.receive
        )
        try:
            result = await HANDLERS[operation.id](control_request)
        finally:
            # Also a refused request may have moved the clock before it was refused.
            if request.method not in SAFE:
                world.changed()
            await self._context.kept(world)
        if isinstance(result, Response):
            return result
        return Response(orjson.dumps(result), operation.status, media_type=JSON_TYPE)

    def _world(self, scope: Scope, team: Team | None) -> World:
        """Return the world of the API key, which the client under test uses too."""
        key = api_key(self._security, first_headers(scope), scope["query_string"])
        if key is None:
            hint = "send the API key that the client uses: Authorization: Bearer KEY; each key has its own world"
            raise ControlError(401, "no_key", "the request names no world", hint)
        if team is not None and not key.startswith(team.prefix):
            message = f"the API key is not one of {team.name!r}"
            raise ControlError(403, "foreign_key", message, f"use an API key that begins with {team.prefix!r}")
        world = self._context.worlds.of(key)
        if world is None:
            raise ControlError(
                403, "key_refused", "the server does not accept this key", "start it with --api-key KEY to accept it"
            )
        world.used, world.used_at = next_number(), world.clients_now()
        return world

    def _query(self, operation: ControlOperation, scope: Scope) -> dict[str, Any]:
        """Read and validate the query."""
        keys = {name for part, name, _ in self._security if part == "query"}
        found: dict[str, Any] = {}
        for name, text in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            # A provider's key may be a query parameter; it is authentication, not an argument.
            if name in keys:
                continue
            if name not in operation.query:
                allowed = ", ".join(operation.query) or "none"
                raise ControlError(422, "invalid_query", f"unknown parameter {name[:100]!r}", f"allowed: {allowed}")
            if name in found:
                raise ControlError(422, "invalid_query", f"{name} is given twice", SEE)
            kind, schema = operation.query[name]
            value = int(text) if kind == "integer" and _INTEGER.fullmatch(text) else text
            for violation in self._schemas.violations(schema, value, most=1):
                raise ControlError(422, "invalid_query", f"{name}: {violation.message}", SEE)
            found[name] = value
        return found

    async def _body(self, operation: ControlOperation, request: Request) -> dict[str, Any]:
        """Read and validate the body; an optional body may be empty, which means an empty object."""
        if operation.body is None:
            return {}
        content = await _read(request)
        if not content and not operation.body_needed:
            return {}
        body = read_body(header(request.scope["headers"], b"content-type"), content)
        if isinstance(body, Refusal):
            status = 415 if body.situation == "unsupported_media_type" else 400
            raise ControlError(status, body.situation, body.message or "", SEE)
        try:
            violations = self._schemas.violations(operation.body, body, most=1)
        except (ValueError, RecursionError) as error:  # a number out of range, or nesting too deep for the validator
            raise ControlError(400, "malformed_body", f"the body cannot be validated: {error}", SEE) from None
        for violation in violations:
            pointer = format_pointer(tuple(map(str, violation.location)))
            message = f"{pointer}: {violation.message}" if pointer else f"the body: {violation.message}"
            raise ControlError(422, "invalid_body", message, SEE)
        return body  # type: ignore[no-any-return]


async def _read(request: Request) -> bytes:
    """Read a body of at most `MOST_BODY` bytes."""
    # A declared length is refused unread.
    declared = header(request.scope["headers"], b"content-length") or ""
    size, chunks = whole_number(declared) or 0, []
    if size <= MOST_BODY:
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                chunks.append(chunk)
                if size > MOST_BODY:
                    break
        except ClientDisconnect:
            raise ControlError(400, "malformed_body", "the body is incomplete", SEE) from None
    if size > MOST_BODY:
        raise ControlError(413, "body_too_large", f"the body has more than {MOST_BODY} bytes", "send a smaller body")
    return b"".join(chunks)


def _problem(status: int, code: str, message: str, hint: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the error response of the control plane."""
    error = {"error": {"code": code, "message": message, "hint": hint}}
    return Response(orjson.dumps(error), status, headers, media_type=JSON_TYPE)
