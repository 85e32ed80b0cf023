"""Checks of the places that values have in requests and responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hobbyhorse.contract.checks.subject import Problem, Subject
from hobbyhorse.contract.documents.defaults import BY_JOB, SHARED_ERRORS
from hobbyhorse.contract.folder import path_names
from hobbyhorse.contract.formats import FORMATS
from hobbyhorse.contract.forms.expressions import MISSING, Place, Pointer, format_pointer, resolve
from hobbyhorse.contract.message import CONSTANT, LOCATION
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import HEADER_VALUES, Binding, Operation, Situation

ROLE_OF_LINK = {"status_url": "status", "result_url": "result", "cancel_url": "cancel"}


def routes(subject: Subject) -> Iterator[Problem]:
    """Every role has an operation of its own, under `paths`."""
    seen: dict[tuple[str, str], str] = {}
    for role, operation in subject.contract.operations.items():
        at = ("operations", role, "operationId")
        if not operation.path.startswith("/"):
            yield subject.problem(
                f"{operation.operation_id!r} is a callback; a role needs an operation under paths", *at
            )
        route = (operation.method, operation.path)
        if route in seen:
            yield subject.problem(f"{operation.method} {operation.path} already has the role {seen[route]!r}", *at)
        seen[route] = role


def path_parameters(subject: Subject) -> Iterator[Problem]:
    """The names in braces in a path are exactly its declared path parameters, and all of them are required."""
    for role, operation in subject.contract.operations.items():
        in_path = path_names(operation.path)
        declared = [parameter.name for parameter in operation.parameters if parameter.part == "path"]
        if operation.path.startswith("/") and sorted(in_path) != sorted(declared):
            message = (
                f"{operation.operation_id} declares the path parameters {declared}, but its path is {operation.path!r}"
            )
            yield subject.problem(message, "operations", role, "operationId")
        for parameter in operation.parameters:
            if parameter.part == "path" and not parameter.required:
                message = f"the parameter {parameter.name!r} of {operation.operation_id} must be required"
                yield subject.problem(message, "operations", role, "operationId")


def request_places(subject: Subject) -> Iterator[Problem]:
    """A value is read from a place that the operation's request declares."""
    for role, operation in subject.contract.operations.items():
        own = subject.lifecycle["operations"][role].get("bindings", {})
        for name in own:
            for place in operation.bindings[name].request if name in operation.bindings else ():
                yield from _read(subject, operation, place, ("operations", role, "bindings", name))
    operations = subject.contract.operations.values()
    for name in subject.lifecycle.get("bindings", {}):
        bound = [(one, one.bindings[name].request) for one in operations if name in one.bindings]
        # A common binding may fit only some operations; it is wrong only if it fits none.
        if all(places and list(_all_read(subject, operation, places)) for operation, places in bound):
            yield subject.problem("no operation's request declares this place", "bindings", name)


def _all_read(subject: Subject, operation: Operation, places: Iterable[Place]) -> Iterator[Problem]:
    for place in places:
        yield from _read(subject, operation, place, ())


def _read(subject: Subject, operation: Operation, place: Place, at: tuple[str | int, ...]) -> Iterator[Problem]:
    """Yield a problem if a place cannot be read in an operation's request."""
    who = operation.operation_id
    if place.side != "request":
        yield subject.problem(f"{place} is in the response, but this value is read from the request; use $request", *at)
    elif place.part == "body":
        if operation.body_schema is None:
            yield subject.problem(f"{place} cannot exist: {who} has no JSON body", *at)
        elif not declares(subject.schemas, {"$ref": operation.body_schema}, "", place.pointer):
            yield subject.problem(f"{place} cannot exist: the schema of {who}'s requestBody does not declare it", *at)
    elif place not in [parameter.place for parameter in operation.parameters]:
        known = [f"{parameter.part}.{parameter.name}" for parameter in operation.parameters]
        yield subject.problem(f"{place} is not a parameter of {who}; declared: {', '.join(known) or 'none'}", *at)


def declares(schemas: Schemas, schema: Any, file: str, pointer: Pointer) -> bool:
    """Whether a schema in a file declares a place in its values."""
    schema, file = schemas.deref(schema, file)
    if not pointer:
        return schema is not MISSING
    if not isinstance(schema, dict):
        return False
    step, rest = pointer[0], pointer[1:]
    # A map with arbitrary names, such as metadata, declares every name through additionalProperties.
    inner = [schema.get("properties", {}).get(step, schema.get("additionalProperties"))]
    if step.isdigit():
        inner.append(schema.get("items"))
    if any(isinstance(child, dict) and declares(schemas, child, file, rest) for child in inner):
        return True
    return any(declares(schemas, reading, file, pointer) for reading in schema.get("anyOf", ()))


def condition_places(subject: Subject) -> Iterator[Problem]:
    """A situation's condition refers to a place that the operation's request declares."""
    for role, operation in subject.contract.operations.items():
        for situation in operation.situations.values():
            at = subject.situation_at(role, situation.name)
            for place, _ in situation.when:
                yield from _read(subject, operation, place, (*at, "when", str(place)))


def forms(subject: Subject) -> Iterator[Problem]:
    """The places of parameters and forms are in the request."""
    for role, operation in subject.contract.operations.items():
        at = ("operations", role)
        if operation.model_parameters.part != "body":
            message = f"{operation.model_parameters} is not in the body; parameters must be in $request.body"
            yield subject.problem(message, *at, "parameters")
        elif "parameters" in subject.lifecycle["operations"][role]:
            yield from _read(subject, operation, operation.model_parameters, (*at, "parameters"))
        for index, form in enumerate(operation.forms):
            yield from _read(subject, operation, form.when, (*at, "forms", index, "when"))
            for to, source in form.set:
                yield from _read(subject, operation, source, (*at, "forms", index, "set", format_pointer(to)))


def idempotency(subject: Subject) -> Iterator[Problem]:
    """The idempotency key is in the submit request, and only the modes 'replay' and 'reject' have a key."""
    policy, spec = subject.contract.idempotency, subject.lifecycle["idempotency"]
    if policy.key is not None:
        yield from _read(subject, subject.contract.operations["submit"], policy.key, ("idempotency", "key"))
    elif "key" in spec:
        yield subject.problem("mode 'none' has no key; remove it, or use 'replay' or 'reject'", "idempotency", "key")


def response_sides(subject: Subject) -> Iterator[Problem]:
    """A response place is in the body, or in a header that a situation sends."""
    for role, operation in subject.contract.operations.items():
        sent = {name.lower() for found in operation.situations.values() for name, _ in found.headers}
        for name, binding in operation.bindings.items():
            at = subject.binding_at(role, name)
            for place in binding.response:
                if place.part in ("path", "query"):
                    yield subject.problem(f"{place} is not allowed: a response has only a body and headers", *at)
                elif place.part == "header" and place.name not in sent and at[0] == "operations":
                    yield subject.problem(f"no situation of this operation sends the header {place.name!r}", *at)
                elif place.part == "header" and name not in HEADER_VALUES | CONSTANT:
                    message = f"{name!r} cannot be in a header; allowed there: {', '.join(sorted(HEADER_VALUES))}"
                    yield subject.problem(message, *at)


def response_places(subject: Subject) -> Iterator[Problem]:
    """A value's place in the response exists in at least one example of the contract or of a variant."""
    # A common binding needs an example in only one operation.
    everywhere = [example for role in subject.contract.operations for example in subject.family_examples(role)]
    for role, operation in subject.contract.operations.items():
        shown, here = subject.family_examples(role), subject.examples(role)
        for name, binding in operation.bindings.items():
            at = subject.binding_at(role, name)
            yield from unshown(subject, at, binding.response, shown if at[0] == "operations" else everywhere)
            yield from misformatted(subject, at, binding, binding.response, here)


def locations(subject: Subject) -> Iterator[Problem]:
    """The example of a refused value's location is a list or a text, whose form the fake can follow."""
    for role, operation in subject.contract.operations.items():
        for place in _binding(operation, LOCATION).response:
            shown = [resolve(example, place.pointer) for example in subject.examples(role)] if place.pointer else []
            for value in shown:
                if value is not MISSING and value is not None and not isinstance(value, list | str):
                    message = f"an example has {value!r}; allowed: a list, a JSON Pointer, a dotted path, or null"
                    yield subject.problem(message, *subject.binding_at(role, LOCATION))


def unshown(subject: Subject, at: Pointer, places: Iterable[Place], examples: list[Any]) -> Iterator[Problem]:
    """Yield a problem if a value has places in bodies, but no example has any of these places."""
    bodies = [place.pointer for place in places if place.part == "body"]
    if bodies and not any(resolve(example, pointer) is not MISSING for example in examples for pointer in bodies):
        yield subject.problem(f"no example has {' or '.join(map(repr, map(format_pointer, bodies)))}", *at)


def misformatted(
    subject: Subject, at: Pointer, binding: Binding, places: Iterable[Place], examples: list[Any]
) -> Iterator[Problem]:
    """Yield a problem for the first example whose value does not have the binding's format; null and "" are ignored."""
    if binding.format is None:
        return
    bodies = [place.pointer for place in places if place.part == "body"]
    for value in [resolve(example, pointer) for example in examples for pointer in bodies]:
        # Providers write null or "" if a job does not have the value yet.
        if value is MISSING or value is None or value == "":
            continue
        try:
            FORMATS[binding.format].read(value)
        except ValueError as error:
            yield subject.problem(f"an example does not have the format {binding.format!r}: {error}", *at)
            return


def overlaps(subject: Subject) -> Iterator[Problem]:
    """The places of two bindings do not overlap in an example."""
    for role, operation in subject.contract.operations.items():
        at = ("operations", role)
        listed = operation.items is not None and operation.items.at.part == "body"
        whole = [("items", operation.items.at.pointer)] if operation.items and listed else []
        examples = subject.examples(role)
        yield from overlapping(subject, (*at, "bindings"), [*_bodies(operation.bindings.values()), *whole], examples)
        if operation.items is not None:
            items = [item for listed in _lists(operation, examples) for item in listed]
            places = list(_bodies(operation.items.bindings.values()))
            yield from overlapping(subject, (*at, "items", "bindings"), places, items)


def _bodies(bindings: Iterable[Binding]) -> Iterator[tuple[str, Pointer]]:
    for binding in bindings:
        for place in binding.response:
            if place.part == "body":
                yield binding.name, place.pointer


def overlapping(
    subject: Subject, at: Pointer, places: list[tuple[str, Pointer]], examples: list[Any]
) -> Iterator[Problem]:
    """Yield each pair of bindings that overlap in an example, unless both are constant or share an error."""
    for index, (name, pointer) in enumerate(places):
        for other, another in places[index + 1 :]:
            shorter, longer = sorted((pointer, another), key=len)
            shared = pointer == another and (SHARED_ERRORS.get(name) == other or SHARED_ERRORS.get(other) == name)
            if longer[: len(shorter)] != shorter or {name, other} <= CONSTANT or shared:
                continue
            # Overlapping pointers are harmless if no example has both: an error may be either an object or a string.
            if any(resolve(example, longer) is not MISSING for example in examples):
                message = f"bindings {name!r} and {other!r} overlap in an example, at {format_pointer(longer)!r}"
                yield subject.problem(message, *at)


def needed_places(subject: Subject) -> Iterator[Problem]:
    """A request names the model, and responses contain the job, its stage and its video if a client needs them."""
    operations, graph = subject.contract.operations, subject.contract.graph
    for role in ("submit", "run", "model"):
        if role in operations and not _binding(operations[role], "model").request:
            yield subject.problem("no $request place for 'model'", "operations", role, "bindings")
    for role in BY_JOB:
        if role in operations and operations[role].bindings["job"].request[0].part != "path":
            message = "the first $request place of 'job' must be in the path"
            yield subject.problem(message, *subject.binding_at(role, "job"))
    yield from _must_show(subject, "submit", "job", ("accepted", "replayed"))
    yield from _must_show(
        subject, "status", "stage", [name for name, found in operations["status"].situations.items() if found.stages]
    )
    good = {stage.name for stage in graph if stage.kind == "success"}
    for role in ("run", "result" if "result" in operations else "status"):
        if role in operations:
            showing = [name for name, found in operations[role].situations.items() if found.stages & good]
            yield from _must_show(subject, role, "video_url", showing)


def _binding(operation: Operation, name: str) -> Binding:
    return operation.bindings.get(name, Binding(name, (), ()))


def _must_show(subject: Subject, role: str, name: str, situations: Iterable[str]) -> Iterator[Problem]:
    """Yield a problem if a value has no place in an operation's responses, or is missing in one of the situations."""
    operation = subject.contract.operations[role]
    places = _binding(operation, name).response
    if not places:
        yield subject.problem(f"no $response place for {name!r}", "operations", role, "bindings")
        return
    for situation in situations:
        if situation in operation.situations and not any(place.part == "header" for place in places):
            example = subject.example(operation.situations[situation])
            # The bindings write only into members that the example has.
            if all(resolve(example, place.pointer) is MISSING for place in places):
                message = f"the example has no {name!r}; its places are {', '.join(map(str, places))}"
                yield subject.problem(message, *subject.situation_at(role, situation), "example")


def copies(subject: Subject) -> Iterator[Problem]:
    """Every job id and every URL of the real provider is bound; otherwise, each client would get the example's."""
    jobs = _shown_jobs(subject)
    for role, operation in subject.contract.operations.items():
        bound = [pointer for _, pointer in _bodies(operation.bindings.values())]
        items = operation.items
        if items is not None:
            inner = [pointer for _, pointer in _bodies(items.bindings.values())]
            bound += [(*items.at.pointer, "*", *pointer) for pointer in inner]
        for situation in operation.situations.values():
            at = (*subject.situation_at(role, situation.name), "example")
            yield from _copied(subject, at, subject.example(situation), bound, jobs)
            yield from _copied_headers(subject, role, situation, jobs)
    callbacks = subject.contract.callbacks
    if callbacks is None:
        return
    bound = [place.pointer for binding in callbacks.bindings.values() for place in binding.request]
    for name, situation in callbacks.situations.items():
        at = ("callbacks", "situations", name, "example")
        yield from _copied(subject, at, subject.example(situation), bound, jobs)


def _copied_headers(subject: Subject, role: str, situation: Situation, jobs: set[Any]) -> Iterator[Problem]:
    live = {bound.name for bound in situation.bound_headers}
    for name, text in situation.headers:
        real = any(f"//{host}/" in text for host in subject.contract.hosts)
        if name not in live and (real or any(job in text for job in jobs)):
            found = "a URL of the real provider" if real else "a job's id"
            message = f"has {found}, {text!r}; bind $response.header.{name}, or remove the header"
            yield subject.problem(message, *subject.situation_at(role, situation.name), "headers", name)


def _copied(subject: Subject, at: Pointer, example: Any, bound: list[Pointer], jobs: set[Any]) -> Iterator[Problem]:
    for pointer, text in _texts(example):
        if any(_within(pointer, place) for place in bound):
            continue
        # A client that follows such a URL sends its key to the real provider.
        real = any(f"//{host}/" in text for host in subject.contract.hosts)
        if real or text in jobs:
            found = f"a URL of the real provider, {text!r}" if real else f"a job's id, {text!r}"
            message = f"the example has {found} at {format_pointer(pointer)!r}; bind this place"
            yield subject.problem(message, *at)


def _shown_jobs(subject: Subject) -> set[Any]:
    """Return the job ids in the examples, from the places where the job's id is bound."""
    return {
        resolve(example, place.pointer)
        for role, operation in subject.contract.operations.items()
        for place in _binding(operation, "job").response
        for example in subject.examples(role)
        if isinstance(resolve(example, place.pointer), str)
    }


def _texts(value: Any, pointer: Pointer = ()) -> Iterator[tuple[Pointer, str]]:
    """Yield every string in a value with its place."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*pointer, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*pointer, str(index)))


def _within(pointer: Pointer, place: Pointer) -> bool:
    """Whether a pointer is at a place or inside it; a `*` in the place matches any index."""
    return len(pointer) >= len(place) and all(step in (at, "*") for step, at in zip(place, pointer, strict=False))


def links(subject: Subject) -> Iterator[Problem]:
    """A bound URL leads to an operation that exists; otherwise, clients would get the example's URL."""
    for role, operation in subject.contract.operations.items():
        for name, other in ROLE_OF_LINK.items():
            # The fake builds the URL from that operation's path.
            if name in operation.bindings and other not in subject.contract.operations:
                message = f"{name!r} is bound, but there is no {other} operation"
                yield subject.problem(message, *subject.binding_at(role, name))


def lists(subject: Subject) -> Iterator[Problem]:  # noqa: C901
    """A list is in the body, and every example of a list has an item; a list of jobs has an item for every stage."""
    for role, operation in subject.contract.operations.items():
        at = ("operations", role, "items")
        items = operation.items
        if items is None:
            if role in ("list", "models"):
                yield subject.problem("has no 'items'; add 'items' with the place of the list", "operations", role)
            continue
        if role == "list" and "job" not in items.bindings:
            yield subject.problem("no place for 'job' in an item", *at, "bindings")
        if (items.at.side, items.at.part) != ("response", "body"):
            yield subject.problem(f"{items.at} is not in the response's body; allowed: $response.body#/...", *at, "at")
            continue
        listing = [found for name, found in operation.situations.items() if name == "listed" or found.when]
        for situation in listing:
            shown = resolve(subject.example(situation), items.at.pointer)
            if not isinstance(shown, list) or not shown:
                message = f"the example has no item at {format_pointer(items.at.pointer)!r}; at least one is required"
                yield subject.problem(message, *subject.situation_at(role, situation.name), "example")
            elif any(index >= len(shown) for index in items.stages.values()):
                message = f"the example has {len(shown)} items; {at[-1]}.stages needs {max(items.stages.values()) + 1}"
                yield subject.problem(message, *subject.situation_at(role, situation.name), "example")
        for stage in subject.contract.graph if role == "list" else ():
            if stage.name not in items.stages:
                yield subject.problem(f"no item for stage {stage.name!r}", *at, "stages")


def item_places(subject: Subject) -> Iterator[Problem]:
    """A value's place in an item exists in at least one item of the examples."""
    for role, operation in subject.contract.operations.items():
        if operation.items is None:
            continue
        every = [item for listed in _lists(operation, subject.family_examples(role)) for item in listed]
        here = [item for listed in _lists(operation, subject.examples(role)) for item in listed]
        for name, binding in operation.items.bindings.items() if every else ():
            at = ("operations", role, "items", "bindings", name)
            yield from unshown(subject, at, binding.response, every)
            yield from misformatted(subject, at, binding, binding.response, here)


def _lists(operation: Operation, examples: list[Any]) -> Iterator[list[Any]]:
    for example in examples if operation.items else ():
        if operation.items and isinstance(found := resolve(example, operation.items.at.pointer), list):
            yield found


def paging(subject: Subject) -> Iterator[Problem]:
    """The parameters that page a list are integers in the query, with a minimum."""
    for role, operation in subject.contract.operations.items():
        for name in ("page", "size", "offset"):
            for place in _binding(operation, name).request:
                parameter = next((known for known in operation.parameters if known.place == place), None)
                if parameter is None:
                    continue
                schema = subject.schemas.followed(parameter.schema)
                # Pages count from 1 and offsets from 0; without a minimum a client could request page -1.
                least = schema.get("minimum", -1) if isinstance(schema, dict) else -1
                if parameter.part != "query" or parameter.type != "integer" or least < (name == "page"):
                    message = f"{place} must be an integer in the query with a minimum of {int(name == 'page')} or more"
                    yield subject.problem(message, *subject.binding_at(role, name))
