"""Acceptance: 2,000 valid bodies of every model are accepted and 2,000 invalid ones refused, by both validators' word.

No answer may break its schema. Every order goes through the whole application; no picture is fetched, no video made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hobbyhorse.conformance.server.bodies import (
    CHARSET,
    ESCAPED,
    FOREIGN,
    FORM,
    PREMIUM,
    _is_between,
    beside_parameters,
    bounds,
    negatives,
    other_forms,
    price_of,
    shared_bounds,
    spelled,
)
from hobbyhorse.conformance.server.budget import worst
from hobbyhorse.conformance.server.negate import Mutation, Pair, breakable, mutations
from hobbyhorse.contract.checks.models import try_order
from hobbyhorse.contract.example_orders import order_for
from hobbyhorse.contract.forms.expressions import (
    MISSING,
    Place,
    Pointer,
    format_pointer,
    parse_pointer,
    replaced,
    resolve,
)
from hobbyhorse.contract.generate import TEXT, values
from hobbyhorse.contract.request import ValidRequest, cut_prompt, prompt_weight
from hobbyhorse.contract.schemas import Schemas
from hobbyhorse.contract.values import Contract, Form, Model, Operation, find_situation
from hobbyhorse.traces.exchange import Exchange
from hobbyhorse.worlds.world import Ending
from tests.conformance.server.test_suite import models, never_called, session_on
from tests.conftest import CONTRACTS, contracts_that, many
from tests.contract.test_generate import Judges, documents_of, judges_of
from tests.world import Mock, Reply

BODIES = many(2_000, 250)
BROKEN = many(2_000, 500)
FEW = 200
ELSEWHERE = "https://media.example/first-frame.jpg"
"""A picture on another machine, which is not fetched."""


@dataclass(frozen=True)
class Case:
    """One model, submitted by one operation of one contract."""

    contract: Contract
    model: Model
    role: str

    @property
    def operation(self) -> Operation:
        return self.contract.operations[self.role]

    @property
    def place(self) -> Pointer:
        """The place of the model's parameters in the body."""
        return self.operation.model_parameters.pointer

    @property
    def whole(self) -> str:
        """The address of the schema of the whole body."""
        return self.operation.body_schema or self.model.schema

    @property
    def prompt(self) -> Pointer:
        """The place of the prompt in the parameters; without a prompt, the parameters themselves (not a string)."""
        return self.model.parameters.get("prompt", ((),))[0]

    def pictures(self) -> list[Pointer]:
        """The places of pictures in the parameters."""
        return [place for name in ("first_frame", "references") for place in self.model.parameters.get(name, ())]


CASES = [
    Case(contract, model, role)
    for contract in CONTRACTS
    for role in ("submit", "run")
    if role in contract.operations
    for model in contract.models
]
LIMITED = [case for case in CASES if case.model.prompt_limit is not None]
FORMS = [(case, form) for case in CASES for form in case.operation.forms]


def name(case: Case) -> str:
    return f"{case.contract.key}-{case.role}-{case.model.id}"


every_case = pytest.mark.parametrize("case", CASES, ids=name)


# ---- bodies


def valid_bodies(case: Case) -> st.SearchStrategy[Any]:
    """Valid submissions: parameters valid by the model's schema, in a body valid by the operation's."""
    schemas, place = case.contract.schemas, case.place

    def parameters(generated: Any) -> Any:
        """Apply the rules that a schema cannot express: a data URI must be a picture, and a prompt has a weight."""
        for pointer in case.pictures():
            if str(resolve(generated, pointer)).lower().startswith("data:"):
                generated = replaced(generated, pointer, ELSEWHERE)
        limit = case.model.prompt_limit
        if limit is not None and limit.over == "refuse" and isinstance(prompt := resolve(generated, case.prompt), str):
            generated = replaced(generated, case.prompt, cut_prompt(prompt, limit))
        return generated

    inner = values(schemas, case.model.schema, undeclared=True, whole_floats=True).map(parameters)
    around = values(schemas, case.whole, undeclared=True, whole_floats=True) if place else st.none()
    return st.builds(lambda around, inner: named(case, replaced(around, place, inner)), around, inner)


def named(case: Case, body: Any) -> Any:
    """Return a body that names the case's model, if bodies name one."""
    for pointer in names(case):
        body = replaced(body, pointer, case.model.id)
    return body


def names(case: Case) -> list[Pointer]:
    """Return where bodies name their model."""
    return [place.pointer for place in case.operation.bindings["model"].request if place.part == "body"]


def invalid_bodies(case: Case) -> st.SearchStrategy[Mutation]:
    """Bodies that violate the model's schema, or the operation's outside of the parameters."""
    schemas, place = case.contract.schemas, case.place
    inner = mutations(schemas, case.model.schema).filter(lambda mutation: not is_cut(case, mutation))
    if not place:
        return inner
    prefix = format_pointer(place)

    def put(around: Any, mutation: Mutation) -> Mutation:
        body = replaced(named(case, around), place, mutation.value)
        return Mutation(body, prefix + mutation.pointer, mutation.keyword)

    return st.builds(put, values(schemas, case.whole), inner) | mutations(schemas, case.whole, around_parameters(case))


def around_parameters(case: Case) -> list[Pair]:
    """Return the pairs that can be violated outside of the parameters."""
    prefix = format_pointer(case.place)
    pairs = breakable(case.contract.schemas, case.whole)
    return [(at, keyword) for at, keyword in pairs if not f"{at}/".startswith(f"{prefix}/") or keyword == "required"]


def is_cut(case: Case, mutation: Mutation) -> bool:
    """Whether the violation is a long prompt, which is cut to its limit before validation."""
    limit, pair = case.model.prompt_limit, (mutation.pointer, mutation.keyword)
    if limit is None or limit.over != "truncate" or pair != too_long(case):
        return False
    allowed = cut_prompt(resolve(mutation.value, case.prompt), limit)
    return judges(case, case.model.schema).accept(replaced(mutation.value, case.prompt, allowed))


def too_long(case: Case) -> Pair:
    return format_pointer(case.prompt), "maxLength"


# ---- orders


@cache
def judges_by(key: str, address: str) -> Judges:
    return judges_of(next(contract for contract in CONTRACTS if contract.key == key), address)


def judges(case: Case, address: str) -> Judges:
    """Return the cached validators for a schema of the case's contract."""
    return judges_by(case.contract.key, address)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Counter:
    """The fake, and checks of its responses by the case's contract, whatever contract it serves."""

    def __init__(self, case: Case, loop: asyncio.AbstractEventLoop, served: Contract | None = None) -> None:
        self.case = case
        self.mock = Mock([served or case.contract], pace="instant")
        self._loop = loop

    def order(self, body: Any, headers: dict[str, str] | None = None) -> tuple[Reply, Exchange]:
        """Submit a job, check the response by its schema, and return it with its journal entry."""
        case, world = self.case, self.mock.world
        before = len(world.jobs)
        if case.role == "run":
            world.endings.append(Ending(failure(case.contract)))
        call = self.mock.call(case.contract, case.role, path={"model": case.model.id}, body=body, headers=headers)
        reply = self._loop.run_until_complete(call)
        world.endings.clear()
        exchange = list(world.journal)[-1]
        situation = case.operation.situations[exchange.situation or ""]
        assert reply.status == exchange.status == situation.status
        assert reply.reading is not None
        assert situation.name in reply.reading.situations
        assert judges(case, situation.schema).accept(reply.json)
        assert len(world.jobs) - before == (exchange.job is not None)
        return reply, exchange

    def accept(self, body: Any, headers: dict[str, str] | None = None) -> Exchange:
        """Submit a job that must be accepted."""
        reply, exchange = self.order(body, headers)
        assert exchange.job is not None, reply.body
        assert exchange.job in self.mock.world.jobs
        if self.case.role == "submit":
            assert exchange.situation == "accepted"
            assert reply.reading is not None
            assert reply.reading.values["job"] == exchange.job
        else:
            assert failure(self.case.contract) in self.case.operation.situations[exchange.situation or ""].stages
        return exchange

    def refuse(self, body: Any, *expected: str) -> Exchange:
        """Submit a job that must be refused, as one of the expected situations, with a reason in the journal."""
        reply, exchange = self.order(body)
        situations = [find_situation(self.case.operation, name) for name in expected]
        assert exchange.situation in {situation.name for situation in situations if situation is not None}, reply.body
        assert exchange.job is None
        assert reply.status >= 400
        assert exchange.notes
        return exchange


def failure(contract: Contract) -> str:
    """Return the stage of a failed job, which ends without a video."""
    return next(stage.name for stage in contract.graph if stage.kind == "failure")


def expected_refusals(case: Case, mutation: Mutation) -> tuple[str, ...]:
    if not isinstance(mutation.value, dict):
        return ("malformed_body",)
    known = all(resolve(mutation.value, pointer) == case.model.id for pointer in names(case))
    return ("invalid_request",) if known else ("unknown_model", "invalid_request")


def trial(examples: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> settings:
    return settings(
        max_examples=examples, phases=phases, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)
    )


def check_accepted(counter: Counter, trial: settings) -> int:
    """Submit valid bodies; return their number."""
    case, orders = counter.case, 0

    @trial
    @given(valid_bodies(case))
    def every_valid_body_is_accepted(body: Any) -> None:
        nonlocal orders
        parameters = resolve(body, case.place)
        assert judges(case, case.model.schema).accept(parameters)
        assert judges(case, case.whole).accept(body)
        exchange = counter.accept(body)
        order = counter.mock.world.jobs[exchange.job or ""].order
        prompt, limit = resolve(parameters, case.prompt), case.model.prompt_limit
        if isinstance(prompt, str):
            assert order.prompt == (prompt if limit is None else cut_prompt(prompt, limit))
        assert order.model.id == case.model.id
        orders += 1

    every_valid_body_is_accepted()
    return orders


def check_refused(counter: Counter, trial: settings) -> list[Pair]:
    """Submit invalid bodies; return the violated pair of each."""
    case, broken = counter.case, list[Pair]()

    @trial
    @given(invalid_bodies(case))
    def every_invalid_body_is_refused(mutation: Mutation) -> None:
        parameters = resolve(mutation.value, case.place)
        inside = parameters is not MISSING and judges(case, case.model.schema).accept(parameters)
        around = judges(case, case.whole).accept(mutation.value)
        assert not (inside and around)
        counter.refuse(mutation.value, *expected_refusals(case, mutation))
        broken.append((mutation.pointer, mutation.keyword))

    every_invalid_body_is_refused()
    return broken


# ---- the acceptance


@every_case
def test_every_valid_body_is_accepted_and_makes_one_job(case: Case, loop: asyncio.AbstractEventLoop) -> None:
    counter = Counter(case, loop)
    orders = check_accepted(counter, trial(BODIES))
    assert orders >= BODIES
    assert len(counter.mock.world.jobs) == orders


@every_case
def test_every_invalid_body_is_refused_as_documented_and_makes_no_job(
    case: Case, loop: asyncio.AbstractEventLoop
) -> None:
    counter = Counter(case, loop)
    broken = check_refused(counter, trial(BROKEN))
    assert len(broken) >= BROKEN
    assert not counter.mock.world.jobs
    prefix = format_pointer(case.place)
    inside = {(prefix + at, keyword) for at, keyword in breakable(case.contract.schemas, case.model.schema)}
    around = set(around_parameters(case)) if case.place else set()
    limit = case.model.prompt_limit
    spared = {(prefix + too_long(case)[0], "maxLength")} if limit and limit.over == "truncate" else set()
    meant = (inside | around) - spared
    assert len(meant - set(broken)) <= many(0, len(meant) // 10)


@pytest.mark.parametrize(
    ("case", "other"),
    [
        (case, other)
        for case in CASES
        for other in CASES
        if case.contract is other.contract and case.role == other.role and case.model is not other.model
    ],
    ids=name,
)
def test_a_body_of_another_model_is_refused_unless_it_is_one_of_this_model_too(
    case: Case, other: Case, loop: asyncio.AbstractEventLoop
) -> None:
    """The operation's schema may allow the bodies of all models, so the model's own schema decides."""
    counter = Counter(case, loop)

    @trial(FEW)
    @given(valid_bodies(other))
    def every_body_is_judged_by_the_model_that_it_is_for(body: Any) -> None:
        body = named(case, body)
        if judges(case, case.model.schema).accept(resolve(body, case.place)):
            counter.accept(body)
        else:
            counter.refuse(body, "invalid_request")

    every_body_is_judged_by_the_model_that_it_is_for()


@pytest.mark.parametrize("case", LIMITED, ids=name)
def test_a_prompt_over_its_limit_is_cut_and_noted_or_refused(case: Case, loop: asyncio.AbstractEventLoop) -> None:
    counter, limit = Counter(case, loop), case.model.prompt_limit
    assert limit is not None

    @trial(FEW)
    @given(valid_bodies(case), TEXT, st.sampled_from("x马🐎"), st.integers(1, limit.characters))
    def every_long_prompt_is_cut_or_refused(body: Any, text: str, more: str, over: int) -> None:
        assert limit is not None
        prompt = text + more * (limit.characters + over)
        body = replaced(body, (*case.place, *case.prompt), prompt)
        if limit.over == "refuse":
            counter.refuse(body, "invalid_request")
            return
        exchange = counter.accept(body)
        kept = counter.mock.world.jobs[exchange.job or ""].order.prompt
        assert prompt.startswith(kept)
        assert prompt_weight(kept, limit) <= limit.characters < prompt_weight(prompt[: len(kept) + 1], limit)
        assert any("truncated" in note for note in exchange.notes)

    every_long_prompt_is_cut_or_refused()


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in LIMITED
        if case.model.prompt_limit is not None
        and case.model.prompt_limit.over == "truncate"
        and too_long(case) in breakable(case.contract.schemas, case.model.schema)
    ],
    ids=name,
)
def test_a_prompt_over_its_schemas_length_is_cut_before_validation(case: Case, loop: asyncio.AbstractEventLoop) -> None:
    """Cover the one mutation that the test of refused bodies leaves out."""
    counter = Counter(case, loop)
    broken = mutations(case.contract.schemas, case.model.schema, [too_long(case)])

    @trial(FEW)
    @given(valid_bodies(case), broken.filter(lambda mutation: is_cut(case, mutation)))
    def every_such_prompt_is_cut(body: Any, mutation: Mutation) -> None:
        exchange = counter.accept(replaced(body, (*case.place, *case.prompt), resolve(mutation.value, case.prompt)))
        assert any("truncated" in note for note in exchange.notes)

    every_such_prompt_is_cut()


@pytest.mark.parametrize(
    ("case", "form"), FORMS, ids=lambda value: name(value) if isinstance(value, Case) else value.name
)
def test_every_valid_body_is_accepted_in_every_documented_form(
    case: Case, form: Form, loop: asyncio.AbstractEventLoop
) -> None:
    counter = Counter(case, loop)

    @trial(FEW)
    @given(valid_bodies(case))
    def every_form_means_the_same(body: Any) -> None:
        sent, headers = in_form(body, form)
        assert judges(case, case.whole).accept(sent)
        plain, formed = counter.accept(body), counter.accept(sent, headers)
        assert f"form {form.name}" in formed.notes
        assert counter.mock.world.jobs[formed.job or ""].order == counter.mock.world.jobs[plain.job or ""].order

    every_form_means_the_same()


def in_form(body: Any, form: Form) -> tuple[Any, dict[str, str]]:
    """Return a documented body in another form, and the headers that belong to it."""
    headers = {}
    moved = [(source, resolve(body, to)) for to, source in form.set]
    for to, _ in form.set:
        body = replaced(body, to, MISSING)
    for source, value in moved:
        if source.part == "header" and value is not MISSING:
            headers[source.name] = value
        elif value is not MISSING:
            body = _put(body, source, value)
    return body, headers


def _put(body: Any, source: Place, value: Any) -> Any:
    """Return a body with a value at a place, creating missing lists."""
    for depth, step in enumerate(source.pointer):
        above = source.pointer[:depth]
        if step == "0" and not isinstance(resolve(body, above), list):
            body = replaced(body, above, [{}])
    return replaced(body, source.pointer, value)


# ---- the checks can fail


def spoilt(contract: Contract, model: Model, schema: Any) -> Contract:
    """Return a contract with another schema for a model."""
    return replace(contract, schemas=Schemas({**documents_of(contract), model.schema_file: schema}))


def test_a_server_that_refuses_valid_bodies_is_caught(contract: Contract, loop: asyncio.AbstractEventLoop) -> None:
    case = next(case for case in CASES if case.contract is contract)
    narrow = spoilt(contract, case.model, {"type": "object", "required": ["no such member"]})
    with pytest.raises(AssertionError):
        check_accepted(Counter(case, loop, narrow), trial(FEW, (Phase.generate,)))


@pytest.mark.parametrize("keyword", ["required", "properties"])
def test_a_server_that_accepts_invalid_bodies_is_caught(
    keyword: str, contract: Contract, loop: asyncio.AbstractEventLoop
) -> None:
    """The fake may also crash on a value that the schema should have kept out."""
    case = next(case for case in CASES if case.contract is contract)
    schema = contract.schemas.document(case.model.schema_file)
    wide = {"required": [], "properties": {member: {} for member in schema["properties"]}}
    fake = spoilt(contract, case.model, {**schema, keyword: wide[keyword]})
    with pytest.raises((AssertionError, TypeError, ValueError, AttributeError)):
        # About one body in a hundred shows it; the first one ends the trial.
        check_refused(Counter(case, loop, fake), trial(20 * FEW, (Phase.generate,)))


@models
def test_every_negative_breaks_the_contract_and_every_bound_keeps_it(contract: Contract, model: Model) -> None:
    session = session_on(contract, model, httpx.MockTransport(never_called))
    broken = list(negatives(contract, model, session.submit, session.order))
    assert len(broken) > 10
    assert len({body.label for body in broken}) == len(broken)
    whole = format_pointer(session.submit.model_parameters.pointer)
    for body in broken:
        assert body.label.split(":", 2)[2] != whole, "a body without its parameters is no near miss"
        assert not isinstance(try_order(contract, session.submit, model.id, body.value), ValidRequest), body.label
    edges = list(bounds(contract, model, session.submit, session.order))
    assert len(edges) >= 2
    for body in edges:
        assert isinstance(try_order(contract, session.submit, model.id, body.value), ValidRequest), body.label


@models
def test_a_body_whose_price_cannot_be_read_costs_the_worst(contract: Contract, model: Model) -> None:
    session = session_on(contract, model, httpx.MockTransport(never_called))
    submit, order = session.submit, session.order
    place = (*submit.model_parameters.pointer, *model.parameters["duration"][0])
    assert session.price == model.cost(min(model.price, key=lambda tier: model.price[tier]), resolve(order, place))
    for wrong in (None, "3", 3.5, True, 0, -1, 10**9, [3]):
        assert price_of(contract, model, submit, order, replaced(order, place, wrong)) == worst(contract)


@models
def test_what_is_left_out_costs_what_its_documented_default_does(contract: Contract, model: Model) -> None:
    session = session_on(contract, model, httpx.MockTransport(never_called))
    submit, order = session.submit, session.order
    around = submit.model_parameters.pointer
    short = replaced(order, (*around, *model.parameters["resolution"][0]), MISSING)
    seconds = resolve(order, (*around, *model.parameters["duration"][0]))
    assert price_of(contract, model, submit, order, short) == model.cost(model.defaults["resolution"], seconds)
    bare = replaced(short, (*around, *model.parameters["duration"][0]), MISSING)
    usual = model.cost(model.defaults["resolution"], model.defaults["duration"])
    assert price_of(contract, model, submit, order, bare) == usual < worst(contract)
    # A body that the provider should refuse may be billed at any price.
    wrong = replaced(bare, (*around, *model.parameters["prompt"][0]), 5)
    assert price_of(contract, model, submit, order, wrong) == worst(contract)


# ---- several bounds in one order


@models
def test_every_bound_is_in_one_order_and_values_between_bounds_come_last(contract: Contract, model: Model) -> None:
    submit, order = contract.operations["submit"], order_for(contract, model, mark="x")
    shared = shared_bounds(contract, model, submit, order)
    every = [one.label for one in bounds(contract, model, submit, order)]
    assert sorted(one.label for each in shared for one in each.alone) == sorted(every)
    between = [any(_is_between(contract, model, submit, one) for one in each.alone) for each in shared]
    assert between == sorted(between)
    for each in shared:
        alone = sum((one.price for one in each.alone), Decimal(0))
        assert each.body.price <= PREMIUM * alone
        assert isinstance(try_order(contract, submit, model.id, each.body.value), ValidRequest)


@models
def test_an_order_of_another_length_or_size_has_the_first_prompt_and_seed(contract: Contract, model: Model) -> None:
    submit, order = contract.operations["submit"], order_for(contract, model, mark="x")
    around = submit.model_parameters.pointer

    def differs(body: Any, *names: str) -> bool:
        places = [(*around, *at) for name in names for at in model.parameters.get(name, ())]
        return any(resolve(body, place) not in (MISSING, resolve(order, place)) for place in places)

    lengths = [one.body.value for one in shared_bounds(contract, model, submit, order)]
    lengths = [body for body in lengths if differs(body, "duration", "resolution")]
    assert lengths
    assert not [body for body in lengths if differs(body, "prompt", "seed")]


@contracts_that(lambda contract: any(form.when.part == "body" for form in contract.operations["submit"].forms))
def test_an_order_in_another_form_is_the_same_order(contract: Contract) -> None:
    submit, model = contract.operations["submit"], contract.models[0]
    order = order_for(contract, model, mark="x")
    found = list(other_forms(contract, model, submit, order))
    assert {one.label for one in found} == {f"{FORM}{one.name}" for one in submit.forms if one.when.part == "body"}
    for one in found:
        assert one.value != order
        tried, usual = (try_order(contract, submit, model.id, body) for body in (one.value, order))
        assert isinstance(tried, ValidRequest)
        assert isinstance(usual, ValidRequest)
        assert tried.order.identity == usual.order.identity
        assert one.price == price_of(contract, model, submit, order, order)


def test_every_spelling_of_a_value_is_the_same_value() -> None:
    value = {"a": [1, {"b": FOREIGN, "c": None}], "d": True}
    for ways in ((), (CHARSET,), (ESCAPED,), (CHARSET, ESCAPED)):
        content, kind = spelled(value, *ways)
        assert json.loads(content) == value
        assert (kind == "application/json") == (CHARSET not in ways)
        assert content.isascii() == (ESCAPED in ways)
        assert (b"\n" in content) == (ESCAPED in ways)
        assert (content.index(b'"a"') > content.index(b'"d"')) == (ESCAPED in ways)


def test_the_ends_of_a_long_enum_and_some_values_between_are_tried_first() -> None:
    contract = next(one for one in CONTRACTS if one.key == "runcomfy")
    model, submit = contract.models[0], contract.operations["submit"]
    found = list(bounds(contract, model, submit, order_for(contract, model, mark="x")))
    late = {one.value["duration"] for one in found if _is_between(contract, model, submit, one)}
    assert late == {4, 6, 7, 9, 11, 12, 14}


@contracts_that(lambda contract: bool(beside_parameters(contract, contract.operations["submit"])[0].get("properties")))
def test_the_members_beside_the_parameters_are_tried_as_well(contract: Contract) -> None:
    submit, model = contract.operations["submit"], contract.models[0]
    order = order_for(contract, model, mark="x")
    members = beside_parameters(contract, submit)[0]["properties"]
    limits = {name: inner["maxLength"] for name, inner in members.items() if "maxLength" in inner}
    assert limits
    wrong = [body.value for body in negatives(contract, model, submit, order)]
    right = [body.value for body in bounds(contract, model, submit, order)]
    for name, most in limits.items():
        assert any(len(body.get(name, "")) == most for body in right)
        assert any(isinstance(body.get(name), str) and len(body[name]) == most + 1 for body in wrong)
        assert any(name in body and not isinstance(body[name], str) for body in wrong)
    url = submit.bindings["callback_url"].request[0].pointer
    assert all(resolve(body, url) is MISSING for body in (*wrong, *right)), "an address of somebody else"


@models
def test_a_body_that_is_nothing_but_parameters_has_no_members_beside_them(contract: Contract, model: Model) -> None:
    submit = contract.operations["submit"]
    assert bool(beside_parameters(contract, submit)[0]) == bool(submit.model_parameters.pointer)


def test_no_optional_member_is_tried_as_null(contract: Contract) -> None:
    """A server may read null as an absent member, and near misses try the required ones."""
    model, operation = contract.models[0], contract.operations["submit"]
    order = order_for(contract, model)
    tried = list(negatives(contract, model, operation, order))
    assert len(tried) > 20
    nulls = {place for body in tried if resolve(body.value, parse_pointer(place := body.label.split(":")[2])) is None}
    schemas = (model.schema, operation.body_schema)
    required = {name for at in schemas if at for name in names_required(contract.schemas.at(at))}
    assert nulls
    assert {parse_pointer(place)[-1] for place in nulls} <= required


def names_required(schema: Any) -> set[str]:
    """Return the names of the required members in a schema, at any depth and without references."""
    if isinstance(schema, list):
        return {name for one in schema for name in names_required(one)}
    if not isinstance(schema, dict):
        return set()
    return {*schema.get("required", ())} | {name for one in schema.values() for name in names_required(one)}
