"""Mutants of the behaviour: keys, ids, stages, idempotency, lives, callbacks, signatures, prices, videos and paths."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson

from hobbyhorse.contract.forms.expressions import Place, format_pointer
from hobbyhorse.contract.forms.ids import ID_FORMS
from hobbyhorse.contract.forms.signatures import Signature
from hobbyhorse.contract.lifecycle import Graph, Stage
from hobbyhorse.contract.reading import message_of, read_answer
from hobbyhorse.contract.values import Callbacks, Contract, Idempotency, Operation, Situation
from tests.broken_servers import films
from tests.broken_servers.bending import KEY, PATIENCE, Bend, Message, Post, Request, Response
from tests.broken_servers.mutants import (
    another_file,
    any_key,
    as_owner,
    keyless,
    longer_than_it_is,
    media,
    off_by_one,
    requests,
    sends_no_callback,
    whole_file_always,
)

from .mutant import Mutant, Source, reachable, shown, with_operation
from .serving import IMPATIENT_SECONDS, Served

CALLBACKS = "lifecycle.json#/callbacks"
# Enough reads for the suite to have seen a job's end twice before it changes.
LATE_READS = 3


def behaviour(source: Source) -> Iterator[Mutant]:
    """Yield every mutant of the behaviour of a contract."""
    for make in (
        _keys,
        _paths,
        _ids,
        _stages,
        _history,
        _cancellable,
        _idempotency,
        _lives,
        _callbacks,
        _signature,
        _prices,
        _parameters,
        _files,
        _hangs,
    ):
        yield from make(source)


def _keys(source: Source) -> Iterator[Mutant]:
    """Yield each operation that accepts no key, any key, or another account's key."""
    for role, operation in source.contract.operations.items():
        if not operation.authenticated:
            continue
        place = f"openapi.json#{format_pointer(('paths', operation.path, operation.method.lower(), 'security'))}"
        ways: list[tuple[str, Callable[[Request], Any]]] = [("needs no key", keyless), ("accepts any key", any_key)]
        if role in ("status", "result", "cancel", "list"):
            ways.append(("accepts another account's key", as_owner))
        for words, change in ways:
            yield source.mutant(
                "key",
                place,
                f"{role} {words}",
                Served(source.contract, requests(change, role)),
            )


def _paths(source: Source) -> Iterator[Mutant]:
    """Yield each operation at another path, and with another method."""
    for role, operation in source.contract.operations.items():
        place = f"openapi.json#{format_pointer(('paths', operation.path))}"
        moved = replace(operation, path=f"/v9{operation.path}", pattern=_moved(operation))
        yield source.mutant("path", place, f"{role} at /v9", with_operation(source.contract, moved))
        method = "PUT" if operation.method == "POST" else "POST"
        other = replace(operation, method=method)
        yield source.mutant("path", place, f"{role} with {method}", with_operation(source.contract, other))


def _moved(operation: Operation) -> re.Pattern[str]:
    return re.compile(f"/v9{operation.pattern.pattern}")


def _ids(source: Source) -> Iterator[Mutant]:
    """Yield ids of each other form, and with another prefix."""
    contract = source.contract
    for form in ID_FORMS:
        if form != contract.job_id_form:
            yield source.mutant(
                "id",
                ["lifecycle.json#/job_id/form", "lifecycle.json#/job_id"],
                f"{contract.job_id_form} → {form}",
                replace(contract, job_id_form=form),
            )
    for prefix in {"", "job-"} - {contract.job_id_prefix}:
        yield source.mutant(
            "id",
            ["lifecycle.json#/job_id/prefix", "lifecycle.json#/job_id"],
            f"{shown(contract.job_id_prefix)} → {shown(prefix)}",
            replace(contract, job_id_prefix=prefix),
        )


def with_stages(contract: Contract, *stages: Stage, initial: str | None = None) -> Contract:
    """Return a contract with some of its stages replaced."""
    graph = contract.graph
    known = {**graph.stages, **{stage.name: stage for stage in stages}}
    return replace(contract, graph=Graph(initial or graph.initial, known))


def _stages(source: Source) -> Iterator[Mutant]:
    """Yield jobs that pass through two successive stages in the other order, or begin in a later one."""
    graph = source.contract.graph
    way = graph.path(graph.initial)
    for number, (first, then) in enumerate(pairwise(way[:-1])):
        order = [*way]
        order[number : number + 2] = [then, first]
        ends = {one: tuple(to for to in graph[one].next if graph[to].terminal) for one in order}
        stages = [
            replace(graph[one], next=(to, *(end for end in ends[one] if end != to))) for one, to in pairwise(order)
        ]
        yield source.mutant(
            "transition",
            f"lifecycle.json#/stages/{first}/next",
            f"{then} before {first}",
            with_stages(source.contract, *stages, initial=order[0]),
        )


def _history(source: Source) -> Iterator[Mutant]:
    """Yield jobs that show another stage after their end, or show their end before it, in reads of one operation."""
    contract = source.contract
    graph = contract.graph
    for role in ("status", "result"):
        operation = contract.operations.get(role)
        if operation is None:
            continue
        for name in sorted(reachable(contract)):
            end = graph.path(graph.initial)[-1]
            target = next((one for one in operation.situations.values() if name in one.stages), None)
            if target is None or name == end or end in target.stages:
                continue
            place = f"lifecycle.json#/stages/{end}/next"
            yield source.mutant(
                "transition",
                [place],
                f"{role}: {end}, later {name}",
                Served(contract, _later(role, target, end)),
            )


def _later(role: str, target: Situation, end: str) -> Callable[[Contract], Bend]:
    """Return a bend that shows another situation of a job from some read after its end on."""

    def make(contract: Contract) -> Bend:
        seen: Counter[str | None] = Counter()
        operation = contract.operations[role]

        def response(request: Request, response: Response) -> Response:
            if request.role != role or not response.ok or request.headers.get("authorization") != f"Bearer {KEY}":
                return response
            reading = read_answer(contract.schemas, operation, response.status, message_of((), response.json))
            if end not in reading.stages:
                return response
            seen[request.job] += 1
            if seen[request.job] <= LATE_READS:
                return response
            values = {"job": request.job, **reading.values}
            written = target.template.write(lambda name: values.get(name))
            return response.with_json(orjson.loads(written), target.status)

        return Bend(response=response)

    return make


def _cancellable(source: Source) -> Iterator[Mutant]:
    """Yield jobs that can be cancelled in other stages than documented."""
    contract = source.contract
    if "cancel" not in contract.operations:
        return
    cancelled = contract.graph.ending("cancelled")
    assert cancelled is not None
    for stage in contract.graph:
        if stage.name in reachable(contract) and stage.name != cancelled.name:
            ways = stage.next if cancelled.name in stage.next else (*stage.next, cancelled.name)
            changed = replace(stage, cancellable=not stage.cancellable, next=ways)
            yield source.mutant(
                "cancelling",
                [f"lifecycle.json#/stages/{stage.name}/cancellable"],
                f"{stage.name}: {stage.cancellable} → {not stage.cancellable}",
                with_stages(contract, changed),
            )


def _idempotency(source: Source) -> Iterator[Mutant]:
    """Yield other meanings of a repeated key: another mode, another place, and a shorter life."""
    contract, used = source.contract, source.contract.idempotency
    if used.key is None:
        return
    other = Place("request", "header", "x-other-key")
    for words, name, changed in (
        *(
            (f"{used.mode} → {mode}", "mode", replace(used, mode=mode))
            for mode in ("replay", "reject")
            if mode != used.mode
        ),
        # Without a place, the key is not even looked for.
        (f"{used.mode} → none", "mode", Idempotency("none")),
        (f"{used.key} → {other}", "key", replace(used, key=other)),
        (f"{used.life} → 0", "life", replace(used, life=0.0)),
    ):
        yield source.mutant(
            "idempotency",
            [f"lifecycle.json#/idempotency/{name}"],
            words,
            replace(contract, idempotency=changed),
        )


def _lives(source: Source) -> Iterator[Mutant]:
    """Yield shorter and longer lives of links and jobs."""
    contract, kept = source.contract, source.contract.retention
    changes: list[tuple[str, float | None, float | None]] = [("job", kept.job, 10.0)]
    if kept.result_url is not None:
        changes += [("result_url", kept.result_url, one) for one in (kept.result_url / 4, kept.result_url * 4, None)]
    else:
        changes += [("result_url", None, 10.0)]
    for name, before, after in changes:
        places = [f"lifecycle.json#/retention/{name}", "lifecycle.json#/retention"]
        yield source.mutant(
            "life",
            places,
            f"{name}: {before} s → {after} s",
            replace(contract, retention=replace(kept, **{name: after})),
        )


def _callbacks(source: Source) -> Iterator[Mutant]:
    """Yield other retries, no callbacks, and callbacks that repeat after an acknowledgement."""
    contract, callbacks = source.contract, source.contract.callbacks
    if callbacks is None:
        return
    for words, retries in (
        ("no retries", ()),
        ("retries after four times the delay", tuple(4 * one for one in callbacks.retries)),
        ("the first retry is left out", callbacks.retries[1:]),
    ):
        yield source.mutant(
            "retry",
            [f"{CALLBACKS}/retries"],
            words,
            replace(contract, callbacks=replace(callbacks, retries=retries)),
        )
    bends: list[tuple[str, Callable[[Contract], Bend]]] = [
        ("none is sent", sends_no_callback),
        ("each is sent twice", _twice),
    ]
    for words, bend in bends:
        yield source.mutant("callback", CALLBACKS, words, Served(contract, bend))


def _twice(contract: Contract) -> Bend:
    """Ignore the first acknowledgement of each message, so that it is sent again."""
    known: set[bytes] = set()

    async def callback(message: Message, post: Post) -> int:
        status = await post(message)
        if 200 <= status < 300 and message.body not in known:
            known.add(message.body)
            return 503
        return status

    return Bend(callback=callback)


def _signature(source: Source) -> Iterator[Mutant]:
    """Yield every part of the signature changed: content, headers, encoding, secret."""
    contract, callbacks = source.contract, source.contract.callbacks
    if callbacks is None or callbacks.signature is None:
        return
    for name, words, changed in signature_changes(callbacks.signature):
        yield source.mutant(
            "signature",
            [f"{CALLBACKS}/signature/{name}", f"{CALLBACKS}/signature"],
            words,
            _signed(contract, callbacks, changed),
        )


def _signed(contract: Contract, callbacks: Callbacks, signature: Signature | None) -> Contract:
    return replace(contract, callbacks=replace(callbacks, signature=signature))


def signature_changes(how: Signature) -> Iterator[tuple[str, str, Signature | None]]:
    """Yield the changed member of a signature, the change in words, and the changed signature."""
    yield "headers", "not signed", None
    contents = {f"{how.content}.", how.content.replace(".", "") or "x", how.content.replace("{timestamp}", "{id}")}
    for content in sorted((contents | {"{body}", "{timestamp}.{body}"}) - {how.content}):
        yield "content", f"{how.content} → {content}", replace(how, content=content)
    encoding = "base64" if how.encoding == "hex" else "hex"
    yield "encoding", f"{how.encoding} → {encoding}", replace(how, encoding=encoding)
    for secret in {"text", "whsec-text", "whsec-base64"} - {how.secret}:
        yield "secret", f"{how.secret} → {secret}", replace(how, secret=secret)
    for name, text in how.headers.items():
        left = {other: value for other, value in how.headers.items() if other != name}
        place = f"headers/{name}"
        yield place, f"{name} dropped", replace(how, headers=left)
        yield place, f"{name} → X-{name}", replace(how, headers={**left, f"X-{name}": text})
        yield place, f"{name}: {text} → v1={text}", replace(how, headers={**left, name: f"v1={text}"})


def _prices(source: Source) -> Iterator[Mutant]:
    """Yield twice and half the price of each tier, if a response shows a cost."""
    contract = source.contract
    if not any("cost" in operation.bindings for operation in contract.operations.values()):
        return
    for number, model in enumerate(contract.models):
        for tier, rate in model.price.items():
            for factor in (Decimal(2), Decimal("0.5")):
                price = {**model.price, tier: rate * factor}
                models = list(contract.models)
                models[number] = replace(model, price=price)
                place = f"lifecycle.json#/models/{number}/price/{tier}"
                costs = [f"lifecycle.json#/operations/{role}/bindings/cost" for role in contract.operations]
                yield source.mutant(
                    "price",
                    [place, *costs],
                    f"{rate} → {(rate * factor).normalize()}",
                    Served(replace(contract, models=tuple(models)), model=number),
                )


def _parameters(source: Source) -> Iterator[Mutant]:
    """Yield servers that ignore one parameter of an order, or one parameter of a query."""
    contract = source.contract
    for number, model in enumerate(contract.models):
        for name in model.parameters:
            # Nothing that anybody could measure depends on the prompt, the seed or the watermark of a horse.
            if name in ("prompt", "seed", "watermark"):
                continue
            models = list(contract.models)
            models[number] = replace(
                model, parameters={other: places for other, places in model.parameters.items() if other != name}
            )
            yield source.mutant(
                "ignored parameter",
                f"lifecycle.json#/models/{number}/parameters/{name}",
                f"{name} is ignored",
                Served(replace(contract, models=tuple(models)), model=number),
            )
    for role, operation in contract.operations.items():
        for parameter in operation.parameters:
            if parameter.part == "query":
                yield source.mutant(
                    "ignored parameter",
                    parameter.schema,
                    f"{role}: {parameter.name} is ignored",
                    Served(contract, requests(_without_query(parameter.name), role)),
                )


def _without_query(name: str) -> Callable[[Request], Request]:
    def change(request: Request) -> Request:
        kept = [part for part in request.query.split("&") if part and part.partition("=")[0] != name]
        return replace(request, query="&".join(kept))

    return change


def _files(source: Source) -> Iterator[Mutant]:
    """Yield other videos, and other responses to a request for a video."""
    good = films.good
    ways: list[tuple[str, Callable[[Contract], Bend]]] = [
        ("an HTML page", another_file(lambda: b"<html>" * 100)),
        ("truncated", another_file(lambda: good()[: len(good()) // 2])),
        ("a second shorter", another_file(lambda: good(films.SECONDS - 1))),
        ("a second longer", another_file(lambda: good(films.SECONDS + 1))),
        ("25 frames per second", another_file(lambda: films.remade(good(), rate=25))),
        ("a frame less", another_file(lambda: films.remade(good(), dropped=1))),
        ("half the dimensions", another_file(lambda: films.plain(640, 360))),
        ("a square", another_file(lambda: films.plain(960, 960))),
        ("of another picture", another_file(lambda: films.plain(1280, 720))),
        ("no sound", another_file(lambda: films.remade(good(), audio=False))),
        ("sound that ends a second early", another_file(lambda: films.remade(good(), quiet=1))),
        ("the index last", another_file(lambda: films.remade(good(), first=False))),
        ("ranges ignored", whole_file_always),
        ("ranges a byte short", media(off_by_one)),
        ("a wrong Content-Length", media(longer_than_it_is)),
        ("text/plain", media(lambda request, response: response.with_header("content-type", "text/plain"))),
        ("404", lambda contract: Bend(response=_no_file)),
        ("no Content-Range", media(lambda request, response: response.with_header("content-range", None))),
    ]
    for words, bend in ways:
        yield source.mutant("media", "openapi.json#/info", words, Served(source.contract, bend))


def _no_file(request: Request, response: Response) -> Response:
    return replace(response, status=404, body=b"") if request.role == "media" else response


def _hangs(source: Source) -> Iterator[Mutant]:
    """Yield each operation that never responds."""
    for role, operation in source.contract.operations.items():
        place = f"openapi.json#{format_pointer(('paths', operation.path, operation.method.lower()))}"
        yield source.mutant(
            "hang", place, f"{role} hangs", Served(source.contract, _hanging(role), request_seconds=IMPATIENT_SECONDS)
        )


def _hanging(role: str) -> Callable[[Contract], Bend]:
    async def request(request: Request) -> Request:
        if request.role == role:
            await asyncio.sleep(PATIENCE)
        return request

    return lambda contract: Bend(request=request)
