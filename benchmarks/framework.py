"""The same response from a framework: an endpoint that returns a dict (the variable BODY) as JSON."""

from __future__ import annotations

import json
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

BODY = json.loads(os.environ.get("BODY", "{}"))


async def respond(request: Request) -> Response:
    """Serialize the body anew for each request, as an endpoint with live values does."""
    return JSONResponse(dict(BODY))


app = Starlette(routes=[Route("/{path:path}", respond, methods=["GET", "POST"])])
