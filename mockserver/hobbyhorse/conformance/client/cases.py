"""Test cases: how a client is run, and the scenario that it faces. Knows no contract and no server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hobbyhorse.traces.trace import Trace

ONCE, TWICE, TOGETHER, CROWD = "once", "twice", "together", "crowd"
LONG, RECOVERY, KILLED, MOVED = "long", "recovery", "killed", "moved"
EQUAL, PROMPTS, PICTURES, MEMBERS, FOLDER = "equal", "prompts", "pictures", "members", "folder"
# The client runs twice with orders that are equal, or differ only in the prompt, or only in the picture; `members`:
# three times, with an order that has only what it needs, with one that has every parameter, and with the first again;
# `folder`: with two orders in one folder, in which the second run finds the files of the first.
PAIR_KINDS = (EQUAL, PROMPTS, PICTURES, MEMBERS, FOLDER)
AHEAD, BEHIND = "ahead", "behind"
# The client runs once, and its wall clock is set an hour ahead for a while, or back for good.
CLOCK_KINDS = (AHEAD, BEHIND)
# The client runs once; twice, with two orders; several times concurrently, with different orders; the same, with one
# running job at a time; with the longest prompt; several times under the scenario's faults, and then once without any;
# is killed at a request and restarted; is restarted with another base URL. Simpler kinds come first: `Case.size`
# compares positions.
CASE_KINDS = (ONCE, TWICE, *PAIR_KINDS, TOGETHER, CROWD, LONG, *CLOCK_KINDS, RECOVERY, KILLED, MOVED)
# The kinds in which runs overlap, so that a request without a body may belong to any of them.
CONCURRENT_KINDS = (TOGETHER, CROWD)
# The kinds in which a callable runs, in virtual time, and those in which a command runs: only virtual time can set a
# client's clock, only a callable keeps in memory what an earlier order had, and only a command has a folder. A command
# can also be killed, if another one resumes it.
USUAL_KINDS = (ONCE, TWICE, EQUAL, PROMPTS, PICTURES, LONG, TOGETHER, CROWD, RECOVERY)
CALLABLE_KINDS = (*USUAL_KINDS, MEMBERS, *CLOCK_KINDS)
COMMAND_KINDS = (*USUAL_KINDS, FOLDER)
RESUMED_KINDS = (*COMMAND_KINDS, KILLED, MOVED)
# The kinds in which a command runs in virtual time, where its clock can be set too.
VIRTUAL_COMMAND_KINDS = (*COMMAND_KINDS, *CLOCK_KINDS)
VIRTUAL_RESUMED_KINDS = (*RESUMED_KINDS, *CLOCK_KINDS)
# The kinds in which a client of two providers runs: one order after the other, so that each request has one run.
FALLBACK_KINDS = (ONCE, TWICE, EQUAL, PROMPTS, PICTURES, LONG)
# Characters of an order that a case in words shows: enough for an ordinary order, and one long line at most.
SHOWN_CHARACTERS = 240


@dataclass(frozen=True, slots=True)
class Case:
    """A way to run the client, and a scenario: the server's deviation from its documented behaviour.

    `point` is the number of the request at which the client is killed. `order` is the body that the client must submit,
    instead of the plain order that the contract documents. `second` is the scenario of the second provider, if there is
    one.
    """

    scenario: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ONCE
    point: int = 0
    order: Mapping[str, Any] | None = None
    second: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A text that identifies the case."""
        ordered = () if self.order is None and not self.second else (self.order,)
        second = (self.second,) if self.second else ()
        return json.dumps([self.kind, self.point, self.scenario, *ordered, *second], sort_keys=True)

    @property
    def moves(self) -> int:
        """The number of faults in the scenarios; a timeline counts as one."""
        return sum(map(_faults, (self.scenario, self.second)))

    @property
    def size(self) -> tuple[int, int, bool, int, str]:
        """A sort key: a simpler case has fewer faults, a simpler kind, the plain order, fewer options and members."""
        # The key is last, so that the order is total: equal seeds must shrink to equal cases.
        return (self.moves, CASE_KINDS.index(self.kind), self.order is not None, len(self.key), self.key)

    def to_json(self) -> dict[str, Any]:
        """Return the case as JSON."""
        fields: dict[str, Any] = {"drill": self.kind, "scenario": self.scenario}
        fields |= {"point": self.point} if self.point else {}
        fields |= {} if self.order is None else {"order": self.order}
        return fields | ({"second": self.second} if self.second else {})

    def __str__(self) -> str:
        """Return the case in one line, such as `submit: accept_then_drop; timeline: fail (stage=running)`."""
        words = [] if self.kind == ONCE else [f"{self.kind} at request {self.point}" if self.point else self.kind]
        words += _scenario_in_words(self.scenario)
        words += [f"at the second provider, {one}" for one in _scenario_in_words(self.second)]
        if self.order is not None:
            text = json.dumps(self.order, ensure_ascii=False)
            words.append(f"order: {text[:SHOWN_CHARACTERS]}{'...' if len(text) > SHOWN_CHARACTERS else ''}")
        return "; ".join(words) or "a happy server"


HAPPY = Case()


def case_of(trace: Trace) -> Case:
    """Return the case that a trace was recorded in."""
    partner = trace.partner
    first, second = (partner, trace) if partner is not None and trace.rank else (trace, partner)
    at_second = {} if second is None else second.scenario
    return Case(first.scenario, first.drill, first.point, first.order, at_second)


def _faults(scenario: Mapping[str, Any]) -> int:
    return sum(len(moves) for moves in scenario.get("moves", {}).values()) + ("timeline" in scenario)


def _scenario_in_words(scenario: Mapping[str, Any]) -> Iterator[str]:
    for role, moves in scenario.get("moves", {}).items():
        yield f"{role}: {', then '.join(_in_words(move) for move in moves)}"
    if "timeline" in scenario:
        yield f"timeline: {_in_words(scenario['timeline'])}"


def _in_words(move: Mapping[str, Any]) -> str:
    options = [f"{name}={value}" for name, value in move.items() if name != "move"]
    return f"{move['move']} ({', '.join(options)})" if options else str(move["move"])
