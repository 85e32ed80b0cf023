"""The media host: serves files with ranges, entity tags and names, and refusals in the XML of an object store."""

from __future__ import annotations

from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message as Event
from starlette.types import Receive, Scope, Send

from hobbyhorse.scenarios.object_store import NO_RANGE, NOT_FOUND, SOON, WRONG_RANGE, XML_TYPE, FileRefusal
from hobbyhorse.worlds.jobs import Job

if TYPE_CHECKING:
    from hobbyhorse.server.files.renderer import Renderer

VIDEO, FIRST_FRAME = "video.mp4", "first_frame.jpg"
RANGE_REFUSALS = {refused.status: refused for refused in (WRONG_RANGE, NO_RANGE)}
MEDIA_TYPES = {VIDEO: "video/mp4", FIRST_FRAME: "image/jpeg"}


async def serve(renderer: Renderer, job: Job, name: str, request: Request, owner: str = "") -> Response:
    """Serve a job's file, rendering it on first use in a turn of its owner; respond 503 if rendering fails."""
    if name not in MEDIA_TYPES:
        return refusal(NOT_FOUND)
    found = await (renderer.try_video(job, owner) if name == VIDEO else renderer.try_first_frame(job, owner))
    if not isinstance(found, Path):
        response = refusal(FileRefusal(503, "SlowDown", f"The file could not be made this time: {found}"))
        response.headers["Retry-After"] = SOON
        return response
    return _file(found, job, name, request)


def _file(path: Path, job: Job, name: str, request: Request) -> Response:
    # The file's name is a digest of all inputs of its rendering.
    tag = f'"{path.stem}"'
    headers = {
        "etag": tag,
        "last-modified": formatdate(job.finished, usegmt=True),
        "content-disposition": f'inline; filename="{job.id}{path.suffix}"',
    }
    if _matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return _RangedFile(path, media_type=MEDIA_TYPES[name], headers=headers)


class _RangedFile(FileResponse):
    """A file or a part of it; the refusal of a range has the form of every other refusal here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        refused: Response | None = None

        async def sending(event: Event) -> None:
            nonlocal refused
            if event["type"] == "http.response.start" and event["status"] in RANGE_REFUSALS:
                refused = refusal(RANGE_REFUSALS[event["status"]])
                refused.headers.update({k: v for k, v in Headers(raw=event["headers"]).items() if k == "content-range"})
            if refused is None:
                await send(event)

        wanted = Headers(scope=scope).get("range", "")
        if wanted.partition("=")[0].strip().lower() != "bytes":
            # A range in another unit is ignored (RFC 9110, 14.2).
            scope = {**scope, "headers": [one for one in scope["headers"] if one[0] != b"range"]}
        await super().__call__(scope, receive, sending)
        if refused is not None:
            await refused(scope, receive, send)


def _matches(wanted: str, tag: str) -> bool:
    """Whether an If-None-Match header names an entity tag, by weak comparison (RFC 9110, 13.1.2)."""
    return wanted.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in wanted.split(",")]


def refusal(refused: FileRefusal) -> Response:
    """Return the response to a refused request."""
    return Response(refused.xml(), refused.status, media_type=XML_TYPE)
