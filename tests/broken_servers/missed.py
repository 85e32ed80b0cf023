"""Bugs that no probe provoked for long: in the blocking call, in callbacks, and beside the model's parameters."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hobbyhorse.contract.forms.expressions import resolve
from hobbyhorse.contract.forms.signatures import sign
from hobbyhorse.contract.values import Contract

from .bending import KEY, Bend, Message, Post, Request, Response, plain

# The limit of a server that has taken another provider's for the documented one.
SHORT = 128
# The documented longest prompt.
PROMPT_CHARACTERS = 5_000
# The status that refuses a key which is known, and may not do this (RFC 9110, section 15.5.4).
FORBIDDEN = 403


def failed_without_code(body: Any) -> Any:
    """Return a run that has failed instead of succeeded, with a message and without a code."""
    if body.get("status_code") != "succeeded":
        return body
    reason = {"failure_code": None, "failure_message": "The picture cannot be read.", "failure_stage_code": "dispatch"}
    return {**body, "status_code": "failed", "output": None, **reason}


def of_the_framework(body: Any) -> Any:
    return {"detail": [{"loc": ["body"], "msg": body["message"], "type": "value_error"}]}


def refuses_long_names(request: Request) -> Request | Response:
    """Refuse a caller's own name that is longer than a column of the database."""
    if len(_name(request)) <= SHORT:
        return request
    return plain(422, {"code": "VALIDATION_ERROR", "message": "client_ref is too long.", "errors": []})


def cuts_long_names(request: Request) -> Request:
    """Cut a caller's own name to the documented length instead of refusing it."""
    name = _name(request)
    return request.with_json({**request.json, "client_ref": name[:255]}) if len(name) > SHORT else request


def counts_bytes(request: Request) -> Request | Response:
    """Refuse a prompt with more bytes than the documented number of characters."""
    body = request.json
    prompt = resolve(body, ("input", "prompt")) if isinstance(body, dict) else None
    if not isinstance(prompt, str) or prompt.isascii() or len(prompt.encode()) <= PROMPT_CHARACTERS:
        return request
    return plain(400, {"message": "invalid request"})


def takes_any_case(request: Request) -> Request:
    """Take a key for the account's whatever the case of its letters."""
    given = request.headers.get("authorization") or ""
    return (
        request.with_header("authorization", f"Bearer {KEY}") if given.lower() == f"bearer {KEY}".lower() else request
    )


def _name(request: Request) -> str:
    body = request.json
    found = body.get("client_ref") if isinstance(body, dict) else None
    return found if isinstance(found, str) else ""


def signed_with_nothing(contract: Contract) -> Bend:
    """Sign callbacks with an empty secret."""
    assert contract.callbacks is not None
    assert contract.callbacks.signature is not None
    how = contract.callbacks.signature

    async def callback(message: Message, post: Post) -> int:
        seal = sign(how, "", message.body, timestamp=0, message_id="request-1")
        return await post(Message(message.headers | {name.lower(): text for name, text in seal.items()}, message.body))

    return Bend(callback=callback)


def granted(request: Request, response: Response) -> Response:
    """Return a success in place of the refusal of an ordinary key."""
    return plain(200, {"id": request.job, "status_code": "succeeded"}) if response.status == FORBIDDEN else response


def failed_without_output(message: Message) -> Message:
    """Return the callback of a failed run, without the error that is its output."""
    body = {**message.json, "event": "run.failed", "status": "failed", "output": None}
    return Message(message.headers, json.dumps(body).encode())


def with_equal_delays(contract: Contract) -> Contract:
    assert contract.callbacks is not None
    return replace(contract, callbacks=replace(contract.callbacks, retries=(10.0,) * 5))
