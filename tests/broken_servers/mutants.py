"""Broken servers: our fake, bent in one place each, as some endpoint is or will be. What breaks which rule."""

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

from . import films
from .bending import KEY, OTHER, SPEED, Asked, Bend, Message, Post, Told, plain

HIAPI, RUNCOMFY, RUNFLOW, VTRIX = "hiapi", "runcomfy", "runflow", "vtrix"
JOB = ("job", "job:after")
EARLY = 6
"""The first reads of a job, of which four overlap."""


@dataclass(frozen=True)
class Mutant:
    """A broken server: the rule that it breaks, what it is made of, the bug in words, and how it is bent.

    `change` makes the bend anew, for it may remember. `lesson` says that the contract only assumes what is
    contradicted; `contract` is the contract that both sides have, where another one is quicker; `probes` what is sent.
    """

    rule: str
    provider: str
    says: str
    change: Callable[[Contract], Bend]
    probes: tuple[str, ...] = JOB
    lesson: bool = False
    contract: Callable[[Contract], Contract] = lambda contract: contract
    model: int = 0
    pace: str = "fast"
    picture: Callable[[], bytes] | None = None

    @property
    def name(self) -> str:
        number = 1 + [one.says for one in MUTANTS if one.rule == self.rule].index(self.says)
        return f"{self.rule}-{number}"


_CONTRACTS = {contract.key: contract for contract in load_all()}


def contract_of(mutant: Mutant) -> Contract:
    return mutant.contract(_CONTRACTS[mutant.provider])


# Ways to bend


Edit = Callable[[Any], Any]


def put(pointer: str, value: Any) -> Edit:
    """Return an edit that sets a value, or what a function makes of it; nothing where there is no place for it."""
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
    """Return a bend that edits the good answers of an operation."""
    return answers(role, lambda asked, told: told.ok, *edits, status=status)


def refusal(role: str, *edits: Edit, status: int | None = None) -> Callable[[Contract], Bend]:
    """Return a bend that edits the refusals of an operation."""
    return answers(role, lambda asked, told: told.status >= 400, *edits, status=status)


def answers(
    role: str, when: Callable[[Asked, Told], bool], *edits: Edit, status: int | None = None
) -> Callable[[Contract], Bend]:
    def told(asked: Asked, told: Told) -> Told:
        if asked.role != role or not when(asked, told):
            return told
        body = told.json
        for edit in edits:
            body = edit(body)
        return told.with_json(body, status)

    return lambda contract: Bend(told=told)


def rewritten(role: str, write: Callable[[Asked, Told], Told]) -> Callable[[Contract], Bend]:
    """Return a bend that writes the answers of an operation anew."""
    return lambda contract: Bend(told=lambda asked, told: write(asked, told) if asked.role == role else told)


def asking(change: Callable[[Asked], Asked | Told], *roles: str) -> Callable[[Contract], Bend]:
    """Return a bend that takes requests for others."""
    return lambda contract: Bend(asked=lambda asked: change(asked) if asked.role in roles else asked)


def counted(write: Callable[[int, Asked, Told], Told], role: str = "status") -> Callable[[Contract], Bend]:
    """Return a bend that knows the how manieth good answer about a job it is, from 1."""

    def make(contract: Contract) -> Bend:
        seen: Counter[str | None] = Counter()

        def told(asked: Asked, told: Told) -> Told:
            if asked.role != role or not told.ok or asked.headers.get("authorization") != f"Bearer {KEY}":
                return told
            seen[asked.job] += 1
            return write(seen[asked.job], asked, told)

        return Bend(told=told)

    return make


# HiAPI's answers


def under_way(body: Any, stage: str, **more: Any) -> Any:
    """Return HiAPI's answer about a task in a stage that is not the end."""
    data = {name: value for name, value in body["data"].items() if name not in ("output", "error")}
    return body | {"data": data | {"status": stage, "completed": 0} | more}


def failed(body: Any) -> Any:
    data = {name: value for name, value in body["data"].items() if name != "output"}
    error = {"code": "TASK_FAILED", "message": "upstream rejected the prompt"}
    return body | {"data": data | {"status": "fail", "error": error}}


def backwards(n: int, asked: Asked, told: Told) -> Told:
    stage = "archiving" if n < EARLY else "handling" if n < EARLY + 2 else None
    return told if stage is None else told.with_json(under_way(told.json, stage))


def ended(told: Told) -> bool:
    return told.ok and resolve(told.json, ("data", "status")) == "success"


def changes_its_end(contract: Contract) -> Bend:
    seen: Counter[str | None] = Counter()

    def told(asked: Asked, told: Told) -> Told:
        if asked.role != "status" or not ended(told):
            return told
        seen[asked.job] += 1
        return told.with_json(failed(told.json)) if seen[asked.job] > EARLY else told

    return Bend(told=told)


def wakes_again(contract: Contract) -> Bend:
    seen: Counter[str | None] = Counter()

    def told(asked: Asked, told: Told) -> Told:
        if asked.role != "status" or resolve(told.json, ("status",)) != "completed":
            return told
        seen[asked.job] += 1
        if seen[asked.job] <= EARLY:
            return told
        body = {name: told.json[name] for name in ("id", "created_at", "model")}
        return told.with_json(body | {"status": "in_progress", "progress": 1.0})

    return Bend(told=told)


def split_brain(contract: Contract) -> Bend:
    """Of the polls that overlap, every other one is answered by somebody who thinks that the task has failed."""
    inside: Counter[str | None] = Counter()

    async def told(asked: Asked, told: Told) -> Told:
        if asked.role != "status" or not ended(told):
            return told
        inside[asked.job] += 1
        second = inside[asked.job] % 2 == 0
        await asyncio.sleep(0.05)
        inside[asked.job] -= 1
        return told.with_json(failed(told.json)) if second else told

    return Bend(told=told)


def running(progress: Callable[[int], float]) -> Callable[[int, Asked, Told], Told]:
    """Return an answer of Vtrix about a task that is under way, in the first reads."""

    def write(n: int, asked: Asked, told: Told) -> Told:
        if n > EARLY + 3:
            return told
        body = {name: told.json[name] for name in ("id", "created_at", "model")}
        return told.with_json(body | {"status": "in_progress", "progress": progress(n)})

    return write


def told_early(n: int, asked: Asked, told: Told) -> Told:
    if n >= EARLY:
        return told
    output = [{"url": f"http://127.0.0.1:1/{asked.job}/video.mp4", "type": "video"}]
    return told.with_json(under_way(told.json, "handling", output=output))


def ends_before_its_end(n: int, asked: Asked, told: Told) -> Told:
    created = told.json["data"]["created"]
    return told.with_json(under_way(told.json, "handling", completed=created + 1)) if n < EARLY else told


def shifted(name: str, by: int) -> Edit:
    return put(f"/data/{name}", lambda value: value + by if value else value)


# Identity and keys


def renamed(ours: str, theirs: str) -> Callable[[Contract], Bend]:
    """Return a bend whose ids begin otherwise."""

    def asked(asked: Asked) -> Asked:
        return replace(asked, path=asked.path.replace(theirs, ours))

    def told(asked: Asked, told: Told) -> Told:
        return told if asked.role == "media" else replace(told, body=told.body.replace(ours.encode(), theirs.encode()))

    return lambda contract: Bend(asked=asked, told=told)


def one_id_for_all(contract: Contract) -> Bend:
    first: list[Told] = []

    def told(asked: Asked, told: Told) -> Told:
        if asked.role == "submit" and told.ok:
            first.append(told)
            return first[0]
        return told

    return Bend(told=told)


def nobodys_is_queued(asked: Asked, told: Told) -> Told:
    if told.status != 404:
        return told
    data = {"taskId": asked.job, "model": "", "status": "queued", "created": 0, "completed": 0}
    return plain(200, {"code": 200, "message": "success", "data": data})


def as_ours(asked: Asked) -> Asked:
    """A stranger is taken for the owner."""
    own = asked.headers.get("authorization") == f"Bearer {OTHER}"
    return asked.with_header("authorization", f"Bearer {KEY}") if own else asked


def tells_a_stranger(contract: Contract) -> Bend:
    prompts: dict[str, str] = {}

    def told(asked: Asked, told: Told) -> Told:
        if asked.role == "submit" and told.ok:
            prompts[told.json["data"]["taskId"]] = asked.json["input"]["prompt"]
        elif asked.role == "status" and told.status == 404 and asked.job in prompts:
            return told.with_json(told.json | {"message": f"not found: {prompts[asked.job or '']}"})
        return told

    return Bend(told=told)


def keyless(asked: Asked) -> Asked:
    """Whoever has no key is let in."""
    return asked if "authorization" in asked.headers else asked.with_header("authorization", f"Bearer {KEY}")


def any_key(asked: Asked) -> Asked:
    known = (None, f"Bearer {KEY}", f"Bearer {OTHER}")
    wrong = asked.headers.get("authorization") not in known
    return asked.with_header("authorization", f"Bearer {KEY}") if wrong else asked


# Bodies


def taken(*edits: Edit) -> Callable[[Contract], Bend]:
    """Return a bend that mends bodies instead of refusing them."""

    def mend(asked: Asked) -> Asked:
        body = asked.json
        if not isinstance(body, dict):
            return asked
        for edit in edits:
            body = edit(body)
        return asked.with_json(body)

    return asking(mend, "submit")


def any_json(contract: Contract) -> Bend:
    """A body that is no JSON is taken for another one."""
    order = json.dumps(order_for(contract, contract.models[0])).encode()

    def asked(asked: Asked) -> Asked:
        bad = asked.role == "submit" and not isinstance(asked.json, dict)
        return replace(asked, body=order) if bad else asked

    return Bend(asked=asked)


def too_long(asked: Asked) -> Asked | Told:
    seconds = resolve(asked.json, ("input", "duration"))
    if isinstance(seconds, int) and seconds >= 15:
        return plain(400, {"code": 400, "message": "invalid request", "data": None, "error_code": "INVALID_REQUEST"})
    return asked


def no_seed_of_nought(asked: Asked) -> Asked | Told:
    seed = resolve(asked.json, ("parameters", "seed"))
    return plain(400, {"message": "seed is required"}) if seed == 0 and seed is not False else asked


# Idempotency keys


def unkeyed(asked: Asked) -> Asked:
    return asked.with_header("idempotency-key", None)


def refuses_repeats(contract: Contract) -> Bend:
    def told(asked: Asked, told: Told) -> Told:
        replayed = ("idempotent-replay", "true") in told.headers
        body = {"code": 409, "message": "in progress", "data": None, "error_code": "IDEMPOTENCY_KEY_PROCESSING"}
        return plain(422, body | {"code": 422, "error_code": "IDEMPOTENCY_KEY_MISMATCH"}) if replayed else told

    return Bend(told=told)


def forgets_the_body(contract: Contract) -> Bend:
    """A key alone says which order it is."""
    first: dict[str, bytes] = {}

    def asked(asked: Asked) -> Asked:
        key = asked.headers.get("idempotency-key")
        if asked.role != "submit" or key is None:
            return asked
        return replace(asked, body=first.setdefault(key, asked.body))

    return Bend(asked=asked)


def looks_before_it_keeps(contract: Contract) -> Bend:
    """A key is kept only when the order has been taken."""
    kept: set[str] = set()

    async def told(asked: Asked, told: Told) -> Told:
        if asked.role == "submit" and "x-key" in asked.headers:
            await asyncio.sleep(0.1)
            kept.add(asked.headers["x-key"])
        return told

    begun: Counter[str] = Counter()

    def asked(asked: Asked) -> Asked:
        key = asked.headers.get("idempotency-key")
        if asked.role != "submit" or key is None or key in kept:
            return asked
        begun[key] += 1
        marked = asked.with_header("x-key", key)
        return marked if begun[key] == 1 else marked.with_header("idempotency-key", None)

    return Bend(asked=asked, told=told)


# Cancelling, at RunComfy


def cancelled(asked: Asked) -> dict[str, Any]:
    return {"request_id": asked.job, "status": "cancelled", "outcome": "cancelled"}


def stays_cancelled(status: str | None, *, finished: bool) -> Callable[[Contract], Bend]:
    """Return a bend that cancels whatever it is asked to; `status` is what is shown of a job before."""

    def make(contract: Contract) -> Bend:
        gone: set[str | None] = set()

        def told(asked: Asked, told: Told) -> Told:
            if asked.role == "cancel" and told.ok:
                if status is not None or finished:
                    gone.add(asked.job)
                return told.with_json(cancelled(asked))
            if asked.role == "status" and told.ok:
                word = "cancelled" if asked.job in gone else status
                return told.with_json(told.json | {"status": word}) if word else told
            return told

        return Bend(told=told)

    return make


def refuses_to_cancel(contract: Contract) -> Bend:
    def asked(asked: Asked) -> Asked | Told:
        body = {"request_id": asked.job, "status": "in_progress", "outcome": "not_cancellable"}
        return plain(202, body) if asked.role == "cancel" else asked

    return Bend(asked=asked)


def once_only(contract: Contract) -> Bend:
    seen: Counter[str | None] = Counter()

    def told(asked: Asked, told: Told) -> Told:
        if asked.role == "cancel" and told.ok:
            seen[asked.job] += 1
            if seen[asked.job] > 1:
                return plain(404, {"error_code": 404001, "error_message": "ResourceNotFound"})
        return told

    return Bend(told=told)


def won_all_the_same(contract: Contract) -> Bend:
    gone: set[str | None] = set()

    def told(asked: Asked, told: Told) -> Told:
        if asked.role == "cancel" and told.ok:
            gone.add(asked.job)
        elif asked.role == "status" and told.ok and asked.job in gone:
            return told.with_json(told.json | {"status": "completed"})
        elif asked.role == "result" and told.ok and asked.job in gone:
            return told.with_json(told.json | {"status": "succeeded", "output": {"video": "http://127.0.0.1:1/a.mp4"}})
        return told

    return Bend(told=told)


def waiting(contract: Contract) -> Contract:
    """Return a contract whose jobs stay in the queue for long."""
    graph = contract.graph
    first = replace(graph[graph.initial], lasts=(600.0, 600.0))
    return replace(contract, graph=replace(graph, stages={**graph.stages, first.name: first}))


# Callbacks, at HiAPI


def signed(message: Message, value: Any) -> Message:
    """Return another message, with a signature that is right."""
    callbacks = _CONTRACTS[HIAPI].callbacks
    assert callbacks is not None
    assert callbacks.signature is not None
    body = json.dumps(value).encode()
    stamp = int(message.headers["x-hiapi-timestamp"])
    seal = sign(callbacks.signature, DEFAULT_SECRET, body, timestamp=stamp, message_id="")
    return Message(message.headers | {name.lower(): text for name, text in seal.items()}, body)


def telling(change: Callable[[Message], Message]) -> Callable[[Contract], Bend]:
    async def called(message: Message, post: Post) -> int:
        return await post(change(message))

    return lambda contract: Bend(called=called)


def unsigned(message: Message) -> Message:
    return Message({name: value for name, value in message.headers.items() if "signature" not in name}, message.body)


def signs_what_it_does_not_send(message: Message) -> Message:
    return Message(message.headers, json.dumps(message.json, indent=1).encode())


def seconds_late(message: Message) -> Message:
    """The moment of the signature is in milliseconds."""
    return signed(
        Message(message.headers | {"x-hiapi-timestamp": message.headers["x-hiapi-timestamp"] + "000"}, b""),
        message.json,
    )


def twice(contract: Contract) -> Bend:
    async def called(message: Message, post: Post) -> int:
        status = await post(message)
        if 200 <= status < 300:
            await asyncio.sleep(1.5 / SPEED)
            await post(message)
        return status

    return Bend(called=called)


def tells_of_another(contract: Contract) -> Bend:
    """Every callback is about the first task."""
    first: list[str] = []

    def told(asked: Asked, told: Told) -> Told:
        if asked.role == "submit" and told.ok:
            first.append(told.json["data"]["taskId"])
        return told

    async def called(message: Message, post: Post) -> int:
        return await post(signed(message, put("/taskId", first[0])(message.json)))

    return Bend(told=told, called=called)


def gives_up(contract: Contract) -> Bend:
    async def called(message: Message, post: Post) -> int:
        await post(message)
        return 200

    return Bend(called=called)


def says_nothing(contract: Contract) -> Bend:
    async def called(message: Message, post: Post) -> int:
        return 200

    return Bend(called=called)


def told_before_it_is_there(contract: Contract) -> Bend:
    told_of: set[str] = set()
    hidden: Counter[str | None] = Counter()

    async def called(message: Message, post: Post) -> int:
        told_of.add(message.json["taskId"])
        return await post(message)

    def told(asked: Asked, told: Told) -> Told:
        if asked.role != "status" or not ended(told) or hidden[asked.job] > 2:
            return told
        hidden[asked.job] += asked.job in told_of
        return told.with_json(under_way(told.json, "archiving"))

    return Bend(told=told, called=called)


# Files


def another_file(make: Callable[[], bytes]) -> Callable[[Contract], Bend]:
    """Return a bend whose files are all one other."""

    def asked(asked: Asked) -> Asked | Told:
        if asked.role != "media":
            return asked
        data = make()
        told = Told(200, (("content-type", "video/mp4"), ("accept-ranges", "bytes")), data)
        if "range" not in asked.headers:
            return told
        first, last = _span(asked.headers["range"], len(data))
        part = replace(told, status=206, body=data[first : last + 1])
        return part.with_header("content-range", f"bytes {first}-{last}/{len(data)}")

    return lambda contract: Bend(asked=asked)


def _span(asked: str, size: int) -> tuple[int, int]:
    first, _, last = asked.removeprefix("bytes=").partition("-")
    if not first:
        return size - int(last), size - 1
    return int(first), min(int(last or size), size - 1)


def media(write: Callable[[Asked, Told], Told]) -> Callable[[Contract], Bend]:
    return rewritten("media", lambda asked, told: write(asked, told) if told.ok else told)


def whole_whatever(contract: Contract) -> Bend:
    def asked(asked: Asked) -> Asked:
        return asked.with_header("range", None) if asked.role == "media" else asked

    return Bend(asked=asked)


def off_by_one(asked: Asked, told: Told) -> Told:
    return replace(told, body=told.body[:-1]) if told.status == 206 else told


def longer_than_it_is(asked: Asked, told: Told) -> Told:
    return replace(told, length=(told.length or 0) + 1) if asked.method == "HEAD" else told


def short_links(contract: Contract) -> Contract:
    """Return a contract whose links live so long that a test can see their end."""
    return replace(contract, retention=replace(contract.retention, result_url=30.0))


def never_expires(contract: Contract) -> Bend:
    files: dict[str, Told] = {}

    def told(asked: Asked, told: Told) -> Told:
        if asked.role != "media":
            return told
        if told.status == 200 and asked.method == "GET":
            files[asked.path] = told
        return told if told.ok else files.get(asked.path, told)

    return Bend(told=told)


def gone_after(reads: int) -> Callable[[int, Asked, Told], Told]:
    gone = plain(404, {"code": 404, "message": "not found", "data": None})
    return lambda n, asked, told: gone if n > reads else told


# Money


def billed_for_nothing(n: int, asked: Asked, told: Told) -> Told:
    if told.json["status"] != "completed":
        return told
    body = {name: told.json[name] for name in ("id", "created_at", "model")}
    error = {"code": "002014001", "message": "Video generation failed"}
    return told.with_json(body | {"status": "failed", "error": error, "usage": {"cost": "0.42", "discount": 1}})


def html(told: Told, status: int | None = None) -> Told:
    return Told(status or told.status, (("content-type", "text/html"),), b"<html><body>Oops</body></html>")


NEGATIVE = ("negative:minItems:/input/image_urls", "negative:type:/input/prompt", "negative:required:/input/image_urls")
CALLBACK = ("callback:order",)
MEDIA = ("job", "job:media")
CANCEL = ("cancel:order",)
IDEMPOTENCY = ("idempotency",)
UNKNOWN = ("identity:unknown",)


MUTANTS: tuple[Mutant, ...] = (
    Mutant("SHA-01", HIAPI, "a task without its status", good("status", drop("/data/status"))),
    Mutant("SHA-01", HIAPI, "201 for an order", good("submit", status=201)),
    Mutant(
        "SHA-01",
        VTRIX,
        "a status word that no page has: processing",
        counted(
            lambda n, asked, told: (
                told.with_json(running(lambda n: 0.5)(n, asked, told).json | {"status": "processing"})
                if n < 3
                else told
            )
        ),
    ),
    Mutant("SHA-01", VTRIX, "created_at as text", good("status", put("/created_at", str))),
    Mutant("SHA-01", RUNCOMFY, "a status without the request's id", good("status", drop("/request_id"))),
    Mutant(
        "SHA-02",
        HIAPI,
        "JSON that is called text/html",
        rewritten("status", lambda asked, told: told.with_header("content-type", "text/html")),
    ),
    Mutant(
        "SHA-03",
        HIAPI,
        "refusals as HTML",
        rewritten("status", lambda asked, told: html(told) if told.status >= 400 else told),
        ("job", *UNKNOWN),
    ),
    Mutant("SHA-03", HIAPI, "refusals without a message", refusal("status", drop("/message")), UNKNOWN),
    Mutant("SHA-04", VTRIX, "an answer of 17 MB", good("status", put("/padding", "x" * (17 << 20))), ("job",)),
    Mutant("LIF-01", HIAPI, "a poll that goes back: archiving, then handling", counted(backwards)),
    Mutant("LIF-02", HIAPI, "success, and later fail", changes_its_end),
    Mutant("LIF-02", VTRIX, "completed, and later in_progress", wakes_again),
    Mutant("LIF-03", VTRIX, "progress that goes down", counted(running(lambda n: 0.9 - n / 20))),
    Mutant("LIF-03", VTRIX, "progress in percent", counted(running(lambda n: 35.0))),
    Mutant("LIF-04", HIAPI, "completed before it was created", good("status", shifted("completed", -3600))),
    Mutant(
        "LIF-04", VTRIX, "created_at in milliseconds", good("status", put("/created_at", lambda value: value * 1000))
    ),
    Mutant("LIF-04", HIAPI, "a moment of the end before the end", counted(ends_before_its_end)),
    Mutant("LIF-05", HIAPI, "the address of the video before the end", counted(told_early)),
    Mutant("LIF-06", HIAPI, "polls at once that tell of two ends", split_brain),
    Mutant("IDN-01", HIAPI, "ids that begin otherwise", renamed("tk-hiapi-", "task-hi-api-"), ("job",)),
    Mutant(
        "IDN-01",
        VTRIX,
        "ids that begin otherwise, where no page says how",
        renamed("task_", "gen_"),
        ("job",),
        lesson=True,
    ),
    Mutant("IDN-02", HIAPI, "one id for two orders", one_id_for_all, ("job", "idempotency")),
    Mutant(
        "IDN-02", VTRIX, "an answer about another task", good("status", put("/id", "task_0123456789abcdef")), ("job",)
    ),
    Mutant("IDN-03", HIAPI, "a task that nobody has is queued", rewritten("status", nobodys_is_queued), UNKNOWN),
    Mutant(
        "IDN-03", HIAPI, "400 for a task that nobody has", refusal("status", put("/code", 400), status=400), UNKNOWN
    ),
    Mutant(
        "IDN-03", RUNCOMFY, "403 for a request that nobody has", refusal("status", status=403), UNKNOWN, lesson=True
    ),
    Mutant(
        "IDN-04", HIAPI, "another account's key shows the task", asking(as_ours, "status"), ("job", "identity:foreign")
    ),
    Mutant(
        "IDN-04", HIAPI, "a refusal that tells a stranger the prompt", tells_a_stranger, ("job", "identity:foreign")
    ),
    Mutant(
        "IDN-05",
        HIAPI,
        "a list without the task",
        good("list", put("/data/tasks", []), put("/data/total", 0)),
        ("job", "identity:list"),
    ),
    Mutant("AUT-01", HIAPI, "the list needs no key", asking(keyless, "list"), ("job", "auth:list")),
    Mutant(
        "AUT-01",
        HIAPI,
        "403 for no key",
        answers("status", lambda asked, told: told.status == 401, put("/code", 403), status=403),
        ("job", "auth:status"),
    ),
    Mutant("AUT-01", HIAPI, "a task can be read without a key", asking(keyless, "status"), ("job", "auth:status")),
    Mutant("AUT-01", VTRIX, "an order needs no key", asking(keyless, "submit"), ("job", "auth:submit")),
    Mutant("AUT-02", HIAPI, "any key will do", asking(any_key, "status", "list"), ("job", "auth:status", "auth:list")),
    Mutant(
        "AUT-02",
        RUNCOMFY,
        "401 for a key that is nobody's",
        answers("status", lambda asked, told: told.status == 400, status=401),
        ("job", "auth:status"),
        lesson=True,
    ),
    Mutant(
        "AUT-03", HIAPI, "an order with a wrong key makes a task", asking(any_key, "submit"), ("job", "auth:submit")
    ),
    Mutant(
        "NEG-01",
        HIAPI,
        "16 seconds are made 5, and billed",
        taken(put("/input/duration", 5)),
        ("negative:maximum:/input/duration",),
    ),
    Mutant(
        "NEG-01",
        HIAPI,
        "a tier that is not there is made 720p",
        taken(put("/input/resolution", "720p")),
        ("negative:enum:/input/resolution",),
    ),
    Mutant("NEG-01", HIAPI, "what is no JSON is taken", any_json, ("negative:json",)),
    Mutant(
        "NEG-02", HIAPI, "another code for a bad body", refusal("submit", put("/error_code", "BAD_INPUT")), NEGATIVE
    ),
    Mutant("NEG-02", HIAPI, "422 for a bad body", refusal("submit", put("/code", 422), status=422), NEGATIVE),
    Mutant("NEG-02", HIAPI, "500 for a bad body", refusal("submit", put("/code", 500), status=500), NEGATIVE),
    Mutant("NEG-03", HIAPI, "15 seconds are refused", asking(too_long, "submit"), ("job", "bound:/input/duration:*")),
    Mutant(
        "NEG-03",
        VTRIX,
        "a seed of 0 is refused",
        asking(no_seed_of_nought, "submit"),
        ("job", "bound:/parameters/seed:0"),
    ),
    Mutant("IDM-01", HIAPI, "keys are not looked at", asking(unkeyed, "submit"), IDEMPOTENCY),
    Mutant("IDM-01", HIAPI, "an order that is repeated is refused", refuses_repeats, IDEMPOTENCY),
    Mutant("IDM-02", HIAPI, "another body gets the first one's task", forgets_the_body, IDEMPOTENCY),
    Mutant("IDM-03", HIAPI, "a key is looked up before it is kept", looks_before_it_keeps, IDEMPOTENCY),
    Mutant(
        "CNL-01",
        RUNCOMFY,
        "what is under way is cancelled",
        stays_cancelled("in_progress", finished=True),
        CANCEL,
        contract=waiting,
        pace="realistic",
    ),
    Mutant(
        "CNL-01",
        RUNCOMFY,
        "what waits in the queue is not cancelled",
        refuses_to_cancel,
        CANCEL,
        contract=waiting,
        pace="realistic",
        lesson=True,
    ),
    Mutant(
        "CNL-02",
        RUNCOMFY,
        "404 for whoever cancels again",
        once_only,
        CANCEL,
        contract=waiting,
        pace="realistic",
        lesson=True,
    ),
    Mutant(
        "CNL-03", RUNCOMFY, "what was cancelled succeeds", won_all_the_same, CANCEL, contract=waiting, pace="realistic"
    ),
    Mutant(
        "CNL-04",
        RUNCOMFY,
        "what has succeeded is cancelled",
        stays_cancelled(None, finished=True),
        ("job", "cancel:finished"),
    ),
    Mutant(
        "NTF-01",
        HIAPI,
        "a callback without its status",
        telling(lambda message: signed(message, drop("/status")(message.json))),
        CALLBACK,
    ),
    Mutant(
        "NTF-01",
        HIAPI,
        "a callback that says success: done",
        telling(lambda message: signed(message, put("/status", "done")(message.json))),
        CALLBACK,
    ),
    Mutant("NTF-02", HIAPI, "no signature", telling(unsigned), CALLBACK),
    Mutant("NTF-02", HIAPI, "a signature of other bytes than are sent", telling(signs_what_it_does_not_send), CALLBACK),
    Mutant("NTF-02", HIAPI, "a moment in milliseconds", telling(seconds_late), CALLBACK, lesson=True),
    Mutant(
        "NTF-03",
        HIAPI,
        "a callback with another video",
        telling(lambda message: signed(message, put("/output/0/url", "https://cdn.hiapi.ai/other.mp4")(message.json))),
        CALLBACK,
    ),
    Mutant(
        "NTF-03",
        HIAPI,
        "a callback that says fail",
        telling(lambda message: signed(message, failed({"data": message.json})["data"])),
        CALLBACK,
    ),
    Mutant("NTF-03", HIAPI, "a callback about another task", tells_of_another, ("job", *CALLBACK)),
    Mutant("NTF-04", HIAPI, "no second try", gives_up, CALLBACK, lesson=True),
    Mutant("NTF-04", HIAPI, "no callback at all", says_nothing, CALLBACK),
    Mutant("NTF-05", HIAPI, "once more after the acknowledgement", twice, CALLBACK),
    Mutant("NTF-06", HIAPI, "told before a poll can see it", told_before_it_is_there, CALLBACK),
    Mutant(
        "RET-01",
        HIAPI,
        "a link that never works",
        rewritten("media", lambda asked, told: plain(403, {})),
        ("job", "retention:before"),
    ),
    Mutant(
        "RET-01",
        HIAPI,
        "links that live a day",
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
        "a task that is gone as soon as it was read",
        counted(gone_after(EARLY + 4)),
        ("job", "job:after"),
        lesson=True,
    ),
    Mutant("MED-01", HIAPI, "a page of HTML as the video", another_file(lambda: b"<html>" * 100), MEDIA),
    Mutant("MED-01", VTRIX, "half a video", another_file(lambda: films.good()[: len(films.good()) // 2]), MEDIA),
    Mutant("MED-02", VTRIX, "25 frames a second", another_file(lambda: films.remade(films.good(), rate=25)), MEDIA),
    Mutant("MED-03", HIAPI, "one frame short", another_file(lambda: films.remade(films.good(), dropped=1)), MEDIA),
    Mutant("MED-04", HIAPI, "half the sides of the tier", another_file(lambda: films.plain(640, 360)), MEDIA),
    Mutant(
        "MED-05",
        RUNCOMFY,
        "a square where 16:9 was asked for",
        another_file(lambda: films.plain(960, 960)),
        MEDIA,
        model=1,
    ),
    Mutant(
        "MED-05",
        VTRIX,
        "a square from a picture that is 16:9",
        another_file(lambda: films.plain(960, 960)),
        MEDIA,
        picture=films.picture,
    ),
    Mutant(
        "MED-06",
        VTRIX,
        "a video of another picture",
        another_file(lambda: films.plain(1280, 720)),
        MEDIA,
        picture=films.picture,
    ),
    Mutant("MED-07", HIAPI, "no sound", another_file(lambda: films.remade(films.good(), audio=False)), MEDIA),
    Mutant("MED-07", HIAPI, "a second less of sound", another_file(lambda: films.remade(films.good(), quiet=1)), MEDIA),
    Mutant(
        "MED-08",
        HIAPI,
        "the index behind the media",
        another_file(lambda: films.remade(films.good(), first=False)),
        MEDIA,
    ),
    Mutant("MED-09", HIAPI, "ranges are not looked at", whole_whatever, MEDIA),
    Mutant("MED-09", HIAPI, "ranges one byte short", media(off_by_one), MEDIA),
    Mutant("MED-10", HIAPI, "a Content-Length that is not the file's", media(longer_than_it_is), MEDIA),
    Mutant(
        "MED-10",
        HIAPI,
        "a video that is called text/plain",
        media(lambda asked, told: told.with_header("content-type", "text/plain")),
        MEDIA,
    ),
    Mutant("MED-11", HIAPI, "2 seconds instead of 3", another_file(lambda: films.good(2)), MEDIA),
    Mutant(
        "MON-01",
        RUNFLOW,
        "it costs twice its price",
        good("status", put("/cost", lambda value: None if value is None else str(2 * float(value)))),
    ),
    Mutant(
        "MON-01",
        VTRIX,
        "it costs twice a price that no page shows",
        good("status", put("/usage/cost", lambda value: str(2 * float(value)))),
        lesson=True,
    ),
    Mutant("MON-02", VTRIX, "a task that failed is billed", counted(billed_for_nothing)),
)
