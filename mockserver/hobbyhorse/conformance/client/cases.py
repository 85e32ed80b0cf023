"""Drills: ways to make a client run against a server that is out of order; knows no contract and no server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ONCE, TWICE, CROWD, LONG, KILLED, MOVED = "once", "twice", "crowd", "long", "killed", "moved"
CASE_KINDS = (ONCE, TWICE, CROWD, LONG, KILLED, MOVED)
"""The client runs once; twice, for two orders; several times at once; for the longest prompt; is killed at a point and
started again; is started again with another base URL."""


@dataclass(frozen=True, slots=True)
class Case:
    """How the client is made to run, and how the server departs from a happy one (a scenario).

    `point` is the number of the request at which the client is killed.
    """

    scenario: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ONCE
    point: int = 0

    @property
    def key(self) -> str:
        """What tells drills apart."""
        return json.dumps([self.kind, self.point, self.scenario], sort_keys=True)

    @property
    def moves(self) -> int:
        """How many moves the scenario has; its timeline is one."""
        lists = self.scenario.get("moves", {}).values()
        return sum(len(moves) for moves in lists) + ("timeline" in self.scenario)

    @property
    def size(self) -> tuple[int, int, int, str]:
        """What makes a drill simpler than another one: fewer moves, run once, fewer options."""
        return (self.moves, CASE_KINDS.index(self.kind), len(self.key), self.key)

    def to_json(self) -> dict[str, Any]:
        """Return the drill as JSON."""
        said: dict[str, Any] = {"drill": self.kind, "scenario": self.scenario}
        return said | {"point": self.point} if self.point else said

    def __str__(self) -> str:
        """Return the drill in one line: such as `submit: accept_then_drop; timeline: fail at running`."""
        said = [] if self.kind == ONCE else [f"{self.kind} at request {self.point}" if self.point else self.kind]
        for role, moves in self.scenario.get("moves", {}).items():
            said.append(f"{role}: {', then '.join(_words(move) for move in moves)}")
        if "timeline" in self.scenario:
            said.append(f"timeline: {_words(self.scenario['timeline'])}")
        return "; ".join(said) or "a happy server"


HAPPY = Case()


def _words(move: Mapping[str, Any]) -> str:
    options = [f"{name}={value}" for name, value in move.items() if name != "move"]
    return f"{move['move']} ({', '.join(options)})" if options else str(move["move"])
