"""Servers that remember too much or too little from one request to the next, as plain data for mutants.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING
from hobbyhorse.contract.values import Contract

from .bending import KEY, OTHER, Bend, Message, Post, Request, Response, plain
from .conduct import mended
from .query_mutants import DataMutant
from .response_mutants import edited

# Requests of the account that are refused after an unknown key.
LOCKED = 2
REQUESTED = ("callback:order", "callback:redelivered")
DEFAULTS = ("job", "defaults")
# The price of a second in the cheapest tier, and the seconds of a block.
SECOND, BLOCK = 0.14, 5


def _is_mine(request: Request) -> bool:
    return request.headers.get("authorization") == f"Bearer {KEY}"


def locks_out(contract: Contract) -> Bend:
    """Refuse every key for a while after an unknown one."""
    left = [0]

    def request(request: Request) -> Request | Response:
        given = request.headers.get("authorization", "")
        if given and given not in (f"Bearer {KEY}", f"Bearer {OTHER}"):
            left[0] = LOCKED
        elif left[0] > 0:
            left[0] -= 1
            return plain(401, {"code": 401, "message": "invalid api key", "data": None})
        return request

    return Bend(request=request)


def keeps_lists(contract: Contract) -> Bend:
    """Send the first list again and again."""
    kept: dict[str, Response] = {}

    def response(request: Request, response: Response) -> Response:
        is_listed = request.role == "list" and response.ok and _is_mine(request)
        return kept.setdefault(request.query, response) if is_listed else response

    return Bend(response=response)


def links_to_the_newest(contract: Contract) -> Bend:
    """Link from each job to the result of the one that was submitted last."""
    newest = ""

    def response(request: Request, response: Response) -> Response:
        nonlocal newest
        if request.role == "submit" and response.ok:
            newest = response.json["request_id"]
        if request.role != "status" or not response.ok or request.job is None:
            return response
        body = response.json
        return response.with_json(body | {"result_url": body["result_url"].replace(request.job, newest)})

    return Bend(response=response)


def orders_by_label(contract: Contract) -> Bend:
    """Return the first run with a label for each order with it."""
    made: dict[str, Response] = {}

    def response(request: Request, response: Response) -> Response:
        label = request.json.get("client_ref") if request.role == "submit" and response.ok else None
        return response if label is None else made.setdefault(label, response)

    return Bend(response=response)


def forgets_failed_keys(contract: Contract) -> Bend:
    """Let each task with a key fail, and then make another one for its key."""
    keys: dict[str | None, str] = {}
    failed: set[str] = set()

    def request(request: Request) -> Request:
        key = request.headers.get("idempotency-key", "")
        return request.with_header("idempotency-key", None) if key in failed else request

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok and "idempotency-key" in request.headers:
            keys[response.json["data"]["taskId"]] = request.headers["idempotency-key"]
        if request.job not in keys or not response.ok or response.json["data"]["status"] != "success":
            return response
        failed.add(keys[request.job])
        data = {name: value for name, value in response.json["data"].items() if name != "output"}
        error = {"code": "TASK_FAILED", "message": "upstream rejected the prompt"}
        return response.with_json(response.json | {"data": data | {"status": "fail", "error": error}})

    return Bend(request=request, response=response)


def signs_once(contract: Contract) -> Bend:
    """Send a callback that is requested once more without a signature."""
    again: list[str | None] = []

    def request(request: Request) -> Request:
        if request.role == "redeliver":
            again.append(request.job)
        return request

    async def callback(message: Message, post: Post) -> int:
        headers = dict(message.headers)
        if again and message.json["run_id"] in again:
            headers.pop("runflow-signature", None)
        return await post(Message(headers, message.body))

    return Bend(request=request, callback=callback)


def deaf(contract: Contract) -> Bend:
    """Grant the request for a callback, and send none."""

    def request(request: Request) -> Request | Response:
        return plain(201, {}) if request.role == "redeliver" and _is_mine(request) else request

    return Bend(request=request)


def in_blocks(request: Request, body: Any) -> Any:
    """Return a result with the cost of whole blocks of seconds."""
    if "cost" not in body:
        return body
    return body | {"cost": round(math.ceil(round(body["cost"] / SECOND) / BLOCK) * BLOCK * SECOND, 2)}


def shows_once(contract: Contract) -> Bend:
    """Show the output of a job in one response only."""
    shown: set[str | None] = set()

    def response(request: Request, response: Response) -> Response:
        if request.role != "result" or not response.ok or "output" not in response.json:
            return response
        if request.job in shown:
            return _without_output(response)
        shown.add(request.job)
        return response

    return Bend(response=response)


def _without_output(response: Response) -> Response:
    return response.with_json({name: value for name, value in response.json.items() if name != "output"})


def drops_on_cancellation(contract: Contract) -> Bend:
    """Drop the output of a job that is cancelled after its end."""
    dropped: set[str | None] = set()

    def response(request: Request, response: Response) -> Response:
        if request.role == "cancel" and response.ok:
            dropped.add(request.job)
        gone = request.role == "result" and response.ok and request.job in dropped
        return _without_output(response) if gone else response

    return Bend(response=response)


def refusing_bodies(bad: Callable[[bytes], bool], refusal: Response) -> Callable[[Contract], Bend]:
    """Return a bend that refuses some submissions by their bodies."""

    def request(request: Request) -> Request | Response:
        return refusal if request.role == "submit" and bad(request.body) else request

    return lambda contract: Bend(request=request)


def unmarked(value: Any) -> Any:
    """Return the watermark of an order that leaves it out."""
    return False if value is MISSING else MISSING


UNPROCESSABLE = plain(422, {"error_code": 422001, "error_message": "The request breaks the model's schema."})

MEMORY: tuple[DataMutant, ...] = (
    ("AUT-04", "hiapi", "an unknown key locks every key", locks_out, ("identity:unknown", "auth:status"), False),
    ("IDN-05", "hiapi", "a list is cached", keeps_lists, ("job",), False),
    ("VAL-05", "runcomfy", "a status links to the newest result", links_to_the_newest, ("job", "machine"), False),
    ("IDN-02", "runflow", "an order with a known label gets its run", orders_by_label, ("job", "machine"), False),
    ("IDM-01", "hiapi", "the key of a failed task is forgotten", forgets_failed_keys, ("job:failing",), False),
    (
        "MON-03",
        "runcomfy",
        "a job costs whole blocks of five seconds",
        edited("result", in_blocks),
        ("job", "job:after", "bound*", "ends"),
        False,
    ),
    ("NTF-02", "runflow", "a requested callback is not signed", signs_once, REQUESTED, False),
    ("NTF-09", "runflow", "a requested callback is not sent", deaf, REQUESTED, False),
    ("LIF-10", "runcomfy", "a result is shown once", shows_once, ("job", "job:after"), False),
    (
        "LIF-10",
        "runcomfy",
        "a late cancellation removes the result",
        drops_on_cancellation,
        ("job", "cancel:finished"),
        False,
    ),
    (
        "MED-13",
        "vtrix",
        "an order without a watermark has none",
        mended("/parameters/watermark", unmarked),
        DEFAULTS,
        False,
    ),
    (
        "PIC-01",
        "runcomfy",
        "a signed URL of a picture is refused",
        refusing_bodies(lambda body: b"X-Amz-Signature" in body, UNPROCESSABLE),
        ("job", "pictures:limits"),
        False,
    ),
    (
        "PIC-01",
        "vtrix",
        "a body of more than a megabyte is refused",
        refusing_bodies(lambda body: len(body) > 2**20, plain(413, {"message": "the body is too large"})),
        ("job", "pictures:limits"),
        False,
    ),
)
