"""The variations in a scenario, and the same scenario without them. Knows no server.

A *variation* is a difference that a right server may have. It is a fault of the kind `variation`, or an option with a
`form`. A run under variations must end as the run under the *plain* scenario does, which lacks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hobbyhorse.scenarios.fault import TIMELINE, VARIATION, Fault
from hobbyhorse.scenarios.registry import faults_at, faults_of


@dataclass(frozen=True, slots=True)
class Varied:
    """One variation of a scenario: the role, its form, level and source, and its description with the options."""

    role: str
    form: str
    level: str
    source: str
    says: str


def variations(scenario: Mapping[str, Any]) -> list[Varied]:
    """Return the variations of a scenario that a rule judges."""
    found = []
    for role, move, fault in _faults(scenario):
        if fault.kind == VARIATION and fault.form:
            options = ", ".join(f"{name}={value}" for name, value in move.items() if name not in ("move", "times"))
            says = f"{fault.says} ({options})" if options else fault.says
            found.append(Varied(role, fault.form, fault.level, fault.source, says))
    return found


def plain(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario without its variations."""
    moves = {
        role: [move for move in listed if (fault := _fault(role, move)) is None or fault.kind != VARIATION]
        for role, listed in scenario.get("moves", {}).items()
    }
    left = {role: listed for role, listed in moves.items() if listed}
    rest = {name: value for name, value in scenario.items() if name != "moves"}
    return rest | ({"moves": left} if left else {})


def has_faults(scenario: Mapping[str, Any]) -> bool:
    """Whether anything goes wrong in a scenario on the way to the job's end."""
    return bool(plain(scenario).get("moves"))


def _faults(scenario: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Fault]]:
    for role, listed in scenario.get("moves", {}).items():
        for move in listed:
            if (fault := _fault(role, move)) is not None:
                yield role, move, fault
    timeline = scenario.get("timeline")
    if timeline is not None:
        yield TIMELINE, timeline, faults_at(TIMELINE)[timeline["move"]]


def _fault(role: str, move: Mapping[str, Any]) -> Fault | None:
    return faults_of(role).get(move["move"])
