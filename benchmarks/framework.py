"""The same answer from a framework: an endpoint that returns a dict (the variable BODY) as JSON."""

from __future__ import annotations

import json
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

BODY = json.loads(os.environ.get("BODY", "{}"))


async def answer(request: Request) -> Response:
    """Answer."""
    return JSONResponse(dict(BODY))


app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
