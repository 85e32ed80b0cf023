"""Values that are almost valid: the right number as a text, a word in another case, one item too many.

A lenient server repairs such a value, and bills a video that was not ordered like that. The values of another kind,
which `negate` draws, show only that the server validates at all. Knows no HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hobbyhorse.contract.forms.expressions import MISSING, Pointer, replaced, resolve
from hobbyhorse.contract.schemas import Schemas

# One item more than the longest list; a longer limit makes bodies that say nothing more.
MOST_ITEMS = 100
# A text that exceeds a longer limit is a large body rather than a long value.
MOST_CHARACTERS = 100_000
# A text that any schema without a pattern, a format or a list of words accepts.
SAMPLE = "x"


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Parameters with one almost valid value: the place, the violated keyword, and all parameters."""

    pointer: Pointer
    keyword: str
    parameters: Any


def near_misses(schemas: Schemas, address: str, parameters: Any) -> Iterator[NearMiss]:
    """Yield variants of valid parameters, each with one value that is almost valid. Some may be valid."""
    file = address.partition("#")[0]
    yield from _below(schemas, schemas.at(address), file, parameters, ())


def near_misses_in(schemas: Schemas, schema: Any, file: str, value: Any) -> Iterator[NearMiss]:
    """Yield variants of a valid value by a schema that is part of a file."""
    yield from _below(schemas, schema, file, value, ())


def sample_of(schemas: Schemas, schema: Any, file: str) -> Any:
    """Return a valid value for an optional member: a named one, a plain text, or an empty object; else MISSING."""
    schema, file = schemas.deref(schema, file)
    kind = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(kind, list):
        # A member that may be null as well is tried with its other type.
        kind = next((one for one in kind if one != "null"), None)
        schema = {**schema, "type": kind}
    found = _valid(schema, file, schemas)
    if found is MISSING and kind == "string" and not {"pattern", "format", "enum"} & set(schema):
        return SAMPLE
    return {} if found is MISSING and kind == "object" and not schema.get("properties") else found


def _below(schemas: Schemas, schema: Any, file: str, whole: Any, at: Pointer) -> Iterator[NearMiss]:
    """Yield the variants of the value at a place and of everything inside it."""
    schema, file = schemas.deref(schema, file)
    if not isinstance(schema, dict):
        return
    value = resolve(whole, at) if at else whole
    if at:
        for keyword, wrong in _values(schema, value):
            yield NearMiss(at, keyword, replaced(whole, at, wrong))
    if isinstance(value, dict):
        yield from _members(schemas, schema, file, whole, at)
    elif isinstance(value, list) and value:
        yield from _below(schemas, schema.get("items"), file, whole, (*at, "0"))


def _members(schemas: Schemas, schema: Mapping[str, Any], file: str, whole: Any, at: Pointer) -> Iterator[NearMiss]:
    """Yield the variants of an object: without a member, with it at another level, with a misspelt or bad member."""
    value = resolve(whole, at) if at else whole
    for name in schema.get("required", ()):
        yield NearMiss((*at, name), "required", replaced(whole, (*at, name), MISSING))
        # Null is no value; only where a value is optional may a server read it as an absent one.
        yield NearMiss((*at, name), "type", replaced(whole, (*at, name), None))
        yield from _moved(whole, at, name)
    if schema.get("additionalProperties") is False:
        name = next(iter(value), "x")
        yield NearMiss(at, "additionalProperties", replaced(whole, (*at, name.upper()), value.get(name)))
    for name, inner in schema.get("properties", {}).items():
        given = whole
        if name not in value:
            valid = _valid(*schemas.deref(inner, file), schemas)
            if valid is MISSING:
                continue
            given = replaced(whole, (*at, name), valid)
            # A server that ignores the member at the other level bills a job without it.
            if isinstance(valid, dict) and not at and isinstance(value.get("input"), dict):
                moved = replaced(whole, ("input", name), valid)
                yield NearMiss(("input", name), "additionalProperties", moved)
        yield from _below(schemas, inner, file, given, (*at, name))


def _moved(whole: Any, at: Pointer, name: str) -> Iterator[NearMiss]:
    """Yield the variants with a required member one level too high, or one too low."""
    value = resolve(whole, (*at, name))
    if value is MISSING:
        return
    without = replaced(whole, (*at, name), MISSING)
    if at and isinstance(resolve(whole, at[:-1]), dict):
        yield NearMiss((*at, name), "required", replaced(without, (*at[:-1], name), value))
    elif not at and name != "input":
        inner = resolve(whole, ("input",))
        lower = {**inner, name: value} if isinstance(inner, dict) else {name: value}
        yield NearMiss((*at, name), "required", replaced(without, ("input",), lower))


def _valid(schema: Any, file: str, schemas: Schemas) -> Any:
    """Return a valid value for an optional member, or MISSING if the schema names none."""
    if not isinstance(schema, dict):
        return MISSING
    kind = schema.get("type")
    if kind == "object":
        required = {name: schema.get("properties", {}).get(name) for name in schema.get("required", ())}
        inner = {name: _valid(*schemas.deref(one, file), schemas) for name, one in required.items()}
        return MISSING if not inner or MISSING in inner.values() else inner
    for word in ("default", "const"):
        if word in schema:
            return schema[word]
    if schema.get("enum"):
        return schema["enum"][0]
    shown = schema.get("examples", [])
    if kind == "string" and shown:
        return shown[0]
    if kind == "boolean":
        return True
    return schema.get("minimum", 0) if kind in ("integer", "number") else MISSING


Wrong = Iterator[tuple[str, Any]]
"""Almost valid values, each with the keyword that it violates."""


def _values(schema: Mapping[str, Any], value: Any) -> Wrong:
    """Yield the almost valid values of one place."""
    kinds: list[tuple[Callable[[Any], bool], Callable[[Mapping[str, Any], Any], Wrong]]] = [
        (lambda one: isinstance(one, bool), _booleans),
        (lambda one: isinstance(one, int | float), _numbers),
        (lambda one: isinstance(one, str), _texts),
        (lambda one: isinstance(one, list), _lists),
        (lambda one: isinstance(one, dict), _objects),
    ]
    for is_one, wrong in kinds:
        if is_one(value):
            yield from wrong(schema, value)
            return


def _booleans(schema: Mapping[str, Any], value: bool) -> Wrong:
    yield from (("type", json.dumps(value)), ("type", int(value)), ("type", "yes" if value else "no"))


def _numbers(schema: Mapping[str, Any], value: int | float) -> Wrong:
    choices = [one for one in schema.get("enum", ()) if isinstance(one, int | float)]
    if choices:
        yield from (("enum", min(choices) - 1), ("enum", max(choices) + 1))
    if "minimum" in schema:
        yield "minimum", schema["minimum"] - 1
    if "maximum" in schema:
        yield "maximum", schema["maximum"] + 1
    yield from (("type", str(value)), ("type", value + 0.5), ("type", f"{value}s"), ("type", True), ("type", [value]))


def _texts(schema: Mapping[str, Any], value: str) -> Wrong:
    for word in [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]:
        if isinstance(word, str):
            keyword = "enum" if "enum" in schema else "const"
            yield from ((keyword, other) for other in (word.swapcase(), f" {word}", word[:-1], f"{word}s"))
    if schema.get("minLength"):
        yield "minLength", value[: schema["minLength"] - 1]
    if schema.get("maxLength", MOST_CHARACTERS) < MOST_CHARACTERS:
        most = schema["maxLength"]
        yield "maxLength", (value + "x" * most)[: most + 1]
    if "pattern" in schema:
        yield from (("pattern", other) for other in (value.partition("://")[2] or value[1:], ""))
    yield from (("type", 5), ("type", [value]), ("type", {"value": value}))


def _lists(schema: Mapping[str, Any], value: list[Any]) -> Wrong:
    if value and schema.get("maxItems", MOST_ITEMS) < MOST_ITEMS:
        yield "maxItems", (value * (schema["maxItems"] + 1))[: schema["maxItems"] + 1]
    if schema.get("minItems"):
        yield "minItems", value[: schema["minItems"] - 1]
    if value:
        yield from (("type", value[0]), ("type", {"0": value[0]}))


def _objects(schema: Mapping[str, Any], value: dict[str, Any]) -> Wrong:
    yield from (("type", [value]), ("type", json.dumps(value)))
