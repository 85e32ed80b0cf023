"""Hypothesis strategies for a team's own tests: the orders, responses, callbacks and scenarios of a provider.

    from hypothesis import given
    from hobbyhorse import strategies

    @given(strategies.responses("acme", "status"))
    def test_my_parser_reads_every_response(response):
        my_parser(response.status, dict(response.headers), response.body)

A provider is named by its key, or given as a loaded contract. Every strategy raises LookupError for an unknown
provider, model, role or situation, and names the known ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import orjson
from hypothesis import strategies as st

from hobbyhorse.conformance.client.planning import believable
from hobbyhorse.conformance.client.scenario_space import fits, values_of
from hobbyhorse.conformance.client.scenario_space import scenarios as scenarios_of
from hobbyhorse.conformance.drawn_orders import orders as orders_of
from hobbyhorse.conformance.server.bodies import grafted
from hobbyhorse.conformance.server.negate import Mutation, mutations
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.folder import load_all
from hobbyhorse.contract.forms.expressions import MISSING, Place, parse_pointer, replaced, resolve
from hobbyhorse.contract.forms.signatures import DEFAULT_SECRET, sign
from hobbyhorse.contract.generate import values
from hobbyhorse.contract.message import CONSTANT
from hobbyhorse.contract.reading import as_json, message_of, read_answer, read_callback
from hobbyhorse.contract.request import Refusal
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Binding, Callbacks, Contract, Model, Operation, Situation
from hobbyhorse.scenarios.effects import Sent
from hobbyhorse.scenarios.fault import OPERATION, VARIATION, DecidedOperation, Fault
from hobbyhorse.scenarios.registry import faults_at

JSON_TYPE = "application/json"
# Changes of form in one response: one for each layer (members, JSON text), and one to spare.
MOST_VARIATIONS = 3
# The seed of a variation's own choices, such as a random query: any range with many values.
MOST_SEED = 2**32
# A message id of the form that signed callbacks use. Its value proves nothing to a receiver.
MESSAGE_ID = "msg_2Lml8sPZ0aQkQ1rT"


@dataclass(frozen=True, slots=True)
class Response:
    """A response of a provider: its status, its headers in order, and the bytes of its body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON value. Raises ValueError if the body is not JSON."""
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback as it arrives: its headers, the bytes of its body, and the moment of its signature (Unix time)."""

    headers: Mapping[str, str]
    body: bytes
    signed: int

    def json(self) -> Any:
        """Return the body's JSON value."""
        return orjson.loads(self.body)


@cache
def _contracts() -> Mapping[str, Contract]:
    return {contract.key: contract for contract in load_all()}


def _contract(provider: str | Contract) -> Contract:
    return provider if isinstance(provider, Contract) else _named(_contracts(), provider, "provider")


def _model(contract: Contract, name: str | None) -> Model:
    return contract.models[0] if name is None else _named({one.id: one for one in contract.models}, name, "model")


def _named(known: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in known:
        raise LookupError(f"{kind} {name!r} is unknown; known: {', '.join(known)}")
    return known[name]


def orders(provider: str | Contract, *, model: str | None = None) -> st.SearchStrategy[Any]:
    """Return a strategy for valid submissions, as JSON values: every parameter drawn from the model's schema.

    Prompts have quotes, line breaks, emoji, right-to-left and combining characters; numbers are often 0, booleans often
    false. Pictures stay those of the documented example. `model` is the model's id; default: the provider's first one.
    """
    contract = _contract(provider)
    return orders_of(contract, _model(contract, model))


def invalid_orders(provider: str | Contract, *, model: str | None = None) -> st.SearchStrategy[tuple[Any, str]]:
    """Return a strategy for pairs of a submission that the provider must refuse, and the reason in one sentence.

    Each breaks one keyword of the model's schema in one place of the documented example.
    """
    contract = _contract(provider)
    chosen, operation = _model(contract, model), contract.operations["submit"]
    example, around = order_for(contract, chosen), operation.model_parameters.pointer
    inner = resolve(example, around)

    def broken(mutation: Mutation) -> tuple[Any, Any]:
        pointer = parse_pointer(mutation.pointer)
        changed = grafted(inner, pointer, mutation.keyword, mutation.value) if pointer else mutation.value
        body = replaced(example, around, changed)
        return body, try_order(contract, operation, chosen.id, body)

    pairs = mutations(contract.schemas, chosen.schema).map(broken)
    return pairs.filter(lambda pair: isinstance(pair[1], Refusal)).map(lambda pair: (pair[0], reason(pair[1])))


def reason(refusal: Refusal) -> str:
    """Return the reason of a refusal in one sentence."""
    return refusal.message or f"the provider responds with its situation {refusal.situation!r}"


def responses(provider: str | Contract, role: str, *, situation: str | None = None) -> st.SearchStrategy[Response]:
    """Return a strategy for the responses of an operation that a right server may send.

    The body satisfies the schema of its situation and has the situation's constant values. Members that the schema does
    not declare, optional members, the JSON text and the headers vary as the standards and the contract allow. `role` is
    the operation's role, such as `submit`; `situation` is a name in the contract; default: any.
    """
    contract = _contract(provider)
    operation = _named(contract.operations, role, "role")
    known = operation.situations
    chosen = list(known.values()) if situation is None else [_named(known, situation, "situation")]
    return st.one_of([_responses(contract, operation, one) for one in chosen])


def _responses(contract: Contract, operation: Operation, situation: Situation) -> st.SearchStrategy[Response]:
    if situation.empty:
        return st.just(Response(situation.status, tuple(situation.headers), b""))
    stages = [place for name in sorted(CONSTANT) for place in _written(operation.bindings.get(name))]

    def means_it(body: Any) -> bool:
        reading = read_answer(contract.schemas, operation, situation.status, message_of((), body))
        return situation.name in reading.situations

    bodies = _bodies(contract.schemas, situation, stages).filter(means_it)
    headers = ((b"content-type", situation.media_type.encode()), *_encoded(situation.headers))
    sent = bodies.map(lambda body: Sent(situation.status, headers, orjson.dumps(body), situation.name))

    def is_right(sent: Sent) -> bool:
        body = as_json(sent.body)
        valid = contract.schemas.validator(situation.schema).is_valid(body)
        return sent.status == situation.status and valid and means_it(body)

    return st.builds(
        lambda sent, forms, seed: _varied(sent, operation, forms, seed, is_right),
        sent,
        _forms(contract, operation),
        st.integers(0, MOST_SEED),
    )


def _written(binding: Binding | None) -> tuple[Place, ...]:
    return binding.response if binding is not None else ()


def _bodies(schemas: Schemas, situation: Situation, constant: Iterable[Place]) -> st.SearchStrategy[Any]:
    """Return a strategy for the bodies of a situation, with the constant values of its example."""
    example = schemas.at(situation.example_at)
    places = [place.pointer for place in constant if place.part == "body"]

    def marked(body: Any) -> Any:
        for pointer in places:
            value = resolve(example, pointer)
            if value is not MISSING or resolve(body, pointer) is not MISSING:
                body = replaced(body, pointer, value)
        return body

    valid = schemas.validator(situation.schema).is_valid
    return st.just(example) | values(schemas, situation.schema, undeclared=True).map(marked).filter(valid)


def _encoded(headers: Iterable[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers)


Form = tuple[Fault, Mapping[str, Any]]
"""A variation, and its complete options."""


def _forms(contract: Contract, operation: Operation) -> st.SearchStrategy[list[Form]]:
    """Return a strategy for the variations of a response's content. Those of the connection need a connection."""
    found = [
        fault
        for fault in faults_at(OPERATION).values()
        if fault.kind == VARIATION and fits({"moves": {operation.role: [{"move": fault.name}]}}, contract)
    ]
    one = st.sampled_from(found).flatmap(_with_options) if found else st.nothing()
    return st.lists(one, max_size=MOST_VARIATIONS, unique_by=lambda form: form[0].name)


def _with_options(fault: Fault) -> st.SearchStrategy[Form]:
    tried = {option.name: values_of(option) for option in fault.options}
    drawn = st.fixed_dictionaries({}, optional={name: found for name, found in tried.items() if found is not None})
    return drawn.map(lambda options: (fault, fault.complete(options)))


def _varied(
    sent: Sent, operation: Operation, forms: Iterable[Form], seed: int, is_right: Callable[[Sent], bool]
) -> Response:
    """Return a response after some variations, the content before its text.

    A variation that gives the response another meaning, such as another status of success, is left out.
    """
    for fault, options in sorted(forms, key=lambda form: form[0].rank):
        varied = fault.effect(_decided(sent, operation, seed), options)
        if isinstance(varied, Sent) and is_right(varied):
            sent = varied
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in sent.headers)
    return Response(sent.status, headers, sent.body)


def _decided(sent: Sent, operation: Operation, seed: int) -> DecidedOperation:
    return DecidedOperation(
        sent=sent,
        random=Random(seed),
        now=time.time(),
        name=sent.situation or "",
        operation=operation,
        origins={},
        target=operation.path,
        refuse=lambda name: sent,
        earlier=lambda: None,
    )


def callbacks(provider: str | Contract, *, secret: str = DEFAULT_SECRET) -> st.SearchStrategy[Callback]:
    """Return a strategy for the callbacks that a provider may send, signed with a secret if it signs them.

    The signature covers the bytes of the body, and is made at the moment of drawing. Raises LookupError if the provider
    has no callbacks.
    """
    contract = _contract(provider)
    if (found := contract.callbacks) is None:
        raise LookupError(f"{contract.name} has no callbacks")
    constant = [place for name in sorted(CONSTANT) if name in found.bindings for place in found.bindings[name].request]

    def bodies(situation: Situation) -> st.SearchStrategy[Any]:
        def means_it(body: Any) -> bool:
            return situation.name in read_callback(contract.schemas, found, message_of((), body)).situations

        return _bodies(contract.schemas, situation, constant).filter(means_it)

    texts = st.one_of([bodies(situation) for situation in found.situations.values()]).flatmap(_texts)
    return texts.map(lambda body: _callback(found, secret, body))


def _texts(value: Any) -> st.SearchStrategy[bytes]:
    """Return a strategy for the JSON texts of a value: compact, spaced, or without characters outside ASCII."""
    spaced = json.dumps(value, ensure_ascii=False, indent=1).encode()
    return st.sampled_from((orjson.dumps(value), spaced, json.dumps(value).encode()))


def _callback(found: Callbacks, secret: str, body: bytes) -> Callback:
    moment = int(time.time())
    headers = {"content-type": JSON_TYPE}
    if found.signature is not None:
        headers |= sign(found.signature, secret, body, timestamp=moment, message_id=MESSAGE_ID)
    return Callback(headers, body, moment)


def scenarios(provider: str | Contract, *, model: str | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for scenarios: what `MockWorld.arm` takes. The simplest one is a server without faults.

    All models of a provider have the same scenarios; the name of the model is checked, and nothing else.
    """
    contract = _contract(provider)
    _model(contract, model)
    return scenarios_of(contract).map(lambda scenario: believable(scenario, contract))
