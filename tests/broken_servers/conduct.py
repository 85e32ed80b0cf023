"""Bugs of a server's conduct: silence, contradictions inside one response, wrong echoes, and repaired requests."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, replaced, resolve
from hobbyhorse.contract.values import Contract

from .bending import KEY, PATIENCE, Bend, Request, Response, plain

Change = Callable[[Contract], Bend]


# Files that do not arrive


def silent_link(contract: Contract) -> Bend:
    async def request(request: Request) -> Request:
        if request.role == "media":
            await asyncio.sleep(PATIENCE)
        return request

    return Bend(request=request)


def short(role: str) -> Change:
    """Return a bend whose responses end before their Content-Length."""

    def response(request: Request, response: Response) -> Response:
        if request.role != role or not response.ok or request.method == "HEAD":
            return response
        return replace(response, length=len(response.body) + 1000)

    return lambda contract: Bend(response=response)


def gone_link(request: Request, response: Response) -> Response:
    return plain(404, {"code": 404, "message": "not found"})


# Jobs that cannot be followed


def unreadable(status: int) -> Change:
    """Return a bend that accepts jobs, and never shows one to its owner."""

    def response(request: Request, response: Response) -> Response:
        mine = request.headers.get("authorization") == f"Bearer {KEY}"
        body = {"code": status, "message": "not found", "data": None}
        return plain(status, body) if request.role == "status" and response.ok and mine else response

    return lambda contract: Bend(response=response)


def flickering(contract: Contract) -> Bend:
    """Do not know a job at each third poll of its owner."""
    polls = itertools.count(1)

    def response(request: Request, response: Response) -> Response:
        mine = request.headers.get("authorization") == f"Bearer {KEY}"
        if request.role != "status" or not response.ok or not mine or next(polls) % 3:
            return response
        return plain(404, {"code": 404, "message": "not found", "data": None})

    return Bend(response=response)


def fails_always(role: str) -> Change:
    def request(request: Request) -> Request | Response:
        return plain(500, {"message": "Internal server error"}) if request.role == role else request

    return lambda contract: Bend(request=request)


# Lists


def listed_as(stage: str) -> Callable[[Any], Any]:
    """Return an edit that shows every task of HiAPI's list in one stage."""

    def edit(body: Any) -> Any:
        tasks = [
            {name: value for name, value in task.items() if name not in ("output", "error")} | {"status": stage}
            for task in body["data"]["tasks"]
        ]
        return body | {"data": body["data"] | {"tasks": tasks}}

    return edit


def one_page(request: Request) -> Request:
    """Show the first page for every page."""
    pairs = [pair for pair in request.query.split("&") if pair and not pair.startswith("page=")]
    return replace(request, query="&".join(pairs))


def skips_a_page(request: Request) -> Request:
    """Show the page after the requested one, but for the first page."""
    pairs = [pair.partition("=") for pair in request.query.split("&") if pair]
    later = [
        f"page={int(value) + 1}" if name == "page" and value > "1" else f"{name}={value}" for name, _, value in pairs
    ]
    return replace(request, query="&".join(later))


def any_size(request: Request) -> Request:
    pairs = [pair for pair in request.query.split("&") if pair and not pair.startswith("size=")]
    return replace(request, query="&".join(pairs))


# Cancellations by others


def cancels_and_refuses(contract: Contract) -> Bend:
    """Cancel a job for anybody, and refuse a wrong key only in the response."""
    strangers: set[int] = set()

    def request(request: Request) -> Request:
        if request.role != "cancel" or request.headers.get("authorization") == f"Bearer {KEY}":
            return request
        mine = request.with_header("authorization", f"Bearer {KEY}")
        strangers.add(id(mine))
        return mine

    def response(request: Request, response: Response) -> Response:
        if id(request) not in strangers:
            return response
        return plain(400, {"error_code": 400004, "error_message": "UserAccountError"})

    return Bend(request=request, response=response)


# Requests that are repaired instead of refused


def mended(pointer: str, mend: Callable[[Any], Any]) -> Change:
    """Return a bend that applies a function to one value of each submission."""
    steps = parse_pointer(pointer)

    def request(request: Request) -> Request:
        body = request.json
        found = MISSING if body is MISSING else resolve(body, steps)
        around = MISSING if body is MISSING else resolve(body, steps[:-1]) if len(steps) > 1 else body
        if request.role != "submit" or not isinstance(around, dict):
            return request
        value = mend(found)
        return request if value is MISSING else request.with_json(replaced(body, steps, value))

    return lambda contract: Bend(request=request)


def as_whole_number(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value


def capped(most: int) -> Callable[[Any], Any]:
    return lambda value: most if isinstance(value, int) and not isinstance(value, bool) and value > most else value


def refuses_duration(seconds: int) -> Change:
    def request(request: Request) -> Request | Response:
        body = request.json
        if request.role == "submit" and isinstance(body, dict) and body.get("duration") == seconds:
            return plain(422, {"error_code": 422001, "error_message": "The request breaks the model's schema."})
        return request

    return lambda contract: Bend(request=request)


def lifted(pointer: str) -> Change:
    """Return a bend that also finds a member one level too high."""
    *around, name = parse_pointer(pointer)

    def request(request: Request) -> Request:
        body = request.json
        if request.role != "submit" or not isinstance(body, dict) or name not in body:
            return request
        inner = resolve(body, tuple(around))
        if not isinstance(inner, dict) or name in inner:
            return request
        less = {one: value for one, value in body.items() if one != name}
        return request.with_json(replaced(less, (*around, name), body[name]))

    return lambda contract: Bend(request=request)


# Responses that contradict themselves


def with_error(body: Any) -> Any:
    """Return HiAPI's response with an error, whatever its stage is."""
    if body["data"]["status"] != "success":
        return body
    return body | {"data": body["data"] | {"error": {"code": "TASK_FAILED", "message": "upstream rejected the prompt"}}}


def failed_with_output(body: Any) -> Any:
    data = body["data"]
    if data["status"] != "success":
        return body
    error = {"code": "TASK_FAILED", "message": "upstream rejected the prompt"}
    return body | {"data": data | {"status": "fail", "error": error}}


def failed_without_reason(body: Any) -> Any:
    data = {name: value for name, value in body["data"].items() if name != "output"}
    return body | {"data": data | {"status": "fail"}} if data["status"] == "success" else body


def paged(edit: Callable[[Any], Any]) -> Callable[[Request, Response], Response]:
    def write(request: Request, response: Response) -> Response:
        return response.with_json(edit(response.json)) if response.ok and "page=" in request.query else response

    return write


def forgets(name: str) -> Change:
    """Return a bend that shows a value of a submission only in the response to it."""

    def response(request: Request, response: Response) -> Response:
        if request.role != "status" or not response.ok or not isinstance(response.json, dict):
            return response
        return response.with_json(response.json | {name: None})

    return lambda contract: Bend(response=response)


def hidden_end(contract: Contract) -> Bend:
    """Show no link although the job has succeeded."""
    seen: Counter[str | None] = Counter()

    def response(request: Request, response: Response) -> Response:
        body = response.json
        if request.role == "status" and response.ok and isinstance(body, dict) and body.get("status") == "completed":
            seen[request.job] += 1
            return response.with_json(body | {"output": []})
        return response

    return Bend(response=response)
