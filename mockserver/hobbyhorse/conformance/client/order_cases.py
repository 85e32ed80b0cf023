"""Test cases with other orders than the plain one: which values, in which combinations, and how they shrink. No server.

A client that passes only the plain order on looks right until a user sets a seed of 0 or quotes a word. Several telling
values share an order, because each order costs a few runs; shrinking then shows which value it was. Each is tried with
a happy server, and with a first attempt that is refused or lost, so that its retry can be compared with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.conformance.client.scenario_space import REFUSES_SAFELY, fits
from hobbyhorse.conformance.drawn_orders import TELLING_PROMPTS, is_valid, orders
from hobbyhorse.contract.example_orders import (
    LONG_PROMPT_CHARACTERS,
    PROMPT_WORDS,
    chinese_prompt,
    order_for,
    plain_prompt,
)
from hobbyhorse.contract.forms.expressions import MISSING, ExpressionError, Pointer, replaced, resolve
from hobbyhorse.contract.generate import UnusableSchema
from hobbyhorse.contract.values import Contract, Model, Operation
from hobbyhorse.scenarios.fault import LOSES
from hobbyhorse.scenarios.registry import name_used_for

QUOTED = "\n".join((*TELLING_PROMPTS[1:3], "C:\\new\\horses"))
FOREIGN = " ".join(TELLING_PROMPTS[3:7])
TEMPLATES = " ".join(TELLING_PROMPTS[7:9])
# Members that a converter, a serialiser or a merge of defaults would change. The integer is the largest that every JSON
# reader has exactly (RFC 8259, section 6).
NOTES: Mapping[str, Any] = {
    "nested": {"zero": 0, "off": False, "object": {}, "list": []},
    "numbers": [9007199254740991, -1, 0.1, 1e-7],
    "tags": ["a", "a", FOREIGN, "true", "007"],
}
# The shortest durations: with the first and the last resolution they make four kinds of video, which are soon rendered.
SHORT_DURATIONS = 2

# The first orders have every parameter. The others differ from the plain one only in the prompt, which a retry keeps if
# it keeps the longer ones.
RETRIED_ORDERS = 3
# Random cases for each drawn order: drawing an order takes as long as a large part of a run in virtual time.
RUNS_PER_ORDER = 8
# Orders that are drawn for a long search: with more, Hypothesis would draw for minutes before the first random case.
MOST_DRAWN_ORDERS = 500


def order_cases(contract: Contract, model: Model) -> list[Case]:
    """Return the planned cases: each telling order with a happy server, then with a failed first attempt."""
    found = list(telling_orders(contract, model))
    scenarios = [{"moves": {"submit": [move]}} for move in _failed_attempts(contract)]
    happy = [Case(order=order) for order in found]
    return happy + [Case(scenario, order=order) for scenario in scenarios for order in found[:RETRIED_ORDERS]]


def drawn_orders(contract: Contract, model: Model, runs: int, seed: int) -> list[dict[str, Any]]:
    """Return orders for a number of random cases, drawn from the model's schema."""
    found: list[dict[str, Any]] = []
    try:
        drawn = cheap_orders(contract, model)
    except (LookupError, UnusableSchema):
        return found

    @seeded(seed)
    @settings(
        max_examples=min(runs // RUNS_PER_ORDER + 1, MOST_DRAWN_ORDERS),
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(drawn)
    def draw(order: dict[str, Any]) -> None:
        found.append(order)

    with suppress(Unsatisfiable):
        draw()
    return found


def cheap_orders(contract: Contract, model: Model) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for orders with a prompt, without a callback, and with a video that is soon rendered.

    Raises LookupError if the contract has no example, UnusableSchema if the model's schema cannot be generated.
    """
    operation, pairs = contract.operations["submit"], list(_cheap_videos(contract, model))
    prompt = _place(operation, model, "prompt")

    def cheap(body: Any, pair: tuple[tuple[str, Any], ...], with_notes: bool) -> dict[str, Any]:
        # A client may need a prompt, even if the provider does not.
        if prompt and not str(resolve(body, prompt) or "").strip():
            body = replaced(body, prompt, PROMPT_WORDS)
        for place in _callback_members(operation):
            body = replaced(body, place, MISSING) if resolve(body, place) is not MISSING else body
        for name, value in pair:
            place = _place(operation, model, name)
            body = replaced(body, place, value) if resolve(body, place) is not MISSING else body
        return _noted(contract, model, body) if with_notes else body

    found = st.builds(cheap, orders(contract, model), st.sampled_from(pairs), st.booleans())
    return found.filter(lambda body: is_valid(contract, operation, model, body))


def telling_orders(contract: Contract, model: Model) -> Iterator[dict[str, Any]]:
    """Yield a few valid orders that together have every parameter at its bounds, and every telling prompt."""
    try:
        plain = order_for(contract, model)
    except LookupError:
        return
    members = dict(_members(contract, model))
    low = {place: low for place, (low, _) in members.items()}
    high = {place: high for place, (_, high) in members.items()}
    seen = {json.dumps(plain)}
    for body in (
        _with(contract, model, plain, low | _prompt(contract, model, QUOTED)),
        _noted(contract, model, _with(contract, model, plain, high | _prompt(contract, model, FOREIGN))),
        _least(contract, model, plain),
        *(_with(contract, model, plain, _prompt(contract, model, text)) for text in (TEMPLATES, *TELLING_PROMPTS[9:])),
        *(_with(contract, model, plain, _prompt(contract, model, text)) for text in _longest_prompts(model)),
    ):
        text = json.dumps(body)
        if text not in seen:
            seen.add(text)
            yield body


def fullest_and_least(contract: Contract, model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an order that has every parameter that it may have, and one that has only what it needs.

    Raises LookupError if the contract has no example.
    """
    plain = order_for(contract, model)
    high = {place: high for place, (_, high) in _members(contract, model)}
    full = _noted(contract, model, _with(contract, model, plain, high | _prompt(contract, model, FOREIGN)))
    return full, _least(contract, model, plain)


def simpler_orders(contract: Contract, order: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Yield the plain order (None), then valid orders with fewer members or a plainer prompt."""
    yield None
    operation = contract.operations["submit"]
    model = next((one for one in contract.models if is_valid(contract, operation, one, order)), None)
    if model is None:
        return
    place = _place(operation, model, "prompt")
    prompt = resolve(order, place) if place else MISSING
    simpler: list[dict[str, Any]] = []
    if isinstance(prompt, str):
        plain = order_for(contract, model)
        halves = (prompt[: len(prompt) // 2], prompt[len(prompt) // 2 :]) if len(prompt) > 1 else ()
        simpler += [replaced(plain, place, prompt), replaced(order, place, PROMPT_WORDS)]
        simpler += [replaced(order, place, half) for half in halves]
    simpler += [replaced(order, one, MISSING) for one in _places(order) if place[: len(one)] != one]
    yield from (body for body in simpler if is_valid(contract, operation, model, body))


def _failed_attempts(contract: Contract) -> Iterator[dict[str, Any]]:
    """Yield a refusal after which a client may submit again, and a lost response if the provider replays keys."""
    situations = contract.operations["submit"].situations.values()
    refusals = [one.name for one in situations if one.status in REFUSES_SAFELY]
    lost = [name_used_for(LOSES)] if contract.idempotency.mode == "replay" else []
    for name in (*refusals[:1], *lost):
        if fits({"moves": {"submit": [{"move": name}]}}, contract):
            yield {"move": name}


def _place(operation: Operation, model: Model, name: str) -> Pointer:
    """Return the place of a parameter in the body; empty if the model has no such parameter."""
    places = model.parameters.get(name, ())
    return (*operation.model_parameters.pointer, *places[0]) if places else ()


def _prompt(contract: Contract, model: Model, text: str) -> dict[Pointer, Any]:
    place = _place(contract.operations["submit"], model, "prompt")
    return {place: text} if place else {}


def _longest_prompts(model: Model) -> Iterator[str]:
    """Yield the longest prompt in ASCII and in Chinese: a client may count bytes, or cut at a limit of its own."""
    limit = model.prompt_limit
    characters = limit.characters if limit else LONG_PROMPT_CHARACTERS
    chinese = characters // limit.chinese_weight if limit else characters
    yield plain_prompt(characters).strip()
    yield chinese_prompt(chinese)


def _members(contract: Contract, model: Model) -> Iterator[tuple[Pointer, tuple[Any, Any]]]:
    """Yield the place of each parameter that has bounds, with its lowest or falsy value and its highest value."""
    waiting: list[tuple[Pointer, Any, str]] = [
        (
            contract.operations["submit"].model_parameters.pointer,
            contract.schemas.document(model.schema_file),
            model.schema_file,
        )
    ]
    while waiting:
        at, schema, file = waiting.pop(0)
        for name, inner in schema.get("properties", {}).items():
            found, where = contract.schemas.deref(inner, file)
            if isinstance(found, Mapping):
                waiting.append(((*at, name), found, where))
                bounds = _bounds(found)
                if bounds is not None:
                    yield (*at, name), bounds


def _bounds(schema: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return the lowest or falsy value and the highest value of a schema, or None if it has none."""
    types = schema.get("type")
    types = types if isinstance(types, list) else [types]
    if schema.get("enum"):
        low, high = schema["enum"][0], schema["enum"][-1]
    elif "boolean" in types:
        low, high = False, True
    elif "maximum" in schema:
        low, high = max(schema.get("minimum", 0), 0), schema["maximum"]
    else:
        return None
    return (None if "null" in types else low), high


def _with(contract: Contract, model: Model, body: dict[str, Any], values: Mapping[Pointer, Any]) -> dict[str, Any]:
    """Return a body with each value that leaves it valid."""
    for place, value in values.items():
        try:
            changed = replaced(body, place, value)
        except ExpressionError:
            continue
        if is_valid(contract, contract.operations["submit"], model, changed):
            body = changed
    return body


def _noted(contract: Contract, model: Model, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with the caller's own notes, if the provider has a member for them."""
    operation = contract.operations["submit"]
    parameters = operation.model_parameters.pointer
    own = {
        place.pointer: dict(NOTES)
        for binding in operation.bindings.values()
        for place in binding.request
        if place.part == "body" and place.pointer[: len(parameters)] != parameters
    }
    return _with(contract, model, body, own)


def _least(contract: Contract, model: Model, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body without every member that it does not need, apart from the prompt."""
    prompt = _place(contract.operations["submit"], model, "prompt")
    for place in _places(body):
        if resolve(body, place) is not MISSING and prompt[: len(place)] != place:
            body = _with(contract, model, body, {place: MISSING})
    return body


def _places(body: Mapping[str, Any], at: Pointer = ()) -> Iterator[Pointer]:
    """Yield the place of each member, outer ones first."""
    for name, value in body.items():
        yield (*at, name)
        if isinstance(value, Mapping):
            yield from _places(value, (*at, name))


def _callback_members(operation: Operation) -> Iterator[Pointer]:
    """Yield the members that contain the callback's URL: a drawn URL would be called."""
    binding = operation.bindings.get("callback_url")
    for place in binding.request if binding is not None else ():
        if place.part == "body":
            yield place.pointer[:1]


def _cheap_videos(contract: Contract, model: Model) -> Iterator[tuple[tuple[str, Any], ...]]:
    """Yield four pairs of a resolution and a duration, so that the videos of drawn orders are soon rendered."""
    operation, members = contract.operations["submit"], dict(_members(contract, model))
    choices: dict[str, tuple[Any, ...]] = {}
    for name in ("resolution", "duration"):
        low, high = members.get(_place(operation, model, name), (None, None))
        if low is not None:
            choices[name] = (low, high) if name == "resolution" else tuple(range(low, low + SHORT_DURATIONS))
    for resolution in choices.get("resolution", (None,)):
        for duration in choices.get("duration", (None,)):
            pair = (("resolution", resolution), ("duration", duration))
            yield tuple((name, value) for name, value in pair if value is not None)
