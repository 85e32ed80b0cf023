"""Mutants of the messages: each member, status, header, format and content type that the contract documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, replaced, resolve
from hobbyhorse.contract.message import CONSTANT, Bound, Template
from hobbyhorse.contract.values import Callbacks, Contract, Operation, Situation
from tests.broken_servers.bending import Bend, Request, Response

from .mutant import Mutant, Source, home, member_places, provoked, shown, with_situation
from .serving import Served

# No document gives the texts of errors, or says how far a job has come at a moment. A refusal's code may be missing
# where its schema allows that.
FREE = frozenset({"error_code", "error_message", "refusal_message", "refusal_location", "queue_position", "progress"})
MISSABLE = FREE | {"refusal_code"}
# Live values that the example may happen to have, too.
NAMES = frozenset({"model", "name", "task", "kind", "page", "size", "total"})
# Nothing listens there, and no request leaves this machine.
STALE_URL = "http://127.0.0.1:1/stale"
OTHER_FORMATS = {
    "unix": "rfc3339",
    "unix_float": "rfc3339",
    "rfc3339": "unix",
    "decimal": "number",
    "number": "decimal",
    "milliseconds": "unix_float",
}
CALLBACK_FAILURE = ("callback:order", "machine")


def messages(source: Source) -> Iterator[Mutant]:
    """Yield every mutant of the messages of a contract."""
    for role, operation, situation in provoked(source.contract):
        yield from _members(source, role, operation, situation)
        if role != "callback":
            yield from _statuses(source, role, situation)
            yield from _headers(source, role, situation)
    yield from _content_types(source)


def _members(source: Source, role: str, operation: Operation | Callbacks, situation: Situation) -> Iterator[Mutant]:
    """Yield the mutants of each member of a situation's example, or of the items in its list."""
    contract = source.contract

    def serve(template: Template) -> Served:
        changed = with_situation(contract, role, replace(situation, template=template))
        failing = CALLBACK_FAILURE if role == "callback" and _fails(contract, situation) else ("machine",)
        return Served(changed, failing=failing)

    items = operation.items.at.pointer if isinstance(operation, Operation) and operation.items else None
    for name, pointer, words, template, schema in member_changes(contract, situation, situation.template, ()):
        # The live items replace the example's.
        if items is not None and pointer[: len(items)] == items and pointer != items:
            continue
        yield source.mutant(
            name,
            [*_places(source, role, operation, situation, pointer), *schema],
            f"{role}, {situation.name}: {words}",
            partial(serve, template),
        )
    if situation.items and isinstance(operation, Operation) and operation.items is not None:
        yield from _item_members(source, operation, situation)


def _item_members(source: Source, operation: Operation, situation: Situation) -> Iterator[Mutant]:
    """Yield the mutants of each member of the items in a situation's list; all items have the bug."""
    assert operation.items is not None
    at, known = operation.items.at.pointer, set[tuple[str, Pointer]]()
    for index, item in enumerate(situation.items):
        for operator, pointer, words, _, schema in member_changes(source.contract, situation, item, (*at, str(index))):
            change = operator, pointer[len(at) + 1 :]
            if change not in known:
                known.add(change)
                places = [*_places(source, operation.role, operation, situation, pointer), *schema]
                served = partial(_with_items, source.contract, operation, situation, change)
                yield source.mutant(operator, places, f"{operation.role}, item: {words}", served)


def _with_items(
    contract: Contract, operation: Operation, situation: Situation, change: tuple[str, Pointer]
) -> Contract:
    """Return the contract with a change, an operator and a place, of every item that has the place."""
    assert operation.items is not None
    at = operation.items.at.pointer
    items = list(situation.items)
    for index, item in enumerate(situation.items):
        for operator, pointer, _, template, _ in member_changes(contract, situation, item, (*at, str(index))):
            if (operator, pointer[len(at) + 1 :]) == change:
                items[index] = template
    return with_situation(contract, operation.role, replace(situation, items=tuple(items)))


def _fails(contract: Contract, situation: Situation) -> bool:
    return any(contract.graph[stage].kind == "failure" for stage in situation.stages)


def _places(
    source: Source, role: str, operation: Operation | Callbacks, situation: Situation, pointer: Pointer
) -> list[str]:
    """Return the places that document a member: its example, its schema, and the binding of its value."""
    contract = source.contract
    found = member_places(contract, role, situation, pointer)
    for name, _, place in situation.template.bound:
        if resolve(situation.template.example, place) is MISSING:
            continue
        if place[: len(pointer)] == pointer or pointer[: len(place)] == place:
            own = ("callbacks", "bindings", name) if role == "callback" else ("operations", role, "bindings", name)
            found += [f"lifecycle.json#{format_pointer(own)}", f"lifecycle.json#{format_pointer(('bindings', name))}"]
    return found


def member_changes(
    contract: Contract, situation: Situation, template: Template, at: Pointer
) -> Iterator[tuple[str, Pointer, str, Template, tuple[str, ...]]]:
    """Yield the changes of each member of a template.

    Each has the operator, the place in the whole body, the change in words, the changed template, and the places of the
    schema that it violates. `at` is the place of the template in the example of the situation.
    """
    live = [(name, place) for name, _, place in template.bound if resolve(template.example, place) is not MISSING]
    for pointer in each_place(template.example):
        value = resolve(template.example, pointer)
        names = {name for name, place in live if place == pointer}
        inside = {name for name, place in live if place[: len(pointer)] == pointer}
        for operator, other in _others(value, names):
            if operator == "member dropped" and pointer[-1].isdigit():
                # A list without one of its items is another list, not a list without a member.
                continue
            example = replaced(template.example, pointer, other)
            # What no schema forbids is a mutant only if it hides a value that clients read.
            read = names & CONSTANT if operator == "member value" else inside - MISSABLE
            if value is None and operator == "member dropped":
                # Null means absent.
                read = set()
            violated = _violated(contract, situation, example, at)
            if not read and not violated:
                continue
            left = [one for one in template.bound if one[2][: len(pointer)] != pointer]
            words = f"{format_pointer((*at, *pointer))} {_words(value, other)}"
            yield operator, (*at, *pointer), words, Template(example, left), violated
    yield from _value_changes(template, at, _unknown(contract, situation))


def _unknown(contract: Contract, situation: Situation) -> frozenset[str]:
    """Return the values that a job does not have yet in the stages of a situation; their places are never live."""
    stages = [contract.graph[name] for name in situation.stages]
    found = set[str]()
    if stages and not any(stage.terminal for stage in stages):
        found |= {"finished_at", "elapsed", "cost", "expires_at"}
    if stages and all(stage.kind == "pending" for stage in stages):
        found.add("started_at")
    return frozenset(found)


def _value_changes(
    template: Template, at: Pointer, unknown: frozenset[str]
) -> Iterator[tuple[str, Pointer, str, Template, tuple[str, ...]]]:
    """Yield the changes of live values: the example's own value, and another format."""
    for one in template.bound:
        name, form, pointer = one
        value = resolve(template.example, pointer)
        if value is MISSING or value is None or name in CONSTANT | FREE | unknown:
            continue
        left = [other for other in template.bound if other is not one]
        there, stale = format_pointer((*at, *pointer)), _stale(name, value)
        example = replaced(template.example, pointer, stale)
        yield "stale value", (*at, *pointer), f"{there} is always {shown(stale)}", Template(example, left), ()
        if form is not None:
            other: Bound = (name, OTHER_FORMATS[form], pointer)
            bound = [other if each is one else each for each in template.bound]
            yield "format", (*at, *pointer), f"{there} as {OTHER_FORMATS[form]}", Template(template.example, bound), ()


def _stale(name: str, value: Any) -> Any:
    """Return a value that is not live: the example's own, unless that may be right or outside of this machine."""
    if name in NAMES:
        return other_value(value)
    return STALE_URL if name.endswith("_url") and isinstance(value, str) else value


def each_place(value: Any, at: Pointer = ()) -> Iterator[Pointer]:
    """Yield the place of each member in a value; of a list, only those of its first item."""
    if at:
        yield at
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from each_place(inner, (*at, name))
    elif isinstance(value, list) and value:
        yield from each_place(value[0], (*at, "0"))


def _others(value: Any, names: set[str]) -> Iterator[tuple[str, Any]]:
    """Yield an operator and another value for a member."""
    yield "member dropped", MISSING
    if value is not None:
        yield "member null", None
        yield "member type", other_type(value)
    if not names or names & CONSTANT:
        other = other_value(value)
        if other is not MISSING:
            yield "member value", other


def other_type(value: Any) -> Any:
    """Return a value of another JSON type."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return 7
    if isinstance(value, int | float):
        return [value]
    return [] if isinstance(value, Mapping) else {"0": value}


def other_value(value: Any) -> Any:
    """Return another value of the same type, or MISSING for an object or list."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}_x"
    return value + 1 if isinstance(value, int | float) else MISSING


def _violated(contract: Contract, situation: Situation, example: Any, at: Pointer) -> tuple[str, ...]:
    """Return the places of the schema that a changed example violates."""
    whole = replaced(contract.schemas.at(situation.example_at), at, example) if at else example
    found = contract.schemas.violations(situation.schema, whole)
    return tuple(place for one in found[:1] for place in (*one.places, situation.schema))


def _words(before: Any, after: Any) -> str:
    return "dropped" if after is MISSING else f"{shown(before)} → {shown(after)}"


def _statuses(source: Source, role: str, situation: Situation) -> Iterator[Mutant]:
    """Yield the same response with another status of its class, and with one of another class."""
    places = [f"{home(source.contract, role, situation.name)}/status", home(source.contract, role, situation.name)]
    near = {200: 201, 201: 200, 202: 200, 400: 422, 401: 403, 403: 404, 404: 400, 422: 400}
    far = 400 if situation.status < 400 else 200
    for status in (near.get(situation.status, situation.status + 1), far):
        yield source.mutant(
            "status",
            places,
            f"{role}, {situation.name}: {situation.status} → {status}",
            with_situation(source.contract, role, replace(situation, status=status)),
        )


def _headers(source: Source, role: str, situation: Situation) -> Iterator[Mutant]:
    """Yield the situation without each of its headers, and with another value of it."""
    place = f"{home(source.contract, role, situation.name)}/headers"
    for name, value in situation.headers:
        left = tuple(pair for pair in situation.headers if pair[0] != name)
        for words, headers in (("dropped", left), (f"{value} → no", (*left, (name, "no")))):
            yield source.mutant(
                "header",
                [place, home(source.contract, role, situation.name)],
                f"{role}, {situation.name}: {name} {words}",
                with_situation(source.contract, role, replace(situation, headers=headers)),
            )


def _content_types(source: Source) -> Iterator[Mutant]:
    """Yield each operation with another content type, and without one: granted and refused."""
    for role in source.contract.operations:
        for granted in (True, False):
            for kind in ("text/html", None):
                words = f"{role}, {'granted' if granted else 'refused'}: Content-Type {kind or 'dropped'}"
                # It is the key of `content` in openapi.json, so it is documented wherever a response is.
                yield source.mutant(
                    "content type",
                    f"openapi.json#{format_pointer(('paths', source.contract.operations[role].path))}",
                    words,
                    Served(source.contract, _typed(role, granted, kind)),
                )


def _typed(role: str, granted: bool, kind: str | None) -> Callable[[Contract], Bend]:
    def response(request: Request, response: Response) -> Response:
        if request.role != role or response.ok is not granted:
            return response
        return response.with_header("content-type", kind)

    return lambda contract: Bend(response=response)
