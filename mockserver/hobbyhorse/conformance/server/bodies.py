"""Request bodies for the suite: their worst price, bodies at the documented bounds, and bodies beyond them."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import HypothesisException, NoSuchExample

from hobbyhorse.conformance.server.budget import worst
from hobbyhorse.conformance.server.near_misses import near_misses, near_misses_in, sample_of
from hobbyhorse.conformance.server.negate import Mutation, breakable, mutations
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import chinese_prompt, plain_prompt
from hobbyhorse.contract.forms.expressions import MISSING, Pointer, format_pointer, parse_pointer, replaced, resolve
from hobbyhorse.contract.generate import UnusableSchema
from hobbyhorse.contract.request import Refusal, ValidRequest
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract, Model, Operation

# An order at two bounds also tests their combination, which is worth half as much as the two orders alone.
PREMIUM = Decimal("1.5")
# Each value of a long enum is a paid job, and such an enum is a range: its ends and some between come first.
FIRST_CHOICES = 6
# Each item may be an image that the provider fetches; a longer list takes too much time.
MOST_ITEMS = 20
ABSENT = "absent"
# The parameters that decide what a video shows, and not its length or its size.
CONTENTS = ("seed", "prompt")
# The beginning of the label of an order in an alternative form.
FORM = "form:"
# The beginning of the label of an order that is spelled in another way, and the ways: a parameter of the media type;
# white space, escapes and another order of the members.
SPELLING, CHARSET, ESCAPED = "spelling:", "charset", "escaped"
# The usual spelling of the same order: its prompt alone is unusual.
PLAIN = "plain"
# Characters of several bytes, and one of two UTF-16 units, for a prompt that is spelled with escapes.
FOREIGN = "café 馬 🐎"
# What the labels of prompts at their limit, and beyond one at which a provider cuts them, end with.
LONGEST, CUT = "longest", "cut"
# Not only ASCII: JSON Schema counts characters, and a server that counts bytes refuses a text at the bound.
FILLER = "A café horse gallops along the beach at low tide – ça va. "


@dataclass(frozen=True, slots=True)
class Body:
    """A request body with its probe label, the situation that it should cause, and its worst price."""

    label: str
    value: Any
    expected: str
    price: Decimal


def price_of(contract: Contract, model: Model, operation: Operation, order: Any, body: Any) -> Decimal:
    """Return the highest possible price of a body: that of its tier and length, or their defaults, else the worst.

    `order` is a valid request; the tier and the length are checked in it, because `body` may be invalid elsewhere.
    """
    tier, seconds = (_named(model, operation, body, name) for name in ("resolution", "duration"))
    # What a valid body leaves out has its documented default.
    if None in (tier, seconds) and isinstance(try_order(contract, operation, model.id, body), ValidRequest):
        tier = model.defaults.get("resolution") if tier is None else tier
        seconds = model.defaults.get("duration") if seconds is None else seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or _unpriced(model, tier):
        return worst(contract)
    # The provider reads tier and length only from a body that it accepts; any other one it may bill as it likes.
    tried = replace_parameter(
        operation, model, replace_parameter(operation, model, order, "resolution", tier), "duration", seconds
    )
    if not isinstance(try_order(contract, operation, model.id, tried), ValidRequest):
        return worst(contract)
    return model.cost(str(tier), float(seconds))


def _unpriced(model: Model, tier: Any) -> bool:
    return not isinstance(tier, str) or tier not in model.price


def _named(model: Model, operation: Operation, body: Any, name: str) -> Any:
    for inner in model.parameters.get(name, ()):
        found = resolve(body, (*operation.model_parameters.pointer, *inner))
        if found is not MISSING:
            return found
    return None


def replace_parameter(operation: Operation, model: Model, body: Any, name: str, value: Any) -> Any:
    """Return a body with a parameter replaced; the body itself if it does not have the parameter."""
    for inner in model.parameters.get(name, ()):
        pointer = (*operation.model_parameters.pointer, *inner)
        if resolve(body, pointer) is not MISSING:
            return replaced(body, pointer, value)
    return body


def negatives(contract: Contract, model: Model, operation: Operation, order: Any) -> Iterator[Body]:
    """Yield the order broken in one keyword at a time, without the variants that the contract accepts."""
    around = operation.model_parameters.pointer
    named = {place.pointer for place in operation.bindings["model"].request if place.part == "body"}
    inner = resolve(order, around)
    seen: Counter[str] = Counter()
    sent: set[bytes] = set()
    inside = (
        (pointer, (*around, *pointer), keyword, replaced(order, around, parameters))
        for pointer, keyword, parameters in _wrong(contract, model, inner)
    )
    beside = ((at, at, keyword, body) for at, keyword, body in _wrong_beside(contract, operation, order))
    for pointer, at, keyword, body in (*inside, *beside):
        # `negative:model` covers the model's name; a violation of the whole object cannot be grafted.
        if not pointer or at in named:
            continue
        refusal, text = try_order(contract, operation, model.id, body), orjson.dumps(body)
        if isinstance(refusal, Refusal) and text not in sent:
            sent.add(text)
            place = f"{keyword}:{format_pointer(at)}"
            seen[place] += 1
            # The first variant has the plain name; the others are numbered.
            label = (
                f"negative:{place}" if seen[place] == 1 else f"negative:{keyword}-{seen[place]}:{format_pointer(at)}"
            )
            yield Body(label, body, refusal.situation, price_of(contract, model, operation, order, body))


def _wrong_beside(contract: Contract, operation: Operation, order: Any) -> Iterator[tuple[Pointer, str, Any]]:
    """Yield orders with one almost valid value each beside the model's parameters, such as a text that is too long."""
    schema, file = beside_parameters(contract, operation)
    given = {**order, **_samples(contract, schema, file)}
    for one in near_misses_in(contract.schemas, schema, file, given):
        yield one.pointer, one.keyword, one.parameters


def _samples(contract: Contract, schema: Any, file: str) -> dict[str, Any]:
    """Return a valid value for each member of a schema, as far as one is known."""
    found = {name: sample_of(contract.schemas, inner, file) for name, inner in schema.get("properties", {}).items()}
    return {name: value for name, value in found.items() if value is not MISSING}


def beside_parameters(contract: Contract, operation: Operation) -> tuple[dict[str, Any], str]:
    """Return the schema of the optional members of a body beside the parameters, and its file; empty if there are none.

    A URL for callbacks is left out: whatever accepts an invalid one would call somebody else.
    """
    schema, file = contract.schemas.deref(*_addressed(contract, operation.body_schema))
    around = operation.model_parameters.pointer
    if not around or not isinstance(schema, dict):
        return {}, file
    bound = [operation.bindings[name] for name in ("model", "callback_url") if name in operation.bindings]
    taken = {around[:1], *(place.pointer[:1] for one in bound for place in one.request if place.part == "body")}
    members = schema.get("properties", {}).items()
    return {"properties": {name: inner for name, inner in members if (name,) not in taken}}, file


def _addressed(contract: Contract, address: str | None) -> tuple[Any, str]:
    return (contract.schemas.at(address), address.partition("#")[0]) if address is not None else ({}, "")


def _wrong(contract: Contract, model: Model, inner: Any) -> Iterator[tuple[Pointer, str, Any]]:
    """Yield a model's parameters with one wrong value each: almost valid ones first, then ones of another kind."""
    for one in near_misses(contract.schemas, model.schema, inner):
        yield one.pointer, one.keyword, one.parameters
    for pointer, keyword, value in _broken(contract.schemas, model.schema):
        yield pointer, keyword, grafted(inner, pointer, keyword, value) if pointer else inner


def grafted(order: Any, pointer: Pointer, keyword: str, value: Any) -> Any:
    """Return an order with the broken part of a value, grafted at the highest place that the order lacks."""
    if keyword == "required":
        if resolve(order, pointer[:-1]) is not MISSING:
            return replaced(order, pointer, MISSING)
        pointer = pointer[:-1]
    for length in range(1, len(pointer) + 1):
        if length == len(pointer) or resolve(order, pointer[:length]) is MISSING:
            found = resolve(value, pointer[:length])
            return order if found is MISSING else replaced(order, pointer[:length], found)
    return order


@cache
def _broken(schemas: Schemas, address: str) -> tuple[tuple[Pointer, str, Any], ...]:
    """Return one value for each pair of place and keyword that breaks a schema. Deterministic."""
    found = []
    with warnings.catch_warnings():
        # Hypothesis warns about a strategy that filters much; the pairs that cannot be broken are meant to be left out.
        warnings.simplefilter("ignore")
        try:
            pairs = breakable(schemas, address)
        except UnusableSchema:
            return ()
        for pair in pairs:
            try:
                one = find(mutations(schemas, address, [pair]), _is_no_null, settings=_FIRST)
            except (NoSuchExample, HypothesisException, UnusableSchema):
                continue
            found.append((parse_pointer(one.pointer), one.keyword, one.value))
    return tuple(found)


def _is_no_null(one: Mutation) -> bool:
    """Whether a mutation writes no null: a server may read it as absent, and near misses try the required members."""
    return resolve(one.value, parse_pointer(one.pointer)) is not None


_FIRST = settings(
    max_examples=5,
    database=None,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def bounds(contract: Contract, model: Model, operation: Operation, order: Any) -> Iterator[Body]:
    """Yield the order at each documented bound of its members: minimum, maximum, each enum value, and absent."""
    around = operation.model_parameters.pointer
    schema, file = contract.schemas.deref(*_root(contract, model))
    edges = _edges(contract.schemas, schema, file, resolve(order, around), ())
    inside = [((*around, *pointer), label, value) for pointer, label, value in (*edges, *_prompt_edges(model))]
    others, file = beside_parameters(contract, operation)
    beside = _edges(contract.schemas, others, file, _samples(contract, others, file), ())
    for at, label, value in (*inside, *beside):
        body = replaced(order, at, value)
        if body != order and isinstance(try_order(contract, operation, model.id, body), ValidRequest):
            price = price_of(contract, model, operation, order, body)
            yield Body(f"bound:{format_pointer(at)}:{label}", body, "accepted", price)


def spelled(value: Any, *ways: str) -> tuple[bytes, str]:
    """Return a value as JSON, and the media type, spelled in one or several ways that mean the same."""
    kind = "application/json; charset=utf-8" if CHARSET in ways else "application/json"
    if ESCAPED not in ways:
        return orjson.dumps(value), kind
    return json.dumps(_reversed(value), indent=2, ensure_ascii=True).encode(), kind


def _reversed(value: Any) -> Any:
    """Return a JSON value with the members of each object in the opposite order."""
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return [_reversed(one) for one in value] if isinstance(value, list) else value


def other_forms(contract: Contract, model: Model, operation: Operation, order: dict[str, Any]) -> Iterator[Body]:
    """Yield an order in each alternative form of which the documents have an example."""
    for form in operation.forms:
        for example in operation.body_examples.values():
            if form.when.part != "body" or resolve(example, form.when.pointer) is MISSING:
                continue
            body = example
            for to, source in form.set:
                body = replaced(body, source.pointer, resolve(order, to))
            moved = {to[0] for to, _ in form.set}
            body = {**body, **{name: value for name, value in order.items() if name not in moved}}
            if isinstance(try_order(contract, operation, model.id, body), ValidRequest):
                # The same order has the same price.
                yield Body(f"{FORM}{form.name}", body, "accepted", price_of(contract, model, operation, order, order))
                break


@dataclass(frozen=True, slots=True)
class SharedOrder:
    """A valid order at several bounds at once, and the orders at each of them alone."""

    body: Body
    alone: tuple[Body, ...]


def shared_bounds(contract: Contract, model: Model, operation: Operation, order: Any) -> list[SharedOrder]:
    """Return orders that are together at every documented bound, cheapest first; the values between bounds are last.

    An order takes a further bound if that costs little more than an order of its own.
    """
    every = list(bounds(contract, model, operation, order))
    between = [one for one in every if _is_between(contract, model, operation, one)]
    at_bounds = [one for one in every if one not in between]
    return [
        *_shared(contract, model, operation, order, at_bounds),
        *_shared(contract, model, operation, order, between),
    ]


def _shared(
    contract: Contract, model: Model, operation: Operation, order: Any, bodies: Iterable[Body]
) -> list[SharedOrder]:
    """Return orders that are together at the bounds of all bodies, cheapest first."""

    contents = [
        format_pointer((*operation.model_parameters.pointer, *at))
        for name in CONTENTS
        for at in model.parameters.get(name, ())
    ]

    def is_content(one: Body) -> bool:
        return _place(one) in contents

    def joined(shared: SharedOrder, one: Body) -> SharedOrder | None:
        alone = (*shared.alone, one)
        pointer = parse_pointer(_place(one))
        value = replaced(shared.body.value, pointer, resolve(one.value, pointer))
        # Two values of one place exclude each other, as do a member and its whole object.
        at_each = ((parse_pointer(_place(each)), each.value) for each in alone)
        taken = any(resolve(value, place) != resolve(each, place) for place, each in at_each)
        # An order with another length or size alone shows an endpoint that remembers videos by prompt and seed.
        mixed = len({is_content(one), *map(is_content, shared.alone)}) > 1
        if taken or mixed or not isinstance(try_order(contract, operation, model.id, value), ValidRequest):
            return None
        label = "bounds:" + ",".join(f"{_place(each)}={each.label.split(':', 2)[2]}" for each in alone)
        price = price_of(contract, model, operation, order, value)
        return SharedOrder(Body(label, value, "accepted", price), alone)

    found: list[SharedOrder] = []
    # The expensive bounds first: a cheap one then joins an order that has to be paid anyway.
    for one in sorted(bodies, key=lambda body: body.price, reverse=True):
        ways = [(number, way) for number, shared in enumerate(found) if (way := joined(shared, one)) is not None]
        worth = [(n, way) for n, way in ways if way.body.price <= PREMIUM * (found[n].body.price + one.price)]
        if worth:
            number, way = min(worth, key=lambda pair: (pair[1].body.price - found[pair[0]].body.price, pair[0]))
            found[number] = way
        else:
            found.append(SharedOrder(one, (one,)))
    return sorted(found, key=lambda shared: shared.body.price)


def _place(body: Body) -> str:
    return body.label.split(":", 2)[1]


def _root(contract: Contract, model: Model) -> tuple[Any, str]:
    return contract.schemas.at(model.schema), model.schema.partition("#")[0]


def _edges(schemas: Schemas, schema: Any, file: str, value: Any, at: Pointer) -> Iterator[tuple[Pointer, str, Any]]:
    """Yield the places in a value, each with a label and a value at the edge of its schema."""
    schema, file = schemas.deref(schema, file)
    if not isinstance(schema, dict):
        return
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value and name not in schema.get("required", ()):
                yield (*at, name), ABSENT, MISSING
            # An optional parameter that the order lacks has documented bounds, too.
            yield from _edges(schemas, inner, file, value.get(name), (*at, name))
    elif isinstance(value, list) and value:
        yield from _list_edges(schema, value, at)
        yield from _edges(schemas, schema.get("items"), file, value[0], (*at, "0"))
    else:
        yield from _scalar_edges(schema, value, at)


def _prompt_edges(model: Model) -> Iterator[tuple[Pointer, str, Any]]:
    """Yield the longest prompts, in ASCII and in Chinese, and if the provider cuts a longer one, one that is longer."""
    limit = model.prompt_limit
    if limit is None:
        return
    for pointer in model.parameters.get("prompt", ())[:1]:
        yield pointer, LONGEST, _prompt(limit.characters)
        yield pointer, f"{LONGEST} in Chinese", chinese_prompt(limit.characters // limit.chinese_weight)
        if limit.over != "refuse":
            yield pointer, CUT, _prompt(limit.characters + 1)


def _prompt(characters: int) -> str:
    """Return a prompt of ASCII characters that does not end with a space, which a server might strip."""
    return plain_prompt(characters - 1) + "."


def _is_between(contract: Contract, model: Model, operation: Operation, body: Body) -> bool:
    """Whether a body has a value of a long enum that is neither one of its ends nor evenly spread between them."""
    at = parse_pointer(_place(body))[len(operation.model_parameters.pointer) :]
    schema, file = contract.schemas.deref(*_root(contract, model))
    for name in at:
        inner = schema.get("items") if name.isdecimal() else schema.get("properties", {}).get(name)
        schema, file = contract.schemas.deref(inner, file)
    choices = schema.get("enum", []) if isinstance(schema, dict) else []
    last = len(choices) - 1
    first = {choices[round(number * last / (FIRST_CHOICES - 1))] for number in range(FIRST_CHOICES) if last > 0}
    value = resolve(body.value, parse_pointer(_place(body)))
    return last >= FIRST_CHOICES and value in choices and value not in first


def _list_edges(schema: dict[str, Any], value: list[Any], at: Pointer) -> Iterator[tuple[Pointer, str, Any]]:
    """Yield a list with as few items as its schema allows, and one with as many."""
    for keyword in ("minItems", "maxItems"):
        if 0 < schema.get(keyword, 0) <= MOST_ITEMS:
            yield at, f"{schema[keyword]} items", (value * MOST_ITEMS)[: schema[keyword]]


def _scalar_edges(schema: dict[str, Any], value: Any, at: Pointer) -> Iterator[tuple[Pointer, str, Any]]:
    """Yield a schema's choices, or else its minimum and maximum number and its longest string."""
    choices = [False, True] if schema.get("type") == "boolean" else schema.get("enum", [])
    for choice in choices:
        yield at, str(choice), choice
    for keyword in ("minimum", "maximum"):
        if keyword in schema and "enum" not in schema:
            yield at, str(schema[keyword]), schema[keyword]
    if isinstance(value, str) and "maxLength" in schema and "pattern" not in schema:
        most = schema["maxLength"]
        yield at, f"{most} characters", (FILLER * (most // len(FILLER) + 1))[:most]
