"""Test cases: how a client is run, and the scenario that it faces. Knows no contract and no server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hobbyhorse.traces.trace import Trace

ONCE, TWICE, TOGETHER, CROWD = "once", "twice", "together", "crowd"
LONG, RECOVERY, KILLED, MOVED = "long", "recovery", "killed", "moved"
# The client runs once; twice, with two orders; several times concurrently, with different orders; the same, with one
# running job at a time; with the longest prompt; several times under the scenario's faults, and then once without any;
# is killed at a request and restarted; is restarted with another base URL. Simpler kinds come first: `Case.size`
# compares positions.
CASE_KINDS = (ONCE, TWICE, TOGETHER, CROWD, LONG, RECOVERY, KILLED, MOVED)
# The kinds in which runs overlap, so that a request without a body may belong to any of them.
CONCURRENT_KINDS = (TOGETHER, CROWD)


@dataclass(frozen=True, slots=True)
class Case:
    """A way to run the client, and a scenario: the server's deviation from its documented behaviour.

    `point` is the number of the request at which the client is killed.
    """

    scenario: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ONCE
    point: int = 0

    @property
    def key(self) -> str:
        """A text that identifies the case."""
        return json.dumps([self.kind, self.point, self.scenario], sort_keys=True)

    @property
    def moves(self) -> int:
        """The number of faults in the scenario; its timeline counts as one."""
        lists = self.scenario.get("moves", {}).values()
        return sum(len(moves) for moves in lists) + ("timeline" in self.scenario)

    @property
    def size(self) -> tuple[int, int, int, str]:
        """A sort key: a simpler case has fewer faults, a simpler kind, fewer options."""
        # The key is last, so that the order is total: equal seeds must shrink to equal cases.
        return (self.moves, CASE_KINDS.index(self.kind), len(self.key), self.key)

    def to_json(self) -> dict[str, Any]:
        """Return the case as JSON."""
        fields: dict[str, Any] = {"drill": self.kind, "scenario": self.scenario}
        return fields | {"point": self.point} if self.point else fields

    def __str__(self) -> str:
        """Return the case in one line, such as `submit: accept_then_drop; timeline: fail (stage=running)`."""
        words = [] if self.kind == ONCE else [f"{self.kind} at request {self.point}" if self.point else self.kind]
        for role, moves in self.scenario.get("moves", {}).items():
            words.append(f"{role}: {', then '.join(_in_words(move) for move in moves)}")
        if "timeline" in self.scenario:
            words.append(f"timeline: {_in_words(self.scenario['timeline'])}")
        return "; ".join(words) or "a happy server"


HAPPY = Case()


def case_of(trace: Trace) -> Case:
    """Return the case that a trace was recorded in."""
    return Case(trace.scenario, trace.drill, trace.point)


def _in_words(move: Mapping[str, Any]) -> str:
    options = [f"{name}={value}" for name, value in move.items() if name != "move"]
    return f"{move['move']} ({', '.join(options)})" if options else str(move["move"])
