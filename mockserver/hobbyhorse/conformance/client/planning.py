"""Which drills there are for a contract and a client, and in which order they are tried; knows no server."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, zip_longest
from random import Random
from typing import Any

from hobbyhorse.conformance.client.cases import KILLED, MOVED, ONCE, Case
from hobbyhorse.conformance.client.scenario_space import deviations, fits
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.moves import CALLBACK, MEDIA, kinds
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace

REFUSED, TOO_MANY_REQUESTS = 400, 429
LONG_PAUSE = 90
"""Seconds that a refusal asks to wait, which is longer than clients wait of themselves."""
VITAL = frozenset({"job", "stage", "video_url", "status_url", "result_url", "cancel_url"})
"""The bound values that a client cannot do without."""
LURES = frozenset({"redirect", "foreign_links", "private_links"})
"""The moves that lead a client astray."""
GRAVE = frozenset({"timeout", "reset_peer", "html_page", "empty_body", "malformed_json", "error_envelope"})
"""The moves that leave a client without word of its job; so does every refusal."""
UNTROUBLED: Mapping[str, Any] = {"move": "latency", "seconds": 0}
"""The move that changes nothing."""
MOST_POINTS = 12
"""At how many of its first requests a client is killed."""


def believable(scenario: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Return a scenario without the moves that say of something that it has happened, which has not.

    Such a server deceives every client: no rule can be about it.
    """
    said = dict(scenario)
    moves: dict[str, Any] = {}
    for role, listed in scenario.get("moves", {}).items():
        operation = contract.operations.get(role)
        situations = operation.situations if operation is not None else {}
        left = [move for move in listed if move["move"] not in situations or situations[move["move"]].status >= REFUSED]
        if left:
            moves[role] = left
    said.pop("moves", None)
    return said | ({"moves": moves} if moves else {})


def singles(
    contract: Contract, used: Collection[str], when_stuck: Collection[str] = (), repeated: Collection[str] = ()
) -> list[Case]:
    """Return the single deviations on the roles that a client uses: each once, and for ever where that can be.

    The gravest come first: time that goes wrong, then submissions; after that each role gets its turn. Roles that are
    used `when_stuck` alone, such as to cancel, are met with a job that is. On roles that are used more than once for
    one job (`repeated`), troubles that pass come behind a good answer, too.
    """
    timelines, by_role = [], dict[str, list[Case]]()
    for scenario in deviations(contract):
        if scenario != believable(scenario, contract):
            continue
        if "timeline" in scenario:
            timelines.append(Case(scenario))
            continue
        role = next(iter(scenario["moves"]))
        stuck = {"timeline": {"move": "stuck"}} if role in when_stuck else {}
        if role in used and _differs(role, scenario["moves"][role][0]):
            by_role.setdefault(role, []).append(Case(scenario | stuck))
    for role, drills in by_role.items():
        drills += _patient(contract, role) if role not in when_stuck else ()
    submits = list(_in_order(contract, by_role.pop("submit", [])))
    others = [
        list(_in_order(contract, drills, role in repeated))
        for role, drills in by_role.items()
        if role not in when_stuck
    ]
    others += [sorted(drills, key=_refuses, reverse=True) for role, drills in by_role.items() if role in when_stuck]
    rest = [drill for turn in zip_longest(submits, *others) for drill in turn if drill is not None]
    return _unique(chain(timelines, rest))


def _differs(role: str, move: Mapping[str, Any]) -> bool:
    """Whether a move is another one than without its `accepted`: what only reads does nothing that matters."""
    return "accepted" not in move or role in (*SUBMISSIONS, "cancel")


def _patient(contract: Contract, role: str) -> Iterator[Case]:
    """Yield a refusal that asks to wait for long, in seconds and as a date."""
    operation = contract.operations.get(role)
    situations = operation.situations.items() if operation is not None else ()
    names = [name for name, situation in situations if situation.status == TOO_MANY_REQUESTS]
    for name in ["unavailable"] if role == MEDIA else names[:1]:
        for option in ("retry_after", "retry_after_date"):
            found = Case({"moves": {role: [{"move": name, option: LONG_PAUSE}]}})
            if fits(dict(found.scenario), contract):
                yield found


def _in_order(contract: Contract, drills: list[Case], repeated: bool = False) -> Iterator[Case]:
    """Yield the moves of a role, those first that lead astray: once, then for ever; of fields, those that matter.

    On a role that is `repeated`, the gravest also come late, when a client has seen its job.
    """
    lures, plain, vital, other = list[Case](), list[Case](), list[Case](), list[Case]()
    for drill in drills:
        ((role, (move,)),) = drill.scenario["moves"].items()
        kind = kinds(role).get(move["move"])
        if kind is not None and kind.family == "field":
            (vital if move.get("value", "stage") in VITAL else other).append(drill)
        else:
            (lures if _leads_astray(role, move) else plain).append(drill)
    refusals = [drill for drill in plain if _refuses(drill)]
    later = [found for drill in plain if repeated and (found := _later(drill)) is not None]
    yield from (*lures, *plain, *later, *_always(contract, [*refusals, *vital, *lures, *plain]))
    yield from (*vital, *_always(contract, other), *other)


def _leads_astray(role: str, move: Mapping[str, Any]) -> bool:
    """Whether a move leads a client to where it should not go, or sooner than it should."""
    return (move["move"] in LURES and role not in SUBMISSIONS) or "retry_after" in move or "retry_after_date" in move


def _refuses(drill: Case) -> bool:
    ((role, (move,)),) = drill.scenario["moves"].items()
    return move["move"] not in kinds(role)


def _later(drill: Case) -> Case | None:
    """Return a grave trouble behind an answer that is as it should be; None where a trouble is not grave."""
    ((role, (move,)),) = drill.scenario["moves"].items()
    if move["move"] not in GRAVE and not _refuses(drill):
        return None
    return Case({**drill.scenario, "moves": {role: [UNTROUBLED, move]}})


def _always(contract: Contract, drills: Iterable[Case]) -> Iterator[Case]:
    for drill in drills:
        scenario = copy.deepcopy(dict(drill.scenario))
        for moves in scenario["moves"].values():
            moves[0]["times"] = "always"
        if fits(scenario, contract):
            yield Case(scenario)


def pairs(contract: Contract, used: Collection[str], random: Random) -> Iterator[Case]:
    """Yield pairs of single deviations, without end, drawn at random."""
    ones = singles(contract, used)
    while len(ones) > 1:
        first, second = random.sample(ones, 2)
        merged = _merged(first.scenario, second.scenario)
        if merged is not None and fits(merged, contract):
            yield Case(merged)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    if "timeline" in one and "timeline" in other:
        return None
    scenario = copy.deepcopy(dict(one))
    for role, moves in other.get("moves", {}).items():
        scenario.setdefault("moves", {}).setdefault(role, []).extend(copy.deepcopy(moves))
    if "timeline" in other:
        scenario["timeline"] = dict(other["timeline"])
    return scenario


def simplified(drill: Case, contract: Contract) -> Iterator[Case]:
    """Yield simpler drills than one: without a move, without an option, run once; those that a contract can play."""
    for kind, scenario in _simpler(drill):
        found = Case(scenario, kind, drill.point)
        if found.size < drill.size and (not scenario or fits(scenario, contract)):
            yield found


def _simpler(drill: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    scenario = dict(drill.scenario)
    if drill.kind not in (ONCE, KILLED, MOVED):
        yield ONCE, scenario
    moves = scenario.get("moves", {})
    if len(moves) > 1:
        for role in moves:
            yield drill.kind, {**scenario, "moves": {role: moves[role]}}
    if "timeline" in scenario:
        yield drill.kind, {name: value for name, value in scenario.items() if name != "timeline"}
    for role, listed in moves.items():
        for at in range(len(listed)):
            left = {**moves, role: [*listed[:at], *listed[at + 1 :]]}
            left = {name: value for name, value in left.items() if value}
            rest = {name: value for name, value in scenario.items() if name != "moves"}
            yield drill.kind, rest | ({"moves": left} if left else {})
        for at, move in enumerate(listed):
            for bare in _barer(move):
                yield drill.kind, {**scenario, "moves": {**moves, role: [*listed[:at], bare, *listed[at + 1 :]]}}
    if "timeline" in scenario:
        for bare in _barer(scenario["timeline"]):
            yield drill.kind, {**scenario, "timeline": bare}


def _barer(move: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for option in move:
        if option != "move":
            yield {name: value for name, value in move.items() if name != option}


def last_polls(contract: Contract, stuck: AnnotatedTrace) -> list[Case]:
    """Return jobs that end just before the polls that a client made last of all, when its job was stuck for ever."""
    start = stuck.accepted
    polls = [step for step in stuck.polls if start is not None and step.status == 200]
    if start is None or len(polls) < 3:
        return []
    since = start.exchange.arrived
    moments = [(polls[-2].arrived + polls[-1].arrived) / 2 - since, polls[-1].arrived - since - 0.01]
    return [Case({"timeline": {"move": "slow", "seconds": round(moment, 3)}}) for moment in moments if moment > 0]


def killings(happy: AnnotatedTrace) -> list[Case]:
    """Return drills that kill a client at each of its requests, of which the server holds the answer back.

    A submission is held before and after it has made its job.
    """
    found = []
    counts: dict[str, int] = {}
    for step in happy.steps[:MOST_POINTS]:
        role = step.role
        if role is None:
            continue
        before = counts.get(role, 0)
        counts[role] = before + 1
        passed = [{**UNTROUBLED, "times": before}] if before else []
        for accepted in (False, True) if role in SUBMISSIONS else (None,):
            held = {"move": "timeout"} | ({"accepted": True} if accepted else {})
            found.append(Case({"moves": {role: [*passed, held]}}, KILLED, step.number))
    return found


def repeated_roles(story: AnnotatedTrace) -> list[str]:
    """Return the reads that a client was seen to make more than once."""
    counts = Counter(step.role for step in story.reads)
    return [role for role, count in counts.items() if role is not None and count > 1]


def used_roles(stories: Iterable[AnnotatedTrace]) -> list[str]:
    """Return the roles that a client was seen to use, files and callbacks among them."""
    roles: dict[str, None] = {}
    for story in stories:
        roles |= {step.role: None for step in story.steps if step.role is not None}
        if story.trace.deliveries:
            roles[CALLBACK] = None
    return [role for role in roles if role != "health"]


def _unique(drills: Iterable[Case]) -> list[Case]:
    return list({drill.key: drill for drill in drills}.values())
