"""Servers that break the rules about links, refusals, requested members and the catalogue, as plain data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, replaced, resolve
from hobbyhorse.contract.values import Contract

from .bending import KEY, Bend, Request, Response, plain
from .query_mutants import DataMutant
from .value_mutants import changed

JOB = ("job", "job:links")
CATALOGUE = ("read:*", "catalogue:*")


def edited(role: str, edit: Callable[[Request, Any], Any]) -> Callable[[Contract], Bend]:
    """Return a bend that edits the successful JSON responses of an operation."""

    def response(request: Request, response: Response) -> Response:
        if request.role != role or not response.ok:
            return response
        return response.with_json(edit(request, response.json))

    return lambda contract: Bend(response=response)


def swapped_links(request: Request, body: Any) -> Any:
    return body | {"status_url": body["result_url"], "result_url": body["status_url"]}


def broken_link(contract: Contract) -> Bend:
    """Link to a path that no operation has."""
    return changed("submit", "/status_url", lambda url: url.replace("/v1/", "/v0/"))(contract)


def number_of_a_success(contract: Contract) -> Bend:
    def response(request: Request, response: Response) -> Response:
        return response.with_json(response.json | {"code": 200}) if response.status >= 400 else response

    return Bend(response=response)


def always_routed(request: Request, body: Any) -> Any:
    return body | {"data": body["data"] | {"route": "standard"}}


def with_schemas(request: Request, body: Any) -> Any:
    return body | {"models": [model | {"input_schema": {"type": "object"}} for model in body["models"]]}


def another_entry(request: Request, body: Any) -> Any:
    return body | {"base_price_usd": 2 * body["base_price_usd"]}


def twice(request: Request, body: Any) -> Any:
    return body | {"models": [*body["models"][:1], *body["models"]]}


def without_query(name: str) -> Callable[[Contract], Bend]:
    """Return a bend that ignores one parameter of the catalogue."""

    def request(request: Request) -> Request:
        pairs = [pair for pair in request.query.split("&") if pair and not pair.startswith(f"{name}=")]
        return replace(request, query="&".join(pairs)) if request.role == "models" else request

    return lambda contract: Bend(request=request)


def counts_the_page(request: Request, body: Any) -> Any:
    return body | {"total": len(body["models"])}


def oldest_first(request: Request, body: Any) -> Any:
    return replaced(body, ("data", "tasks"), list(reversed(body["data"]["tasks"])))


def cut_before_sorting(contract: Contract) -> Bend:
    """Take the first page of one task from a list that begins with the oldest one."""
    oldest: list[Any] = []

    def response(request: Request, response: Response) -> Response:
        if request.role != "list" or not response.ok:
            return response
        tasks = response.json["data"]["tasks"]
        if "size=1" not in request.query:
            oldest[:] = tasks[-1:]
        elif "page=" not in request.query:
            return response.with_json(replaced(response.json, ("data", "tasks"), oldest or tasks))
        return response

    return Bend(response=response)


def queue_position_always(request: Request, body: Any) -> Any:
    return body | {"queue_position": 0}


def reads_another_header(contract: Contract) -> Bend:
    """Refuse the key of the account in every cancellation."""
    refusal = plain(400, {"error_code": 400004, "error_message": "UserAccountError"})

    def request(request: Request) -> Request | Response:
        mine = request.headers.get("authorization") == f"Bearer {KEY}"
        return refusal if request.role == "cancel" and mine else request

    return Bend(request=request)


def always_cancelled(request: Request, body: Any) -> Any:
    return body | {"outcome": "cancelled"}


def refuses_both(contract: Contract) -> Bend:
    """Refuse an order that is both long and large, but not one that is either."""

    def request(request: Request) -> Request | Response:
        body = request.json if request.role == "submit" else {}
        seconds, tier = resolve(body, ("input", "duration")), resolve(body, ("input", "resolution"))
        if seconds == 15 and tier in ("1080p", MISSING):  # 1080p is the default
            refusal = {"code": 400, "message": "invalid request", "data": None, "error_code": "INVALID_REQUEST"}
            return plain(400, refusal)
        return request

    return Bend(request=request)


def waits_for_the_picture(contract: Contract) -> Bend:
    """Never end a job whose picture cannot be had."""
    waiting: set[str] = set()

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok and b"hobbyhorse.invalid" in request.body:
            waiting.add(response.json["id"])
        if request.role != "status" or request.job not in waiting or not response.ok:
            return response
        shown = {name: response.json[name] for name in ("id", "created_at", "model")}
        return response.with_json(shown | {"status": "in_progress"})

    return Bend(response=response)


def unknown_at_first(polls: int) -> Callable[[Contract], Bend]:
    """Return a bend that does not know a job in its first polls."""

    def make(contract: Contract) -> Bend:
        seen: dict[str | None, int] = {}

        def response(request: Request, response: Response) -> Response:
            if request.role != "status" or not response.ok:
                return response
            seen[request.job] = seen.get(request.job, 0) + 1
            gone = {"code": 404, "message": "not found", "data": None}
            return plain(404, gone) if seen[request.job] <= polls else response

        return Bend(response=response)

    return make


def no_early_result(contract: Contract) -> Bend:
    def response(request: Request, response: Response) -> Response:
        early = request.role == "result" and response.ok and response.json.get("status") in ("in_queue", "in_progress")
        return plain(404, {"error_code": 404001, "error_message": "ResourceNotFound"}) if early else response

    return Bend(response=response)


def code_of_another_refusal(contract: Contract) -> Bend:
    """Refuse an unknown job with the code of a foreign one, and its status."""

    def response(request: Request, response: Response) -> Response:
        if request.role not in ("status", "result", "cancel") or response.status != 404:
            return response
        return plain(403, {"error_code": 403001, "error_message": "PermissionDeniedError"})

    return Bend(response=response)


def earlier_expiry(contract: Contract) -> Bend:
    """Show a link that lasts for a day less in every second poll."""
    seen: list[int] = []

    def response(request: Request, response: Response) -> Response:
        expires = resolve(response.json, ("data", "output", "0", "expireAt")) if request.role == "status" else None
        if not isinstance(expires, int) or not response.ok:
            return response
        seen.append(1)
        body = json.loads(response.body)
        for one in body["data"]["output"] if len(seen) % 2 else ():
            one["expireAt"] -= 86_400
        return response.with_json(body)

    return Bend(response=response)


def marks_everything(contract: Contract) -> Bend:
    """Mark every submission as a repetition."""

    def response(request: Request, response: Response) -> Response:
        marked = request.role == "submit" and response.ok
        return response.with_header("idempotent-replay", "true") if marked else response

    return Bend(response=response)


def replays_the_task(contract: Contract) -> Bend:
    """Respond to a repetition with more than the first response had."""

    def response(request: Request, response: Response) -> Response:
        if ("idempotent-replay", "true") not in response.headers:
            return response
        return response.with_json(response.json | {"data": response.json["data"] | {"status": "queued"}})

    return Bend(response=response)


def cuts_keys(contract: Contract) -> Bend:
    """Compare the first 32 characters of a key."""

    def request(request: Request) -> Request:
        key = request.headers.get("idempotency-key")
        return request.with_header("idempotency-key", key[:32]) if key else request

    return Bend(request=request)


def refuses_long_keys(contract: Contract) -> Bend:
    refusal = {"code": 400, "message": "invalid key", "data": None, "error_code": "INVALID_REQUEST"}

    def request(request: Request) -> Request | Response:
        return plain(400, refusal) if len(request.headers.get("idempotency-key", "")) > 64 else request

    return Bend(request=request)


def forgets_keys(contract: Contract) -> Bend:
    """Forget a key after two uses."""
    uses: Counter[str] = Counter()

    def request(request: Request) -> Request:
        key = request.headers.get("idempotency-key")
        if request.role != "submit" or key is None:
            return request
        uses[key] += 1
        return request.with_header("idempotency-key", None) if uses[key] > 3 else request

    return Bend(request=request)


def totals_the_page(request: Request, body: Any) -> Any:
    return replaced(body, ("data", "total"), len(body["data"]["tasks"]))


def cancelled_with_video(request: Request, body: Any) -> Any:
    if body.get("status") != "cancelled":
        return body
    return body | {"output": {"video": "http://127.0.0.1:1/a.mp4"}}


def any_scheme(contract: Contract) -> Bend:
    """Read a key in any scheme."""

    def request(request: Request) -> Request:
        word, _, key = request.headers.get("authorization", "").partition(" ")
        return request.with_header("authorization", f"Bearer {key}") if word == "Basic" else request

    return Bend(request=request)


RESPONSES: tuple[DataMutant, ...] = (
    ("AUT-05", "hiapi", "a key is read in any scheme", any_scheme, ("job", "auth:job"), False),
    ("IDM-01", "hiapi", "only the beginning of a key counts", cuts_keys, ("idempotency*",), False),
    ("IDM-01", "hiapi", "a key of 65 characters is refused", refuses_long_keys, ("job", "idempotency*"), False),
    ("IDM-01", "hiapi", "a key is soon forgotten", forgets_keys, ("idempotency*", "machine"), False),
    ("IDN-06", "hiapi", "the total counts the page", edited("list", totals_the_page), ("machine", "identity:*"), False),
    ("VAL-01", "hiapi", "a first response is marked as a replay", marks_everything, ("job", "idempotency"), False),
    ("IDM-01", "hiapi", "a replay has more members than the first response", replays_the_task, ("idempotency",), False),
    ("VAL-05", "runcomfy", "the links of a submission are swapped", edited("submit", swapped_links), JOB, False),
    ("VAL-05", "runcomfy", "the link to the status leads nowhere", broken_link, JOB, False),
    ("VAL-02", "hiapi", "polls disagree about the expiry of the link", earlier_expiry, ("job", "job:after"), False),
    (
        "SHA-06",
        "hiapi",
        "refusals have the code 200 in their bodies",
        number_of_a_success,
        ("job", "identity:*"),
        False,
    ),
    ("SHA-07", "hiapi", "a task has a route that was not requested", edited("status", always_routed), ("job",), False),
    ("SHA-07", "runcomfy", "every list has the schemas", edited("models", with_schemas), CATALOGUE, False),
    (
        "CAT-01",
        "runcomfy",
        "an entry has twice the price of the list",
        edited("model", another_entry),
        CATALOGUE,
        False,
    ),
    ("CAT-01", "runcomfy", "the first model is listed twice", edited("models", twice), CATALOGUE, False),
    ("CAT-02", "runcomfy", "the limit is ignored", without_query("limit"), CATALOGUE, False),
    ("CAT-02", "runcomfy", "the offset is ignored", without_query("offset"), CATALOGUE, False),
    ("CAT-02", "runcomfy", "the category is ignored", without_query("category"), CATALOGUE, False),
    ("CAT-02", "runcomfy", "the total counts the page", edited("models", counts_the_page), CATALOGUE, False),
    (
        "IDN-07",
        "hiapi",
        "a list begins with the oldest task",
        edited("list", oldest_first),
        ("job", "job:after", "machine"),
        False,
    ),
    (
        "IDN-07",
        "hiapi",
        "a page is cut before the tasks are sorted",
        cut_before_sorting,
        ("job", "job:after", "machine", "job:failing", "identity:pages"),
        False,
    ),
    (
        "IDN-03",
        "runcomfy",
        "an unknown request has the code of a foreign one",
        code_of_another_refusal,
        ("identity:unknown", "job"),
        False,
    ),
    (
        "LIF-03",
        "runcomfy",
        "every response has a queue position",
        edited("status", queue_position_always),
        ("job",),
        False,
    ),
    ("LIF-09", "hiapi", "404 for a task in its first polls", unknown_at_first(3), ("job",), False),
    ("LIF-09", "runcomfy", "404 for the result of a running job", no_early_result, ("job",), False),
    (
        "LIF-09",
        "vtrix",
        "a task without a picture is in progress for ever",
        waits_for_the_picture,
        ("job", "job:failing"),
        False,
    ),
    ("AUT-04", "runcomfy", "a cancellation refuses the key", reads_another_header, ("job", "cancel:*"), False),
    (
        "CNL-05",
        "runcomfy",
        "every outcome is cancelled",
        edited("cancel", always_cancelled),
        ("job", "cancel:finished"),
        False,
    ),
    ("NEG-03", "hiapi", "15 seconds in 1080p are refused", refuses_both, ("job", "bound*"), False),
)
