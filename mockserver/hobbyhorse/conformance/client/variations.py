"""The variations in a scenario, and the same scenario without them. Knows no server.

A *variation* is a difference that a right server may have. It is a fault of the kind `variation`, or an option with a
`form`. A run under variations must end as the run under the *plain* scenario does, which lacks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hobbyhorse.conformance.client.cases import Case
from hobbyhorse.scenarios.fault import TIMELINE, VARIATION, Fault, Option
from hobbyhorse.scenarios.options import RETRY_AFTER_DATE, RETRY_AFTER_FORM, RETRY_AFTER_ODD
from hobbyhorse.scenarios.registry import faults_at, faults_of, refusal_fault

DATED = (RETRY_AFTER_DATE.name, RETRY_AFTER_FORM.name, RETRY_AFTER_ODD.name)


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
        for option in _varying(fault, move):
            says = f"{fault.says} ({option.name}={move[option.name]})"
            found.append(Varied(role, option.form, option.level, option.source, says))
    return found


def plain(scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario without its variations."""
    found: dict[str, Any] = {}
    for role, move, fault in _faults(scenario):
        if fault.kind == VARIATION and fault.form:
            continue
        varying = {option.name for option in _varying(fault, move)}
        left = {name: value for name, value in move.items() if name not in varying}
        if role == TIMELINE:
            found["timeline"] = left
        else:
            found.setdefault("moves", {}).setdefault(role, []).append(left)
    return found


def usual_case(case: Case) -> Case | None:
    """Return the same case without its variations; None if it has none."""
    return replace(case, scenario=plain(case.scenario)) if variations(case.scenario) else None


def has_faults(scenario: Mapping[str, Any]) -> bool:
    """Whether anything goes wrong in a scenario on the way to the job's end."""
    return bool(plain(scenario).get("moves"))


def has_dates(scenario: Mapping[str, Any]) -> bool:
    """Whether a response of a scenario may have a date, or another text, in place of the seconds of a Retry-After."""
    return any(option in move for _, move, _ in _faults(scenario) for option in DATED)


def _varying(fault: Fault, move: Mapping[str, Any]) -> list[Option]:
    """Return the options of a fault that are variations, as far as a scenario sets them."""
    return [option for option in fault.options if option.form and option.name in move]


def _faults(scenario: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Fault]]:
    for role, listed in scenario.get("moves", {}).items():
        for move in listed:
            yield role, move, _fault(role, move)
    timeline = scenario.get("timeline")
    if timeline is not None:
        yield TIMELINE, timeline, faults_at(TIMELINE)[timeline["move"]]


def _fault(role: str, move: Mapping[str, Any]) -> Fault:
    """Return the fault of a move; any other name is that of a situation."""
    return faults_of(role).get(move["move"]) or refusal_fault()
