"""Broken servers: our fake with one bug each, and the rule that the bug breaks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.expressions import MISSING, parse_pointer, replaced, resolve
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, sign
from hobbyhorse.contract.values import Contract

from . import conduct, films, missed
from .bending import KEY, OTHER, SPEED, Bend, Message, Post, Request, Response, plain
from .memory_mutants import MEMORY
from .order_mutants import ORDERS
from .picture_mutants import MUTANTS as PICTURE_MUTANTS
from .query_mutants import QUERIES
from .response_mutants import RESPONSES, cancelled_with_video, edited
from .value_mutants import VALUES

HIAPI, RUNCOMFY, RUNFLOW, VTRIX = "hiapi", "runcomfy", "runflow", "vtrix"
JOB = ("job", "job:after")
# The first reads of a job, four of which overlap: a bug in these is seen before the job ends.
EARLY = 6


@dataclass(frozen=True)
class Mutant:
    """A broken server: the rule that it breaks, its provider, and the bug in words and as a bend.

    `change` makes a new bend, because a bend may have state. `lesson` means that the bug only contradicts an
    assumption. `contract` adapts the contract of both sides, to make a test faster. `probes` are the probes to run,
    and `patience` the real seconds of a request. The suite knows the `secret` of callbacks.
    """

    rule: str
    provider: str
    bug: str
    change: Callable[[Contract], Bend]
    probes: tuple[str, ...] = JOB
    lesson: bool = False
    contract: Callable[[Contract], Contract] = lambda contract: contract
    model: int = 0
    pace: str = "fast"
    picture: Callable[[], bytes] | None = None
    patience: float | None = None
    secret: str | None = DEFAULT_SECRET

    @property
    def name(self) -> str:
        number = 1 + [one.bug for one in MUTANTS if one.rule == self.rule].index(self.bug)
        return f"{self.rule}-{number}"


_CONTRACTS = {contract.key: contract for contract in load_all()}


def contract_of(mutant: Mutant) -> Contract:
    return mutant.contract(_CONTRACTS[mutant.provider])


# Ways to bend


Edit = Callable[[Any], Any]


def put(pointer: str, value: Any) -> Edit:
    """Return an edit that sets a value, or applies a function to it, if the place exists."""
    steps = parse_pointer(pointer)

    def edit(body: Any) -> Any:
        around = resolve(body, steps[:-1]) if len(steps) > 1 else body
        if around is MISSING or around is None:
            return body
        return replaced(body, steps, value(resolve(body, steps)) if callable(value) else value)

    return edit


def drop(pointer: str) -> Edit:
    steps = parse_pointer(pointer)

    def edit(body: Any) -> Any:
        around = resolve(body, steps[:-1]) if len(steps) > 1 else body
        if not isinstance(around, dict):
            return body
        less = {name: value for name, value in around.items() if name != steps[-1]}
        return replaced(body, steps[:-1], less) if len(steps) > 1 else less

    return edit


def good(role: str, *edits: Edit, status: int | None = None) -> Callable[[Contract], Bend]:
    """Return a bend that edits the successful responses of an operation."""
    return responses(role, lambda request, response: response.ok, *edits, status=status)


def refusal(role: str, *edits: Edit, status: int | None = None) -> Callable[[Contract], Bend]:
    """Return a bend that edits the refusals of an operation."""
    return responses(role, lambda request, response: response.status >= 400, *edits, status=status)


def responses(
    role: str, when: Callable[[Request, Response], bool], *edits: Edit, status: int | None = None
) -> Callable[[Contract], Bend]:
    def response(request: Request, response: Response) -> Response:
        if request.role != role or not when(request, response):
            return response
        body = response.json
        for edit in edits:
            body = edit(body)
        return response.with_json(body, status)

    return lambda contract: Bend(response=response)


def rewritten(role: str, write: Callable[[Request, Response], Response]) -> Callable[[Contract], Bend]:
    """Return a bend that rewrites the responses of an operation."""
    return lambda contract: Bend(
        response=lambda request, response: write(request, response) if request.role == role else response
    )


def requests(change: Callable[[Request], Request | Response], *roles: str) -> Callable[[Contract], Bend]:
    """Return a bend that changes requests, or responds to them itself."""
    return lambda contract: Bend(request=lambda request: change(request) if request.role in roles else request)


def counted(write: Callable[[int, Request, Response], Response], role: str = "status") -> Callable[[Contract], Bend]:
    """Return a bend that is given the number of the successful response about a job, from 1."""

    def make(contract: Contract) -> Bend:
        seen: Counter[str | None] = Counter()

        def response(request: Request, response: Response) -> Response:
            if request.role != role or not response.ok or request.headers.get("authorization") != f"Bearer {KEY}":
                return response
            seen[request.job] += 1
            return write(seen[request.job], request, response)

        return Bend(response=response)

    return make


# HiAPI's responses


def under_way(body: Any, stage: str, **more: Any) -> Any:
    """Return HiAPI's response about a task in a stage before its end."""
    data = {name: value for name, value in body["data"].items() if name not in ("output", "error")}
    return body | {"data": data | {"status": stage, "completed": 0} | more}


def failed(body: Any) -> Any:
    data = {name: value for name, value in body["data"].items() if name != "output"}
    error = {"code": "TASK_FAILED", "message": "upstream rejected the prompt"}
    return body | {"data": data | {"status": "fail", "error": error}}


def backwards(n: int, request: Request, response: Response) -> Response:
    stage = "archiving" if n < EARLY else "handling" if n < EARLY + 2 else None
    return response if stage is None else response.with_json(under_way(response.json, stage))


def ended(response: Response) -> bool:
    return response.ok and resolve(response.json, ("data", "status")) == "success"


def changes_its_end(contract: Contract) -> Bend:
    seen: Counter[str | None] = Counter()

    def response(request: Request, response: Response) -> Response:
        if request.role != "status" or not ended(response):
            return response
        seen[request.job] += 1
        return response.with_json(failed(response.json)) if seen[request.job] > EARLY else response

    return Bend(response=response)


def wakes_again(contract: Contract) -> Bend:
    seen: Counter[str | None] = Counter()

    def response(request: Request, response: Response) -> Response:
        if request.role != "status" or resolve(response.json, ("status",)) != "completed":
            return response
        seen[request.job] += 1
        if seen[request.job] <= EARLY:
            return response
        body = {name: response.json[name] for name in ("id", "created_at", "model")}
        return response.with_json(body | {"status": "in_progress", "progress": 1.0})

    return Bend(response=response)


def split_brain(contract: Contract) -> Bend:
    """Of overlapping polls, every second one is answered by a worker that believes the task has failed."""
    inside: Counter[str | None] = Counter()

    async def response(request: Request, response: Response) -> Response:
        if request.role != "status" or not ended(response):
            return response
        inside[request.job] += 1
        second = inside[request.job] % 2 == 0
        await asyncio.sleep(0.05)
        inside[request.job] -= 1
        return response.with_json(failed(response.json)) if second else response

    return Bend(response=response)


def running(progress: Callable[[int], float]) -> Callable[[int, Request, Response], Response]:
    """Return Vtrix's response about a running task, for the first reads."""

    def write(n: int, request: Request, response: Response) -> Response:
        if n > EARLY + 3:
            return response
        body = {name: response.json[name] for name in ("id", "created_at", "model")}
        return response.with_json(body | {"status": "in_progress", "progress": progress(n)})

    return write


def video_too_early(n: int, request: Request, response: Response) -> Response:
    if n >= EARLY:
        return response
    output = [{"url": f"http://127.0.0.1:1/{request.job}/video.mp4", "type": "video"}]
    return response.with_json(under_way(response.json, "handling", output=output))


def ends_before_its_end(n: int, request: Request, response: Response) -> Response:
    created = response.json["data"]["created"]
    return response.with_json(under_way(response.json, "handling", completed=created + 1)) if n < EARLY else response


def shifted(name: str, by: int) -> Edit:
    return put(f"/data/{name}", lambda value: value + by if value else value)


# Identity and keys


def renamed(ours: str, theirs: str) -> Callable[[Contract], Bend]:
    """Return a bend whose ids have another prefix."""

    def request(request: Request) -> Request:
        return replace(request, path=request.path.replace(theirs, ours))

    def response(request: Request, response: Response) -> Response:
        return (
            response
            if request.role == "media"
            else replace(response, body=response.body.replace(ours.encode(), theirs.encode()))
        )

    return lambda contract: Bend(request=request, response=response)


def one_id_for_all(contract: Contract) -> Bend:
    first: list[Response] = []

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok:
            first.append(response)
            return first[0]
        return response

    return Bend(response=response)


def unknown_is_queued(request: Request, response: Response) -> Response:
    if response.status != 404:
        return response
    data = {"taskId": request.job, "model": "", "status": "queued", "created": 0, "completed": 0}
    return plain(200, {"code": 200, "message": "success", "data": data})


def as_owner(request: Request) -> Request:
    """Treat another account as the owner."""
    own = request.headers.get("authorization") == f"Bearer {OTHER}"
    return request.with_header("authorization", f"Bearer {KEY}") if own else request


def leaks_the_prompt(contract: Contract) -> Bend:
    prompts: dict[str, str] = {}

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok:
            prompts[response.json["data"]["taskId"]] = request.json["input"]["prompt"]
        elif request.role == "status" and response.status == 404 and request.job in prompts:
            return response.with_json(response.json | {"message": f"not found: {prompts[request.job or '']}"})
        return response

    return Bend(response=response)


def keyless(request: Request) -> Request:
    """Accept a request without a key."""
    return request if "authorization" in request.headers else request.with_header("authorization", f"Bearer {KEY}")


def any_key(request: Request) -> Request:
    known = (None, f"Bearer {KEY}", f"Bearer {OTHER}")
    wrong = request.headers.get("authorization") not in known
    return request.with_header("authorization", f"Bearer {KEY}") if wrong else request


# Bodies


def repaired(*edits: Edit) -> Callable[[Contract], Bend]:
    """Return a bend that repairs bodies instead of refusing them."""

    def mend(request: Request) -> Request:
        body = request.json
        if not isinstance(body, dict):
            return request
        for edit in edits:
            body = edit(body)
        return request.with_json(body)

    return requests(mend, "submit")


def any_json(contract: Contract) -> Bend:
    """Treat a body that is not valid JSON as a valid submission."""
    order = json.dumps(order_for(contract, contract.models[0])).encode()

    def request(request: Request) -> Request:
        bad = request.role == "submit" and not isinstance(request.json, dict)
        return replace(request, body=order) if bad else request

    return Bend(request=request)


def too_long(request: Request) -> Request | Response:
    seconds = resolve(request.json, ("input", "duration"))
    if isinstance(seconds, int) and seconds >= 15:
        return plain(400, {"code": 400, "message": "invalid request", "data": None, "error_code": "INVALID_REQUEST"})
    return request


def no_seed_of_zero(request: Request) -> Request | Response:
    seed = resolve(request.json, ("parameters", "seed"))
    return plain(400, {"message": "seed is required"}) if seed == 0 and seed is not False else request


# Idempotency keys


def unkeyed(request: Request) -> Request:
    return request.with_header("idempotency-key", None)


def refuses_repeats(contract: Contract) -> Bend:
    def response(request: Request, response: Response) -> Response:
        replayed = ("idempotent-replay", "true") in response.headers
        body = {"code": 409, "message": "in progress", "data": None, "error_code": "IDEMPOTENCY_KEY_PROCESSING"}
        return plain(422, body | {"code": 422, "error_code": "IDEMPOTENCY_KEY_MISMATCH"}) if replayed else response

    return Bend(response=response)


def forgets_the_body(contract: Contract) -> Bend:
    """Identify a submission by its key alone."""
    first: dict[str, bytes] = {}

    def request(request: Request) -> Request:
        key = request.headers.get("idempotency-key")
        if request.role != "submit" or key is None:
            return request
        return replace(request, body=first.setdefault(key, request.body))

    return Bend(request=request)


def looks_up_before_it_stores(contract: Contract) -> Bend:
    """Store a key only after the submission was accepted."""
    kept: set[str] = set()

    async def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and "x-key" in request.headers:
            await asyncio.sleep(0.1)
            kept.add(request.headers["x-key"])
        return response

    begun: Counter[str] = Counter()

    def request(request: Request) -> Request:
        key = request.headers.get("idempotency-key")
        if request.role != "submit" or key is None or key in kept:
            return request
        begun[key] += 1
        marked = request.with_header("x-key", key)
        return marked if begun[key] == 1 else marked.with_header("idempotency-key", None)

    return Bend(request=request, response=response)


# Cancelling, at RunComfy


def cancelled(request: Request) -> dict[str, Any]:
    return {"request_id": request.job, "status": "cancelled", "outcome": "cancelled"}


def stays_cancelled(status: str | None, *, finished: bool) -> Callable[[Contract], Bend]:
    """Return a bend that cancels any job; `status` is the status shown before."""

    def make(contract: Contract) -> Bend:
        gone: set[str | None] = set()

        def response(request: Request, response: Response) -> Response:
            if request.role == "cancel" and response.ok:
                if status is not None or finished:
                    gone.add(request.job)
                return response.with_json(cancelled(request))
            if request.role == "status" and response.ok:
                word = "cancelled" if request.job in gone else status
                return response.with_json(response.json | {"status": word}) if word else response
            return response

        return Bend(response=response)

    return make


def refuses_to_cancel(contract: Contract) -> Bend:
    def request(request: Request) -> Request | Response:
        body = {"request_id": request.job, "status": "in_progress", "outcome": "not_cancellable"}
        return plain(202, body) if request.role == "cancel" else request

    return Bend(request=request)


def once_only(contract: Contract) -> Bend:
    seen: Counter[str | None] = Counter()

    def response(request: Request, response: Response) -> Response:
        if request.role == "cancel" and response.ok:
            seen[request.job] += 1
            if seen[request.job] > 1:
                return plain(404, {"error_code": 404001, "error_message": "ResourceNotFound"})
        return response

    return Bend(response=response)


def cancels_all(contract: Contract) -> Bend:
    """Cancel every job with the first one."""
    over: list[bool] = []

    def response(request: Request, response: Response) -> Response:
        if request.role == "cancel" and response.ok:
            over.append(True)
        if request.role == "status" and response.ok and over:
            body = {name: value for name, value in response.json.items() if name != "queue_position"}
            return response.with_json(body | {"status": "cancelled"})
        return response

    return Bend(response=response)


def denies_the_cancellation(contract: Contract) -> Bend:
    def response(request: Request, response: Response) -> Response:
        if request.role != "cancel" or not response.ok:
            return response
        return response.with_json(response.json | {"status": "in_progress", "outcome": "not_cancellable"})

    return Bend(response=response)


def succeeds_anyway(contract: Contract) -> Bend:
    gone: set[str | None] = set()

    def response(request: Request, response: Response) -> Response:
        if request.role == "cancel" and response.ok:
            gone.add(request.job)
        elif request.role == "status" and response.ok and request.job in gone:
            return response.with_json(response.json | {"status": "completed"})
        elif request.role == "result" and response.ok and request.job in gone:
            return response.with_json(
                response.json | {"status": "succeeded", "output": {"video": "http://127.0.0.1:1/a.mp4"}}
            )
        return response

    return Bend(response=response)


def waiting(contract: Contract) -> Contract:
    """Return a contract whose jobs wait in the queue for ten minutes."""
    graph = contract.graph
    first = replace(graph[graph.initial], lasts=(600.0, 600.0))
    return replace(contract, graph=replace(graph, stages={**graph.stages, first.name: first}))


# Callbacks, at HiAPI


def signed(message: Message, value: Any) -> Message:
    """Return another message with a valid signature."""
    callbacks = _CONTRACTS[HIAPI].callbacks
    assert callbacks is not None
    assert callbacks.signature is not None
    body = json.dumps(value).encode()
    stamp = int(message.headers["x-hiapi-timestamp"])
    seal = sign(callbacks.signature, DEFAULT_SECRET, body, timestamp=stamp, message_id="")
    return Message(message.headers | {name.lower(): text for name, text in seal.items()}, body)


def callbacks(change: Callable[[Message], Message]) -> Callable[[Contract], Bend]:
    async def callback(message: Message, post: Post) -> int:
        return await post(change(message))

    return lambda contract: Bend(callback=callback)


def unsigned(message: Message) -> Message:
    return Message({name: value for name, value in message.headers.items() if "signature" not in name}, message.body)


def signs_other_bytes(message: Message) -> Message:
    return Message(message.headers, json.dumps(message.json, indent=1).encode())


def seconds_late(message: Message) -> Message:
    """Sign with a timestamp in milliseconds."""
    return signed(
        Message(message.headers | {"x-hiapi-timestamp": message.headers["x-hiapi-timestamp"] + "000"}, b""),
        message.json,
    )


def an_hour_early(message: Message) -> Message:
    stamp = str(int(message.headers["x-hiapi-timestamp"]) - 3600)
    return signed(Message(message.headers | {"x-hiapi-timestamp": stamp}, b""), message.json)


def twice(contract: Contract) -> Bend:
    async def callback(message: Message, post: Post) -> int:
        status = await post(message)
        if 200 <= status < 300:
            await asyncio.sleep(1.5 / SPEED)
            await post(message)
        return status

    return Bend(callback=callback)


def names_another_task(contract: Contract) -> Bend:
    """Name the first task in every callback."""
    first: list[str] = []

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok:
            first.append(response.json["data"]["taskId"])
        return response

    async def callback(message: Message, post: Post) -> int:
        return await post(signed(message, put("/taskId", first[0])(message.json)))

    return Bend(response=response, callback=callback)


def renames_retries(contract: Contract) -> Bend:
    """Give every retry another task id."""
    seen: Counter[str] = Counter()

    async def callback(message: Message, post: Post) -> int:
        job = message.json["taskId"]
        seen[job] += 1
        if seen[job] == 1:
            return await post(message)
        return await post(signed(message, put("/taskId", f"{job[:-4]}{seen[job]:04d}")(message.json)))

    return Bend(callback=callback)


def drops_the_query(contract: Contract) -> Bend:
    def request(request: Request) -> Request:
        url = resolve(request.json, ("callback", "url")) if request.role == "submit" else None
        bare = url.partition("?")[0].partition("%3F")[0] if isinstance(url, str) else url
        return request.with_json(replaced(request.json, ("callback", "url"), bare)) if isinstance(url, str) else request

    return Bend(request=request)


def gives_up_after(status: int) -> Callable[[Contract], Bend]:
    """Return a bend that takes a refusal with a status for a delivery."""

    async def callback(message: Message, post: Post) -> int:
        found = await post(message)
        return 200 if found == status else found

    return lambda contract: Bend(callback=callback)


def silent_about_failures(contract: Contract) -> Bend:
    """Let the task of the second callback fail, and send no callback for it."""
    order: list[str] = []

    def response(request: Request, response: Response) -> Response:
        if request.role == "submit" and response.ok:
            order.append(response.json["data"]["taskId"])
        if request.role == "status" and ended(response) and request.job == order[1]:
            return response.with_json(failed(response.json))
        return response

    async def callback(message: Message, post: Post) -> int:
        return 200 if message.json["taskId"] == order[1] else await post(message)

    return Bend(response=response, callback=callback)


def gives_up(contract: Contract) -> Bend:
    async def callback(message: Message, post: Post) -> int:
        await post(message)
        return 200

    return Bend(callback=callback)


def sends_no_callback(contract: Contract) -> Bend:
    async def callback(message: Message, post: Post) -> int:
        return 200

    return Bend(callback=callback)


def callback_before_the_end_is_readable(contract: Contract) -> Bend:
    called_back: set[str] = set()
    hidden: Counter[str | None] = Counter()

    async def callback(message: Message, post: Post) -> int:
        status = await post(message)
        # Only now: the hidden polls must follow the arrival of the callback, however long that takes.
        called_back.add(message.json["taskId"])
        return status

    def response(request: Request, response: Response) -> Response:
        if request.role != "status" or not ended(response) or hidden[request.job] > 2:
            return response
        hidden[request.job] += request.job in called_back
        return response.with_json(under_way(response.json, "archiving"))

    return Bend(response=response, callback=callback)


# Files


def another_file(make: Callable[[], bytes]) -> Callable[[Contract], Bend]:
    """Return a bend that serves one other file for every video."""

    def request(request: Request) -> Request | Response:
        if request.role != "media":
            return request
        data = make()
        response = Response(200, (("content-type", "video/mp4"), ("accept-ranges", "bytes")), data)
        if "range" not in request.headers:
            return response
        first, last = _span(request.headers["range"], len(data))
        part = replace(response, status=206, body=data[first : last + 1])
        return part.with_header("content-range", f"bytes {first}-{last}/{len(data)}")

    return lambda contract: Bend(request=request)


def _span(request: str, size: int) -> tuple[int, int]:
    first, _, last = request.removeprefix("bytes=").partition("-")
    if not first:
        return size - int(last), size - 1
    return int(first), min(int(last or size), size - 1)


def media(write: Callable[[Request, Response], Response]) -> Callable[[Contract], Bend]:
    return rewritten("media", lambda request, response: write(request, response) if response.ok else response)


def whole_file_always(contract: Contract) -> Bend:
    def request(request: Request) -> Request:
        return request.with_header("range", None) if request.role == "media" else request

    return Bend(request=request)


def off_by_one(request: Request, response: Response) -> Response:
    return replace(response, body=response.body[:-1]) if response.status == 206 else response


def longer_than_it_is(request: Request, response: Response) -> Response:
    return replace(response, length=(response.length or 0) + 1) if request.method == "HEAD" else response


def short_links(contract: Contract) -> Contract:
    """Return a contract whose links expire soon enough for a test."""
    return replace(contract, retention=replace(contract.retention, result_url=30.0))


def never_expires(contract: Contract) -> Bend:
    files: dict[str, Response] = {}

    def response(request: Request, response: Response) -> Response:
        if request.role != "media":
            return response
        if response.status == 200 and request.method == "GET":
            files[request.path] = response
        return response if response.ok else files.get(request.path, response)

    return Bend(response=response)


def gone_after(reads: int) -> Callable[[int, Request, Response], Response]:
    gone = plain(404, {"code": 404, "message": "not found", "data": None})
    return lambda n, request, response: gone if n > reads else response


# Money


def billed_for_nothing(n: int, request: Request, response: Response) -> Response:
    if response.json["status"] != "completed":
        return response
    body = {name: response.json[name] for name in ("id", "created_at", "model")}
    error = {"code": "002014001", "message": "Video generation failed"}
    return response.with_json(body | {"status": "failed", "error": error, "usage": {"cost": "0.42", "discount": 1}})


def html(response: Response, status: int | None = None) -> Response:
    return Response(status or response.status, (("content-type", "text/html"),), b"<html><body>Oops</body></html>")


NEGATIVE = ("negative:minItems:/input/image_urls", "negative:type:/input/prompt", "negative:required:/input/image_urls")
CALLBACK = ("callback:order",)
MEDIA = ("job", "job:media")
CANCEL = ("cancel:order",)
IDEMPOTENCY = ("idempotency",)
UNKNOWN = ("identity:unknown",)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("SHA-01", HIAPI, "a task has no status", good("status", drop("/data/status"))),
    Mutant("SHA-01", HIAPI, "201 for a submission", good("submit", status=201)),
    Mutant(
        "SHA-01",
        VTRIX,
        "an undocumented status: processing",
        counted(
            lambda n, request, response: (
                response.with_json(running(lambda n: 0.5)(n, request, response).json | {"status": "processing"})
                if n < 3
                else response
            )
        ),
    ),
    Mutant("SHA-01", VTRIX, "created_at is a string", good("status", put("/created_at", str))),
    Mutant("SHA-01", RUNCOMFY, "a status response has no request id", good("status", drop("/request_id"))),
    Mutant(
        "SHA-02",
        HIAPI,
        "JSON is declared as text/html",
        rewritten("status", lambda request, response: response.with_header("content-type", "text/html")),
    ),
    Mutant(
        "SHA-03",
        HIAPI,
        "refusals are HTML",
        rewritten("status", lambda request, response: html(response) if response.status >= 400 else response),
        ("job", *UNKNOWN),
    ),
    Mutant("SHA-03", HIAPI, "refusals have no message", refusal("status", drop("/message")), UNKNOWN),
    Mutant("SHA-04", VTRIX, "a response of 17 MB", good("status", put("/padding", "x" * (17 << 20))), ("job",)),
    Mutant("LIF-01", HIAPI, "a job moves backwards: archiving, then handling", counted(backwards)),
    Mutant("LIF-02", HIAPI, "success, but later fail", changes_its_end),
    Mutant("LIF-02", VTRIX, "completed, but later in_progress", wakes_again),
    Mutant("LIF-03", VTRIX, "progress goes down", counted(running(lambda n: 0.9 - n / 20))),
    Mutant("LIF-03", VTRIX, "progress is in percent", counted(running(lambda n: 35.0))),
    Mutant("LIF-04", HIAPI, "completed before it was created", good("status", shifted("completed", -3600))),
    Mutant(
        "LIF-04", VTRIX, "created_at is in milliseconds", good("status", put("/created_at", lambda value: value * 1000))
    ),
    Mutant("LIF-04", HIAPI, "a running job has an end time", counted(ends_before_its_end)),
    Mutant("LIF-05", HIAPI, "a running job has a video URL", counted(video_too_early)),
    Mutant("LIF-06", HIAPI, "concurrent polls see two different terminal stages", split_brain),
    Mutant("IDN-01", HIAPI, "ids do not have the documented prefix", renamed("tk-hiapi-", "task-hi-api-"), ("job",)),
    Mutant(
        "IDN-01",
        VTRIX,
        "ids do not have the assumed prefix",
        renamed("task_", "gen_"),
        ("job",),
        lesson=True,
    ),
    Mutant("IDN-02", HIAPI, "one id for two submissions", one_id_for_all, ("job", "idempotency")),
    Mutant(
        "IDN-02", VTRIX, "a response about another task", good("status", put("/id", "task_0123456789abcdef")), ("job",)
    ),
    Mutant("IDN-03", HIAPI, "an unknown task is reported as queued", rewritten("status", unknown_is_queued), UNKNOWN),
    Mutant("IDN-03", HIAPI, "400 for an unknown task", refusal("status", put("/code", 400), status=400), UNKNOWN),
    Mutant("IDN-03", RUNCOMFY, "403 for an unknown request", refusal("status", status=403), UNKNOWN, lesson=True),
    Mutant(
        "IDN-04",
        HIAPI,
        "another account's key shows the task",
        requests(as_owner, "status"),
        ("job", "identity:foreign"),
    ),
    Mutant(
        "IDN-04", HIAPI, "a refusal to another account leaks the prompt", leaks_the_prompt, ("job", "identity:foreign")
    ),
    Mutant(
        "IDN-05",
        HIAPI,
        "a list does not contain the task",
        good("list", put("/data/tasks", []), put("/data/total", 0)),
        ("job", "identity:list"),
    ),
    Mutant("AUT-01", HIAPI, "the list needs no key", requests(keyless, "list"), ("job", "auth:list")),
    Mutant(
        "AUT-01",
        HIAPI,
        "403 for a missing key",
        responses("status", lambda request, response: response.status == 401, put("/code", 403), status=403),
        ("job", "auth:status"),
    ),
    Mutant("AUT-01", HIAPI, "a task can be read without a key", requests(keyless, "status"), ("job", "auth:status")),
    Mutant("AUT-01", VTRIX, "a submission needs no key", requests(keyless, "submit"), ("job", "auth:submit")),
    Mutant(
        "AUT-02", HIAPI, "any key is accepted", requests(any_key, "status", "list"), ("job", "auth:status", "auth:list")
    ),
    Mutant(
        "AUT-02",
        VTRIX,
        "a key in the other case is taken for the account's",
        requests(missed.takes_any_case, "status"),
        ("job", "auth:job"),
    ),
    Mutant(
        "AUT-02",
        RUNCOMFY,
        "401 for an unknown key",
        responses("status", lambda request, response: response.status == 400, status=401),
        ("job", "auth:status"),
        lesson=True,
    ),
    Mutant(
        "AUT-03",
        HIAPI,
        "a submission with a wrong key creates a task",
        requests(any_key, "submit"),
        ("job", "auth:submit"),
    ),
    Mutant(
        "NEG-01",
        HIAPI,
        "16 seconds become 5, and are billed",
        repaired(put("/input/duration", 5)),
        ("negative:maximum:/input/duration",),
    ),
    Mutant(
        "NEG-01",
        HIAPI,
        "an unknown tier becomes 720p",
        repaired(put("/input/resolution", "720p")),
        ("negative:enum:/input/resolution",),
    ),
    Mutant("NEG-01", HIAPI, "a body that is not valid JSON is accepted", any_json, ("negative:json",)),
    Mutant(
        "NEG-02", HIAPI, "another code for a bad body", refusal("submit", put("/error_code", "BAD_INPUT")), NEGATIVE
    ),
    Mutant("NEG-02", HIAPI, "422 for a bad body", refusal("submit", put("/code", 422), status=422), NEGATIVE),
    Mutant("NEG-02", HIAPI, "500 for a bad body", refusal("submit", put("/code", 500), status=500), NEGATIVE),
    Mutant("NEG-03", HIAPI, "15 seconds are refused", requests(too_long, "submit"), ("job", "bound*")),
    Mutant(
        "NEG-03",
        VTRIX,
        "a seed of 0 is refused",
        requests(no_seed_of_zero, "submit"),
        ("job", "bound*"),
    ),
    Mutant("IDM-01", HIAPI, "idempotency keys are ignored", requests(unkeyed, "submit"), IDEMPOTENCY),
    Mutant("IDM-01", HIAPI, "a repeated submission is refused", refuses_repeats, IDEMPOTENCY),
    Mutant("IDM-02", HIAPI, "another body with the same key gets the first task", forgets_the_body, IDEMPOTENCY),
    Mutant("IDM-03", HIAPI, "a key is looked up before it is stored", looks_up_before_it_stores, IDEMPOTENCY),
    Mutant(
        "CNL-01",
        RUNCOMFY,
        "a running job is cancelled",
        stays_cancelled("in_progress", finished=True),
        CANCEL,
        contract=waiting,
        pace="realistic",
    ),
    Mutant(
        "CNL-01",
        RUNCOMFY,
        "a queued job is not cancelled",
        refuses_to_cancel,
        CANCEL,
        contract=waiting,
        pace="realistic",
    ),
    Mutant(
        "CNL-02",
        RUNCOMFY,
        "404 for a repeated cancellation",
        once_only,
        CANCEL,
        contract=waiting,
        pace="realistic",
        lesson=True,
    ),
    Mutant("CNL-03", RUNCOMFY, "a cancelled job succeeds", succeeds_anyway, CANCEL, contract=waiting, pace="realistic"),
    Mutant(
        "CNL-04",
        RUNCOMFY,
        "a succeeded job is cancelled",
        stays_cancelled(None, finished=True),
        ("job", "cancel:finished"),
    ),
    Mutant(
        "CNL-05",
        RUNCOMFY,
        "a cancelled job is reported as not cancellable",
        denies_the_cancellation,
        CANCEL,
        contract=waiting,
        pace="realistic",
    ),
    Mutant(
        "LIF-07",
        RUNCOMFY,
        "a cancelled job has a video",
        edited("result", cancelled_with_video),
        CANCEL,
        contract=waiting,
        pace="realistic",
    ),
    Mutant(
        "CNL-06", RUNCOMFY, "all jobs are cancelled together", cancels_all, CANCEL, contract=waiting, pace="realistic"
    ),
    Mutant(
        "NTF-01",
        HIAPI,
        "a callback has no status",
        callbacks(lambda message: signed(message, drop("/status")(message.json))),
        CALLBACK,
    ),
    Mutant(
        "NTF-01",
        HIAPI,
        "a callback has an undocumented status: done",
        callbacks(lambda message: signed(message, put("/status", "done")(message.json))),
        CALLBACK,
    ),
    Mutant("NTF-02", HIAPI, "callbacks are not signed", callbacks(unsigned), CALLBACK),
    Mutant("NTF-02", HIAPI, "the signed bytes differ from the sent bytes", callbacks(signs_other_bytes), CALLBACK),
    Mutant("NTF-02", HIAPI, "the timestamp is in milliseconds", callbacks(seconds_late), CALLBACK),
    Mutant("NTF-02", HIAPI, "the timestamp is an hour old", callbacks(an_hour_early), CALLBACK),
    Mutant(
        "NTF-03",
        HIAPI,
        "a callback has another video",
        callbacks(
            lambda message: signed(message, put("/output/0/url", "https://cdn.hiapi.ai/other.mp4")(message.json))
        ),
        CALLBACK,
    ),
    Mutant(
        "NTF-03",
        HIAPI,
        "a callback reports fail after a success",
        callbacks(lambda message: signed(message, failed({"data": message.json})["data"])),
        CALLBACK,
    ),
    Mutant("NTF-03", HIAPI, "a callback is about another task", names_another_task, ("job", *CALLBACK)),
    Mutant("NTF-03", HIAPI, "a retry has a new task id", renames_retries, CALLBACK),
    Mutant("NTF-03", HIAPI, "the query of the callback URL is dropped", drops_the_query, CALLBACK),
    Mutant("NTF-04", HIAPI, "a callback that got a 400 is not repeated", gives_up_after(400), CALLBACK),
    Mutant("NTF-04", HIAPI, "a callback that got a redirect is not repeated", gives_up_after(302), CALLBACK),
    Mutant("NTF-04", HIAPI, "a failed task has no callback", silent_about_failures, CALLBACK),
    Mutant("NTF-04", HIAPI, "callbacks are not retried", gives_up, CALLBACK),
    Mutant("NTF-04", HIAPI, "no callback at all", sends_no_callback, CALLBACK),
    Mutant("NTF-05", HIAPI, "an acknowledged callback is repeated", twice, CALLBACK),
    Mutant(
        "NTF-06", HIAPI, "a poll shows the end only after the callback", callback_before_the_end_is_readable, CALLBACK
    ),
    Mutant(
        "RET-01",
        HIAPI,
        "a link never works",
        rewritten("media", lambda request, response: plain(403, {})),
        ("job", "retention:before"),
    ),
    Mutant(
        "RET-01",
        HIAPI,
        "links expire after a day",
        good("status", *(put(f"/data/output/{n}/expireAt", lambda value: value - 6 * 86_400) for n in (0, 1))),
        lesson=True,
    ),
    Mutant(
        "RET-02",
        HIAPI,
        "an expired link still works",
        never_expires,
        ("job", "job:media", "retention:before"),
        contract=short_links,
    ),
    Mutant(
        "RET-03",
        HIAPI,
        "a task is gone after a few reads",
        counted(gone_after(EARLY + 4)),
        ("job", "job:after"),
        lesson=True,
    ),
    Mutant("MED-01", HIAPI, "the video is an HTML page", another_file(lambda: b"<html>" * 100), MEDIA),
    Mutant("MED-01", VTRIX, "a truncated video", another_file(lambda: films.good()[: len(films.good()) // 2]), MEDIA),
    Mutant("MED-02", VTRIX, "25 frames per second", another_file(lambda: films.remade(films.good(), rate=25)), MEDIA),
    Mutant("MED-03", HIAPI, "one frame short", another_file(lambda: films.remade(films.good(), dropped=1)), MEDIA),
    Mutant("MED-04", HIAPI, "half the dimensions of the tier", another_file(lambda: films.plain(640, 360)), MEDIA),
    Mutant(
        "MED-05",
        RUNCOMFY,
        "a square video instead of the ordered 16:9",
        another_file(lambda: films.plain(960, 960)),
        MEDIA,
        model=1,
    ),
    Mutant(
        "MED-05",
        VTRIX,
        "a square video from a 16:9 image",
        another_file(lambda: films.plain(960, 960)),
        MEDIA,
        picture=films.picture,
    ),
    Mutant(
        "MED-06",
        VTRIX,
        "a video of another image",
        another_file(lambda: films.plain(1280, 720)),
        MEDIA,
        picture=films.picture,
    ),
    Mutant("MED-07", HIAPI, "the sound is silence", another_file(lambda: films.muted(films.good())), MEDIA),
    Mutant("MED-07", HIAPI, "no audio track", another_file(lambda: films.remade(films.good(), audio=False)), MEDIA),
    Mutant(
        "MED-07",
        HIAPI,
        "the audio is a second too short",
        another_file(lambda: films.remade(films.good(), quiet=1)),
        MEDIA,
    ),
    Mutant(
        "MED-08",
        HIAPI,
        "the index (moov) follows the media data",
        another_file(lambda: films.remade(films.good(), first=False)),
        MEDIA,
    ),
    Mutant("MED-09", HIAPI, "range requests are ignored", whole_file_always, MEDIA),
    Mutant("MED-09", HIAPI, "ranges are one byte short", media(off_by_one), MEDIA),
    Mutant("MED-10", HIAPI, "the Content-Length is wrong", media(longer_than_it_is), MEDIA),
    Mutant(
        "MED-10",
        HIAPI,
        "the video is declared as text/plain",
        media(lambda request, response: response.with_header("content-type", "text/plain")),
        MEDIA,
    ),
    Mutant("MED-11", HIAPI, "a duration of 2 seconds instead of 3", another_file(lambda: films.good(2)), MEDIA),
    Mutant(
        "MON-01",
        RUNFLOW,
        "a job costs twice its price",
        good("status", put("/cost", lambda value: None if value is None else str(2 * float(value)))),
    ),
    Mutant(
        "MON-01",
        VTRIX,
        "a job costs twice an assumed price",
        good("status", put("/usage/cost", lambda value: str(2 * float(value)))),
        lesson=True,
    ),
    Mutant("MON-02", VTRIX, "a failed task is billed", counted(billed_for_nothing)),
    Mutant(
        "MON-03",
        VTRIX,
        "every video costs as much as one of five seconds",
        good("status", put("/usage/cost", "0.70")),
        ("job", "bound*", "ends"),
    ),
    Mutant("MED-12", HIAPI, "the link never answers", conduct.silent_link, MEDIA, patience=1.0),
    Mutant("MED-12", VTRIX, "the file is shorter than its Content-Length", conduct.short("media"), MEDIA),
    Mutant("MED-12", RUNFLOW, "404 for the link", rewritten("media", conduct.gone_link), MEDIA),
    Mutant("MED-12", VTRIX, "a completed task has no output", conduct.hidden_end, MEDIA),
    Mutant("SHA-04", VTRIX, "responses break off before their Content-Length", conduct.short("status")),
    Mutant("LIF-07", HIAPI, "a success has an error", good("status", conduct.with_error)),
    Mutant("LIF-07", HIAPI, "a failed task has an output", good("status", conduct.failed_with_output)),
    Mutant("LIF-08", HIAPI, "a failed task has no error", good("status", conduct.failed_without_reason)),
    Mutant("LIF-09", HIAPI, "404 for an accepted task", conduct.unreadable(404), ("job",)),
    Mutant("LIF-09", VTRIX, "500 for an accepted task", conduct.unreadable(500), ("job",)),
    Mutant("LIF-09", RUNFLOW, "404 for a known run, at each third poll", conduct.flickering),
    Mutant(
        "SHA-05",
        HIAPI,
        "each page says that it is the third one",
        rewritten("list", conduct.paged(put("/data/page", 3))),
        ("job", "machine", "identity:pages"),
    ),
    Mutant("SHA-05", VTRIX, "a task is of another model", good("status", put("/model", "happyhorse_1.1_i2v"))),
    Mutant("SHA-05", RUNFLOW, "a run forgets its metadata", conduct.forgets("metadata"), ("job", "machine")),
    Mutant(
        "IDN-06", HIAPI, "each page is the first one", requests(conduct.one_page, "list"), ("machine", "identity:pages")
    ),
    Mutant(
        "IDN-06",
        HIAPI,
        "the second page is the third",
        requests(conduct.skips_a_page, "list"),
        ("machine", "identity:pages"),
    ),
    Mutant("IDN-06", HIAPI, "the size is ignored", requests(conduct.any_size, "list"), ("machine", "identity:pages")),
    Mutant("IDN-04", HIAPI, "a list has all accounts' tasks", requests(as_owner, "list"), ("job", "identity:foreign")),
    Mutant(
        "AUT-01", RUNCOMFY, "a job can be cancelled without a key", requests(keyless, "cancel"), ("job", "auth:job")
    ),
    Mutant(
        "AUT-03",
        RUNCOMFY,
        "a refused key cancels a job",
        conduct.cancels_and_refuses,
        CANCEL,
        contract=waiting,
        pace="realistic",
    ),
    Mutant(
        "NEG-01",
        HIAPI,
        "a duration in a string becomes a number",
        conduct.mended("/input/duration", conduct.as_whole_number),
        ("negative:type*:/input/duration",),
    ),
    Mutant(
        "NEG-01",
        RUNFLOW,
        "720P becomes 720p",
        conduct.mended("/input/resolution", lambda value: value.lower() if isinstance(value, str) else value),
        ("negative:enum*:/input/resolution",),
        lesson=True,
    ),
    Mutant(
        "NEG-01",
        VTRIX,
        "16 seconds become 15, although the refusal is assumed",
        conduct.mended("/parameters/duration", conduct.capped(15)),
        ("negative:maximum*:/parameters/duration",),
    ),
    Mutant(
        "NEG-01",
        HIAPI,
        "of two images the first one is used",
        conduct.mended("/input/image_urls", lambda value: value[:1] if isinstance(value, list) and value else MISSING),
        ("negative:maxItems*",),
    ),
    Mutant(
        "NEG-01",
        HIAPI,
        "images outside the input are accepted",
        conduct.lifted("/input/image_urls"),
        ("negative:required*:/input/image_urls",),
    ),
    Mutant("NEG-03", RUNCOMFY, "9 seconds are refused", conduct.refuses_duration(9), ("job", "bound*")),
    Mutant(
        "SHA-01",
        RUNFLOW,
        "an undocumented status: processing, although the fields are assumed",
        counted(
            lambda n, request, response: (
                response.with_json(response.json | {"status_code": "processing"}) if n < 3 else response
            )
        ),
    ),
    Mutant("SHA-01", RUNFLOW, "a run has no id, although the fields are assumed", good("status", drop("/id"))),
    Mutant(
        "LIF-04",
        RUNFLOW,
        "completed years before it was created",
        good("status", put("/completed_at", lambda value: value and "2020-01-01T00:00:00.000+00:00")),
    ),
    Mutant(
        "NEG-03", VTRIX, "500 for every submission", conduct.fails_always("submit"), ("identity:*", "job", "machine")
    ),
    Mutant(
        "NTF-01",
        HIAPI,
        "a callback of a success has an error",
        callbacks(lambda message: signed(message, conduct.with_error({"data": message.json})["data"])),
        CALLBACK,
    ),
    Mutant(
        "LIF-02",
        HIAPI,
        "a list shows ended tasks as queued",
        good("list", conduct.listed_as("queued")),
        ("job", "machine", "identity:list", "identity:pages"),
    ),
    *(Mutant(*one) for one in (*QUERIES, *VALUES, *RESPONSES, *PICTURE_MUTANTS)),
    Mutant(
        "LIF-08",
        RUNFLOW,
        "a failed run has no code, of which only another value is documented",
        good("status", missed.failed_without_code),
    ),
    Mutant(
        "SHA-03",
        RUNFLOW,
        "invalid input has the error body of the framework",
        refusal("submit", missed.of_the_framework),
        ("negative:maxLength:/client_ref",),
    ),
    Mutant(
        "SHA-01",
        RUNFLOW,
        "the blocking call has the URL itself as its video",
        good("run", put("/video", lambda video: video["url"])),
        ("run:order",),
    ),
    Mutant(
        "NEG-03",
        VTRIX,
        "a Chinese prompt is refused if its bytes are more than the documented characters",
        requests(missed.counts_bytes, "submit"),
        ("job", "bounds:*", "bound:*"),
    ),
    Mutant(
        "NEG-03",
        RUNFLOW,
        "a caller's own name of more than 128 characters is refused",
        requests(missed.refuses_long_names, "submit"),
        ("job", "bounds:*", "bound:*"),
    ),
    Mutant(
        "NEG-01",
        RUNFLOW,
        "a caller's own name is cut to the documented length",
        requests(missed.cuts_long_names, "submit"),
        ("negative:maxLength:/client_ref",),
    ),
    Mutant(
        "NTF-02",
        RUNFLOW,
        "without a secret, callbacks are signed with an empty one",
        missed.signed_with_nothing,
        CALLBACK,
        secret=None,
    ),
    Mutant(
        "NTF-07",
        RUNFLOW,
        "the callback of a failed run has no output",
        callbacks(missed.failed_without_output),
        CALLBACK,
    ),
    Mutant(
        "VAL-06",
        RUNFLOW,
        "the duration is in seconds, not in milliseconds",
        good("status", put("/duration_ms", lambda took: took and took // 1000)),
        pace="realistic",
    ),
    Mutant(
        "AUT-06",
        RUNFLOW,
        "any key can cancel a run as an operator",
        rewritten("operator_cancel", missed.granted),
        ("job", "auth:operator"),
    ),
    Mutant(
        "NTF-08",
        RUNFLOW,
        "the attempts of a callback are the same time apart",
        lambda contract: Bend(),
        ("callback:order", "callback:delays"),
        contract=missed.with_equal_delays,
    ),
    *(Mutant(*one) for one in MEMORY),
    *(Mutant(*one) for one in ORDERS),
)
