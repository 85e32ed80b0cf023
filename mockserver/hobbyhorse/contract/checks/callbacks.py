"""Checks of callbacks and their signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from hobbyhorse.contract.checks.places import misformatted, overlapping, unshown
from hobbyhorse.contract.checks.subject import Problem, Subject
from hobbyhorse.contract.documents.operations import OPENAPI
from hobbyhorse.contract.forms.signatures import list_of_fields
from hobbyhorse.contract.values import Callbacks

SIGNED = ("timestamp", "id", "body")
SENT = ("timestamp", "id", "signature")


def callback_address(subject: Subject) -> Iterator[Problem]:
    """In openapi.json, the callback's operation is under the expression to which submit binds callback_url."""
    callbacks = subject.contract.callbacks
    if callbacks is None:
        return
    submit = subject.contract.operations["submit"]
    bound = submit.bindings.get("callback_url")
    expected = sorted("{" + str(place) + "}" for place in (bound.request if bound else ()))
    # OpenAPI sends a callback to the URL at its expression; the fake sends it to the URL at the bound place.
    own = [expression for expression, _ in _declared(subject, callbacks)]
    if not own:
        message = f"{callbacks.operation_id!r} is not under the callbacks of {submit.operation_id} in {OPENAPI}"
        yield subject.problem(message, "callbacks", "operationId")
    elif not set(expected) & set(own):
        message = f"submit binds callback_url to {expected or 'nothing'}, but {OPENAPI} calls back {own}"
        yield subject.problem(message, *subject.binding_at("submit", "callback_url"))


def _declared(subject: Subject, callbacks: Callbacks) -> list[tuple[str, Mapping[str, Any]]]:
    """Return each callback operation declared under the submit operation, with its URL expression."""
    submit = subject.contract.operations["submit"]
    return [
        (expression, operation)
        for item in subject.schemas.document(OPENAPI)["paths"].values()
        for spec in item.values()
        if isinstance(spec, dict) and spec.get("operationId") == submit.operation_id
        for callback in spec.get("callbacks", {}).values()
        for expression, path in callback.items()
        for operation in path.values()
        if isinstance(operation, dict) and operation.get("operationId") == callbacks.operation_id
    ]


def callback_situations(subject: Subject) -> Iterator[Problem]:
    """Every success and failure stage has exactly one situation, which has no condition, status or headers."""
    callbacks = subject.contract.callbacks
    if callbacks is None:
        return
    at = ("callbacks", "situations")
    for stage in subject.contract.graph:
        telling = [name for name, situation in callbacks.situations.items() if stage.name in situation.stages]
        if not telling and stage.kind in ("success", "failure"):
            yield subject.problem(f"no situation for stage {stage.name!r}", *at)
        if telling and not stage.terminal:
            message = f"{stage.name!r} is {stage.kind}; only terminal stages have a callback"
            yield subject.problem(message, *at, telling[0], "stages")
        if len(telling) > 1:
            yield subject.problem(f"stage {stage.name!r} has {' and '.join(telling)}; only one can be sent", *at)
    # The loader would accept these members and ignore them without a warning to the author.
    for name, spec in subject.lifecycle["callbacks"]["situations"].items():
        for fact in sorted({"when", "status", "headers"} & set(spec)):
            yield subject.problem(f"{fact!r} is not allowed in a callback's situation; remove it", *at, name, fact)


def callback_places(subject: Subject) -> Iterator[Problem]:
    """A callback's values are in the body of the provider's request, each in at least one example."""
    callbacks = subject.contract.callbacks
    if callbacks is None:
        return
    shown, everywhere = (
        _examples(subject, callbacks),
        [
            example
            for contract in subject.family
            if contract.callbacks is not None
            for example in _examples(subject, contract.callbacks)
        ],
    )
    for name, binding in callbacks.bindings.items():
        at = ("callbacks", "bindings", name)
        for place in (*binding.request, *binding.response):
            if (place.side, place.part) != ("request", "body"):
                message = f"{place} is not allowed: a callback's places are in $request.body"
                yield subject.problem(message, *at)
        yield from unshown(subject, at, binding.request, everywhere)
        yield from misformatted(subject, at, binding, binding.request, shown)
    if "job" not in callbacks.bindings:
        message = "no place for 'job'; bind it, or a receiver cannot identify the job"
        yield subject.problem(message, "callbacks", "bindings")
    if not {"stage", "event"} & set(callbacks.bindings):
        message = "no place for 'stage' or 'event'; bind one, or a receiver cannot distinguish success from failure"
        yield subject.problem(message, "callbacks", "bindings")
    places = [
        (binding.name, place.pointer)
        for binding in callbacks.bindings.values()
        for place in binding.request
        if place.part == "body"
    ]
    yield from overlapping(subject, ("callbacks", "bindings"), places, shown)


def _examples(subject: Subject, callbacks: Callbacks) -> list[Any]:
    return [subject.example(situation) for situation in callbacks.situations.values()]


def signature(subject: Subject) -> Iterator[Problem]:  # noqa: C901
    """A signature covers the body, and declared headers carry every value that a receiver needs to verify it."""
    callbacks = subject.contract.callbacks
    if callbacks is None or callbacks.signature is None:
        return
    at = ("callbacks", "signature")
    content = fields(callbacks.signature.content)
    if unknown := [name for name in content if name not in SIGNED]:
        yield subject.problem(_unknown(unknown[0], SIGNED), *at, "content")
    elif content.count("body") != 1:
        yield subject.problem(
            "must contain {body} exactly once, so that the signature covers the message", *at, "content"
        )
    sent: list[str] = []
    listed = [item for _, operation in _declared(subject, callbacks) for item in operation.get("parameters", ())]
    parameters = [subject.schemas.deref(item, OPENAPI)[0] for item in listed]
    declared = {parameter["name"].lower() for parameter in parameters if parameter["in"] == "header"}
    for name, text in callbacks.signature.headers.items():
        if name.lower() not in declared:
            message = f"{callbacks.operation_id} in {OPENAPI} does not declare this header"
            yield subject.problem(message, *at, "headers", name)
        found = fields(text)
        sent += found
        if unknown := [field for field in found if field not in SENT]:
            yield subject.problem(_unknown(unknown[0], SENT), *at, "headers", name)
        elif len(found) > 1 and list_of_fields(text) is None:
            message = f"{text!r} has several fields; write them as a list such as 't={{timestamp}},v1={{signature}}'"
            yield subject.problem(message, *at, "headers", name)
    # Without the signed values, a receiver cannot recompute the signature.
    for needed in ("signature", *(name for name in ("timestamp", "id") if name in content)):
        if needed not in sent:
            yield subject.problem(
                f"no header has {{{needed}}}; add it, or a receiver cannot verify the signature", *at, "headers"
            )
    if callbacks.signature.tolerance is not None and "timestamp" not in sent:
        yield subject.problem("no header has the {timestamp} that a tolerance needs", *at, "tolerance")


def fields(text: str) -> list[str]:
    """Return the names in braces in a text. A malformed text is returned as one unknown name."""
    # str.format would raise only when the first callback is sent, in the middle of a run.
    try:
        found = list(Formatter().parse(text))
    except ValueError:
        return [text]
    return [f"{name}{form and ':'}{form or ''}" for _, name, form, _ in found if name is not None]


def _unknown(name: str, allowed: tuple[str, ...]) -> str:
    return f"{name!r} is not one of {', '.join('{' + known + '}' for known in allowed)}"
