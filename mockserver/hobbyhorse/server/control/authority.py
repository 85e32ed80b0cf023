"""The handler that gives clients the certificate authority of a server with TLS, and tells of its forward proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from hobbyhorse.server.control.handlers import ControlRequest, Handler

CONNECT_PORT_HEADER = "X-Mock-Connect-Port"
PEM_TYPE = "application/x-pem-file"


async def get_authority(request: ControlRequest) -> Any:
    """Return the certificate that clients have to trust."""
    certificate, port = request.context.authority, request.context.connect_port
    headers = {} if port is None else {CONNECT_PORT_HEADER: str(port)}
    if certificate is not None:
        return Response(certificate, headers=headers, media_type=PEM_TYPE)
    hint = "start it with --tls"
    if port is not None:
        hint = "it has the certificate of --tls-cert; let clients trust the issuer of that one"
    problem = {"code": "no_authority", "message": "this server has no certificate authority of its own", "hint": hint}
    return Response(orjson.dumps({"error": problem}), 404, headers, media_type="application/json")


HANDLERS: Mapping[str, Handler] = {"getAuthority": get_authority}
"""By operationId of control.openapi.json."""
