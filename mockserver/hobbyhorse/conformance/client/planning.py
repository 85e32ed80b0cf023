"""The test cases for a contract and a client, and their order. Knows no server.

The search runs cases in this order until its runs are used up, so the order decides which bugs a short search finds:

* Timelines first. Every client meets them, and they find the bugs that cost money: lost deadlines, resubmissions.
* Then the operations in turn, submissions before the others, so that no operation is left out of a short search.
* Within an operation: faults that lead a client astray (a foreign URL, a long Retry-After); failures; later failures,
  after a response that shows the job; the same faults on every request; then fields, vital ones first.
* Variations after the gravest faults, each alone on every role: they cost no money, but each explains itself.
* Each fault once before always. Once finds clients that give up, always finds clients that never do.

Two properties keep findings fair. A scenario never reports something as done that the fake has not done (`believable`),
because no client could behave correctly there. And a simplified case is always strictly smaller (`simplified`), so that
shrinking ends.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, zip_longest
from random import Random
from typing import Any

from hobbyhorse.conformance.client.cases import KILLED, MOVED, ONCE, RECOVERY, TOGETHER, Case
from hobbyhorse.conformance.client.order_cases import simpler_orders
from hobbyhorse.conformance.client.scenario_space import STALL, deviations, final_refusal, fits, variation_moves
from hobbyhorse.contract.values import Contract
from hobbyhorse.scenarios.fault import (
    CALLBACK,
    CUTS,
    DIVIDES,
    DRIPS,
    ENDS,
    FAILING,
    FAILS,
    GRAVE,
    HOLDS,
    LOSES,
    LURE,
    MEDIA,
    MUDDLES,
    PASSES,
    RANGED,
    RETURNS,
    STICKS,
    TIMELINE,
    UNRANGED,
)
from hobbyhorse.scenarios.fields import Field
from hobbyhorse.scenarios.options import MESSAGE, RETRY_AFTER, SITUATION
from hobbyhorse.scenarios.registry import faults_at, faults_of, name_used_for, names_used_for
from hobbyhorse.traces.annotated import SUBMISSIONS, AnnotatedTrace

# The minimum status of a refusal, and that of what does not exist (RFC 9110, sections 15.5 and 15.5.5), the status of a
# rate limit (RFC 6585, section 4), and of an internal error, a bad gateway and a server that is not available (RFC
# 9110, sections 15.6.1, 15.6.3 and 15.6.4).
REFUSED, NOT_FOUND, TOO_MANY_REQUESTS, INTERNAL, BAD_GATEWAY, UNAVAILABLE = 400, 404, 429, 500, 502, 503
# The refusal of a repeated submission whose first attempt is in progress.
IN_FLIGHT = "key_in_flight"
# Seconds that a refusal asks a client to wait: longer than a client's own pauses, so that ignoring it shows.
LONG_PAUSE = 90
# A provider that requests no pause, however often it is asked.
NO_PAUSE: Mapping[str, Any] = {"retry_after": 0, "times": "always"}
# Seconds beyond any deadline: a client that waits as told has none.
ENDLESS_PAUSE = 7_200
# Why a job fails. Documented messages, such as "generation failed", may also be the client's own words.
# The characters beyond ASCII come late: a client may report the beginning, or escape them.
REASON = "Frame 7 of the picture shows a trademark of another company: « Zürich » 駿馬 🐎"
# The bound values that a client needs.
VITAL = frozenset({"job", "stage", "video_url", "status_url", "result_url", "cancel_url"})
LURES, GRAVE_FAULTS = names_used_for(LURE), names_used_for(GRAVE)
# The fault that changes nothing: it lets a request pass before the next fault applies.
UNTROUBLED: Mapping[str, Any] = {"move": name_used_for(PASSES), "seconds": 0}
STUCK: Mapping[str, Any] = {"move": name_used_for(STICKS)}
HELD: Mapping[str, Any] = {"move": name_used_for(HOLDS)}
HALF_SENT: Mapping[str, Any] = {"move": name_used_for(DRIPS), **STALL}
# The faults during which a client is killed: the whole response is held back, or the rest of it.
KILLING = frozenset({HELD["move"], HALF_SENT["move"]})
# Seconds that every client waits for the response to a submission.
SLOW_RESPONSE = 5
# Failures of polls in one run, and the good polls before each: more than a client survives in a row, if it may retry at
# all, and too far apart to be one outage. The job takes most of the time for which the client waits.
LEAST_APART, MOST_APART, GOOD_BETWEEN, LONG_SHARE = 3, 12, 3, 0.8
# Failures of polls in a row, as many as a restart of a provider causes, and the seconds of a submission or a file that
# takes its time.
OUTAGE, SLOW = 3, 8
SLOW_FILE: Mapping[str, Any] = {"move": name_used_for(DRIPS), "seconds": SLOW, "pieces": 16, "times": "always"}
# The first requests at which a client is killed. Later ones are further polls of the same job, which show nothing new.
MOST_POINTS = 12


def believable(scenario: Mapping[str, Any], contract: Contract) -> dict[str, Any]:
    """Return a scenario without the faults that report a success which has not happened.

    Such a server deceives every client, so that no rule can judge one there.
    """
    kept = dict(scenario)
    moves: dict[str, Any] = {}
    for role, listed in scenario.get("moves", {}).items():
        operation = contract.operations.get(role)
        situations = operation.situations if operation is not None else {}
        left = [move for move in listed if move["move"] not in situations or situations[move["move"]].status >= REFUSED]
        if left:
            moves[role] = left
    kept.pop("moves", None)
    return kept | ({"moves": moves} if moves else {})


def singles(
    contract: Contract, used: Collection[str], when_stuck: Collection[str] = (), repeated: Collection[str] = ()
) -> list[Case]:
    """Return the single faults on the roles that a client uses, each once and, where possible, always.

    A lost response after a refusal is among them, because it is as likely as either alone.
    Roles that a client uses only `when_stuck`, such as cancel, get a scenario with a stuck job. On roles that it uses
    several times for one job (`repeated`), grave faults also come after a good response.
    """
    timelines, by_role = [], dict[str, list[Case]]()
    for scenario in deviations(contract):
        if scenario != believable(scenario, contract):
            continue
        if "timeline" in scenario:
            timelines.append(Case(scenario))
            continue
        role = next(iter(scenario["moves"]))
        stuck = {"timeline": dict(STUCK)} if role in when_stuck else {}
        if role in used and _differs(role, scenario["moves"][role][0]):
            by_role.setdefault(role, []).append(Case(scenario | stuck))
    timelines += _explained(contract, timelines)
    for role, cases in by_role.items():
        if role not in when_stuck:
            # What happens most often in practice comes first.
            cases[:] = [*_lasting(contract, role), *cases, *_patient(contract, role)]
    submits = [*_lost_later(contract, used), *_told_early(used), *_in_order(contract, by_role.pop("submit", []))]
    others = [
        list(_in_order(contract, cases, role in repeated)) for role, cases in by_role.items() if role not in when_stuck
    ]
    others += [sorted(cases, key=_refuses, reverse=True) for role, cases in by_role.items() if role in when_stuck]
    rest = [case for turn in zip_longest(submits, *others) for case in turn if case is not None]
    return _unique(chain(timelines, rest))


def _differs(role: str, move: Mapping[str, Any]) -> bool:
    """Whether a fault's `accepted` makes a difference: a read has no effect that could be accepted."""
    return "accepted" not in move or role in (*SUBMISSIONS, "cancel")


def _explained(contract: Contract, timelines: Iterable[Case]) -> list[Case]:
    """Return the first failure of a job that may have a message of its own, with a message that no client makes up."""
    for case in timelines:
        timeline = case.scenario["timeline"]
        scenario = {"timeline": {**timeline, MESSAGE.name: REASON}}
        if faults_at(TIMELINE)[timeline["move"]].has(MESSAGE.name) and fits(scenario, contract):
            return [Case(scenario)]
    return []


def _patient(contract: Contract, role: str) -> Iterator[Case]:
    """Yield a refusal with a long Retry-After, in seconds and as a date, one beyond any deadline, and two of 0.

    A refusal in the body of a response with status 200 follows, each time: only its repetition shows a client that
    waits until its deadline.
    """
    operation = contract.operations.get(role)
    situations = operation.situations.items() if operation is not None else ()
    limits = [name for name, situation in situations if situation.status == TOO_MANY_REQUESTS]
    of_files = [name for name, fault in faults_of(role).items() if fault.has(RETRY_AFTER.name)]
    for name in of_files if role == MEDIA else limits[:1]:
        waits = ({"retry_after": LONG_PAUSE}, {"retry_after_date": LONG_PAUSE}, {"retry_after": ENDLESS_PAUSE})
        for options in (*waits, NO_PAUSE, {"retry_after_date": 0}):
            found = Case({"moves": {role: [{"move": name, **options}]}})
            if fits(dict(found.scenario), contract):
                yield found
    refusal = final_refusal(operation)
    for name, fault in faults_of(role).items() if refusal is not None and role not in SUBMISSIONS else ():
        if fault.has(SITUATION.name):
            yield Case({"moves": {role: [{"move": name, SITUATION.name: refusal, "times": "always"}]}})


def _lasting(contract: Contract, role: str) -> Iterator[Case]:
    """Yield a short outage of the polls, as the provider's own error, a page and a gateway's page.

    Also a job or a result that is not there yet, a result that is behind the status, a file that takes its time, and a
    submission that does.
    """
    if role == "submit":
        yield Case({"moves": {role: [{**UNTROUBLED, "seconds": SLOW}]}})
    if role == MEDIA:
        yield Case({"moves": {MEDIA: [dict(SLOW_FILE)]}})
        yield Case({"moves": {MEDIA: [{**UNTROUBLED, "seconds": SLOW, "times": "always"}]}})
    behind = {"moves": {role: [{"move": name_used_for(RETURNS)}]}}
    if role == "result" and fits(behind, contract):
        yield Case(behind)
    reads = contract.operations.get(role) if role in ("status", "result") else None
    missing = [name for name, one in reads.situations.items() if one.status == NOT_FOUND] if reads else []
    for name in missing[:1]:
        yield Case({"moves": {role: [{"move": name, "times": OUTAGE}]}})
    operation = reads if role == "status" else None
    errors = [name for name, one in operation.situations.items() if one.status == INTERNAL] if operation else []
    pages = [{}, {"status": BAD_GATEWAY}]
    moves = [{"move": name} for name in errors[:1]] + [{"move": name_used_for(MUDDLES), **status} for status in pages]
    for move in moves if operation is not None else ():
        yield Case({"moves": {role: [{**move, "times": OUTAGE}]}})


def _lost_later(contract: Contract, used: Collection[str]) -> Iterator[Case]:
    """Yield orders whose response is lost after another refusal, or whose repetition is refused.

    After a refusal for now, an HTTP library takes a lost response for a connection that had been closed before, on
    which nothing was received.
    """
    for role in sorted(SUBMISSIONS & contract.operations.keys() & set(used)):
        situations = contract.operations[role].situations.items()
        for name in [name for name, one in situations if one.status in (TOO_MANY_REQUESTS, UNAVAILABLE)][:1]:
            yield Case({"moves": {role: [{"move": name}, {"move": name_used_for(LOSES)}]}})
        if contract.idempotency.mode == "replay" and IN_FLIGHT in contract.operations[role].situations:
            # The lost request goes on, and the repeated one comes before its end.
            yield Case({"moves": {role: [{"move": name_used_for(LOSES)}, {"move": IN_FLIGHT}]}})


def _told_early(used: Collection[str]) -> Iterator[Case]:
    """Yield a job that ends at once, so that its callback comes before the response to its submission."""
    if CALLBACK in used and "submit" in used:
        ended = {"move": name_used_for(ENDS), "seconds": 0}
        yield Case({"timeline": ended, "moves": {"submit": [{"move": UNTROUBLED["move"], "seconds": SLOW_RESPONSE}]}})


def _in_order(contract: Contract, cases: list[Case], repeated: bool = False) -> Iterator[Case]:
    """Yield a role's cases, the most revealing first; the module's docstring has the order.

    On a `repeated` role, grave faults also come late, when the client has seen its job.
    """
    lures, plain, vital, other = list[Case](), list[Case](), list[Case](), list[Case]()
    for case in cases:
        ((role, (move,)),) = case.scenario["moves"].items()
        fault = faults_of(role).get(move["move"])
        if fault is not None and isinstance(fault.needs, Field) and RETURNS not in fault.uses:
            (vital if move.get("value", "stage") in VITAL else other).append(case)
        else:
            (lures if _leads_astray(role, move) else plain).append(case)
    refusals = [case for case in plain if _refuses(case)]
    later = [found for case in plain if repeated and (found := _later(case)) is not None]
    yield from (*lures, *plain, *later, *_always(contract, [*refusals, *vital, *lures, *plain]))
    yield from (*vital, *_always(contract, other), *other)


def _leads_astray(role: str, move: Mapping[str, Any]) -> bool:
    """Whether a fault leads a client to a wrong host, or tests whether it does as it is told."""
    always = move.get("times") == "always"
    asks = "retry_after" in move or "retry_after_date" in move
    return (move["move"] in LURES and role not in SUBMISSIONS) or asks or (always and SITUATION.name in move)


def _refuses(case: Case) -> bool:
    ((role, (move,)),) = case.scenario["moves"].items()
    return move["move"] not in faults_of(role)


def _later(case: Case) -> Case | None:
    """Return a case with its fault after one good response, or None if the fault is not grave."""
    ((role, (move,)),) = case.scenario["moves"].items()
    if move["move"] not in GRAVE_FAULTS and not _refuses(case):
        return None
    return Case({**case.scenario, "moves": {role: [UNTROUBLED, move]}})


def _always(contract: Contract, cases: Iterable[Case]) -> Iterator[Case]:
    for case in cases:
        scenario = copy.deepcopy(dict(case.scenario))
        for moves in scenario["moves"].values():
            moves[0]["times"] = "always"
        if fits(scenario, contract):
            yield Case(scenario)


def varied(contract: Contract, used: Collection[str]) -> list[Case]:
    """Return the single variations, each on every response of the roles that a client uses.

    Shrinking finds the role. A variation of a fault comes with this fault, once and in one role, so that the client
    survives the fault itself.
    """
    found: dict[str, dict[str, Any]] = {}
    alone = list[Case]()
    for role, move in variation_moves(contract):
        fault = faults_at(TIMELINE)[move["move"]] if role == TIMELINE else faults_of(role).get(move["move"])
        if role == TIMELINE:
            alone.append(Case({"timeline": move}))
        elif role in used and (fault is None or not fault.form):
            alone.append(Case({"moves": {role: [move]}}))
        elif role in used and fault is not None:
            # By form: a variation of one name may have another form, and another rule, in a callback.
            case = found.setdefault(fault.form + json.dumps(move, sort_keys=True), {"moves": {}})
            # Only a client whose download broke off asks for the rest.
            before = [{"move": name_used_for(CUTS)}] if fault.uses & {RANGED, UNRANGED} else []
            # A client that asks for the rest of a part again and again would never have all of it.
            often = {} if RANGED in fault.uses else {"times": "always"}
            case["moves"][role] = [*before, {**move, **often}]
            if fault.uses & {FAILING, DIVIDES}:
                message = {MESSAGE.name: REASON} if DIVIDES in fault.uses else {}
                case["timeline"] = {"move": name_used_for(FAILS), **message}
    return _unique([*map(Case, found.values()), *alone])


def pairs(contract: Contract, used: Collection[str], random: Random) -> Iterator[Case]:
    """Yield random pairs of single faults, endlessly."""
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


def simplified(case: Case, contract: Contract) -> Iterator[Case]:
    """Yield the simpler neighbours of a case that a contract allows.

    A neighbour is run once instead of several times, has a simpler order, or lacks a role's faults, a fault, the
    timeline or an option, and is strictly smaller. Larger steps come first, because each success ends the round.
    """
    for found in _simpler(case, contract):
        if found.size < case.size and (not found.scenario or fits(dict(found.scenario), contract)):
            yield found


def _simpler(case: Case, contract: Contract) -> Iterator[Case]:
    if case.kind not in (ONCE, KILLED, MOVED):
        yield replace(case, kind=ONCE)
    for order in () if case.order is None else simpler_orders(contract, case.order):
        yield replace(case, order=order)
    for simpler in simpler_scenarios(dict(case.scenario)):
        yield replace(case, scenario=simpler)


def simpler_scenarios(scenario: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a scenario without a role's faults, its timeline, a fault, or an option."""
    moves = scenario.get("moves", {})
    if len(moves) > 1:
        for role in moves:
            yield {**scenario, "moves": {role: moves[role]}}
    if "timeline" in scenario:
        yield {name: value for name, value in scenario.items() if name != "timeline"}
    for role in moves:
        yield from _simpler_faults(scenario, role)
    if "timeline" in scenario:
        for bare in _barer(scenario["timeline"]):
            yield {**scenario, "timeline": bare}


def _simpler_faults(scenario: dict[str, Any], role: str) -> Iterator[dict[str, Any]]:
    """Yield a scenario without each fault of a role, then with each of these faults without one of its options."""
    moves, listed = scenario["moves"], scenario["moves"][role]
    for at in range(len(listed)):
        left = {**moves, role: [*listed[:at], *listed[at + 1 :]]}
        left = {name: value for name, value in left.items() if value}
        rest = {name: value for name, value in scenario.items() if name != "moves"}
        yield rest | ({"moves": left} if left else {})
    for at, move in enumerate(listed):
        for bare in _barer(move):
            yield {**scenario, "moves": {**moves, role: [*listed[:at], bare, *listed[at + 1 :]]}}


def _barer(move: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for option in move:
        if option != "move":
            yield {name: value for name, value in move.items() if name != option}


def last_polls(contract: Contract, stuck: AnnotatedTrace) -> list[Case]:
    """Return cases in which the job ends just before a client's last polls of a stuck job.

    Only there does a client show whether the response to its last poll still counts.
    """
    start = stuck.accepted
    polls = [step for step in stuck.polls if start is not None and step.status == 200]
    if start is None or len(polls) < 3:  # fewer polls do not show where the client's deadline is
        return []
    since = start.exchange.arrived
    # Between the last two polls, and 10 ms before the last one, which leaves no time for another poll.
    moments = [(polls[-2].arrived + polls[-1].arrived) / 2 - since, polls[-1].arrived - since - 0.01]
    return [
        Case({"timeline": {"move": name_used_for(ENDS), "seconds": round(moment, 3)}})
        for moment in moments
        if moment > 0
    ]


def failures_apart(contract: Contract, stuck: AnnotatedTrace) -> list[Case]:
    """Return a case in which polls fail again and again, each after some good ones, while a long job goes on.

    `stuck` is the trace of a stuck job: it tells how often and for how long the client polls.
    """
    start, polls = stuck.accepted, [step for step in stuck.polls if step.status == 200]
    count = min(len(polls) // (GOOD_BETWEEN + 1), MOST_APART)
    if start is None or count < LEAST_APART:
        return []
    # While some polls are left, so that the client is not at its deadline.
    end = (polls[-1].arrived - start.exchange.arrived) * LONG_SHARE
    good, lost = {**UNTROUBLED, "times": GOOD_BETWEEN}, {"move": name_used_for(LOSES)}
    role = polls[0].role or "status"
    return [
        Case(
            {"timeline": {"move": name_used_for(ENDS), "seconds": round(end, 3)}, "moves": {role: [good, lost] * count}}
        )
    ]


def killings(happy: AnnotatedTrace) -> list[Case]:
    """Return cases that kill a client at each of its requests, while the server holds the response back.

    A submission is held before and after it has made its job: only the second has something to resume. A file is held
    in its middle too: the part of it that the client has saved is not the video.
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
            held = dict(HELD) | ({"accepted": True} if accepted else {})
            # Earlier requests of the role pass, so that exactly this one is held.
            found.append(Case({"moves": {role: [*passed, held]}}, KILLED, step.number))
    # A fault of a file concerns GET, so the first GET meets it, however many requests came before.
    fetches = [step for step in happy.fetches if step.exchange.method == "GET"]
    found += [Case({"moves": {MEDIA: [dict(HALF_SENT)]}}, KILLED, step.number) for step in fetches[:1]]
    return found


def recoveries(ones: Iterable[Case]) -> list[Case]:
    """Return the cases of a client that fails repeatedly before a run without faults, from the single faults.

    The job fails, or an operation is refused each time, or breaks off each time. More cases would cost many runs each.
    """
    found: dict[object, Case] = {}
    for case in ones:
        if "timeline" in case.scenario:
            found.setdefault("timeline", Case(case.scenario, RECOVERY))
            continue
        ((role, moves),) = case.scenario["moves"].items()
        if moves[0].get("times") == "always" and (_refuses(case) or moves[0]["move"] in GRAVE_FAULTS):
            found.setdefault((role, _refuses(case)), Case(case.scenario, RECOVERY))
    return list(found.values())


def overlapping_downloads() -> Case:
    """Return the case of several orders at the same time whose jobs end at the same time, and whose files are slow."""
    ended = {"move": name_used_for(ENDS), "seconds": 1}
    return Case({"timeline": ended, "moves": {MEDIA: [dict(SLOW_FILE)]}}, TOGETHER)


def repeated_roles(trace: AnnotatedTrace) -> list[str]:
    """Return the roles of the reads that a client made more than once."""
    counts = Counter(step.role for step in trace.reads)
    return [role for role, count in counts.items() if role is not None and count > 1]


def used_roles(traces: Iterable[AnnotatedTrace]) -> list[str]:
    """Return the roles that a client used, including files and callbacks."""
    roles: dict[str, None] = {}
    for trace in traces:
        roles |= {step.role: None for step in trace.steps if step.role is not None}
        if trace.deliveries:
            roles[CALLBACK] = None
    return [role for role in roles if role != "health"]


def _unique(cases: Iterable[Case]) -> list[Case]:
    return list({case.key: case for case in cases}.values())
