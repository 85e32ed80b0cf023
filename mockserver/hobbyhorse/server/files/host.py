"""The media host: files with ranges, entity tags and names, refused in the form of an object store."""

from __future__ import annotations

from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from hobbyhorse.worlds.jobs import Job

if TYPE_CHECKING:
    from hobbyhorse.server.files.renderer import Renderer

VIDEO, FIRST_FRAME = "video.mp4", "first_frame.jpg"
MEDIA_TYPES = {VIDEO: "video/mp4", FIRST_FRAME: "image/jpeg"}


async def serve(studio: Renderer, job: Job, name: str, request: Request) -> Response:
    """Serve a job's file, made if need be; 503 with Retry-After if that fails this time."""
    from hobbyhorse.server.files.renderer import VideoError  # noqa: PLC0415 - the studio itself is loaded only when it is needed

    if name not in MEDIA_TYPES:
        return refusal(404, "NoSuchKey", "The specified key does not exist.")
    try:
        path = await (studio.video(job) if name == VIDEO else studio.first_frame(job))
    except VideoError as error:
        answer = refusal(503, "SlowDown", f"The file could not be made this time: {error}")
        answer.headers["Retry-After"] = "1"
        return answer
    return _file(path, job, name, request)


def _file(path: Path, job: Job, name: str, request: Request) -> Response:
    tag = f'"{path.stem}"'
    headers = {
        "etag": tag,
        "last-modified": formatdate(job.finished, usegmt=True),
        "content-disposition": f'inline; filename="{job.id}{path.suffix}"',
    }
    if _matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=MEDIA_TYPES[name], headers=headers)


def _matches(wanted: str, tag: str) -> bool:
    """Whether an If-None-Match header names an entity tag; weak ones match too."""
    return wanted.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in wanted.split(",")]


def refusal(status: int, code: str, message: str) -> Response:
    """Return a refusal as an object store makes it."""
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>\n"
    )
    return Response(xml, status, media_type="application/xml")
