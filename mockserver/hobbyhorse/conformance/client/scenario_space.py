"""The space of scenarios for a contract: each single fault, and a Hypothesis strategy of combinations. No server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from hobbyhorse.contract.values import Contract, Operation
from hobbyhorse.scenarios.moves import CALLBACK, MEDIA, MOVES, TIMELINE, Kind, kinds
from hobbyhorse.scenarios.scenario import misfits, read_scenario

# Faults on one role in a generated scenario: enough for fail, recover, fail, recover. With more, most
# examples would end before their last fault.
MOST_MOVES = 4
# The statuses after which a client may submit again, because they guarantee that no job was made.
REFUSES_SAFELY = frozenset({429, 503})
# The values of each option; `value`, `situation` and `stage` depend on the contract. Few values with different meanings
# (none, short, long, beyond every deadline) find more than many similar ones.
OPTION_STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "accepted": st.booleans(),
    "seconds": st.sampled_from([0, 0.5, 5, 90, 4_000]),
    "keep": st.sampled_from([0, 0.25, 0.5, 0.99]),
    "pieces": st.integers(1, 5),
    "status": st.sampled_from([200, 201, 404, 500, 502, 503, 504]),
    "retry_after": st.sampled_from([0, 1, 5, 120]),
    "retry_after_date": st.sampled_from([0, 5, 120]),
    "word": st.sampled_from(["", "reticulating", "DONE", "Completed "]),
    "type": st.sampled_from(["application/octet-stream", "binary/octet-stream", "text/html", "video/mp4; codecs=avc1"]),
    "count": st.integers(2, 4),
    "times": st.one_of(st.integers(1, 3), st.just("always")),
    "last": st.booleans(),
    "code": st.sampled_from(["CONTENT_POLICY", "UPSTREAM"]),
    "message": st.sampled_from(["the prompt was refused", "out of memory"]),
}


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
        moves = _moves(bare, kinds(role), contract.operations.get(role))
        by_role[role] = st.lists(moves, min_size=1, max_size=MOST_MOVES)
    timelines = [timeline for timeline in bare_timelines(contract) if fits({"timeline": timeline}, contract)]
    timeline = _moves(timelines, TIMELINE)
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
    for name, kind in kinds(role).items():
        if kind.family == "field" and kind.needs is None and operation is not None:
            for value in operation.bindings:
                yield {"move": name, "value": value}
        else:
            yield {"move": name}
        if "accepted" in kind.options:
            yield {"move": name, "accepted": True}
    if operation is not None:
        for situation in operation.situations:
            if situation not in MOVES:
                yield {"move": situation}


def bare_timelines(contract: Contract) -> Iterator[dict[str, Any]]:
    """Yield each kind of timeline, once for each stage that it can concern."""
    for name, kind in TIMELINE.items():
        if "stage" in kind.options:
            for stage in contract.graph:
                yield {"move": name, "stage": stage.name}
        else:
            yield {"move": name}


def honest(move: dict[str, Any], operation: Operation | None) -> dict[str, Any]:
    """Return a fault, without `accepted` if its status promises that nothing has happened."""
    situations = operation.situations if operation is not None else {}
    refusal = situations.get(move["move"]) if move["move"] not in MOVES else None
    status = refusal.status if refusal is not None else move.get("status")
    return {name: value for name, value in move.items() if name != "accepted" or status not in REFUSES_SAFELY}


def _moves(
    bare: list[dict[str, Any]], table: Mapping[str, Kind], operation: Operation | None = None
) -> st.SearchStrategy[dict[str, Any]]:
    any_of = st.sampled_from(bare).flatmap(lambda move: _with_options(table.get(move["move"]), move))
    return any_of.map(lambda move: honest(move, operation))


def _with_options(kind: Kind | None, move: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of the same fault with any of its options."""
    names = kind.options if kind is not None else ("retry_after", "retry_after_date", "accepted")
    more = {name: OPTION_STRATEGIES[name] for name in names if name in OPTION_STRATEGIES and name not in move}
    if kind is None or kind.family != "timeline":
        more["times"] = OPTION_STRATEGIES["times"]
    return st.fixed_dictionaries({name: st.just(value) for name, value in move.items()}, optional=more)
