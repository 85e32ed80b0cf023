"""The space of scenarios for a contract: each single fault, and a Hypothesis strategy of combinations. No server."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.fault import CALLBACK, MEDIA, OPERATION, TIMELINE, Fault, Option
from hobbyhorse.scenarios.options import ACCEPTED, APART, PIECES, REPORT, SECONDS, SITUATION, STAGE, STATUS, VALUE
from hobbyhorse.scenarios.registry import faults_at, faults_of, refusal_fault
from hobbyhorse.scenarios.scenario import misfits, read_scenario

# Faults on one role in a generated scenario: enough for fail, recover, fail, recover. With more, most
# examples would end before their last fault.
MOST_MOVES = 4
# The statuses after which a client may submit again, because they guarantee that no job was made.
REFUSES_SAFELY = frozenset({429, 503})
# The status of a rate limit (RFC 6585, section 4).
TOO_MANY_REQUESTS = 429
# The statuses that gateways add to a provider's own, each in its turn (RFC 9110, sections 15.6.3 to 15.6.5).
GATEWAYS = (502, 503, 504)
# Seconds between a false callback and the true one in which a client shows what it does with the false one.
LONG_APART = 20
# A body whose second half comes after an hour: longer than any client should wait for a piece, or for the whole.
STALL = {SECONDS.name: 7_200, PIECES.name: 2}
# The refusals that may not be final: a new job that is not visible yet, and refusals that pass.
PASSING = frozenset({404, 408, 425, TOO_MANY_REQUESTS})
TIMES = st.one_of(st.integers(1, 3), st.just("always"))
"""How often a fault occurs in a generated scenario."""


def deviations(contract: Contract) -> list[dict[str, Any]]:
    """Return every scenario with one fault: each fault on each role, and each timeline."""
    found = [{"moves": {role: [move]}} for role in roles(contract) for move in bare_moves(contract, role)]
    found += [{"timeline": timeline} for timeline in bare_timelines(contract)]
    return [scenario for scenario in found if fits(scenario, contract)]


def scenarios(contract: Contract) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of scenarios that a contract allows; the simplest one has no fault.

    No scenario lies about its effect: a response that promises that nothing has happened keeps that promise.
    """
    by_role = {}
    for role in roles(contract):
        bare = [move for move in bare_moves(contract, role) if fits({"moves": {role: [move]}}, contract)]
        moves = _moves(bare, faults_of(role), contract.operations.get(role))
        by_role[role] = st.lists(moves, min_size=1, max_size=MOST_MOVES)
    timelines = [timeline for timeline in bare_timelines(contract) if fits({"timeline": timeline}, contract)]
    timeline = _moves(timelines, faults_at(TIMELINE))
    return st.fixed_dictionaries(
        {}, optional={"moves": st.fixed_dictionaries({}, optional=by_role), "timeline": timeline}
    )


def fits(scenario: dict[str, Any], contract: Contract) -> bool:
    """Whether a contract allows a scenario."""
    return not misfits(read_scenario(scenario), contract)


def roles(contract: Contract) -> Iterator[str]:
    """Yield the roles that can have faults."""
    yield from contract.operations
    yield MEDIA
    if contract.callbacks is not None:
        yield CALLBACK


def bare_moves(contract: Contract, role: str) -> Iterator[dict[str, Any]]:
    """Yield each fault of a role with only the options that it needs. Not every one fits the contract."""
    operation = contract.operations.get(role)
    for name, fault in faults_of(role).items():
        # Variations that a rule judges are tried by themselves: beside a fault, the fault would explain the end.
        if fault.form:
            continue
        if fault.has(VALUE.name) and operation is not None:
            for value in operation.bindings:
                yield {"move": name, "value": value}
        else:
            yield {"move": name}
        yield from ({"move": name, **more} for more in _telling_options(fault, operation))
    if operation is not None:
        for situation in operation.situations:
            if situation not in faults_at(OPERATION):
                yield {"move": situation}


def _telling_options(fault: Fault, operation: Operation | None) -> Iterator[dict[str, Any]]:
    """Yield options of a fault that make another fault of it."""
    if fault.has(ACCEPTED.name):
        yield {ACCEPTED.name: True}
    if fault.has(STATUS.name):
        yield from ({STATUS.name: status} for status in GATEWAYS)
    if fault.has(PIECES.name):
        yield dict(STALL)
    if fault.has(REPORT.name):
        yield {REPORT.name: "failure"}
    if fault.has(APART.name):
        yield {APART.name: LONG_APART}
    if fault.has(SITUATION.name) and (refusal := final_refusal(operation)) is not None:
        yield {SITUATION.name: refusal}


def final_refusal(operation: Operation | None) -> str | None:
    """Return the first situation of an operation that refuses a request for good."""
    situations = operation.situations.items() if operation is not None else ()
    return next((name for name, one in situations if 400 <= one.status < 500 and one.status not in PASSING), None)


def variation_moves(contract: Contract) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each judged variation that fits the contract, after its role: bare, and with each value of each option.

    A variation of a fault comes with that fault.
    """
    for role in (*roles(contract), TIMELINE):
        for move in _role_expressions(contract, role):
            scenario = {"timeline": move} if role == TIMELINE else {"moves": {role: [move]}}
            if fits(scenario, contract):
                yield role, move


def _role_expressions(contract: Contract, role: str) -> Iterator[dict[str, Any]]:
    for name, fault in (faults_at(TIMELINE) if role == TIMELINE else faults_of(role)).items():
        yield from _expressions(name, fault)
    operation = contract.operations.get(role)
    for name, situation in operation.situations.items() if operation is not None else ():
        # A rate limit is the refusal that says when to come back.
        if situation.status == TOO_MANY_REQUESTS and name not in faults_of(role):
            yield from _expressions(name, refusal_fault())


def _expressions(name: str, fault: Fault) -> Iterator[dict[str, Any]]:
    if fault.form:
        yield {"move": name}
    for option in fault.options:
        values: Iterable[Any] = (True,) if option.schema["type"] == "boolean" else option.tried
        for value in values if fault.form or option.form else ():
            if value != option.default:
                yield {"move": name, **option.beside, option.name: value}


def varied_scenarios(contract: Contract, without: Collection[str] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of scenarios with variations only, at most one in each layer of a role's responses.

    `without` are the forms that a client does not survive alone: they would explain every scenario that has one.
    """
    by_role: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for role, move in variation_moves(contract):
        fault = faults_at(TIMELINE).get(move["move"]) if role == TIMELINE else faults_of(role).get(move["move"])
        if role != TIMELINE and fault is not None and fault.form and fault.form not in without and fault.layer:
            always = {**move, "times": "always"}
            by_role.setdefault(role, {}).setdefault(fault.layer, []).append(always)
    listed = {
        role: st.fixed_dictionaries(
            {}, optional={layer: st.sampled_from(moves) for layer, moves in layers.items()}
        ).map(lambda chosen: list(chosen.values()))
        for role, layers in by_role.items()
    }
    return st.fixed_dictionaries(listed).map(
        lambda moves: {"moves": {role: chosen for role, chosen in moves.items() if chosen}}
    )


def bare_timelines(contract: Contract) -> Iterator[dict[str, Any]]:
    """Yield each kind of timeline, once for each stage that it can concern."""
    for name, fault in faults_at(TIMELINE).items():
        if fault.form:
            continue
        if fault.has(STAGE.name):
            for stage in contract.graph:
                yield {"move": name, "stage": stage.name}
        else:
            yield {"move": name}


def honest(move: dict[str, Any], operation: Operation | None) -> dict[str, Any]:
    """Return a fault, without `accepted` if its status promises that nothing has happened."""
    situations = operation.situations if operation is not None else {}
    refusal = situations.get(move["move"]) if move["move"] not in faults_at(OPERATION) else None
    status = refusal.status if refusal is not None else move.get("status")
    return {name: value for name, value in move.items() if name != "accepted" or status not in REFUSES_SAFELY}


def _moves(
    bare: list[dict[str, Any]], table: Mapping[str, Fault], operation: Operation | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    any_of = st.sampled_from(bare).flatmap(lambda move: _with_options(table.get(move["move"], refusal_fault()), move))
    return any_of.map(lambda move: honest(move, operation))


def _with_options(fault: Fault, move: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of the same fault with any of its options."""
    found = {option.name: values_of(option) for option in fault.options if option.name not in move}
    more = {name: values for name, values in found.items() if values is not None}
    if TIMELINE not in fault.stands:
        more["times"] = TIMES
    return st.fixed_dictionaries({name: st.just(value) for name, value in move.items()}, optional=more)


def values_of(option: Option) -> st.SearchStrategy[Any] | None:
    """Return a strategy of the values of an option, or None if they depend on the contract."""
    if option.schema["type"] == "boolean":
        return st.booleans()
    if isinstance(option.tried, range):
        return st.integers(option.tried.start, option.tried.stop - 1)
    return st.sampled_from(option.tried) if option.tried else None
