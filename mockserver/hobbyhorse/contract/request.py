"""Read requests by a contract: return the order of a submission, or the reason to refuse it. No server, no sockets.

Each reader returns either a value or a `Refusal`. A refusal's situation selects the provider's own error response,
which includes the refusal's message and location. So a message states only the received and the allowed values.

A submission is read in a fixed order, and the first violation decides the refusal:

1. `read_parameters`: path, query and header parameters against their schemas;
2. `read_body`: the media type, the JSON syntax, the nesting, and that the body is an object;
3. `read_order`: alternative forms are rewritten into the documented one; the model is found; a long prompt is truncated
   or refused; the model's schema validates the parameters, and the operation's schema validates the body.

The operation's schema validates the body as sent, not the documented form into which an alternative is rewritten: an
error about the rewritten body would name places that the client never sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError, Message, replaced, resolve
from hobbyhorse.contract.schemas import Violation, from_text
from hobbyhorse.contract.values import Contract, Model, Operation, PromptLimit

# Enough for four inline pictures of the documented 10 MiB, a third larger in base64. A body is kept in memory.
MOST_BODY_BYTES = 64 * 1024 * 1024

# Maximum nesting of arrays and objects. Validators and recursive functions descend one level per call, and Python's
# limit is 1,000 calls; no documented request has more than a few levels.
DEEPEST_BODY = 200

# Undeclared parameters that are noted by name: the journal keeps the notes of each exchange.
MOST_NOTED = 20

# CJK ideographs: extension A, the basic block, compatibility forms, and the supplementary planes. Punctuation and kana
# are not included: each counts as one character. A text, which is compiled on first use: it takes 4 ms.
_CHINESE = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
# Bound request values that responses do not echo: they select something, or the job has its own value for them.
_NOT_ECHOED = frozenset({"job", "model", "page", "size", "offset", "search", "task", "kind"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason to refuse a request: a situation of the contract, and optionally a message and a location."""

    situation: str
    message: str | None = None
    location: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """A job's parameters with the contract's defaults applied; `echoed` are values that responses echo."""

    model: Model
    prompt: str
    first_frame: str | None
    references: tuple[str, ...]
    resolution: str | None
    seconds: int
    ratio: str | None
    seed: int | None
    watermark: bool
    echoed: Mapping[str, Any]

    @property
    def identity(self) -> tuple[object, ...]:
        """A value for comparison: orders with equal identities request the same video."""
        # Serialized, because the values may be dicts, which cannot be hashed.
        echoed = orjson.dumps(self.echoed, option=orjson.OPT_SORT_KEYS)
        pictures = (self.first_frame, self.references, self.watermark)
        return (self.model.id, self.prompt, pictures, self.resolution, self.seconds, self.ratio, self.seed, echoed)


@dataclass(frozen=True, slots=True)
class ValidRequest:
    """A valid submission: its message in the documented form, its order, and notes for the journal."""

    message: Message
    order: Order
    notes: tuple[str, ...]


def read_parameters(
    contract: Contract,
    operation: Operation,
    path: Mapping[str, str],
    query: Mapping[str, str],
    header: Callable[[str], str | None],
) -> Message | Refusal:
    """Read the path, query and header parameters, including undeclared query parameters."""
    texts = Message(path, query, header)
    values: dict[str, Any] = dict(query)
    for parameter in operation.parameters:
        if parameter.part == "path":  # an id that violates its schema is an unknown job (404), not a bad request
            continue
        text = parameter.place.get(texts)
        if text is MISSING:
            if parameter.required:
                return Refusal("invalid_request", f"{parameter.name}: is missing", (parameter.part, parameter.name))
            if parameter.part == "query" and parameter.default is not None:
                values[parameter.name] = parameter.default
            continue
        value = from_text(parameter.type, text)
        for violation in contract.schemas.violations(parameter.schema, value, most=1):
            message = f"{parameter.name}: {violation.message}"
            return Refusal("invalid_request", message, (parameter.part, parameter.name))
        if parameter.part == "query":
            values[parameter.name] = value
    return Message(path, values, header)


def read_body(content_type: str | None, body: bytes) -> Any | Refusal:
    """Return a body's JSON object, or the reason to refuse the body."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        got = f"Content-Type is {media_type!r}" if media_type else "Content-Type is missing"
        return Refusal("unsupported_media_type", f"{got}; allowed: application/json")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Refusal("malformed_body", f"the body is not valid JSON: {error}", ("body",))
    # Counting brackets is cheap and accepts nearly every body, because nesting cannot exceed the number of brackets.
    if body.count(b"{") + body.count(b"[") > DEEPEST_BODY and _depth(value) > DEEPEST_BODY:
        return Refusal("malformed_body", f"the body is nested more than {DEEPEST_BODY} levels deep", ("body",))
    if not isinstance(value, dict):
        return Refusal("malformed_body", f"the body is a JSON {_type_name(value)}; it must be an object", ("body",))
    return value


def _depth(value: Any) -> int:
    """Return the nesting depth of arrays and objects; 0 for a scalar."""
    # Level by level, because a recursive function would overflow on exactly the bodies that must be refused.
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def read_order(contract: Contract, operation: Operation, message: Message) -> ValidRequest | Refusal:
    """Read the order of a submission. `message` has the parameters and the body as sent."""
    as_sent = message.body
    documented = documented_form(operation, message)
    if isinstance(documented, Refusal):
        return documented
    message, notes = documented

    model = find_model(contract, operation, message)
    if isinstance(model, Refusal):
        return model

    cut = _cut_prompt(operation, model, message)
    if isinstance(cut, Refusal):
        return cut
    if cut is not message:
        notes.append("the prompt exceeded its limit and was truncated")
        # The operation's schema may have the same limit. An alternative form has its prompt elsewhere, left as sent.
        if as_sent is message.body:
            as_sent = cut.body
        message = cut

    parameters = operation.model_parameters.get(message)
    prefix = ("body", *operation.model_parameters.pointer)
    if parameters is MISSING:
        return Refusal("invalid_request", f"{'.'.join(prefix[1:])}: is missing", prefix)
    violations = contract.schemas.violations(model.schema, parameters, most=1)
    if violations:
        return _refusal(violations[0], prefix)
    if operation.body_schema is not None:
        violations = contract.schemas.violations(operation.body_schema, as_sent, most=1)
        if violations:
            return _refusal(violations[0], ("body",))

    notes += _undeclared(contract, model, parameters)
    order = _order(model, parameters, read_echoed(operation, message))
    return ValidRequest(message, order, tuple(notes))


def documented_form(operation: Operation, message: Message) -> tuple[Message, list[str]] | Refusal:
    """Rewrite the alternative forms of a submission into the documented one; return it with a note for each form."""
    notes = []
    for form in operation.forms:
        if form.when.get(message) is MISSING:
            continue
        notes.append(f"form {form.name}")
        body = message.body
        try:
            for to, source in form.set:
                body = replaced(body, to, source.get(message))
        except ExpressionError as error:
            return Refusal("invalid_request", f"form {form.name}: {error}", ("body",))
        message = replace(message, body=body)
    return message, notes


def find_model(contract: Contract, operation: Operation, message: Message) -> Model | Refusal:
    """Return the model that a request names, or the refusal of a missing, malformed or unknown name."""
    binding = operation.bindings.get("model")
    place = next((place for place in binding.request if place.get(message) is not MISSING), None) if binding else None
    if place is None:
        missing = binding.request[0] if binding and binding.request else None
        name = ".".join(missing.pointer) if missing else "model"
        return Refusal("invalid_request", f"{name or 'model'}: is missing", ("body", name))
    name = place.get(message)
    model = contract.model(name) if isinstance(name, str) else None
    if model is not None:
        return model
    known = ", ".join(model.id for model in contract.models)
    location = ("body", *place.pointer) if place.part == "body" else (place.part, place.name)
    if not isinstance(name, str):
        return Refusal("invalid_request", f"model: is a JSON {_type_name(name)}; it must be a string", location)
    # 200 characters are enough for any real name. The message is sent in a response and must not echo a megabyte.
    return Refusal("unknown_model", f"model is {name[:200]!r}; allowed: {known}", location)


def read_echoed(operation: Operation, message: Message) -> dict[str, Any]:
    """Read the bound request values that responses echo, such as `callback_url` and `metadata`."""
    echoed = {}
    for binding in operation.bindings.values():
        if binding.name in _NOT_ECHOED:
            continue
        for place in binding.request:
            value = place.get(message)
            if value is not MISSING and value is not None:
                echoed[binding.name] = value
                break
    return echoed


def prompt_weight(text: str, limit: PromptLimit) -> int:
    """Return a prompt's length, counting each Chinese character as `chinese_weight` characters."""
    return len(text) + (limit.chinese_weight - 1) * len(re.findall(_CHINESE, text))


def cut_prompt(text: str, limit: PromptLimit) -> str:
    """Return the longest prefix of a prompt that is within the limit."""
    # The first test avoids the search for Chinese characters: the prompt fits even if all characters are Chinese.
    if len(text) * limit.chinese_weight <= limit.characters or prompt_weight(text, limit) <= limit.characters:
        return text
    weight, is_chinese = 0, re.compile(_CHINESE).match
    for index, character in enumerate(text):
        weight += limit.chinese_weight if is_chinese(character) else 1
        if weight > limit.characters:
            return text[:index]
    return text


def _cut_prompt(operation: Operation, model: Model, message: Message) -> Message | Refusal:
    """Truncate or refuse a prompt that exceeds its limit. A prompt within the limit returns the same message object."""
    limit, places = model.prompt_limit, model.parameters.get("prompt")
    if limit is None or places is None:
        return message
    pointer = (*operation.model_parameters.pointer, *places[0])
    prompt = resolve(message.body, pointer)
    if not isinstance(prompt, str) or (allowed := cut_prompt(prompt, limit)) == prompt:
        return message
    if limit.over == "truncate":
        return replace(message, body=replaced(message.body, pointer, allowed))
    got = prompt_weight(prompt, limit)
    weighted = f" (a Chinese character counts as {limit.chinese_weight})" if limit.chinese_weight > 1 else ""
    sentence = f"prompt: is {got} characters long{weighted}; allowed: at most {limit.characters}"
    return Refusal("invalid_request", sentence, ("body", *pointer))


def _order(model: Model, parameters: Any, echoed: Mapping[str, Any]) -> Order:
    def one(name: str) -> Any:
        places = model.parameters.get(name, ())
        value = resolve(parameters, places[0]) if places else MISSING
        return model.defaults.get(name) if value is MISSING else value

    seed = one("seed")
    # Schemas may allow 5.0 for an integer, as JSON Schema does, and null for the default.
    return Order(
        model=model,
        prompt=one("prompt") or "",
        first_frame=one("first_frame"),
        references=_references(model, parameters),
        resolution=one("resolution"),
        seconds=int(one("duration") or 5),
        ratio=one("aspect_ratio"),
        seed=None if seed is None or seed == model.random_seed else int(seed),
        watermark=bool(one("watermark")),
        echoed=echoed,
    )


def _references(model: Model, parameters: Any) -> tuple[str, ...]:
    values: list[Any] = []
    for place in model.parameters.get("references", ()):
        value = resolve(parameters, place)
        values += value if isinstance(value, list) else [value]
    return tuple(value for value in values if isinstance(value, str) and value)


def _undeclared(contract: Contract, model: Model, parameters: Any) -> list[str]:
    """Return a note for each parameter that the model's schema does not declare."""
    # Providers accept and ignore unknown parameters, so only the journal can reveal a misspelt one.
    schema, _ = contract.schemas.deref(contract.schemas.document(model.schema_file), model.schema_file)
    known = schema.get("properties", {})
    found = [name for name in parameters if name not in known]
    notes = [f"undeclared parameter {name[:80]!r}" for name in found[:MOST_NOTED]]
    return notes if len(found) <= MOST_NOTED else [*notes, f"{len(found) - MOST_NOTED} more undeclared parameters"]


def _refusal(violation: Violation, prefix: tuple[str | int, ...]) -> Refusal:
    return Refusal("invalid_request", str(violation), (*prefix, *violation.location))


def _type_name(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", type(None): "null"}
    return names.get(type(value), "object")
