"""Checks of models: names, parameters, limits, prices, and examples of submissions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hobbyhorse.contract.checks.places import declares, forms, needed_places
from hobbyhorse.contract.checks.subject import Problem, Subject, ordering
from hobbyhorse.contract.documents.defaults import PLAIN_PARAMETERS
from hobbyhorse.contract.forms.expressions import Message, Pointer, format_pointer
from hobbyhorse.contract.request import Refusal, ValidRequest, find_model, read_order
from hobbyhorse.contract.values import Contract, Model, Operation

PARAMETER_KINDS: Mapping[str, frozenset[str]] = {
    "prompt": frozenset({"string"}),
    "first_frame": frozenset({"string"}),
    "references": frozenset({"string", "array"}),
    "resolution": frozenset({"string"}),
    "duration": frozenset({"integer"}),
    "aspect_ratio": frozenset({"string"}),
    "seed": frozenset({"integer"}),
    "watermark": frozenset({"boolean"}),
}
"""The JSON types that a schema may give to each parameter."""

NEEDED_PARAMETERS: Mapping[str, str] = {"image-to-video": "first_frame", "reference-to-video": "references"}
"""The parameter that each task requires."""


def model_names(subject: Subject) -> Iterator[Problem]:
    """No two models have an id or alias in common."""
    seen: dict[str, int] = {}
    for index, model in enumerate(subject.contract.models):
        for name in (model.id, *model.aliases):
            if name in seen:
                yield subject.problem(f"{name!r} is already a name of /models/{seen[name]}", "models", index)
            seen[name] = index


def model_schemas(subject: Subject) -> Iterator[Problem]:
    """A model's schema describes an object."""
    for index, model in enumerate(subject.contract.models):
        schema = subject.schemas.deref(subject.schemas.document(model.schema_file), model.schema_file)[0]
        if not isinstance(schema, dict) or schema.get("type") != "object":
            message = f"{model.schema_file} does not have the type 'object'"
            yield subject.problem(message, "models", index, "schema")


def parameter_types(subject: Subject) -> Iterator[Problem]:
    """A parameter has a type that its meaning allows."""
    for index, model in enumerate(subject.contract.models):
        for name, places in model.parameters.items():
            for place in places:
                # A nullable parameter still has the type of its values.
                got = _types(subject, *_declared(subject, model, place)) - {"null"}
                if not got or not got <= PARAMETER_KINDS[name]:
                    allowed = " or ".join(sorted(PARAMETER_KINDS[name]))
                    message = f"{model.schema_file} gives {name!r} {_words(got)}; allowed: {allowed}"
                    yield subject.problem(message, "models", index, "parameters", name)


def _declared(subject: Subject, model: Model, place: Pointer) -> tuple[Any, str]:
    """Return the schema of a place in a model's parameters, and the file that contains that schema."""
    schema, file = subject.schemas.deref(subject.schemas.document(model.schema_file), model.schema_file)
    for step in place:
        inner = schema.get("items") if step.isdigit() else schema.get("properties", {}).get(step)
        schema, file = subject.schemas.deref(inner, file)
    return schema, file


def _types(subject: Subject, schema: Any, file: str) -> set[str]:
    """Return the JSON types that a schema lists: in its `type`, or in its `anyOf`."""
    schema, file = subject.schemas.deref(schema, file)
    if not isinstance(schema, dict):
        return set()
    if "type" in schema:
        return set(schema["type"]) if isinstance(schema["type"], list) else {schema["type"]}
    return {kind for reading in schema.get("anyOf", ()) for kind in _types(subject, reading, file)}


def _words(types: set[str]) -> str:
    return f"the type {' or '.join(sorted(types))}" if types else "no type"


def needed_parameters(subject: Subject) -> Iterator[Problem]:
    """A model has a place for every parameter that its task and its limits need."""
    for index, model in enumerate(subject.contract.models):
        places = model.parameters
        if model.task in NEEDED_PARAMETERS and NEEDED_PARAMETERS[model.task] not in places:
            message = f"the task {model.task} needs a place for {NEEDED_PARAMETERS[model.task]!r}"
            yield subject.problem(message, "models", index, "parameters")
        if model.prompt_limit is not None and "prompt" not in places:
            message = "prompt_limit is set, but the model has no place for 'prompt'"
            yield subject.problem(message, "models", index, "prompt_limit")
        if model.images is not None and not {"first_frame", "references"} & set(places):
            message = "images is set, but the model has no place for 'first_frame' or 'references'"
            yield subject.problem(message, "models", index, "images")
        if model.random_seed is not None and "seed" not in places:
            message = "random_seed is set, but the model has no place for 'seed'"
            yield subject.problem(message, "models", index, "random_seed")


def known_parameters(subject: Subject) -> Iterator[Problem]:
    """A schema member that has a parameter's name is listed in `parameters`."""
    for index, model in enumerate(subject.contract.models):
        schema = subject.schemas.document(model.schema_file)
        places = list(_declared_places(subject, schema, model.schema_file))
        for name in PLAIN_PARAMETERS:
            declared = [format_pointer(pointer) for pointer in places if pointer[-1] == name]
            if declared and name not in model.parameters:
                there = " and ".join(map(repr, declared))
                message = f"{model.schema_file} declares {there}, but no place for {name!r} is given"
                yield subject.problem(message, "models", index, "parameters")


def _declared_places(subject: Subject, schema: Any, file: str, depth: int = 0) -> Iterator[Pointer]:
    """Yield the place of every member that a schema declares, at most three levels deep."""
    schema, file = subject.schemas.deref(schema, file)
    if isinstance(schema, dict) and depth < 3:
        for name, inner in schema.get("properties", {}).items():
            yield (name,)
            for pointer in _declared_places(subject, inner, file, depth + 1):
                yield (name, *pointer)


def limits(subject: Subject) -> Iterator[Problem]:
    """A limit's minimum is not above its maximum, and a Chinese character counts as a whole number of characters."""
    for index, model in enumerate(subject.contract.models):
        if model.images is not None and model.images.aspect is not None:
            least, most = model.images.aspect
            if least > most:
                message = f"the minimum, {least}, exceeds the maximum, {most}"
                yield subject.problem(message, "models", index, "images", "aspect")
        limit = subject.lifecycle["models"][index].get("prompt_limit", {})
        # The weight of a character is a whole number, so that a truncated prompt has a whole number of characters.
        if limit.get("characters", 0) % limit.get("chinese", 1):
            message = f"'characters', {limit['characters']}, must be a multiple of 'chinese', {limit['chinese']}"
            yield subject.problem(message, "models", index, "prompt_limit", "chinese")


def prices(subject: Subject) -> Iterator[Problem]:
    """Every resolution has a price, and there are no other prices."""
    for index, model in enumerate(subject.contract.models):
        if "resolution" not in model.parameters:
            if len(model.price) > 1:
                message = f"prices are for {sorted(model.price)}, but the model has no place for 'resolution'"
                yield subject.problem(message, "models", index, "price")
            continue
        schema, _ = _declared(subject, model, model.parameters["resolution"][0])
        allowed = [str(value) for value in schema.get("enum", ())] if isinstance(schema, dict) else []
        if sorted(allowed) != sorted(model.price):
            message = f"prices are for {sorted(model.price)}, but {model.schema_file} allows the resolutions {allowed}"
            yield subject.problem(message, "models", index, "price")


def body_examples(subject: Subject) -> Iterator[Problem]:
    """Every example of a submission is valid for some model, and every model has an example."""
    models = subject.contract.models
    for operation in ordering(subject):
        at = ("operations", operation.role, "operationId")
        if not operation.body_examples:
            yield subject.problem(f"the requestBody of {operation.operation_id} has no example", *at)
            continue
        # If forms or places are wrong, an example cannot be read as an order; other checks report those.
        if any(forms(subject)) or any(needed_places(subject)):
            continue
        ordered, refused = set(), False
        for name, body in operation.body_examples.items():
            if operation.body_schema and subject.schemas.violations(operation.body_schema, body, most=1):
                refused = True
                continue
            # In some APIs the path names the model, so one body may fit several models.
            tried = {model.id: try_order(subject.contract, operation, model.id, body) for model in models}
            ordered |= {model for model, result in tried.items() if isinstance(result, ValidRequest)}
            refusals = [result for result in tried.values() if isinstance(result, Refusal)]
            if len(refusals) == len(models):
                refused = True
                # "Unknown model" only means that the body names another model; any other refusal is the real mistake.
                known = next((refusal for refusal in refusals if refusal.situation != "unknown_model"), refusals[0])
                message = f"the example {name!r} of its requestBody is refused: {known.message}"
                yield subject.problem(message, *at)
        for model in models:
            if not refused and model.id not in ordered:
                yield subject.problem(f"no example of its requestBody submits a job of {model.id!r}; add one", *at)


def try_order(contract: Contract, operation: Operation, model: str, body: Any) -> ValidRequest | Refusal:
    """Read a body as a submission for a model. If the operation's path names the model, `model` is put there."""
    binding = operation.bindings.get("model")
    path = {place.name: model for place in (binding.request if binding else ()) if place.part == "path"}
    message = Message(path, {}, lambda name: None, body)
    try:
        found = find_model(contract, operation, message)
        if not isinstance(found, Refusal) and found.id != model:
            return Refusal("unknown_model", f"the body names {found.id!r}")
        return read_order(contract, operation, message)
    except (TypeError, ValueError) as error:
        return Refusal("invalid_request", f"it cannot be read as an order: {error}")


def form_targets(subject: Subject) -> Iterator[Problem]:
    """A form sets only places that a schema of the body declares."""
    for role, operation in subject.contract.operations.items():
        start = operation.model_parameters.pointer
        for index, form in enumerate(operation.forms):
            for to, _ in form.set:
                inside = to[: len(start)] == start
                if to == start[: len(to)] or (operation.body_schema and _body_declares(subject, operation, to)):
                    continue
                if not inside or not any(
                    declares(subject.schemas, {"$ref": model.schema}, "", to[len(start) :])
                    for model in subject.contract.models
                ):
                    message = "no schema of the body declares this place"
                    yield subject.problem(message, "operations", role, "forms", index, "set", format_pointer(to))


def _body_declares(subject: Subject, operation: Operation, pointer: Pointer) -> bool:
    return declares(subject.schemas, {"$ref": operation.body_schema}, "", pointer)
